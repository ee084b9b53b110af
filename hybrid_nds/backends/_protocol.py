"""What a backend offers."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from ..methods import Method
from ..solution import Solution
from ._options import Options


@runtime_checkable
class Backend(Protocol):
    """One solver stack.

    A package of its own registers its backend by an entry point in the group
    `hybrid_nds.backends`: the name is the backend's, the object its class, which is
    made without arguments.
    """

    @property
    def name(self) -> str:
        """The name `backend=` takes."""
        ...

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods it has, each with its name there in `Method.elsewhere`; that of
        a solve which names none has the alias `"default"`."""
        ...

    def solve(self, problem: Any, options: Options) -> Solution:
        """Solve a problem of any kind.

        A backend never raises for a solve that fails: it returns the solution as far
        as it got, with its outcome, and `solve` raises. Options that it does not know
        it refuses.
        """
        ...


@runtime_checkable
class Plan(Protocol):
    """A solve that was checked and made ready."""

    @property
    def options(self) -> Options:
        """Its options."""
        ...

    @property
    def repeatable(self) -> bool:
        """Whether it may be called again with the same problem, as long as no array
        within it was changed."""
        ...

    def __call__(self, problem: Any) -> Solution:
        """Solve the problem that this was planned for."""
        ...


@runtime_checkable
class PlanningBackend(Backend, Protocol):
    """A solver stack that can solve again without another look at the options."""

    def plan(self, problem: Any, options: Options) -> Plan:
        """What solves this problem."""
        ...

    def raises_when_run(self, problem: Any, options: Options) -> bool:
        """Whether a solve that JAX traces raises by itself when it fails, with a
        message that is known only then."""
        ...
