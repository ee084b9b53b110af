"""The Julia session: finding Julia, starting it, its errors and interrupts."""

from ._bridge import (
    Bridge as Bridge,
    Reference as Reference,
    execution_error as execution_error,
)
from ._configuration import (
    Configuration as Configuration,
    ConfigurationError as ConfigurationError,
    configuration_path as configuration_path,
    load_configuration as load_configuration,
    remove_configuration as remove_configuration,
    save_configuration as save_configuration,
)
from ._discovery import (
    Discovery as Discovery,
    JuliaNotFoundError as JuliaNotFoundError,
    bridge_version as bridge_version,
    check_julia as check_julia,
    configured as configured,
    discover as discover,
    how_to_get_julia as how_to_get_julia,
    julia_source as julia_source,
)
from ._errors import (
    JuliaExecutionError as JuliaExecutionError,
    WorkerDiedError as WorkerDiedError,
)
from ._fresh import FreshContext as FreshContext
from ._image import (
    SystemImage as SystemImage,
    SystemImageError as SystemImageError,
    build_image as build_image,
    find_image as find_image,
    remove_images as remove_images,
)
from ._internals import (
    handler_rule as handler_rule,
    keep_with_program as keep_with_program,
    varying_alike as varying_alike,
)
from ._session import Session as Session, running as running, session as session
from ._worker import JuliaWorker as JuliaWorker
