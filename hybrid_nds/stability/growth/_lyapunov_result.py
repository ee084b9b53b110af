"""A Lyapunov spectrum, with what it is uncertain by."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from ..._core import QUIET, Axis, Panels
from ...analysis import AnalysisResult
from ...solution import Provenance
from ...statistics import batch_means, running_means
from ._kaplan_yorke import dimension_error, kaplan_yorke
from ._lyapunov_step import StepCheck

_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class LyapunovSpectrum(AnalysisResult):
    """The Lyapunov exponents of a flow, in the order of the directions of the QR
    decomposition: largest first, but for their errors.

    **Fields:**

    - `exponents`, shape `(k,)`, and their `standard_errors`.
    - `discretization_errors`: what each may be off by because of the step or the
        tolerances; NaN where that was not looked at.
    - `low`, `high`: the interval of each that holds it with probability `level`, wider
        by the discretization error on both sides.
    - `sum`, `sum_error`: of the exponents; for all of them the mean rate at which
        volumes grow.
    - `dimension`, `dimension_error`: Kaplan and Yorke's; NaN where the exponents asked
        for are too few to tell. These errors hold that of the discretization, too.
    - `finite_time`: exponents over successive windows of the length `window`, those of
        one chain after those of another, shape `(windows, k)`.
    - `trace`: the exponents that the time up to each of `trace_times` alone would give,
        shape `(times, k)`.
    - `converged`: whether the two halves of the time agree within the errors, and
        there was enough time to estimate those. Where not, `notes` say why.
    - `settings`, `provenance`.
    """

    estimate: ClassVar = ("exponents", "low", "high")

    exponents: Float[np.ndarray, " exponent"]
    standard_errors: Float[np.ndarray, " exponent"]
    discretization_errors: Float[np.ndarray, " exponent"]
    low: Float[np.ndarray, " exponent"]
    high: Float[np.ndarray, " exponent"]
    level: float
    sum: float
    sum_error: float
    dimension: float
    dimension_error: float
    finite_time: Float[np.ndarray, "segment exponent"]
    window: float
    trace_times: Axis[Float[np.ndarray, " time"]]
    trace: Float[np.ndarray, "time exponent"]
    converged: bool
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    provenance: Provenance

    def summary(self) -> str:
        k = len(self.exponents)
        where = self.provenance
        lines = [
            f"{k} Lyapunov exponent{'s' if k > 1 else ''}, {where.solver} on "
            f"{where.backend}, over a time of {self.settings['time']:g}"
            + (
                f" in each of {self.settings['chains']} chains"
                if self.settings["chains"] > 1
                else ""
            )
        ]
        if not self.converged:
            lines += ["NOT CONVERGED:", *(f"  {note}" for note in self.notes)]
        lines.append(f"{'exponent':>14}{'± error':>11}   {self.level:.4g} interval")
        rows = zip(
            self.exponents, self.standard_errors, self.low, self.high, strict=True
        )
        for value, error, low, high in list(rows)[:_SHOWN]:
            lines.append(f"{value:>14.6g}{error:>11.2g}   [{low:.6g}, {high:.6g}]")
        if k > _SHOWN:
            lines.append(f"{f'… {k - _SHOWN} more':>14}")
        known = np.isfinite(self.discretization_errors)
        lines.append(
            "in the intervals, of the discretization: up to "
            f"{np.max(self.discretization_errors):.2g}"
            if np.all(known)
            else "the error of the discretization is not in the intervals"
        )
        lines.append(f"sum {self.sum:.9g} ± {self.sum_error:.2g}")
        if math.isfinite(self.dimension):
            lines.append(
                f"Kaplan-Yorke dimension {self.dimension:.4f} ± "
                f"{self.dimension_error:.2g}"
            )
        if not self.converged:
            shown = np.linspace(0, len(self.trace) - 1, 6).astype(int)
            lines.append("running means:")
            for i in dict.fromkeys(shown):
                values = " ".join(f"{x:.5g}" for x in self.trace[i][:6])
                lines.append(f"  up to {self.trace_times[i]:>10.4g}: {values}")
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        left, right = panels.subplots(1, 2, width_ratios=(2, 3))
        index = np.arange(1, len(self.exponents) + 1)
        bars = (self.exponents - self.low, self.high - self.exponents)
        left.errorbar(index, self.exponents, bars, fmt="o", markersize=4, capsize=2)
        left.axhline(0, color=QUIET, linewidth=0.8)
        left.set_xlabel("exponent")
        left.xaxis.get_major_locator().set_params(integer=True)
        left.set_xlim(0.4, len(index) + 0.6)
        left.set_title("Lyapunov exponents")
        few = index[: min(len(index), 6)]
        for i in few:
            line = right.plot(
                self.trace_times,
                self.trace[:, i - 1] - self.exponents[i - 1],
                linewidth=1.1,
                label=f"$\\lambda_{{{i}}}$",
            )[0]
            right.axhspan(
                self.low[i - 1] - self.exponents[i - 1],
                self.high[i - 1] - self.exponents[i - 1],
                color=line.get_color(),
                alpha=0.12,
                linewidth=0,
            )
        # The first windows swing widely; the end is what tells.
        late = self.trace_times >= 0.02 * self.trace_times[-1]
        off = np.abs(self.trace[late] - self.exponents)[:, : len(few)]
        reach = 1.1 * max(float(off.max()), float(np.max(self.high - self.low)))
        if reach > 0:
            right.set_ylim(-reach, reach)
        right.set_xscale("log")
        right.set_xlabel("time")
        right.set_ylabel("running mean less the result")
        verdict = "up to each time" if self.converged else "NOT CONVERGED"
        right.set_title(verdict)
        right.legend(ncols=2)


def spectrum_of(
    growth: Float[np.ndarray, "chains intervals k"],
    *,
    interval: float,
    dimension: int,
    level: float,
    tolerance: float | None,
    settings: Mapping[str, Any],
    provenance: Provenance,
    step: StepCheck | None = None,
) -> LyapunovSpectrum:
    """The spectrum from the logarithmic growth over equal intervals.

    **Arguments:** the growth; the length of an interval; the dimension of the state;
    the level of the intervals; the standard error asked for, if any; a second run,
    which tells the error of the discretization.
    """
    rates = np.asarray(growth, float) / interval
    found = batch_means(rates, level)
    total = batch_means(rates.sum(axis=2, keepdims=True), level)
    numbers, trace = running_means(rates)
    size = kaplan_yorke(found.mean, dimension)
    size_error = dimension_error(found.batches, dimension)
    off, sum_off, size_off = np.full(rates.shape[2], np.nan), 0.0, 0.0
    if step is not None:
        length = interval / step.second.division
        others = np.asarray(step.growth, float) / length
        other = batch_means(others, level)
        errors = found.standard_error, other.standard_error
        floor = step.roundoff / interval
        off = step.error(found.mean, other.mean, *errors) + floor
        whole = batch_means(others.sum(axis=2, keepdims=True), level)
        errors = float(total.standard_error[0]), float(whole.standard_error[0])
        sum_off = float(step.error(total.mean[0], whole.mean[0], *errors))
        sum_off += floor * rates.shape[2]
        errors = size_error, dimension_error(other.batches, dimension)
        size_off = float(step.error(size, kaplan_yorke(other.mean, dimension), *errors))
    notes = _notes(found, interval, tolerance, off, step)
    half_width = found.half_width + np.nan_to_num(off)
    return LyapunovSpectrum(
        exponents=found.mean,
        standard_errors=found.standard_error,
        discretization_errors=off,
        low=found.mean - half_width,
        high=found.mean + half_width,
        level=level,
        sum=float(total.mean[0]),
        sum_error=float(total.standard_error[0]) + sum_off,
        dimension=size,
        dimension_error=size_error + size_off,
        finite_time=found.batches,
        window=found.length * interval,
        trace_times=numbers * interval,
        trace=trace,
        converged=not notes,
        notes=notes,
        settings=settings,
        provenance=provenance,
    )


def _notes(
    found: Any,
    interval: float,
    tolerance: float | None,
    off: Float[np.ndarray, " exponent"],
    step: StepCheck | None,
) -> tuple[str, ...]:
    notes = []
    if not found.enough:
        notes.append(
            f"too few independent segments to estimate the errors: "
            f"{len(found.batches)} of {found.length * interval:.3g} each, with an "
            f"autocorrelation time of {found.correlation * interval:.3g}; give a "
            "longer `time`, or more `chains`."
        )
    drifting = np.flatnonzero(found.drift > 1)
    if drifting.size:
        which = ", ".join(str(i + 1) for i in drifting[:6])
        notes.append(
            f"the two halves of the time disagree beyond the errors, in exponent "
            f"{which}; give a longer `transient` or `time`."
        )
    bursts = np.flatnonzero(found.bursts)
    if bursts.size:
        which = ", ".join(str(i + 1) for i in bursts[:6])
        notes.append(
            f"growth comes in rare bursts, in exponent {which}: about "
            f"{float(np.min(found.carriers)):.1f} of {len(found.batches)} segments "
            "carry the error, which may be larger; give a longer `time`, or more "
            "`chains`."
        )
    parted = np.flatnonzero(found.parted > 1)
    if parted.size:
        which = ", ".join(str(i + 1) for i in parted[:6])
        notes.append(
            "the chains disagree beyond their own errors, in exponent "
            f"{which}: they settled on different attractors, or have not settled; "
            "start them in one basin by `initial`, or give a longer `transient`."
        )
    worst = float(np.max(found.standard_error))
    if tolerance is not None and worst > tolerance:
        factor = math.ceil((worst / tolerance) ** 2)
        notes.append(
            f"the largest standard error is {worst:.2g}, and {tolerance:.2g} was asked "
            f"for; about {factor} times the `time`, or `chains`, would do."
        )
    largest = float(np.max(off))
    if tolerance is not None and step is not None and largest > tolerance:
        notes.append(
            f"the largest error of the discretization is {largest:.2g}, by a run with "
            f"{step.second.what}, and {tolerance:.2g} was asked for; take smaller "
            "`rtol` and `atol`, or a shorter `dt`."
        )
    return tuple(notes)
