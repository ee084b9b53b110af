# What the package exports; read by type checkers, and by lazy_loader at run time.
from . import (
    analysis as analysis,
    discretization as discretization,
    lowering as lowering,
    measures as measures,
    models as models,
    reconcile as reconcile,
    runtime as runtime,
    stability as stability,
    studies as studies,
    training as training,
)
from ._core import double_precision as double_precision
from .ensembles import (
    Ensemble as Ensemble,
    EnsembleError as EnsembleError,
    ExitFlags as ExitFlags,
    Histogram as Histogram,
    Moments as Moments,
    Quantiles as Quantiles,
    ensemble as ensemble,
)
from .measures import compare_laws as compare_laws
from .methods import (
    Method as Method,
    SolverFault as SolverFault,
    find_solver as find_solver,
)
from .models._saving import load as load, save as save
from .noise import (
    BrownianPath as BrownianPath,
    NativePath as NativePath,
    StoredPath as StoredPath,
)
from .problems import (
    Event as Event,
    ODEProblem as ODEProblem,
    SDEProblem as SDEProblem,
    SteadyState as SteadyState,
    to_ito as to_ito,
    to_stratonovich as to_stratonovich,
    underdamped_langevin as underdamped_langevin,
)
from .runtime import JuliaWorker as JuliaWorker
from .solution import (
    Outcome as Outcome,
    Provenance as Provenance,
    Solution as Solution,
    SolveError as SolveError,
)
from .solving import (
    from_diffrax as from_diffrax,
    solve as solve,
    solver_names as solver_names,
    to_diffrax as to_diffrax,
)
