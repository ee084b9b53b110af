"""How often a state falls between given edges."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.tree_util as jtu
import numpy as np
from jaxtyping import ArrayLike, Float, Int, PyTree

from .._core import Axis, DrawnResult, Panels
from ._layout import Layout, State
from ._plot import draw_density, each, label_last, pick
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
        positions = np.searchsorted(self.edges, values, side="right")
        positions[values == self.edges[-1]] = self.edges.size - 1
        entry = np.arange(counts.size // bins).reshape(counts.shape[:-1])
        found = np.bincount((entry * bins + positions).ravel(), minlength=counts.size)
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
class HistogramResult(DrawnResult):
    """Counts at every saved time; arrays have the state's structure.

    **Fields:** the times; the number of trajectories; the edges; counts and density,
    leaves of shape `(times, bins, …)`; how many lay below the first edge and above the
    last, leaves of shape `(times, …)`. A density integrates to the share of the
    trajectories within the edges.
    """

    ts: Axis[Float[np.ndarray, " time"]]
    count: int
    edges: Float[np.ndarray, " edge"]
    counts: PyTree[Int[np.ndarray, "time bin ..."]]
    density: PyTree[Float[np.ndarray, "time bin ..."]]
    below: PyTree[Int[np.ndarray, "time ..."]]
    above: PyTree[Int[np.ndarray, "time ..."]]

    def summary(self) -> str:
        out = sum(
            int(np.sum(leaf[-1])) for leaf in jtu.tree_leaves((self.below, self.above))
        )
        return (
            f"histogram of {self.count} trajectories in {len(self.edges) - 1} bins "
            f"from {self.edges[0]:.6g} to {self.edges[-1]:.6g}; {out} values outside "
            f"at t = {self.ts[-1]:.6g}"
        )

    def draw(self, panels: Panels) -> None:
        for axes, k in each(self.density, 2, panels):
            draw_density(axes, self.edges, pick(self.density, k, 2)[-1])
            if len(panels.axes) > 1:
                axes.set_ylabel(f"density\nof component {k}")
        label_last(panels.axes, f"state at t = {self.ts[-1]:.4g}")
