"""What a solve returns, the same from every backend."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.core
import numpy as np
from jaxtyping import Array, PyTree

from .._core import PortableError


class Outcome(eqx.Enumeration):  # pyright: ignore
    """How a solve ended: one enumeration for both solver stacks.

    Each backend maps its own codes (Diffrax's `RESULTS`, SciML's `ReturnCode`)
    to these.
    """

    success = "the solve reached the end of its span"
    event = "a terminal event stopped the solve"
    max_steps_reached = (
        "the solve ran out of steps; raise max_steps or loosen the tolerances"
    )
    step_size_too_small = (
        "the step size fell below what the time variable resolves; the solution "
        "may blow up, or the tolerances may be too tight for this precision"
    )
    nonlinear_solve_failed = (
        "an implicit stage equation could not be solved; try another solver or "
        "smaller steps"
    )
    unstable = "the state became NaN, infinite or was declared unstable"
    interrupted = "the solve was interrupted"
    failure = "the solver failed for a reason its message names"


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a solution comes from.

    **Fields:** the backend; the solver in the backend's own name; versions of the
    libraries that took part, by name; relative and absolute tolerance (a tuple where
    it was given by component) and initial step as floats (`None` where the solve had
    none); the way the field reached the
    solver: `"jax"` (traced by Diffrax), `"lowered"` (Julia source made from the
    jaxpr) or `"callback"` (Julia calling back into JAX).
    """

    backend: str
    solver: str
    versions: tuple[tuple[str, str], ...]
    rtol: float | None
    atol: float | tuple[float, ...] | None
    dt: float | None
    field: str

    def as_dict(self) -> dict[str, Any]:
        """The provenance as plain, JSON-ready data."""
        return dataclasses.asdict(self) | {"versions": dict(self.versions)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Provenance:
        """The provenance that [`as_dict`][hybrid_nds.Provenance.as_dict] was made from.

        **Arguments:** `data`, also after a way through JSON.
        """
        atol = data["atol"]
        given = {
            "versions": tuple(data["versions"].items()),
            "atol": tuple(atol) if isinstance(atol, list) else atol,
        }
        return cls(**(dict(data) | given))


def outcome_name(outcome: Any) -> str:
    """The name of an outcome.

    **Arguments:** `outcome`, a concrete item of [`Outcome`][hybrid_nds.Outcome].

    **Returns:** its name, such as `"max_steps_reached"`.
    """
    index = int(np.asarray(outcome._value))
    return tuple(Outcome._name_to_item)[index]


_SUCCESS, _EVENT, UNSTABLE = map(
    list(Outcome._name_to_item).index, ("success", "event", "unstable")
)


class SolveError(PortableError, RuntimeError):
    """A solve that did not reach its end.

    **Fields:**

    - `outcome`: how it ended, an [`Outcome`][hybrid_nds.Outcome].
    - `solution`: the [`Solution`][hybrid_nds.Solution] as far as it got.
    """

    def __init__(self, message: str, solution: Solution):
        super().__init__(message)
        self.solution = solution
        self.outcome = solution.outcome


class Solution(eqx.Module):
    """The solution of a problem at the times that were asked for.

    **Fields:**

    - `ts`: the times, shape `(times,)`.
    - `ys`: the states, the pytree of `y0` with a leading axis of `times`.
    - `stats`: counts the backend kept (`num_steps`, `num_accepted_steps`,
        `num_rejected_steps`, and where known `num_field_evaluations`,
        `num_jacobian_evaluations`, `num_linear_solves`).
    - `outcome`: an [`Outcome`][hybrid_nds.Outcome].
    - `event_index`: which terminal event stopped the solve, −1 for none; `None`
        when the solve had no event.
    - `provenance`: a [`Provenance`][hybrid_nds.Provenance].
    - `interpolation`: the dense output behind `evaluate`, `None` if none was kept.
    - `end_time`, `end_state`: where the solve ended, whatever was saved: at the end
        of its span, at an event, or where it failed.
    - `message`: the backend's own words on a failure, empty if it has none.
    """

    ts: Array
    ys: PyTree[Array]
    stats: Mapping[str, Any]
    outcome: Any
    event_index: Any
    provenance: Provenance = eqx.field(static=True)
    interpolation: Callable[[Any], Any] | None = None
    end_time: Any = None
    end_state: PyTree[Array] = None
    message: str = eqx.field(static=True, default="")

    @property
    def outcome_name(self) -> str:
        """The name of the outcome, such as `"success"`; needs a concrete one."""
        return outcome_name(self.outcome)

    @property
    def succeeded(self) -> Any:
        """Whether the solve ended as planned: at the end or at an event."""
        if isinstance(self.outcome._value, jax.core.Tracer):
            return (self.outcome == Outcome.success) | (self.outcome == Outcome.event)
        # In NumPy: two JAX operations would cost more than a small solve.
        code = np.asarray(self.outcome._value)
        return (code == _SUCCESS) | (code == _EVENT)

    def evaluate(self, t: Any) -> PyTree[Array]:
        """The state at any time of the span, from the solver's dense output.

        **Arguments:** `t`, a time within the span, or an array of times, whose axes
        lead those of the state.

        **Returns:** the state, a pytree of the structure of `y0`.

        **Raises:** `ValueError` when the solve kept no dense output.
        """
        if self.interpolation is None:
            raise ValueError(
                "Solution.evaluate: this solve kept no dense output; solve with "
                'saveat="dense".'
            )
        return self.interpolation(t)
