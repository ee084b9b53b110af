from ._choice import (
    check_suits as check_suits,
    default_solver as default_solver,
    suitable as suitable,
)
from ._faults import (
    LOST_NOISE as LOST_NOISE,
    LOST_TERMS as LOST_TERMS,
    SCALAR_NOISE as SCALAR_NOISE,
    UNCONTROLLED as UNCONTROLLED,
    SolverFault as SolverFault,
)
from ._ode import (
    SOLVERS as SOLVERS,
    SolverInfo as SolverInfo,
    Stack as Stack,
    find_solver as find_solver,
    solver_names as solver_names,
)
from ._sde import (
    STOCHASTIC_SOLVERS as STOCHASTIC_SOLVERS,
    StochasticSolverInfo as StochasticSolverInfo,
    find_stochastic_solver as find_stochastic_solver,
    stochastic_solver_names as stochastic_solver_names,
)
