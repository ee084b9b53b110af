"""Mixing rates, with what they are uncertain by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.stats
from jaxtyping import Float

from ..._core import Axis, Panels
from ...analysis import AnalysisError, AnalysisResult
from ...solution import Provenance
from ...statistics import (
    Decay,
    effective_samples,
    fit_decay,
    jackknife_error,
    r_hat_limit,
    split_r_hat,
)
from ._sampling import DIVERGED_TWICE, SamplePlan, Twice, heading

_SHOWN = 12
# So many relaxation times forget a start, and make a chain.
_FORGET = 3.0
_LONG = 20.0


@dataclasses.dataclass(frozen=True, eq=False)
class MixingRate(AnalysisResult):
    """The rates at which observables forget.

    **Fields:** of `k` observables, each of shape `(k,)`:

    - `rates`, in one over the unit of time, their `standard_errors`, and the intervals
        `low` to `high` that hold each with probability `level`.
    - `step_changes`, `step_change_errors`: what steps twice as long change, and the
        standard errors of that; NaN where it was not asked for.
    - `amplitudes`: what share of the variance decays at this rate.
    - `windows`: the lags that the exponential was fitted on, shape `(k, 2)`.
    - `correlation_times`: $1 + 2\\sum\\rho$, in the unit of time.
    - `effective_samples`, `r_hat`: as of
        [`InvariantLaw`][hybrid_nds.stability.InvariantLaw].
    - `lags`, `autocorrelation`, `autocorrelation_errors`: shapes `(lags,)`,
        `(lags, k)`.
    - `converged`: whether each autocorrelation ends in one exponential, as far as it
        stands out of its errors. Where not, `notes` say why.
    - `settings`, `provenance`.
    """

    estimate: ClassVar = ("rates", "low", "high")

    rates: Float[np.ndarray, " observable"]
    standard_errors: Float[np.ndarray, " observable"]
    low: Float[np.ndarray, " observable"]
    high: Float[np.ndarray, " observable"]
    level: float
    step_changes: Float[np.ndarray, " observable"]
    step_change_errors: Float[np.ndarray, " observable"]
    amplitudes: Float[np.ndarray, " observable"]
    windows: Float[np.ndarray, "observable end=2"]
    correlation_times: Float[np.ndarray, " observable"]
    effective_samples: Float[np.ndarray, " observable"]
    r_hat: Float[np.ndarray, " observable"]
    lags: Axis[Float[np.ndarray, " lag"]]
    autocorrelation: Float[np.ndarray, "lag observable"]
    autocorrelation_errors: Float[np.ndarray, "lag observable"]
    converged: bool
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    provenance: Provenance

    def summary(self) -> str:
        k = len(self.rates)
        lines = heading("Mixing rate", k, self)
        lines.append(
            f"{'rate':>12}{'± error':>10}   {self.level:.4g} interval, fitted on lags"
        )
        for i in range(min(k, _SHOWN)):
            lines.append(
                f"{self.rates[i]:>12.6g}{self.standard_errors[i]:>10.2g}   "
                f"[{self.low[i]:.6g}, {self.high[i]:.6g}], {self.windows[i, 0]:.4g} to "
                f"{self.windows[i, 1]:.4g}; {self.effective_samples[i]:.0f} effective "
                f"samples, R̂ {self.r_hat[i]:.4f}"
            )
        if k > _SHOWN:
            lines.append(f"{f'… {k - _SHOWN} more':>12}")
        if np.all(np.isfinite(self.step_changes)):
            i = int(np.argmax(np.abs(self.step_changes)))
            lines.append(
                f"steps twice as long change rates by up to {self.step_changes[i]:.2g} "
                f"± {self.step_change_errors[i]:.1g}"
            )
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        end = 0.0
        for i in range(min(len(self.rates), 6)):
            last = float(self.windows[i, 1]) or 20 * float(self.lags[1])
            shown = self.lags <= 1.6 * last
            end = max(end, 1.6 * last)
            line = axes.errorbar(
                self.lags[shown],
                self.autocorrelation[shown, i],
                self.autocorrelation_errors[shown, i],
                fmt=".",
                markersize=3,
                linewidth=0.7,
                errorevery=max(1, int(shown.sum()) // 40),
                label=f"observable {i}",
            )
            if self.rates[i] > 0:
                over = self.windows[i]
                axes.plot(
                    over,
                    self.amplitudes[i] * np.exp(-self.rates[i] * over),
                    color="k",
                    linewidth=1.2,
                    label=f"rate {self.rates[i]:.4g} ± {self.standard_errors[i]:.1g}",
                    zorder=line.lines[0].get_zorder() + 1,
                )
        axes.set_yscale("log")
        axes.set_ylim(0.01, 1.3)
        axes.set_xlim(0, end)
        axes.set_xlabel("lag")
        verdict = "" if self.converged else ": NOT CONVERGED"
        axes.set_ylabel("autocorrelation")
        axes.set_title(f"decay of correlations{verdict}")
        axes.legend()


def rates_of(
    values: Float[np.ndarray, "chains samples k"],
    plan: SamplePlan,
    level: float,
    provenance: Provenance,
    runner: str,
    twice: Twice | None = None,
) -> MixingRate:
    """The rates from the samples of all chains.

    **Arguments:** the samples; the plan they were made by; the level of the intervals;
    where they come from; what ran them; those of steps twice as long.

    **Raises:** [`AnalysisError`][hybrid_nds.analysis.AnalysisError] for an observable
    that does not vary.
    """
    chains, _, k = values.shape
    h = plan.interval
    decays = [fit_decay(values[:, :, i]) for i in range(k)]
    constant = [i for i, one in enumerate(decays) if one.fault == "constant"]
    if constant:
        raise AnalysisError(
            f"{plan.caller}: observable {constant[0]} does not vary over the chains, "
            "and has no autocorrelation; take another `observable`."
        )
    rates = np.array([one.rate / h for one in decays])
    errors = np.array([one.rate_error / h for one in decays])
    half = errors * float(scipy.stats.t.ppf((1 + level) / 2, chains - 1))
    r_hat = np.array([split_r_hat(values[:, :, i]) for i in range(k)])
    changes, change_errors = _step_changes(decays, twice, h)
    notes = _step_notes(changes, change_errors, errors, twice) + tuple(
        note
        for i in range(k)
        for note in _notes(
            i,
            decays[i],
            float(rates[i]),
            float(r_hat[i]),
            r_hat_limit(values[:, :, i]),
            plan,
        )
    )
    return MixingRate(
        rates=rates,
        standard_errors=errors,
        low=rates - half,
        high=rates + half,
        level=level,
        step_changes=changes,
        step_change_errors=change_errors,
        amplitudes=np.array([one.amplitude for one in decays]),
        windows=h * np.array([(one.first, one.last) for one in decays], float),
        correlation_times=h * np.array([one.time for one in decays]),
        effective_samples=np.array(
            [effective_samples(values[:, :, i]) for i in range(k)]
        ),
        r_hat=r_hat,
        lags=h * np.arange(len(decays[0].correlation)),
        autocorrelation=np.stack([one.correlation for one in decays], axis=1),
        autocorrelation_errors=np.stack([one.errors for one in decays], axis=1),
        converged=not notes,
        notes=notes,
        settings=plan.settings | {"runner": runner},
        provenance=provenance,
    )


def _step_changes(
    decays: list[Decay], twice: Twice | None, interval: float
) -> tuple[np.ndarray, np.ndarray]:
    """What longer steps change in the rates, and its errors: chain by chain, since
    along the same path both err alike."""
    changes = np.full((2, len(decays)), np.nan)
    if twice is None or twice.values is None:
        return changes[0], changes[1]
    for i, one in enumerate(decays):
        other = fit_decay(twice.values[:, :, i])
        if one.replicates is not None and other.replicates is not None:
            longer = twice.stride * interval
            changes[0, i] = other.rate / longer - one.rate / interval
            replicates = other.replicates / longer - one.replicates / interval
            changes[1, i] = jackknife_error(replicates)
    return changes[0], changes[1]


def _step_notes(
    changes: np.ndarray, change_errors: np.ndarray, errors: np.ndarray, twice: Any
) -> tuple[str, ...]:
    if twice is None:
        return ()
    if twice.values is None:
        return (DIVERGED_TWICE,)
    beyond = np.flatnonzero(np.abs(changes) > 3 * change_errors + errors)
    return tuple(
        f"observable {i}: steps twice as long change the rate by {changes[i]:.2g}, "
        f"more than its standard error of {errors[i]:.2g}: the error of the step "
        "counts; take a shorter `dt`, or a `solver` of higher weak order."
        for i in beyond
    )


def _notes(
    index: int, one: Decay, rate: float, r_hat: float, limit: float, plan: SamplePlan
) -> list[str]:
    which = f"observable {index}: "
    notes = []
    if one.fault == "oscillates":
        notes.append(
            f"{which}its autocorrelation oscillates, and is no sum of decaying "
            "exponentials; take an `observable` that does not, such as the square of "
            "an amplitude or an energy."
        )
    elif one.fault == "undersampled":
        notes.append(
            f"{which}its autocorrelation is above its errors for {one.last} samples "
            "alone; take a shorter `sampling`, or more `chains`."
        )
    elif one.fault == "not exponential":
        notes.append(
            f"{which}its autocorrelation is no single exponential up to where errors "
            "drown it, and the rate may be too large; give more `chains` or `time`, or "
            "an `observable` closer to the slowest motion."
        )
    if r_hat > limit:
        notes.append(
            f"{which}the chains disagree on its distribution (R̂ = {r_hat:.4g}, "
            "must be below "
            f"{limit:.4g}); give a longer `time` and `transient`."
        )
    if rate * plan.samples * plan.interval < _LONG:
        notes.append(
            f"{which}the time holds {rate * plan.samples * plan.interval:.2g} "
            f"relaxation times, of {_LONG:g} needed; give a longer `time`."
        )
    if rate * plan.burn_in * plan.interval < _FORGET:
        notes.append(
            f"{which}the transient holds "
            f"{rate * plan.burn_in * plan.interval:.2g} relaxation times, of "
            f"{_FORGET:g} needed to forget the start; give a longer `transient`."
        )
    return notes
