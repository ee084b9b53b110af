"""The Julia session: finding Julia, starting it, its errors and interrupts."""

from .configuration import (
    Configuration as Configuration,
    ConfigurationError as ConfigurationError,
    configuration_path as configuration_path,
    load_configuration as load_configuration,
    remove_configuration as remove_configuration,
    save_configuration as save_configuration,
)
from .discovery import (
    Discovery as Discovery,
    JuliaNotFoundError as JuliaNotFoundError,
    configured as configured,
    discover as discover,
    julia_source as julia_source,
)
from .errors import (
    JuliaExecutionError as JuliaExecutionError,
    WorkerDiedError as WorkerDiedError,
)
from .fresh import FreshContext as FreshContext
from .session import Session as Session, running as running, session as session
from .worker import JuliaWorker as JuliaWorker
