"""What every backend offers: the protocol, and the options of one solve."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from ..problem import ODEProblem
from ..solution import Solution


@dataclasses.dataclass(frozen=True)
class SolveOptions:
    """How to solve, as given by the user of `solve`; see there for the meaning."""

    solver: Any = None
    rtol: Any = None
    atol: Any = None
    dt: Any = None
    saveat: Any = None
    adjoint: Any = None
    event: Any = None
    max_steps: int | None = None
    progress: bool = False
    throw: bool = True
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Backend(Protocol):
    """One solver stack."""

    name: str

    def solve(self, problem: ODEProblem, options: SolveOptions) -> Solution:
        """Solve `problem`."""
        ...

    def solver_names(self) -> tuple[str, ...]:
        """The names `solver=` takes, in alphabetical order."""
        ...
