"""What every backend offers."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from ..solution import Solution
from ._options import Options


@runtime_checkable
class Backend(Protocol):
    """One solver stack."""

    @property
    def name(self) -> str:
        """The name `backend=` takes."""
        ...

    def solve(self, problem: Any, options: Options) -> Solution:
        """Solve a problem of any kind.

        A backend never raises for a solve that fails: it returns the solution as far
        as it got, with its outcome, and `solve` raises.
        """
        ...

    def raises_when_run(self, problem: Any, options: Options) -> bool:
        """Whether a solve that JAX traces raises by itself when it fails, in words
        that are known only then."""
        ...

    def solver_names(self) -> tuple[str, ...]:
        """The names `solver=` takes, in alphabetical order."""
        ...
