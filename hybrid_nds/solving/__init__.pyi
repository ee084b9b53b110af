from ._diffrax import from_diffrax as from_diffrax, to_diffrax as to_diffrax
from ._names import solver_names as solver_names
from ._solve import get_backend as get_backend, solve as solve
