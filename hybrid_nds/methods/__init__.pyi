from ._choice import (
    PRECISE_SOLVERS as PRECISE_SOLVERS,
    STIFF_SOLVERS as STIFF_SOLVERS,
    check_suits as check_suits,
    default_method as default_method,
)
from ._faults import (
    ALGEBRAIC_RESIDUAL as ALGEBRAIC_RESIDUAL,
    COARSE_EVENTS as COARSE_EVENTS,
    LOST_NOISE as LOST_NOISE,
    LOST_TERMS as LOST_TERMS,
    UNCONTROLLED as UNCONTROLLED,
    SolverFault as SolverFault,
    Stack as Stack,
)
from ._method import Method as Method
from ._ode import ODE_METHODS as ODE_METHODS
from ._sde import SDE_METHODS as SDE_METHODS
from ._stacks import (
    installed_stack as installed_stack,
    register_catalogue as register_catalogue,
    stack_names as stack_names,
)
from ._table import (
    METHODS as METHODS,
    find_solver as find_solver,
    solver_names as solver_names,
    suitable as suitable,
)
