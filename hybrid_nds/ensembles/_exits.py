"""When trajectories first leave a region."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree
from scipy import special

from .._core import COLORS, Axis, DrawnResult, Panels, check_level
from ._layout import Layout, State
from ._reduction import Observable


class ExitFlags:
    """First exits from a region, looked for at the saved times.

    A trajectory that leaves and comes back between two saved times is not seen: exit
    times come late, by an amount that falls with the distance of the saved times
    (with the square root of it, for noise that does not vanish at the boundary).

    **Arguments:** `region`, a callable that says for one state whether it lies inside;
    evaluated in JAX.

    **Raises:** `TypeError` when it is not callable.
    """

    def __init__(self, region: Observable):
        if not callable(region):
            raise TypeError(
                "ExitFlags: `region` must be a callable that returns whether a state "
                f"lies inside, got {type(region).__name__}."
            )
        self.region = region

    @property
    def of(self) -> Observable:
        return self._inside

    def _inside(self, state: PyTree) -> Any:
        inside = self.region(state)
        if getattr(inside, "shape", None) != () or inside.dtype != np.bool_:
            given = (
                f"{inside.dtype}{list(inside.shape)}"
                if isinstance(inside, jax.Array)
                else repr(inside)
            )
            raise ValueError(
                "ExitFlags: `region` must return one boolean for one state, got "
                f"{given}; compare and combine with jnp.all."
            )
        return inside

    def init(self, layout: Layout) -> State:
        return {
            "count": np.zeros((), np.int64),
            "exits": np.zeros(layout.times.size, np.int64),
        }

    def update(self, state: State, values: np.ndarray) -> State:
        outside = values[:, :, 0] == 0
        left = outside.any(axis=1)
        first = np.argmax(outside[left], axis=1)
        found = np.bincount(first, minlength=state["exits"].size)
        return {
            "count": state["count"] + len(values),
            "exits": state["exits"] + found,
        }

    def merge(self, left: State, right: State) -> State:
        return {name: left[name] + right[name] for name in left}

    def result(self, state: State, layout: Layout) -> ExitResult:
        return ExitResult(
            ts=layout.times, count=int(state["count"]), exits=state["exits"]
        )

    def describe(self) -> dict[str, Any]:
        return {}


@dataclasses.dataclass(frozen=True)
class ExitResult(DrawnResult):
    """First exits, counted at the saved times.

    **Fields:** the times; the number of trajectories; how many were seen outside for
    the first time at each time.
    """

    ts: Axis[Float[np.ndarray, " time"]]
    count: int
    exits: Int[np.ndarray, " time"]

    @property
    def exited(self) -> int:
        """How many left the region at all."""
        return int(self.exits.sum())

    @property
    def probability(self) -> Float[np.ndarray, " time"]:
        """The share of the trajectories that had left by each time, `(times,)`."""
        return np.cumsum(self.exits) / max(self.count, 1)

    @property
    def mean_time(self) -> float:
        """The mean exit time of those that left; NaN where none did.

        Where some did not leave, this is smaller than the mean exit time.
        """
        if not self.exited:
            return float("nan")
        return float(np.sum(self.ts * self.exits) / self.exited)

    def summary(self) -> str:
        return (
            f"{self.exited} of {self.count} trajectories left by t = "
            f"{self.ts[-1]:.6g}, those at {self.mean_time:.6g} in the mean"
        )

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        low, high = self.interval()
        axes.plot(self.ts, self.probability, color=COLORS[0], label="share that left")
        axes.fill_between(
            self.ts,
            low,
            high,
            color=COLORS[0],
            alpha=0.25,
            lw=0,
            label="0.95 interval of each",
        )
        axes.set_xlabel("time")
        axes.set_ylabel("share that left the region")
        axes.set_ylim(bottom=0)
        axes.legend()

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """A confidence interval for `probability`, exact (Clopper & Pearson 1934).

        **Arguments:** `level`, between 0 and 1, which holds for each time by itself.

        **Returns:** lower and upper ends, each of shape `(times,)`.
        """
        check_level("ExitResult.interval", level)
        tail = (1 - level) / 2
        k, n = np.cumsum(self.exits), self.count
        low, high = np.zeros(k.shape), np.ones(k.shape)
        some, rest = k > 0, k < n
        low[some] = special.betaincinv(k[some], n - k[some] + 1, tail)
        high[rest] = special.betaincinv(k[rest] + 1, n - k[rest], 1 - tail)
        return low, high
