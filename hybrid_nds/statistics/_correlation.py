"""How long a series remembers."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

_SOKAL = 5.0
_ROUND_OFF = 1e4


def autocovariances(
    series: Float[np.ndarray, "chains samples"], mean: float | None = None
) -> Float[np.ndarray, "chains lags"]:
    """The autocovariance of each chain at every lag, divided by the number of samples.

    **Arguments:** the chains; the mean to take from them, by default that of each.
    """
    samples = series.shape[1]
    centre = series.mean(axis=1, keepdims=True) if mean is None else mean
    size = 2 ** math.ceil(math.log2(2 * samples))
    spectrum = np.abs(np.fft.rfft(series - centre, size, axis=1)) ** 2
    return np.fft.irfft(spectrum, size, axis=1)[:, :samples] / samples


def correlation_time(series: Float[np.ndarray, "chains samples"]) -> float:
    """The integrated autocorrelation time $1 + 2\\sum_t \\rho_t$, in samples, summed up
    to the first window of five times itself (Sokal 1997, section 3), at least 1."""
    samples = series.shape[1]
    covariance = autocovariances(series).mean(axis=0)
    scale = np.max(np.abs(series)) ** 2
    if covariance[0] <= (_ROUND_OFF * np.finfo(float).eps) ** 2 * scale:
        return 1.0
    times = 2 * np.cumsum(covariance / covariance[0]) - 1
    closed = np.flatnonzero(np.arange(samples) >= _SOKAL * times)
    window = int(closed[0]) if closed.size else samples - 1
    return max(1.0, float(times[window]))
