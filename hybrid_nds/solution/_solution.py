"""What a solve returns, the same from every backend."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import equinox as eqx
import jax
import jax.core
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._core import (
    Along,
    Axis,
    PortableError,
    Result,
    Variable,
    check_component,
    derived_attributes,
    derived_record,
    derived_variables,
    drawn,
    require_concrete,
)
from ._outcome import EVENT, OUTCOME_NAMES, SUCCESS, Outcome, code_of, outcome_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a solution comes from.

    **Fields:** the backend; the solver in the backend's own name; versions of the
    libraries that took part, by name; relative and absolute tolerance (a tuple where
    it was given by component) and initial step as floats (`None` where the solve had
    none); the way the field reached the
    solver: `"jax"` (traced by Diffrax), `"lowered"` (Julia source made from the
    jaxpr) or `"callback"` (Julia calling back into JAX); how an implicit solver of
    Julia's had the Jacobian: `"dense"`, `"sparse"` with its entries and colours, or
    `"matrix-free"`.
    """

    backend: str
    solver: str
    versions: tuple[tuple[str, str], ...]
    rtol: float | None = None
    atol: float | tuple[float, ...] | None = None
    dt: float | None = None
    field: str = "jax"
    jacobian: str | None = None

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


@functools.cache
def package_versions(*names: str) -> tuple[tuple[str, str], ...]:
    """The versions of this package, of JAX, of Equinox, and of other packages."""
    own = ("hybrid_nds", "jax", "equinox", *names)
    return tuple((name, importlib.metadata.version(name)) for name in own)


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


class Solution(Result, eqx.Module):
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
    - `message`: the backend's own message on a failure, empty if it has none.
    """

    ts: Axis[Float[Array | np.ndarray, " time"]]
    ys: PyTree[Float[Array | np.ndarray, "time ..."]]
    stats: Mapping[str, Any]
    outcome: Any
    event_index: Annotated[Any, Along("")]
    provenance: Provenance = eqx.field(static=True)
    interpolation: Callable[[Any], Any] | None = None
    end_time: Annotated[Any, Along("")] = None
    end_state: PyTree[Float[Array | np.ndarray, "*_"]] = None
    message: str = eqx.field(static=True, default="")

    @property
    def outcome_name(self) -> str:
        """The name of the outcome, such as `"success"`; needs a concrete one."""
        return outcome_name(self.outcome)

    @property
    def succeeded(self) -> Any:
        """Whether the solve ended as planned: at the end or at an event."""
        if isinstance(code_of(self.outcome), jax.core.Tracer):
            return (self.outcome == Outcome.success) | (self.outcome == Outcome.event)
        # In NumPy: two JAX operations would cost more than a small solve.
        code = np.asarray(code_of(self.outcome))
        return (code == SUCCESS) | (code == EVENT)

    def evaluate(self, t: Any) -> PyTree[Array | np.ndarray]:
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

    def variables(self) -> Mapping[str, Variable]:
        """The numbers: by name, the names of their dimensions and the values.

        A batch of solutions, as `eqx.filter_vmap` gives it, has `batch` for its first
        dimension, or `batch_0`, `batch_1`, …

        **Raises:** `TypeError` for a solve that saved at several sets of times.
        """
        batch = self._batch("to_xarray")
        names = self._outcomes
        outcome = Variable(batch[: names.ndim], names)
        found = derived_variables(self, batch) | {"outcome": outcome}
        first = np.asarray(self.ts).reshape(-1, self.ts.shape[-1])[0]
        if batch and np.array_equal(np.broadcast_to(first, self.ts.shape), self.ts):
            found["time"] = Variable(("time",), first, axis=True)
        return found

    def attributes(self) -> Mapping[str, Any]:
        """What stands beside the numbers: counts, message, provenance."""
        return derived_attributes(self, derived=False)

    def to_dict(self) -> dict[str, Any]:
        """The solution as plain, JSON-ready data; NaN stays, which JSON proper has not.

        **Raises:** `TypeError` for a solution that is traced.
        """
        fields = derived_record(self, "to_dict", derived=False)
        return fields | {"outcome": self._outcomes.tolist()}

    @property
    def _outcomes(self) -> np.ndarray:
        """The name of the outcome, of a batch one each."""
        return np.array(OUTCOME_NAMES)[np.asarray(code_of(self.outcome))]

    def summary(self) -> str:
        """A few lines for people: how it ended, where, and how it was solved."""
        where = self.provenance
        how = f"{where.solver} of {where.backend}"
        try:
            batch = self._batch("summary")
        except TypeError:
            return f"Solution by {how}: {eqx.tree_pformat(self)}"
        shape = " × ".join(str(n) for n in self.ts.shape[:-1])
        lines = [f"{shape} solutions by {how}" if batch else f"Solution by {how}"]
        last = np.asarray(self.end_time if self.end_time is not None else self.ts)
        ends = np.unique(last if self.end_time is not None else last[..., -1:])
        span = f"{ends[0]:.6g}" + (f" to {ends[-1]:.6g}" if ends.size > 1 else "")
        lines[0] += f": {', '.join(np.unique(self._outcomes))} at t = {span}"
        lines.append(f"  {self.ts.shape[-1]} saved times")
        lines += [
            f"  {name} {_flat_range(value)}" for name, value in self.stats.items()
        ]
        return "\n".join([*lines, self.message] if self.message else lines)

    def plot(
        self,
        component: int | Sequence[int] | None = None,
        *,
        ax: Any = None,
        path: str | os.PathLike[str] | None = None,
    ) -> Axes:
        """Draw the state over time; of a batch every member.

        **Arguments:**

        - `component`: one or several of the state, in the order of `ravel_pytree`;
            `None` for all.
        - `ax`: matplotlib's axes, new ones of pyplot by default.
        - `path`: where to write the figure (PNG, or by its suffix), whole or not at
            all.

        **Returns:** the axes.

        **Raises:** `TypeError` for a solution that is traced, or has several sets of
        times; `ValueError` for a component that is not there.
        """
        from ._plot import draw

        check_component("Solution", component)
        require_concrete(self, "plot")
        self._batch("plot")
        put = lambda panels: draw(self, component, panels)
        return drawn("Solution", put, ax=ax, path=path, managed=True).axes[0]

    def _batch(self, function: str) -> tuple[str, ...]:
        """The dimensions before that of time."""
        require_concrete(self, function)
        if not hasattr(self.ts, "ndim"):
            raise TypeError(
                f"Solution.{function}: the solve saved at several sets of times "
                "(`subs` of diffrax.SaveAt); take them one by one from `ts` and `ys`."
            )
        more = self.ts.ndim - 1
        return ("batch",) if more == 1 else tuple(f"batch_{i}" for i in range(more))


def _flat_range(value: Any) -> str:
    """A count, or the least and the largest of a batch."""
    low, high = np.min(value), np.max(value)
    return f"{low}" if low == high else f"{low} to {high}"
