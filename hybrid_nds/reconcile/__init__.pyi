# What the package exports; read by type checkers, and by lazy_loader at run time.

from ._folders import list_fixtures as list_fixtures
from ._names import TELLING as TELLING
from .fixtures import (
    Fixture as Fixture,
    NamedObservable as NamedObservable,
    Reference as Reference,
    Settings as Settings,
)
from .ladder import reconcile as reconcile
from .loading import load_fixture as load_fixture
from .observables import sensitivity as sensitivity
from .report import (
    Figure as Figure,
    Report as Report,
    RungResult as RungResult,
)
from .stochastic_fixtures import (
    Law as Law,
    Moment as Moment,
    StochasticFixture as StochasticFixture,
    StrongSolution as StrongSolution,
)
