"""How far two solver stacks agree on one problem, rung by rung."""

from hybrid_nds.reconcile.fixtures import (
    Fixture as Fixture,
)
from hybrid_nds.reconcile.fixtures import (
    NamedObservable as NamedObservable,
)
from hybrid_nds.reconcile.fixtures import (
    Reference as Reference,
)
from hybrid_nds.reconcile.fixtures import (
    Settings as Settings,
)
from hybrid_nds.reconcile.fixtures import (
    list_fixtures as list_fixtures,
)
from hybrid_nds.reconcile.fixtures import (
    load_fixture as load_fixture,
)
from hybrid_nds.reconcile.observables import sensitivity as sensitivity
