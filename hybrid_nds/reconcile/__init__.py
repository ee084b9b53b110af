"""How far two solver stacks agree on one problem, rung by rung."""

from hybrid_nds.reconcile._tiers import TELLING as TELLING
from hybrid_nds.reconcile.fixtures import (
    Fixture as Fixture,
    NamedObservable as NamedObservable,
    Reference as Reference,
    Settings as Settings,
)
from hybrid_nds.reconcile.ladder import reconcile as reconcile
from hybrid_nds.reconcile.loading import (
    list_fixtures as list_fixtures,
    load_fixture as load_fixture,
)
from hybrid_nds.reconcile.observables import sensitivity as sensitivity
from hybrid_nds.reconcile.report import (
    Figure as Figure,
    Report as Report,
    RungResult as RungResult,
)
from hybrid_nds.reconcile.stochastic_fixtures import (
    Law as Law,
    Moment as Moment,
    StochasticFixture as StochasticFixture,
    StrongSolution as StrongSolution,
)
