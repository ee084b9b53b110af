"""What a lean kernel is asked to reduce an ensemble to, and what it leaves."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int64


@dataclasses.dataclass(frozen=True)
class KernelReductions:
    """What to reduce an ensemble to at the times of `saveat`.

    **Fields:**

    - `moments`: count, mean and centred second moments; with `covariance` those of
        all pairs of components, else of each alone; with `higher` centred sums of
        third and fourth powers, too.
    - `extrema`: the least and the largest value of each component.
    - `histogram_edges`: ascending edges for each component, shape `(bins + 1,)`.
    - `exit_lower`, `exit_upper`: bounds of each component, shape `(n,)`, infinite for
        none; `exit_radius`: of the norm of the state. A trajectory exits at the first
        step whose end is outside.
    """

    moments: bool = False
    covariance: bool = True
    higher: bool = False
    extrema: bool = False
    histogram_edges: tuple[np.ndarray, ...] | None = None
    exit_lower: Float[np.ndarray, " n"] | None = None
    exit_upper: Float[np.ndarray, " n"] | None = None
    exit_radius: float | None = None

    @property
    def watches_exit(self) -> bool:
        """Whether first exits are asked for."""
        bounds = (self.exit_lower, self.exit_upper, self.exit_radius)
        return any(bound is not None for bound in bounds)


@dataclasses.dataclass(frozen=True, eq=False)
class KernelResult:
    """What an ensemble leaves; `None` for what was not asked for.

    **Fields:**

    - `ts`: the times, shape `(times,)`.
    - `states`: shape `(trajectories, times, n)`; NaN from the first time at which a
        trajectory is not finite.
    - `count`: how many trajectories were finite, shape `(times,)`; `mean`, shape
        `(times, n)`; `m2`, sums of products of deviations from the mean, shape
        `(times, n, n)`, or `(times, n)` without covariance; `m3`, `m4`, sums of powers
        of deviations, shape `(times, n)`.
    - `minimum`, `maximum`: shape `(times, n)`.
    - `histograms`: for each component counts of shape `(times, bins + 2)`, the first
        below the edges, the last above. Bins are closed on the left, the last on both
        sides.
    - `exit_times`: shape `(trajectories,)`, NaN where there was none.
    - `outcomes`: codes of `Outcome` in its order, shape `(trajectories,)`.
    - `failed`: the indices of trajectories that did not succeed; `failed_times`, where
        each ended, by a kernel the first grid time at which it was not finite.
    - `interrupted`: whether an interrupt stopped the run, which leaves nothing of use.
    - `done`: how many trajectories were finished.
    - `runner`: what ran, for the provenance.
    """

    ts: Float[np.ndarray, " times"]
    states: Float[np.ndarray, "trajectories times n"] | None
    count: Int64[np.ndarray, " times"] | None
    mean: Float[np.ndarray, "times n"] | None
    m2: np.ndarray | None
    m3: Float[np.ndarray, "times n"] | None
    m4: Float[np.ndarray, "times n"] | None
    minimum: Float[np.ndarray, "times n"] | None
    maximum: Float[np.ndarray, "times n"] | None
    histograms: tuple[np.ndarray, ...] | None
    exit_times: Float[np.ndarray, " trajectories"] | None
    outcomes: Int64[np.ndarray, " trajectories"]
    failed: Int64[np.ndarray, " failed"]
    failed_times: Float[np.ndarray, " failed"]
    interrupted: bool
    done: int
    runner: str
