from ._diagnosis import diagnosed as diagnosed, where_not_finite as where_not_finite
from ._failure import (
    failure_text as failure_text,
    has_steady_state as has_steady_state,
)
from ._integration import Integration as Integration
from ._options import Options as Options, check_options as check_options
from ._protocol import (
    Backend as Backend,
    Plan as Plan,
    PlanningBackend as PlanningBackend,
)
from ._steady_state import check_steady_state as check_steady_state
from ._tolerances import (
    default_absolute as default_absolute,
    default_tolerances as default_tolerances,
    state_size as state_size,
)
