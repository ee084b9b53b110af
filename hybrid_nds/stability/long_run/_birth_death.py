"""Birth–death chains by arithmetic without subtraction.

Rates may range over hundreds of powers of ten. What follows adds, multiplies and
divides positive numbers only, so that its results, however small, are as accurate as
the rates are (Grassmann, Taksar & Heyman 1985).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy.linalg
from jaxtyping import Float

_EPSILON = float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True)
class BirthDeathChain:
    """A jump process between neighbours of `n` states in a row.

    **Fields:** the rates `up` over each of the `n + 1` edges, from the state below it,
    and `down`, from the state above it, in one over the unit of time. `down[0]` and
    `up[n]` are rates of absorption, zero at a reflecting end; `up[0]` and `down[n]`
    belong to no state and are not looked at.
    """

    up: Float[np.ndarray, " edges"]
    down: Float[np.ndarray, " edges"]

    @property
    def states(self) -> int:
        """How many."""
        return len(self.up) - 1

    @property
    def leaving(self) -> Float[np.ndarray, " states"]:
        """The rate out of each state."""
        return self.up[1:] + self.down[:-1]

    @property
    def round_off(self) -> float:
        """How far double precision may take the results, relative.

        Each of the $2n$ rates enters with a degree of one at most: a relative error of
        it is no larger in a result. Ten roundings a rate are allowed for: six where it
        is computed, four in what follows.
        """
        return 20 * self.states * _EPSILON

    def slowest_rate(self) -> float:
        """The smallest nonzero eigenvalue of the generator, with its sign changed.

        In coordinates where the generator is symmetric it is $-B^\\top B$, with $B$
        bidiagonal and of entries the roots of the rates. All singular values of such a
        matrix are as accurate, in a relative sense, as its entries (Demmel & Kahan
        1990); bisection on the Golub–Kahan matrix finds them so (Fernando 1998).
        """
        inner = np.column_stack([self.up[1:-1], self.down[1:-1]]).ravel()
        ends = [end[end > 0] for end in (self.down[:1], self.up[-1:])]
        entries = np.sqrt(np.concatenate([ends[0], inner, ends[1]]))
        scale = float(np.max(entries))
        size = len(entries) + 1
        # Eigenvalues come in pairs of both signs, with one zero where they are odd.
        index = (size + 1) // 2
        values = scipy.linalg.eigh_tridiagonal(
            np.zeros(size),
            entries / scale,
            eigvals_only=True,
            select="i",
            select_range=(index, index),
            lapack_driver="stebz",
            # At zero LAPACK would take one relative to the largest.
            tol=2 * float(np.finfo(np.float64).tiny),
        )
        return (scale * max(float(values[0]), 0.0)) ** 2

    def exit_times(self) -> Float[np.ndarray, " states"]:
        """The mean time to absorption from each state, infinite where it is above what
        double precision holds or an end cannot be reached."""
        n = self.states
        times, lost, gained = np.zeros(n), np.zeros(n), np.zeros(n)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            # States are taken out from below: what is absorbed there, and the time
            # spent there, becomes that of the next.
            lost[0], gained[0] = self.down[0], 1.0
            for i in range(1, n):
                share = self.down[i] / (lost[i - 1] + self.up[i])
                # In the order in which no product of what cancels overflows.
                lost[i] = share * lost[i - 1]
                gained[i] = 1.0 + share * gained[i - 1]
            times[-1] = gained[-1] / (lost[-1] + self.up[-1])
            for i in range(n - 2, -1, -1):
                out = lost[i] + self.up[i + 1]
                times[i] = (self.up[i + 1] / out) * times[i + 1] + gained[i] / out
        return np.where(np.isnan(times), np.inf, times)

    def transition(self, time: float) -> Float[np.ndarray, "all all"]:
        """The probabilities to be in a state (row) after a time, from each (column).

        The two ends follow the states as states of their own, which nothing leaves, so
        that probabilities sum to one whatever the time. The generator shifted by its
        largest rate has no negative entry; neither have the terms of the series of its
        exponential, nor their squares (scaling and squaring, as for M-matrices: Xue &
        Ye 2013).
        """
        n = self.states
        generator = np.zeros((n + 2, n + 2))
        inside = np.arange(n)
        generator[inside[1:], inside[:-1]] = self.up[1:-1]
        generator[inside[:-1], inside[1:]] = self.down[1:-1]
        generator[n, 0], generator[n + 1, n - 1] = self.down[0], self.up[-1]
        rate = float(np.max(self.leaving))
        staying = np.append(rate - self.leaving, [rate, rate])
        part = time / 2 ** self.squarings(time)
        shifted = (generator + np.diag(staying)) * part
        total = term = np.eye(n + 2)
        # Norms of at most one: what follows the twentieth term is below 1/21! = 2e-20.
        for order in range(1, 21):
            term = term @ shifted / order
            total = total + term
        # Squaring doubles the rounding of the sums: put them right each time.
        total = total / total.sum(axis=0)
        for _ in range(self.squarings(time)):
            total = total @ total
            total = total / total.sum(axis=0)
        return total

    def squarings(self, time: float) -> int:
        """How many squarings `transition` takes."""
        rate = float(np.max(self.leaving))
        return max(0, math.ceil(math.log2(max(rate * time, 1e-300))))
