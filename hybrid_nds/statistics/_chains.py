"""What several chains say of one law: how many samples they are worth, whether they
agree."""

from __future__ import annotations

import math

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Float

from ._correlation import autocovariances, correlation_time

_R_HAT = 1.01
_ALARM = 1e-3


def effective_samples(series: Float[np.ndarray, "chains samples"]) -> float:
    """How many independent samples tell the mean as well as these do.

    Autocorrelations over all chains, their disagreement included, are summed by Geyer's
    initial monotone sequence (Geyer 1992, section 3.3; Vehtari et al. 2021, equations
    8–10).

    **Returns:** a number no greater than $N \\log_{10} N$ for $N$ samples in all; NaN
    for samples that are all alike.
    """
    chains, samples = series.shape
    covariance = autocovariances(series)
    within = float(np.mean(covariance[:, 0])) * samples / (samples - 1)
    scale = float(np.max(np.abs(series)))
    if within <= (64 * np.finfo(float).eps * scale) ** 2:
        return math.nan
    between = float(np.var(series.mean(axis=1), ddof=1)) if chains > 1 else 0.0
    total = within * (samples - 1) / samples + between
    rho = 1 - (within - covariance.mean(axis=0)) / total
    rho[0] = 1.0
    pairs = rho[: samples - samples % 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    pairs = pairs[: negative[0]] if negative.size else pairs
    pairs = np.minimum.accumulate(pairs)
    number = chains * samples
    time = max(2 * float(pairs.sum()) - 1, 1 / math.log10(max(number, 10)))
    return number / time


def split_r_hat(series: Float[np.ndarray, "chains samples"]) -> float:
    """The factor by which the spread of the samples would shrink if the chains ran on:
    $\\hat R$ over the halves of the chains.

    Of the ranks' normal scores and of their distances from the median, the larger
    (Vehtari et al. 2021, equations 4 and 14, and section 4). Near one where all chains
    have seen the same law.

    **Returns:** NaN for samples that are all alike.
    """
    half = series.shape[1] // 2
    halves = np.concatenate([series[:, :half], series[:, -half:]])
    if np.all(halves == halves.flat[0]):
        return math.nan
    folded = np.abs(halves - np.median(halves))
    return max(_r_hat(_scores(halves)), _r_hat(_scores(folded)))


def r_hat_limit(series: Float[np.ndarray, "chains samples"]) -> float:
    """The $\\hat R$ above which chains do not agree: 1.01, as Vehtari et al. (2021,
    section 4) say, or what chains of one law exceed once in a thousand times where
    each holds few effective samples."""
    chains, samples = series.shape
    halves = 2 * chains
    each = samples / 2 / correlation_time(series)
    quantile = float(scipy.stats.chi2.isf(_ALARM, halves - 1)) / (halves - 1)
    return max(_R_HAT, math.sqrt(1 + quantile / each))


def _scores(values: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks (Blom 1958)."""
    ranks = scipy.stats.rankdata(values).reshape(values.shape)
    return scipy.special.ndtri((ranks - 0.375) / (values.size + 0.25))


def _r_hat(series: np.ndarray) -> float:
    samples = series.shape[1]
    within = float(np.mean(np.var(series, axis=1, ddof=1)))
    between = samples * float(np.var(series.mean(axis=1), ddof=1))
    if within <= (64 * np.finfo(float).eps) ** 2 * between or within == 0:
        # Chains that do not move: apart, or all in one place.
        return math.inf if between > 0 else math.nan
    return math.sqrt((samples - 1) / samples + between / (samples * within))
