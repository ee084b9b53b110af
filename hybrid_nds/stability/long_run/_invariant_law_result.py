"""An invariant distribution, with what it is uncertain by."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from ..._core import Axis, Panels
from ...analysis import AnalysisResult
from ...solution import Provenance
from ...statistics import (
    batch_means,
    effective_samples,
    r_hat_limit,
    running_means,
    split_r_hat,
)
from ._sampling import DIVERGED_TWICE, SamplePlan, Twice, heading

_FEWEST = 100
_BINS = 60
_SHOWN = 12


@dataclasses.dataclass(frozen=True, eq=False)
class InvariantLaw(AnalysisResult):
    """The distribution that a flow settles in.

    **Fields:** of `k` observables, the components of the state in the order of
    `ravel_pytree` by default:

    - `mean`, their `standard_errors`, and the intervals `low` to `high` that hold each
        with probability `level`; shape `(k,)`.
    - `covariance`, `covariance_errors`: shape `(k, k)`; the errors are standard errors.
    - `step_changes`, `step_change_errors`, and for covariances
        `covariance_step_changes`, `covariance_step_change_errors`: what steps twice as
        long change, and the standard errors of that. The error of the step is about as
        large for methods of weak order one, a third of it for order two. NaN where it
        was not asked for.
    - `effective_samples`: how many independent samples would tell each mean as well.
    - `r_hat`: near one where the chains agree on the distribution, each shape `(k,)`.
    - `chain_means`: the mean of each chain, shape `(chains, k)`.
    - `correlation_time`: the longest of the integrated autocorrelation times, and
        `batch_length`, of the `batches` that errors come from; in the unit of time.
    - `edges`, `(k, bins + 1)`, and `density`, `(k, bins)`: a histogram of each.
    - `samples`: states nearly independent of each other, two correlation times apart,
        shape `(samples, k)`; for tests and distances that want these.
    - `trace_times`, `trace`: means over the time up to each, shape `(times, k)`.
    - `converged`: whether chains, and both halves of the time, agree within the errors,
        and there are samples enough to tell. Where not, `notes` say why.
    - `settings`, `provenance`.
    """

    estimate: ClassVar = ("mean", "low", "high")

    mean: Float[np.ndarray, " observable"]
    standard_errors: Float[np.ndarray, " observable"]
    low: Float[np.ndarray, " observable"]
    high: Float[np.ndarray, " observable"]
    level: float
    covariance: Float[np.ndarray, "observable other"]
    covariance_errors: Float[np.ndarray, "observable other"]
    step_changes: Float[np.ndarray, " observable"]
    step_change_errors: Float[np.ndarray, " observable"]
    covariance_step_changes: Float[np.ndarray, "observable other"]
    covariance_step_change_errors: Float[np.ndarray, "observable other"]
    effective_samples: Float[np.ndarray, " observable"]
    r_hat: Float[np.ndarray, " observable"]
    chain_means: Float[np.ndarray, "chain observable"]
    correlation_time: float
    batch_length: float
    batches: int
    edges: Float[np.ndarray, "observable edge"]
    density: Float[np.ndarray, "observable bin"]
    samples: Float[np.ndarray, "sample observable"]
    trace_times: Axis[Float[np.ndarray, " time"]]
    trace: Float[np.ndarray, "time observable"]
    converged: bool
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    provenance: Provenance

    def summary(self) -> str:
        k = len(self.mean)
        lines = heading("Invariant law", k, self)
        lines.append(
            f"{'mean':>12}{'± error':>10}{'variance':>12}{'± error':>10}"
            f"{'effective':>11}{'R̂':>8}"
        )
        for i in range(min(k, _SHOWN)):
            lines.append(
                f"{self.mean[i]:>12.6g}{self.standard_errors[i]:>10.2g}"
                f"{self.covariance[i, i]:>12.6g}{self.covariance_errors[i, i]:>10.2g}"
                f"{self.effective_samples[i]:>11.0f}{self.r_hat[i]:>8.4f}"
            )
        if k > _SHOWN:
            lines.append(f"{f'… {k - _SHOWN} more':>12}")
        lines.append(
            f"errors from {self.batches} batches of {self.batch_length:.4g}; the "
            f"slowest correlation time is {self.correlation_time:.4g}"
        )
        if np.all(np.isfinite(self.step_changes)):
            i = int(np.argmax(np.abs(self.step_changes)))
            variances = np.diag(self.covariance_step_changes)
            j = int(np.argmax(np.abs(variances)))
            error = self.covariance_step_change_errors[j, j]
            lines.append(
                f"steps twice as long change means by up to {self.step_changes[i]:.2g} "
                f"± {self.step_change_errors[i]:.1g}, variances by up to "
                f"{variances[j]:.2g} ± {error:.1g}"
            )
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        left, right = panels.subplots(1, 2)
        for i in range(min(len(self.mean), 6)):
            color = f"C{i}"
            left.stairs(self.density[i], self.edges[i], linewidth=1.1, color=color)
            # Where chains disagree, their means stand apart.
            left.plot(
                self.chain_means[:, i],
                np.zeros(len(self.chain_means)),
                "|",
                color=color,
                markersize=12,
                clip_on=False,
            )
            spread = math.sqrt(max(self.covariance[i, i], 0.0)) or 1.0
            right.plot(
                self.trace_times,
                (self.trace[:, i] - self.mean[i]) / spread,
                linewidth=1.1,
                label=f"{i}",
            )
        left.set_xlabel("observable (ticks: means of the chains)")
        left.set_ylabel("density")
        left.set_ylim(bottom=0)
        reach = float(
            np.max(
                10
                * self.standard_errors
                / np.sqrt(np.maximum(np.diag(self.covariance), 1e-300))
            )
        )
        if 0 < reach < math.inf:
            right.set_ylim(-reach, reach)
            right.axhspan(-reach / 5, reach / 5, color="0.9", linewidth=0)
        right.set_xscale("log")
        right.set_xlabel("time")
        verdict = "" if self.converged else ": NOT CONVERGED"
        right.set_title(
            f"running mean less the result,\nin standard deviations{verdict}",
            fontsize=9,
        )
        if len(self.mean) > 1:
            right.legend(ncols=2)


def law_of(
    values: Float[np.ndarray, "chains samples k"],
    plan: SamplePlan,
    level: float,
    provenance: Provenance,
    runner: str,
    twice: Twice | None = None,
) -> InvariantLaw:
    """The distribution from the samples of all chains.

    **Arguments:** the samples; the plan they were made by; the level of the intervals;
    where they come from; what ran them; those of steps twice as long.
    """
    chains, _, k = values.shape
    means = batch_means(values, level)
    effective = np.array([effective_samples(values[:, :, i]) for i in range(k)])
    r_hat = np.array([split_r_hat(values[:, :, i]) for i in range(k)])
    limits = np.array([r_hat_limit(values[:, :, i]) for i in range(k)])
    apart = np.flatnonzero(r_hat > limits)
    error = means.standard_error.copy()
    if chains > 1:
        # Chains that disagree are samples of one each.
        between = values.mean(axis=1).std(axis=0, ddof=1) / math.sqrt(chains)
        error[apart] = np.maximum(error, between)[apart]
    covariance, covariance_errors = _covariance(values, means)
    half = (
        means.half_width
        * error
        / np.where(means.standard_error > 0, means.standard_error, 1.0)
    )
    stride = max(1, math.ceil(2 * means.correlation))
    edges, density = _histograms(values.reshape(-1, k))
    numbers, trace = running_means(values)
    changes = _step_changes(values, twice, level)
    notes = _notes(means, plan, effective, r_hat, limits)
    notes += _step_notes(changes, twice, error, covariance_errors)
    return InvariantLaw(
        mean=means.mean,
        standard_errors=error,
        low=means.mean - half,
        high=means.mean + half,
        level=level,
        covariance=covariance,
        covariance_errors=covariance_errors,
        step_changes=changes[0],
        step_change_errors=changes[1],
        covariance_step_changes=changes[2],
        covariance_step_change_errors=changes[3],
        effective_samples=effective,
        r_hat=r_hat,
        chain_means=values.mean(axis=1),
        correlation_time=means.correlation * plan.interval,
        batch_length=means.length * plan.interval,
        batches=len(means.batches),
        edges=edges,
        density=density,
        samples=values[:, stride - 1 :: stride].reshape(-1, k),
        trace_times=numbers * plan.interval,
        trace=trace,
        converged=not notes,
        notes=notes,
        settings=plan.settings | {"runner": runner},
        provenance=provenance,
    )


def _covariance(values: np.ndarray, means: Any) -> tuple[np.ndarray, np.ndarray]:
    chains, _, k = values.shape
    centred = values - means.mean
    per_chain = len(means.batches) // chains
    kept = centred[:, centred.shape[1] - per_chain * means.length :]
    parts = kept.reshape(-1, means.length, k)
    products = np.einsum("bli,blj->bij", parts, parts) / means.length
    number = len(parts)
    # The mean was estimated from the same samples: its own covariance is missing.
    of_mean = np.atleast_2d(np.cov(means.batches, rowvar=False)) / number
    total = np.einsum("cti,ctj->ij", centred, centred) / centred[..., 0].size
    return total + of_mean, products.std(axis=0, ddof=1) / math.sqrt(number)


def _step_changes(
    values: np.ndarray, twice: Twice | None, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What longer steps change in means and covariances, each with its errors."""
    chains, _, k = values.shape
    if twice is None or twice.values is None:
        none = np.full(k, np.nan), np.full((k, k), np.nan)
        return none[0], none[0], none[1], none[1]
    pair = values[:, twice.stride - 1 :: twice.stride], twice.values
    # Sample by sample: along the same path both err alike, and little is left.
    means = batch_means(pair[1] - pair[0], level)
    per_chain = len(means.batches) // chains
    products = []
    for one in pair:
        centred = one - one.mean(axis=(0, 1))
        parts = centred[:, centred.shape[1] - per_chain * means.length :]
        parts = parts.reshape(-1, means.length, k)
        products.append(np.einsum("bli,blj->bij", parts, parts) / means.length)
    change = products[1] - products[0]
    error = change.std(axis=0, ddof=1) / math.sqrt(len(change))
    return means.mean, means.standard_error, change.mean(axis=0), error


def _step_notes(
    changes: tuple[np.ndarray, ...],
    twice: Twice | None,
    error: np.ndarray,
    covariance_errors: np.ndarray,
) -> tuple[str, ...]:
    if twice is None:
        return ()
    if twice.values is None:
        return (DIVERGED_TWICE,)
    notes = []
    for what, change, noise, sampled in (
        ("mean", changes[0], changes[1], error),
        ("variance", *(np.diag(x) for x in (*changes[2:], covariance_errors))),
    ):
        beyond = np.abs(change) - 3 * noise - sampled
        i = int(np.argmax(beyond))
        if beyond[i] > 0:
            notes.append(
                f"steps twice as long change the {what} of observable {i} by "
                f"{change[i]:.2g}, more than its standard error of {sampled[i]:.2g}: "
                "the error of the step counts; take a shorter `dt`, or a `solver` of "
                "higher weak order."
            )
    return tuple(notes)


def _histograms(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for column in flat.T:
        low, high = float(column.min()), float(column.max())
        if low == high:
            low, high = low - 0.5, high + 0.5
        found.append(np.histogram(column, _BINS, (low, high), density=True))
    return np.stack([e for _, e in found]), np.stack([d for d, _ in found])


def _notes(
    means: Any,
    plan: SamplePlan,
    effective: np.ndarray,
    r_hat: np.ndarray,
    limits: np.ndarray,
) -> tuple[str, ...]:
    notes = []
    apart = np.flatnonzero(r_hat > limits)
    if apart.size:
        which = ", ".join(str(i) for i in apart[:6])
        notes.append(
            f"the chains disagree on the law of observable {which} (R̂ = "
            f"{r_hat[apart[0]]:.4g}, must be below {limits[apart[0]]:.4g}): each may "
            "be stuck in a part of the states; give a longer `time` and `transient`, "
            "or start them by `initial` in the proportions of the law."
        )
    few = np.flatnonzero(effective < _FEWEST)
    if few.size or not means.enough:
        least = float(np.nanmin(effective))
        notes.append(
            f"{least:.0f} effective samples, in {len(means.batches)} batches, of "
            f"{_FEWEST} needed for errors to be trusted; the autocorrelation time is "
            f"{means.correlation * plan.interval:.3g}: give a longer `time`, or more "
            "`chains`."
        )
    drifting = np.flatnonzero(means.drift > 1)
    if drifting.size:
        which = ", ".join(str(i) for i in drifting[:6])
        notes.append(
            "the two halves of the time disagree beyond the errors, in observable "
            f"{which}; give a longer `transient` or `time`."
        )
    return tuple(notes)
