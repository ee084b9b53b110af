from ._backend import JuliaBackend as JuliaBackend
from ._catalogue import installed as installed
from ._ensemble import (
    KernelMoments as KernelMoments,
    KernelResult as KernelResult,
    kernel_applies as kernel_applies,
    run_ensemble as run_ensemble,
)
from ._evaluate import LoweredEvaluator as LoweredEvaluator
from ._jacobian import worthwhile_pattern as worthwhile_pattern
from ._stability import (
    julia_exit_loop as julia_exit_loop,
    julia_tangent_flow as julia_tangent_flow,
)
