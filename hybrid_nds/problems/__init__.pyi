from ._checks import VectorField as VectorField
from ._events import Event as Event, SteadyState as SteadyState, as_events as as_events
from ._fingerprints import (
    arrays_text as arrays_text,
    digest as digest,
    problem_fingerprint as problem_fingerprint,
    traced_text as traced_text,
)
from ._flat_state import FlatState as FlatState
from ._forward_mode import (
    forward_mode_named as forward_mode_named,
    forward_problem as forward_problem,
)
from ._kind import (
    Interpretation as Interpretation,
    Kind as Kind,
    KindName as KindName,
    NoiseKind as NoiseKind,
    Term as Term,
)
from ._langevin import (
    LangevinDiffusion as LangevinDiffusion,
    LangevinDrift as LangevinDrift,
    underdamped_langevin as underdamped_langevin,
)
from ._ode import ODEProblem as ODEProblem
from ._problem import Problem as Problem, check_kind as check_kind
from ._schemes import (
    SCHEMES as SCHEMES,
    ExitStep as ExitStep,
    spread as spread,
    tangent_step as tangent_step,
)
from ._sde import (
    SDEProblem as SDEProblem,
    to_ito as to_ito,
    to_stratonovich as to_stratonovich,
)
from ._sparse_matrix import SparseMatrix as SparseMatrix, entries_of as entries_of
from ._variational import Segment as Segment, tangent_problem as tangent_problem
