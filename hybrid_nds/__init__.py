"""Neural dynamical systems, written once in JAX, run on two solver stacks."""

from .events import Event as Event
from .events import SteadyState as SteadyState
from .interop import from_diffrax as from_diffrax
from .interop import to_diffrax as to_diffrax
from .precision import double_precision as double_precision
from .problem import ODEProblem as ODEProblem
from .solution import (
    Outcome as Outcome,
)
from .solution import (
    Provenance as Provenance,
)
from .solution import (
    Solution as Solution,
)
from .solution import (
    SolveError as SolveError,
)
from .solve import solve as solve
from .solvers import (
    SolverInfo as SolverInfo,
)
from .solvers import (
    find_solver as find_solver,
)
from .solvers import (
    solver_names as solver_names,
)
