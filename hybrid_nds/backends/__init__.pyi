from ._diagnosis import diagnosed as diagnosed
from ._ode_options import check_options as check_options
from ._protocol import Backend as Backend
from ._sde_options import check_stochastic_options as check_stochastic_options
from ._steady_state import check_rest as check_rest
from ._tolerances import (
    default_absolute as default_absolute,
    default_tolerances as default_tolerances,
)
