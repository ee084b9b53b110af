"""Autocorrelations over many chains, and the exponential they decay by."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from ._correlation import autocovariances
from ._jackknife import jackknife_error

# What a fit leaves out: autocorrelations that small, or so few errors from zero.
_FLOOR = 0.1
_ERRORS = 8.0
_APART = 3.0
_LEAST = 6
_SPLIT = 4


@dataclasses.dataclass(frozen=True)
class Decay:
    """The decay of one autocorrelation, times in samples.

    **Fields:** `correlation` and its standard errors by lag; `rate` and its error,
    `amplitude` of the exponential at lag zero; the lags `first` to `last` it was fitted
    on; `time`, the integrated autocorrelation time; the fault, `"undersampled"`,
    `"oscillates"`, `"not exponential"`, `"constant"` or none; the rates without each
    chain, `None` where there is no fit.
    """

    correlation: Float[np.ndarray, " lags"]
    errors: Float[np.ndarray, " lags"]
    rate: float
    rate_error: float
    amplitude: float
    first: int
    last: int
    time: float
    fault: str = ""
    replicates: Float[np.ndarray, " chains"] | None = None


def fit_decay(series: Float[np.ndarray, "chains samples"]) -> Decay:
    """Fit an exponential to the autocorrelation of independent chains.

    A straight line through its logarithm, weighted by the errors, from the first lag on
    from which both halves of the window have one slope, up to where the autocorrelation
    falls below a tenth or eight of its errors. Errors are the jackknife's over the
    chains (Efron & Tibshirani 1993, equation 11.5).
    """
    chains, samples = series.shape
    lags = samples // 4
    each = autocovariances(series, float(series.mean()))[:, :lags]
    each = each * (samples / (samples - np.arange(lags)))
    # Centred by a mean of its own, the autocovariance lacks the variance of the mean.
    each = each + float(series.mean(axis=1).var(ddof=1)) / chains
    total = each.mean(axis=0)
    scale = float(np.max(np.abs(series)))
    if total[0] <= (64 * np.finfo(float).eps * scale) ** 2:
        nothing = np.full(lags, np.nan)
        none = math.nan
        return Decay(nothing, nothing, none, none, none, 0, 0, none, "constant")
    without = (total * chains - each) / (chains - 1)
    rho, replicates = total / total[0], without / without[:, :1]
    errors = jackknife_error(replicates)
    low = np.maximum(_FLOOR, _ERRORS * errors)
    last = int(np.argmax(rho < low)) if np.any(rho < low) else lags
    time = 2 * float(rho[:last].sum()) - 1
    oscillates = bool(np.any(rho[: 3 * last] < -low[: 3 * last]))
    if last < _LEAST:
        none, fault = math.nan, "oscillates" if oscillates else "undersampled"
        return Decay(rho, errors, none, none, none, 0, last, time, fault)
    weights = np.zeros(lags)
    weights[1:last] = (rho[1:last] / np.maximum(errors[1:last], 1e-300)) ** 2
    logs = np.log(np.maximum(np.vstack([rho, replicates])[:, :last], 1e-300))
    first, fault = 1, "not exponential"
    while last - first >= _SPLIT:
        middle = (first + last) // 2
        apart = (
            _lines(logs, weights, first, middle)[0]
            - _lines(logs, weights, middle, last)[0]
        )
        if abs(apart[0]) <= _APART * jackknife_error(apart[1:]):
            fault = ""
            break
        first += max(1, (last - first) // 4)
    slopes, offsets = _lines(logs, weights, first, last)
    return Decay(
        correlation=rho,
        errors=errors,
        rate=-float(slopes[0]),
        rate_error=float(jackknife_error(slopes[1:])),
        amplitude=math.exp(float(offsets[0])),
        first=first,
        last=last - 1,
        time=time,
        fault="oscillates" if oscillates else fault,
        replicates=-slopes[1:],
    )


def _lines(
    logs: np.ndarray, weights: np.ndarray, first: int, last: int
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and offsets of weighted straight lines through each row."""
    w = weights[first:last] / weights[first:last].sum()
    x = np.arange(first, last)
    y = logs[:, first:last]
    centre, means = float(w @ x), y @ w
    slopes = ((y - means[:, None]) @ (w * (x - centre))) / (w @ (x - centre) ** 2)
    return slopes, means - slopes * centre
