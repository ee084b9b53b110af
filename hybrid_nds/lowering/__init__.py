"""Lowering: a JAX function's jaxpr becomes native Julia source."""

from ._elementwise import register_rule as register_rule
from ._loops import UnsupportedPrimitiveError as UnsupportedPrimitiveError
from ._lower import (
    LoweredFunction as LoweredFunction,
)
from ._lower import (
    LoweredProblem as LoweredProblem,
)
from ._lower import (
    lower as lower,
)
from ._lower import (
    lower_problem as lower_problem,
)
from ._lower import (
    parameter_vector as parameter_vector,
)
from ._lower import (
    to_julia as to_julia,
)
from ._program import LoweringError as LoweringError
