"""Lowering: a JAX function's jaxpr becomes native Julia source."""

from ._depth import expression_depth as expression_depth
from ._detection import (
    NoPatternError as NoPatternError,
    check_entries as check_entries,
    detected as detected,
    given_pattern as given_pattern,
    sparsity as sparsity,
)
from ._loops import UnsupportedPrimitiveError as UnsupportedPrimitiveError
from ._lower import (
    jacobian_entries as jacobian_entries,
    lower as lower,
    lower_problem as lower_problem,
    parameter_vector as parameter_vector,
    to_julia as to_julia,
)
from ._lowered import (
    LoweredField as LoweredField,
    LoweredFunction as LoweredFunction,
    LoweredProblem as LoweredProblem,
    Lowerings as Lowerings,
    Part as Part,
)
from ._products import (
    Product as Product,
    adjoint_products as adjoint_products,
    tangent_products as tangent_products,
)
from ._program import LoweringError as LoweringError
from ._rule import Rule as Rule
from ._rules import register_rule as register_rule
from ._sparsity import Sparsity as Sparsity
from ._stochastic import (
    LoweredStochasticProblem as LoweredStochasticProblem,
    lower_stochastic_parts as lower_stochastic_parts,
    lower_stochastic_problem as lower_stochastic_problem,
    paired_fields as paired_fields,
)
