"""What every backend offers: the protocol, and the options of one solve."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..problems import ODEProblem
from ..solution import Solution

if TYPE_CHECKING:
    from ..noise import BrownianPath
    from ..problems import SDEProblem

DEFAULT_MAX_STEPS = 100_000

NO_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {"saveat": None, "adjoint": None, "event": None, "progress": False, "extra": {}}
)
"""The options of a solve that a loop over steps has no use for."""


@dataclasses.dataclass(frozen=True)
class SolveOptions:
    """How to solve, checked and in normal form: what a backend gets from `solve`.

    **Fields:**

    - `solver`: a name, `None` for the default, or the backend's own object.
    - `rtol`, `atol`: given by the user, or both `None` for a solve in fixed steps;
        otherwise filled with the defaults of the problem's precision.
    - `dt`: the step, or the first step of an adaptive solve.
    - `saveat`: `None` (the final time), an array of times in the problem's dtype
        that runs from `t0` to `t1`, `"steps"` (the start and every accepted step),
        `"dense"` (the final time, and an interpolation), or a `diffrax.SaveAt`,
        which reaches no backend but Diffrax.
    - `adjoint`: a name or a Diffrax object.
    - `event`: `None`, a tuple of `Event` and `SteadyState`, or a `diffrax.Event`,
        which reaches no backend but Diffrax.
    - `max_steps`: the most steps to try; `None` leaves it to the backend.
    - `progress`: whether to show progress.
    - `extra`: the options only this backend knows.

    A backend never raises for a solve that fails: it returns the solution as far as
    it got, with its outcome, and `solve` raises.
    """

    solver: Any = None
    rtol: Any = None
    atol: Any = None
    dt: Any = None
    saveat: Any = None
    adjoint: Any = None
    event: Any = None
    max_steps: int | None = None
    progress: Any = False
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def fixed_steps(self) -> bool:
        """Whether the solve takes steps of length `dt` without error control."""
        return self.rtol is None and self.atol is None


@dataclasses.dataclass(frozen=True)
class StochasticOptions:
    """How to solve a stochastic problem, checked and in normal form.

    **Fields:**

    - `solver`: a name of the table of stochastic solvers, written as there, which
        this backend has and which suits the problem's noise and interpretation; or,
        on Diffrax alone, a Diffrax solver.
    - `rtol`, `atol`: both `None` for steps of the path's grid; otherwise numbers, for
        error control.
    - `dt`: in fixed steps the length of every step, that of the path's grid; in an
        adaptive solve the first step, or `None`.
    - `saveat`: as in [`SolveOptions`][hybrid_nds.backends.SolveOptions].
    - `path`: the Brownian path, a [`BrownianPath`][hybrid_nds.BrownianPath] over the
        span of the problem, of as many Brownian motions as its noise has, with the
        Lévy area that the solver needs.
    - `adjoint`: a name or a Diffrax object; `None` for the default.
    - `max_steps`: the most steps to try; `None` leaves it to the backend.
    - `progress`: whether to show progress.
    - `extra`: the options only this backend knows.
    """

    solver: Any
    path: BrownianPath
    rtol: Any = None
    atol: Any = None
    dt: Any = None
    saveat: Any = None
    adjoint: Any = None
    max_steps: int | None = None
    progress: Any = False
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def fixed_steps(self) -> bool:
        """Whether the solve takes the steps of the path's grid, and no others."""
        return self.rtol is None and self.atol is None


@runtime_checkable
class Backend(Protocol):
    """One solver stack."""

    @property
    def name(self) -> str:
        """The name `backend=` takes."""
        ...

    def solve(self, problem: ODEProblem, options: SolveOptions) -> Solution:
        """Solve `problem`."""
        ...

    def solve_stochastic(
        self, problem: SDEProblem, options: StochasticOptions
    ) -> Solution:
        """Solve a stochastic `problem` along the path in `options`."""
        ...

    def solver_names(self) -> tuple[str, ...]:
        """The names `solver=` takes, in alphabetical order."""
        ...
