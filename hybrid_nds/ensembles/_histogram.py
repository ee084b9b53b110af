"""How often a state falls between given edges."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, PyTree

from ._layout import Layout, State
from ._reduction import Observable, check_observable


class Histogram:
    """Counts between fixed edges, at every saved time, of every component.

    Bins are half open, `[left, right)`; the last one holds its right edge, too, as in
    `numpy.histogram`. What lies outside is counted as below or above.

    **Arguments:**

    - `edges`: at least two increasing numbers, the same for all components (take
        several histograms with `of` for edges of their own).
    - `of`: a function of one state to reduce, evaluated in JAX; `None` for the state.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    def __init__(
        self, edges: ArrayLike | Sequence[float], of: Observable | None = None
    ):
        try:
            self.edges = np.array(edges, np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"Histogram: `edges` must be real numbers, got {edges!r}."
            ) from error
        ordered = self.edges.ndim == 1 and self.edges.size >= 2
        if not (
            ordered
            and np.all(np.isfinite(self.edges))
            and np.all(np.diff(self.edges) > 0)
        ):
            raise ValueError(
                "Histogram: `edges` must be at least two finite increasing numbers, "
                f"got {edges}."
            )
        check_observable("Histogram", of)
        self.of = of

    def init(self, layout: Layout) -> State:
        # One bin below the first edge, and one above the last.
        bins = self.edges.size + 1
        return {"counts": np.zeros((*layout.entries, bins), np.int64)}

    def update(self, state: State, values: np.ndarray) -> State:
        counts = state["counts"]
        bins = counts.shape[-1]
        places = np.searchsorted(self.edges, values, side="right")
        places[values == self.edges[-1]] = self.edges.size - 1
        entry = np.arange(counts.size // bins).reshape(counts.shape[:-1])
        found = np.bincount((entry * bins + places).ravel(), minlength=counts.size)
        return {"counts": counts + found.reshape(counts.shape)}

    def merge(self, left: State, right: State) -> State:
        return {"counts": left["counts"] + right["counts"]}

    def result(self, state: State, layout: Layout) -> HistogramResult:
        counts = state["counts"]
        total = int(counts.sum(axis=-1).flat[0]) if counts.size else 0

        def shaped(value: np.ndarray) -> PyTree:
            """Bins before the state's own axes, as times are."""
            return layout.unflatten(np.moveaxis(value, -1, 1))

        widths = np.diff(self.edges)
        inner = counts[..., 1:-1]
        return HistogramResult(
            ts=layout.times,
            count=total,
            edges=self.edges,
            counts=shaped(inner),
            density=shaped(inner / (max(total, 1) * widths)),
            below=layout.unflatten(counts[..., 0]),
            above=layout.unflatten(counts[..., -1]),
        )

    def describe(self) -> dict[str, Any]:
        return {"edges": self.edges.tolist()}


@dataclasses.dataclass(frozen=True)
class HistogramResult:
    """Counts at every saved time; arrays have the state's structure.

    **Fields:** the times; the number of trajectories; the edges; counts and density,
    leaves of shape `(times, bins, …)`; how many lay below the first edge and above the
    last, leaves of shape `(times, …)`. A density integrates to the share of the
    trajectories within the edges.
    """

    ts: np.ndarray
    count: int
    edges: np.ndarray
    counts: PyTree[np.ndarray]
    density: PyTree[np.ndarray]
    below: PyTree[np.ndarray]
    above: PyTree[np.ndarray]
