# What the package exports; read by type checkers, and by lazy_loader at run time.

from ._fixtures import (
    Fixture as Fixture,
    NamedObservable as NamedObservable,
    Reference as Reference,
    Settings as Settings,
)
from ._ladder import reconcile as reconcile
from ._names import (
    RUNGS as RUNGS,
    TELLING as TELLING,
    TITLES as TITLES,
    julia_words as julia_words,
)
from ._observables import sensitivity as sensitivity
from ._pages import draw as draw, write_reports as write_reports
from ._report import Figure as Figure, Report as Report, RungResult as RungResult
from ._sde_fixtures import (
    Law as Law,
    Moment as Moment,
    StochasticFixture as StochasticFixture,
    StrongSolution as StrongSolution,
)
from .loading import list_fixtures as list_fixtures, load_fixture as load_fixture
