"""Quantiles of an ensemble from a sketch whose rank error is bounded for certain."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float, PyTree

from .._core import Axis, DrawnResult, Panels
from ._layout import Layout, State
from ._plot import draw_quantiles, each, label_last, pick
from ._reduction import Observable, check_observable


class Quantiles:
    """Quantiles at every saved time, of every component, in bounded memory.

    A sketch keeps a sample of the values in levels, those of level h standing for
    2^h each. A full level is sorted and every second value moves up: the rank of any
    number then changes by at most 2^h, and by turns up and down (Manku, Rajagopalan &
    Lindsay 1998). The sum of these changes is a bound that holds with certainty; the
    result states it. Ensembles smaller than a level come out exact.

    **Arguments:**

    - `probabilities`: one or more numbers from 0 to 1.
    - `rank_error`: how far the rank of a result may be off, as a fraction of the
        trajectories. Memory is some 8·log₂(n·rank_error)/rank_error numbers for each
        time and component.
    - `of`: a function of one state to reduce, evaluated in JAX; `None` for the state.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    # Sketches of Apache DataSketches toss coins that cannot be seeded, and t-digests
    # bound no error: a run could not be repeated, or its error not be stated.

    def __init__(
        self,
        probabilities: ArrayLike | Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        rank_error: float = 1e-3,
        of: Observable | None = None,
    ):
        try:
            self.probabilities = np.atleast_1d(np.array(probabilities, np.float64))
        except (TypeError, ValueError) as error:
            raise TypeError(
                "Quantiles: `probabilities` must be real numbers, got "
                f"{probabilities!r}."
            ) from error
        p = self.probabilities
        if p.ndim != 1 or p.size == 0 or not np.all((p >= 0) & (p <= 1)):
            raise ValueError(
                f"Quantiles: `probabilities` must lie in [0, 1], got {probabilities}."
            )
        if not isinstance(rank_error, float) or not 1e-6 <= rank_error < 0.5:
            raise ValueError(
                "Quantiles: `rank_error` must be a number from 1e-6 to 0.5, got "
                f"{rank_error!r}."
            )
        check_observable("Quantiles", of)
        self.rank_error, self.of = rank_error, of

    def init(self, layout: Layout) -> State:
        return {
            "count": np.zeros((), np.int64),
            "capacity": np.asarray(self._capacity(layout.trajectories), np.int64),
            # How often each level moved up values that count too much, or too little.
            "over": np.zeros(0, np.int64),
            "under": np.zeros(0, np.int64),
            "level0": np.zeros((0, *layout.entries)),
        }

    def _capacity(self, n: int) -> int:
        """The values a level may hold, so that the error stays within what was asked.

        Level h is halved at most n/(c·2^h) times, each time at most 2^h off. Blocks are
        halved before they are merged, so up and down alternate within a state only: a
        whole 2^h a time is allowed for.
        """
        capacity = 64
        while capacity < n:
            levels = math.ceil(math.log2(n / capacity))
            if levels / capacity <= self.rank_error:
                break
            capacity *= 2
        return capacity

    def update(self, state: State, values: np.ndarray) -> State:
        grown = state | {
            "count": state["count"] + len(values),
            "level0": np.concatenate([state["level0"], values]),
        }
        return _compact(grown)

    def merge(self, left: State, right: State) -> State:
        merged: State = {
            "count": left["count"] + right["count"],
            "capacity": left["capacity"],
        }
        for name in ("over", "under"):
            merged[name] = _added(left[name], right[name])
        for level in range(max(_levels(left), _levels(right))):
            name = f"level{level}"
            parts = [side[name] for side in (left, right) if name in side]
            merged[name] = np.concatenate(parts)
        return _compact(merged)

    def result(self, state: State, layout: Layout) -> QuantilesResult:
        n = int(state["count"])
        names = [f"level{level}" for level in range(_levels(state))]
        if n == 0:
            shape = (layout.times.size, self.probabilities.size, layout.dimension)
            found = np.full(shape, np.nan)
        else:
            found = self._ranked(
                np.concatenate([state[name] for name in names]),
                np.repeat(
                    2 ** np.arange(len(names)), [len(state[name]) for name in names]
                ),
            )
        weights = 2 ** np.arange(state["over"].size)
        worst = max(
            int(np.sum(state[name] * weights)) if n else 0 for name in ("over", "under")
        )
        return QuantilesResult(
            ts=layout.times,
            count=n,
            probabilities=self.probabilities,
            values=layout.unflatten(found),
            rank_error=worst / max(n, 1),
        )

    def _ranked(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        order = np.argsort(values, axis=0, kind="stable")
        ranks = np.cumsum(weights[order], axis=0)
        ordered = np.take_along_axis(values, order, axis=0)
        # The least value with at least a share p of the trajectories at or below it.
        total = ranks[-1].flat[0]
        requested = np.maximum(np.ceil(self.probabilities * total - 1e-9), 1)
        positions = np.stack([np.sum(ranks < rank, axis=0) for rank in requested])
        return np.moveaxis(np.take_along_axis(ordered, positions, axis=0), 0, 1)

    def describe(self) -> dict[str, Any]:
        return {
            "probabilities": self.probabilities.tolist(),
            "rank_error": self.rank_error,
        }


def _levels(state: State) -> int:
    return sum(name.startswith("level") for name in state)


def _added(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    total = np.zeros(max(a.size, b.size), np.int64)
    total[: a.size] += a
    total[: b.size] += b
    return total


def _compact(state: State) -> State:
    """Halve every level that is full, from the lowest up."""
    state, level = dict(state), 0
    capacity = int(state["capacity"])
    while f"level{level}" in state:
        values = state[f"level{level}"]
        if len(values) > capacity:
            ordered = np.sort(values, axis=0)
            # An odd one stays where it is: halving pairs keeps the count.
            paired = len(values) // 2 * 2
            counts = _added(np.zeros(level + 1, np.int64), state["over"])
            lows = _added(np.zeros(level + 1, np.int64), state["under"])
            # The first of each pair ranks too high; the second, too low.
            first = counts[level] <= lows[level]
            (counts if first else lows)[level] += 1
            moved = ordered[0 if first else 1 : paired : 2]
            above = f"level{level + 1}"
            kept = state.get(above, np.zeros((0, *values.shape[1:])))
            state |= {
                f"level{level}": ordered[paired:],
                above: np.concatenate([kept, moved]),
                "over": counts,
                "under": lows,
            }
        level += 1
    return state


@dataclasses.dataclass(frozen=True)
class QuantilesResult(DrawnResult):
    """Quantiles at every saved time.

    **Fields:** the times; the number of trajectories; the probabilities; the values,
    with the state's structure, leaves of shape `(times, probabilities, …)`;
    `rank_error`: with certainty, the value for p lies between the exact quantiles for
    p − rank_error and p + rank_error. Zero means exact.
    """

    ts: Axis[Float[np.ndarray, " time"]]
    count: int
    probabilities: Axis[Float[np.ndarray, " probability"]]
    values: PyTree[Float[np.ndarray, "time probability ..."]]
    rank_error: float

    def summary(self) -> str:
        lines = [
            f"quantiles of {self.count} trajectories, ranks off by up to "
            f"{self.rank_error:.2g}; of component 0 at t = {self.ts[-1]:.6g}:"
        ]
        last = pick(self.values, 0, 2)[-1]
        lines += [
            f"  {p:g}: {x:.6g}" for p, x in zip(self.probabilities, last, strict=True)
        ]
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        for axes, k in each(self.values, 2, panels):
            values = pick(self.values, k, 2)
            draw_quantiles(axes, self.ts, self.probabilities, values)
        label_last(panels.axes, "time")
        panels.axes[0].set_title(f"quantiles of {self.count} trajectories")
