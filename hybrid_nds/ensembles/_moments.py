"""Means, variances and higher moments of an ensemble, in one pass."""

from __future__ import annotations

import dataclasses
from math import comb
from typing import Any

import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float, PyTree

from .._core import Axis, DrawnResult, Panels
from ._layout import Layout, State
from ._plot import draw_band, each, label_last, pick
from ._reduction import Observable, check_observable

_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean, variance and central moments at every saved time.

    Blocks are merged by the formulas of Chan, Golub & LeVeque (1983) and Pébay (2008),
    which lose no digits where the mean is large beside the deviation.

    **Arguments:**

    - `order`: the highest central moment, 2 to 4. With 4, the variance gets a standard
        error, too.
    - `covariance`: whether to keep the covariance of all pairs of components.
    - `of`: a function of one state to reduce, evaluated in JAX; `None` for the state.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    order: int = 2
    covariance: bool = False
    of: Observable | None = None

    def __post_init__(self):
        whole = isinstance(self.order, int) and not isinstance(self.order, bool)
        if not whole or not 2 <= self.order <= 4:
            raise ValueError(f"Moments: `order` must be 2, 3 or 4, got {self.order!r}.")
        if not isinstance(self.covariance, bool):
            raise TypeError(
                f"Moments: `covariance` must be True or False, got {self.covariance!r}."
            )
        check_observable("Moments", self.of)

    def init(self, layout: Layout) -> State:
        entries = layout.entries
        state = {"count": np.zeros((), np.int64), "mean": np.zeros(entries)}
        for p in range(2, self.order + 1):
            state[f"m{p}"] = np.zeros(entries)
        if self.covariance:
            state["products"] = np.zeros((*entries, layout.dimension))
        return state

    def update(self, state: State, values: np.ndarray) -> State:
        if not len(values):
            return state
        # Powers of large states overflow to infinity, which says just that.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = values.mean(axis=0)
            delta = values - mean
            block = {"count": np.asarray(len(values), np.int64), "mean": mean}
            for p in range(2, self.order + 1):
                block[f"m{p}"] = np.sum(delta**p, axis=0)
            if self.covariance:
                # Not through BLAS, whose sums depend on its number of threads.
                block["products"] = np.einsum("btd,bte->tde", delta, delta)
        return self.merge(state, block)

    def of_sums(
        self,
        count: int,
        mean: np.ndarray,
        powers: np.ndarray,
        products: np.ndarray | None,
    ) -> State:
        """The state of trajectories whose sums are known.

        **Arguments:** how many there are; their mean, shape `(times, scalars)`; sums of
        powers of deviations from it, from the second to at least those of `order`,
        shape `(powers, times, scalars)`; sums of products of deviations, shape
        `(times, scalars, scalars)`, where `covariance` wants them.
        """
        state = {"count": np.asarray(count, np.int64), "mean": np.array(mean)}
        for p in self._orders:
            state[f"m{p}"] = np.array(powers[p - 2])
        if self.covariance:
            state["products"] = np.array(products)
        return state

    def merge(self, left: State, right: State) -> State:
        a, b = int(left["count"]), int(right["count"])
        if a == 0 or b == 0:
            return right if a == 0 else left
        n = a + b
        with np.errstate(over="ignore", invalid="ignore"):
            delta = right["mean"] - left["mean"]
            merged = {
                "count": np.asarray(n, np.int64),
                "mean": left["mean"] + delta * (b / n),
            }
            # Pébay (2008), equation 2.1.
            for p in range(2, self.order + 1):
                total = left[f"m{p}"] + right[f"m{p}"]
                for k in range(1, p - 1):
                    total = total + comb(p, k) * delta**k * (
                        (-b / n) ** k * left[f"m{p - k}"]
                        + (a / n) ** k * right[f"m{p - k}"]
                    )
                between = a * (-b / n) ** p + b * (a / n) ** p
                merged[f"m{p}"] = total + between * delta**p
            if self.covariance:
                outer = delta[..., :, None] * delta[..., None, :]
                merged["products"] = (
                    left["products"] + right["products"] + outer * (a * b / n)
                )
        return merged

    def result(self, state: State, layout: Layout) -> MomentsResult:
        n = int(state["count"])
        some, several = n > 0, n > 1
        missing = np.full(layout.entries, np.nan)
        central = {p: state[f"m{p}"] / n if some else missing for p in self._orders}
        variance = state["m2"] / (n - 1) if several else missing
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            error = np.sqrt(variance / n) if several else missing
            of_variance = missing if self.order == 4 else None
            if self.order == 4 and n > 3:
                # The variance of the unbiased variance, with sample moments.
                spread = central[4] - (n - 3) / (n - 1) * central[2] ** 2
                of_variance = np.sqrt(np.maximum(spread, 0) / n)
        covariance = None
        if self.covariance:
            shape = state["products"].shape
            covariance = (
                state["products"] / (n - 1) if several else np.full(shape, np.nan)
            )
        shaped = layout.unflatten
        return MomentsResult(
            ts=layout.times,
            count=n,
            mean=shaped(state["mean"] if some else missing),
            variance=shaped(variance),
            standard_error=shaped(error),
            central_moments={p: shaped(value) for p, value in central.items()},
            variance_standard_error=None
            if of_variance is None
            else shaped(of_variance),
            covariance=covariance,
        )

    @property
    def _orders(self) -> range:
        return range(2, self.order + 1)

    def describe(self) -> dict[str, Any]:
        return {"order": self.order, "covariance": self.covariance}


@dataclasses.dataclass(frozen=True)
class MomentsResult(DrawnResult):
    """Moments at every saved time; arrays have the state's structure, led by times.

    **Fields:** the times; the number of trajectories that took part; the mean; the
    unbiased variance; the standard error of the mean; central moments by order,
    divided by the count; the standard error of the variance, where the fourth moment
    was kept; the unbiased covariance, shape `(times, scalars, scalars)` in the order
    of `ravel_pytree`, where it was asked for. NaN where there were too few.
    """

    ts: Axis[Float[np.ndarray, " time"]]
    count: int
    mean: PyTree[Float[np.ndarray, "time ..."]]
    variance: PyTree[Float[np.ndarray, "time ..."]]
    standard_error: PyTree[Float[np.ndarray, "time ..."]]
    central_moments: dict[int, PyTree[Float[np.ndarray, "time ..."]]]
    variance_standard_error: PyTree[Float[np.ndarray, "time ..."]] | None
    covariance: Float[np.ndarray, "time row column"] | None

    def summary(self) -> str:
        mean, error = (
            np.concatenate([x[-1].ravel() for x in jtu.tree_leaves(tree)])
            for tree in (self.mean, self.standard_error)
        )
        lines = [f"moments of {self.count} trajectories, at t = {self.ts[-1]:.6g}:"]
        lines += [
            f"  component {k}: mean {m:.6g} ± {e:.2g}"
            for k, (m, e) in enumerate(zip(mean[:_SHOWN], error, strict=False))
        ]
        if len(mean) > _SHOWN:
            lines.append(f"  … and {len(mean) - _SHOWN} more")
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        for axes, k in each(self.mean, 1, panels):
            deviation = np.sqrt(pick(self.variance, k, 1))
            draw_band(axes, self.ts, pick(self.mean, k, 1), deviation)
        label_last(panels.axes, "time")
        panels.axes[0].legend()
