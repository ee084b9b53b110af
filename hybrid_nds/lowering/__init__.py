"""Lowering: a JAX function's jaxpr becomes native Julia source."""

from ._depth import expression_depth as expression_depth
from ._elementwise import register_rule as register_rule
from ._loops import UnsupportedPrimitiveError as UnsupportedPrimitiveError
from ._lower import (
    LoweredFunction as LoweredFunction,
    LoweredProblem as LoweredProblem,
    lower as lower,
    lower_problem as lower_problem,
    parameter_vector as parameter_vector,
    to_julia as to_julia,
)
from ._program import LoweringError as LoweringError
