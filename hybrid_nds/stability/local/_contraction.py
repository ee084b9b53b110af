"""Contraction rates: the largest matrix measure of a Jacobian over a region."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, ArrayLike, Float, Num, PRNGKeyArray, PyTree

from ..._core import Panels, check_level, check_whole, precision_of, require_precision
from ...analysis import AnalysisError, AnalysisResult, analysis_provenance
from ...problems import ODEProblem
from ...solution import Provenance
from ._field import (
    check_problem,
    flat_box,
    frozen_time,
    jacobian_at,
    point_text,
    time_slopes,
    uniform_points,
)
from ._matrix_measure import Norm, check_norm, check_weight, measure


@dataclasses.dataclass(frozen=True)
class ContractionRate(AnalysisResult):
    """How fast solutions in a region come together, or at most part.

    **Fields:**

    - `rate`: the largest matrix measure found, $c$: the larger of `sampled_rate` and
        what ascent from the worst samples reached. The largest there is may be larger:
        a sample gives a lower bound of it.
    - `sampled_rate`: the largest over the samples alone.
    - `exceeding_fraction`: with confidence `level`, at most this share of the region
        has a measure above `sampled_rate`.
    - `level`: the confidence.
    - `measures`: those of all samples, shape `(samples,)`.
    - `worst_point`: the flat state of the largest measure, shape `(n,)`; `worst_state`,
        the same as a pytree; `worst_time`.
    """

    rate: float
    sampled_rate: float
    exceeding_fraction: float
    level: float
    measures: Float[np.ndarray, " sample"]
    worst_point: Float[np.ndarray, " component"]
    worst_state: PyTree[np.ndarray]
    worst_time: float
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def refined_by(self) -> float:
        """How much ascent added to the largest sample: what sampling alone missed."""
        return self.rate - self.sampled_rate

    def bound(self, t: ArrayLike, distance: ArrayLike = 1.0) -> np.ndarray:
        """The bound on the distance of two solutions, $e^{ct} |x_0 - y_0|$.

        **Arguments:** the time that has passed, 0 or more; the distance at its start,
        in the norm of the rate.

        **Returns:** the bound, of the shape of both.
        """
        passed = np.asarray(t, float)
        if np.any(passed < 0):
            raise ValueError("ContractionRate.bound: `t` must be 0 or more.")
        return np.exp(self.rate * passed) * np.asarray(distance, float)

    def summary(self) -> str:
        norm = self.settings["norm"]
        word = "contracting" if self.rate < 0 else "no contraction"
        return (
            f"rate {self.rate:.6g} in the norm {norm:g}"
            f"{', weighted' if self.settings['weight'] is not None else ''}: {word}\n"
            f"|x(t) - y(t)| ≤ exp({self.rate:.6g} t) |x(0) - y(0)| while both stay in "
            "the region\n"
            f"largest of {len(self.measures)} samples {self.sampled_rate:.6g}, ascent "
            f"added {self.refined_by:.2g}; worst at {point_text(self.worst_point)}, "
            f"t = {self.worst_time:g}\n"
            f"sampling gives a lower bound: with confidence {self.level:g}, at most "
            f"{self.exceeding_fraction:.2g} of the region exceeds the largest sample"
        )

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        # Measures that are all equal but for round-off make no histogram.
        spread = float(np.ptp(self.measures))
        if spread > 1e-9 * np.max(np.abs(self.measures)):
            axes.hist(self.measures, bins=40, color="C0", alpha=0.7)
        else:
            axes.axvline(self.sampled_rate, color="C0", linewidth=4, label="samples")
        label = f"rate {self.rate:.4g}"
        axes.axvline(self.rate, color="C3", label=label)
        axes.axvline(0, color="0.6", linestyle=":")
        axes.set_xlabel("matrix measure of the Jacobian")
        axes.set_ylabel("samples")
        axes.legend()


def contraction_rate(
    problem: ODEProblem,
    region: tuple[Any, Any],
    *,
    norm: Norm = 2,
    weight: Num[ArrayLike, " n"] | Num[ArrayLike, "n n"] | None = None,
    samples: int = 1024,
    key: PRNGKeyArray | None = None,
    t: Any = None,
    refine: int = 4,
    level: float = 0.95,
) -> ContractionRate:
    """The rate at which solutions in a box come together.

    With $c \\ge \\mu(\\partial f/\\partial y)$ throughout a convex region,

    $$|x(t) - y(t)| \\le e^{ct}\\,|x(0) - y(0)|$$

    for solutions that stay in it (Lohmiller & Slotine 1998, Automatica 34; Söderlind
    2006, BIT 46, section 4). The measure is taken at samples, uniform in the box, and
    followed uphill from the largest by L-BFGS-B with JAX's gradients.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem].
    - `region`: `(low, high)`, the box; each a number, or numbers in the structure of
        `problem.y0`.
    - `norm`, `weight`: as of
        [`matrix_measure`][hybrid_nds.stability.matrix_measure]; the weight acts on flat
        states in the order of `ravel_pytree`.
    - `samples`: how many.
    - `key`: their JAX random key, by default that of zero.
    - `t`: the time at which to freeze a field that depends on it; `None` takes all
        times of the problem's span.
    - `refine`: from how many of the largest samples to go uphill, 0 for none.
    - `level`: the confidence of `exceeding_fraction`, between 0 and 1.

    **Returns:** a [`ContractionRate`][hybrid_nds.stability.ContractionRate].

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] where a Jacobian in the region
    is not finite.
    """
    caller = "contraction_rate"
    check_problem(caller, problem)
    check_norm(caller, norm)
    check_whole(caller, "samples", samples)
    check_whole(caller, "refine", refine, 0)
    check_level(caller, level)
    with precision_of(problem):
        require_precision(f"{caller}: `weight`", weight)
        P = check_weight(caller, weight, problem.dimension, problem.dtype)
        low, high = flat_box(caller, problem, region)
        start_key = jax.random.key(0) if key is None else key
        points = uniform_points(start_key, low, high, samples, caller)
        first, last = _times(caller, problem, t, points)
        # Time is one more component, of no extent where nothing depends on it.
        low, high = (
            np.append(end, time).astype(problem.dtype)
            for end, time in ((low, first), (high, last))
        )
        own = jax.random.uniform(jax.random.fold_in(start_key, 1), (samples,))
        clock = (first + np.asarray(own) * (last - first)).astype(problem.dtype)
        points = np.column_stack([points, clock])
        found = np.asarray(_measures(problem, points, norm, P), float)
        if not np.all(np.isfinite(found)):
            bad = points[int(np.argmin(np.isfinite(found)))]
            raise AnalysisError(
                f"{caller}: the field or its Jacobian is not finite at "
                f"{point_text(bad[:-1])}, t = "
                f"{bad[-1]:g}; take a `region` where both are."
            )
        largest = np.argsort(-found)
        worst, rate = points[largest[0]], float(found[largest[0]])
        for start in points[largest[:refine]]:
            # Rounding of the search's double precision may carry it past an end.
            end = _uphill(lambda x: _slope(problem, x, norm, P), start, low, high)
            reached = float(_measures(problem, end[None], norm, P)[0])
            if reached > rate:
                worst, rate = end, reached
    return ContractionRate(
        rate=rate,
        sampled_rate=float(found[largest[0]]),
        exceeding_fraction=1 - (1 - level) ** (1 / samples),
        level=level,
        measures=found,
        worst_point=worst[:-1],
        worst_state=problem.flat_state.unflatten(worst[:-1]),
        worst_time=float(worst[-1]),
        settings={
            "low": low[:-1],
            "high": high[:-1],
            "times": (float(first), float(last)),
            "norm": norm,
            "weight": None if P is None else np.asarray(P),
            "samples": samples,
            "refine": refine,
        },
        provenance=analysis_provenance("jax", "samples and L-BFGS-B"),
    )


def _times(
    caller: str, problem: ODEProblem, t: Any, points: np.ndarray
) -> tuple[float, float]:
    """The first and the last time to look at."""
    if t is not None:
        time = float(frozen_time(caller, problem, t, points))
        return time, time
    first, last = sorted((float(problem.t0), float(problem.t1)))
    middle = first + (last - first) / 2 if math.isfinite(last) else first
    clock = np.full(len(points), middle, problem.dtype)
    if not np.any(np.asarray(time_slopes(problem, clock, points))):
        return float(problem.t0), float(problem.t0)
    if not math.isfinite(last - first):
        raise ValueError(
            f"{caller}: the field of `problem` depends on time, and its span is "
            "infinite; give `t`, the time at which to freeze it, or a finite span."
        )
    return first, last


def _measure_at(problem: ODEProblem, point: Array, norm: Norm, P: Any) -> Array:
    """The measure at a state and a time, which is the last component."""
    return measure(jacobian_at(problem, point[-1], point[:-1]), norm, P)


@eqx.filter_jit
def _measures(problem: ODEProblem, points: ArrayLike, norm: Norm, P: Any) -> Array:
    return jax.lax.map(
        lambda x: _measure_at(problem, x, norm, P), jnp.asarray(points), batch_size=64
    )


@eqx.filter_jit
def _slope(
    problem: ODEProblem, point: ArrayLike, norm: Norm, P: Any
) -> tuple[Array, Array]:
    value, slope = jax.value_and_grad(lambda x: _measure_at(problem, x, norm, P))(
        jnp.asarray(point, problem.dtype)
    )
    # A double largest eigenvalue has no gradient: the search ends there.
    return value, jnp.where(jnp.isfinite(slope), slope, 0)


def _uphill(
    slope: Callable[[np.ndarray], tuple[Array, Array]],
    start: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Where the ascent from a point ends, in its dtype.

    It climbs in parts of the region and of the measure at the start: the search's own
    tolerances are numbers without a unit.
    """
    origin, width = low.astype(float), (high - low).astype(float)
    unit = abs(float(slope(start)[0])) or 1.0
    unit = unit if np.isfinite(unit) else 1.0

    def falling(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = slope((origin + width * z).astype(start.dtype))
        # Outside of where the field is finite there is no way up.
        if not np.isfinite(float(value)):
            return np.inf, np.zeros_like(z)
        return -float(value) / unit, -np.asarray(gradient, float) * width / unit

    inside = np.where(width > 0, (start - origin) / np.where(width > 0, width, 1), 0)
    found = scipy.optimize.minimize(
        falling, inside, jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(width)
    )
    return np.clip((origin + width * found.x).astype(start.dtype), low, high)
