"""What a lean kernel is asked to reduce an ensemble to, and what it leaves."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Float64, Int64


@dataclasses.dataclass(frozen=True)
class KernelMoments:
    """Moments to reduce an ensemble to at the times of `saveat`.

    **Fields:**

    - `block`: how many trajectories, in the order of the indices, are reduced together,
        from 1 to 1024. A block's moments depend on its trajectories alone.
    - `order`: the highest central moment, 2 to 4.
    - `covariance`: whether to keep products of all pairs of components, too.
    """

    block: int
    order: int = 2
    covariance: bool = False


@dataclasses.dataclass(frozen=True)
class BlockMoments:
    """Moments of each block of trajectories, in double precision.

    Trajectories that fail are left out at all times.

    **Fields:** how many trajectories took part; their mean; sums of the powers of the
    deviations from it, from the second on; sums of the products of the deviations of
    all pairs of components, where they were asked for.
    """

    count: Int64[np.ndarray, " blocks"]
    mean: Float64[np.ndarray, "blocks times n"]
    powers: Float64[np.ndarray, "blocks powers times n"]
    products: Float64[np.ndarray, "blocks times n n"] | None

    def block(
        self, index: int
    ) -> tuple[int, np.ndarray, np.ndarray, np.ndarray | None]:
        """Count, mean, powers and products of one block."""
        products = None if self.products is None else self.products[index]
        return int(self.count[index]), self.mean[index], self.powers[index], products


@dataclasses.dataclass(frozen=True, eq=False)
class KernelResult:
    """What an ensemble leaves; `None` for what was not asked for.

    **Fields:**

    - `ts`: the times, shape `(times,)`.
    - `states`: shape `(trajectories, times, n)`; NaN from the first time at which a
        trajectory is not finite.
    - `moments`: of each block of trajectories.
    - `outcomes`: codes of `Outcome` in its order, shape `(trajectories,)`.
    - `failed`: the indices of trajectories that did not succeed; `failed_times`, where
        each ended, by a kernel the first grid time at which it was not finite.
    - `interrupted`: whether an interrupt stopped the run, which leaves nothing of use.
    - `done`: how many trajectories were finished.
    - `runner`: what ran, for the provenance.
    """

    ts: Float[np.ndarray, " times"]
    states: Float[np.ndarray, "trajectories times n"] | None
    moments: BlockMoments | None
    outcomes: Int64[np.ndarray, " trajectories"]
    failed: Int64[np.ndarray, " failed"]
    failed_times: Float[np.ndarray, " failed"]
    interrupted: bool
    done: int
    runner: str
