"""The Julia session: finding Julia, starting it, its errors and interrupts."""

from .configuration import (
    Configuration as Configuration,
)
from .configuration import (
    ConfigurationError as ConfigurationError,
)
from .configuration import (
    configuration_path as configuration_path,
)
from .configuration import (
    load_configuration as load_configuration,
)
from .configuration import (
    remove_configuration as remove_configuration,
)
from .configuration import (
    save_configuration as save_configuration,
)
from .discovery import (
    Discovery as Discovery,
)
from .discovery import (
    JuliaNotFoundError as JuliaNotFoundError,
)
from .discovery import (
    configured as configured,
)
from .discovery import (
    discover as discover,
)
from .discovery import (
    julia_source as julia_source,
)
from .errors import JuliaExecutionError as JuliaExecutionError
from .session import Session as Session
from .session import running as running
from .session import session as session
