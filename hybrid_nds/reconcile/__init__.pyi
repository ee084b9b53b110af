# What the package exports; read by type checkers, and by lazy_loader at run time.

from ._fixtures import (
    Fixture as Fixture,
    NamedObservable as NamedObservable,
    Reference as Reference,
    Settings as Settings,
)
from ._folders import list_fixtures as list_fixtures
from ._ladder import reconcile as reconcile
from ._loading import load_fixture as load_fixture
from ._names import TELLING as TELLING
from ._observables import sensitivity as sensitivity
from ._report import Figure as Figure, Report as Report, RungResult as RungResult
from ._sde_fixtures import (
    Law as Law,
    Moment as Moment,
    StochasticFixture as StochasticFixture,
    StrongSolution as StrongSolution,
)
