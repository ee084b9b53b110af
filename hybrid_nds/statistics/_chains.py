"""Chains of one distribution: effective sample sizes, agreement, tails."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Float

from ._correlation import correlation_time

_R_HAT = 1.01
_ALARM = 1e-3
# To a tail of fewer weights no shape is fitted.
_FEWEST = 5


def effective_samples(series: Float[np.ndarray, "chains samples"]) -> float:
    """The effective sample size of the mean: how many independent samples tell it as
    well as these do (Vehtari et al. 2021, equations 8–10; by arviz-stats).

    **Returns:** a number no greater than $N \\log_{10} N$ for $N$ samples in all; NaN
    for samples that are all alike.
    """
    from arviz_stats.base.array import array_stats

    scale = float(np.max(np.abs(series)))
    if float(np.var(series)) <= (64 * np.finfo(float).eps * scale) ** 2:
        return math.nan
    found: Any = array_stats.ess(series, method="mean")
    return float(found)


def split_r_hat(series: Float[np.ndarray, "chains samples"]) -> float:
    """The potential scale reduction factor $\\hat R$, rank-normalized and split: by how
    much the spread of the samples would shrink if the chains ran on (Vehtari et al.
    2021, equations 4 and 14, and section 4; by arviz-stats).

    **Returns:** near one where all chains sample one distribution; infinite for chains
    that stand still apart from each other; NaN for samples that are all alike.
    """
    from arviz_stats.base.array import array_stats

    if np.all(series == series.flat[0]):
        return math.nan
    if np.all(series == series[:, :1]):
        return math.inf
    found: Any = array_stats.rhat(series, method="rank")
    return float(found)


def tail_index(logarithms: Float[np.ndarray, " samples"]) -> float:
    """The shape of the generalized Pareto distribution of the largest weights (Zhang &
    Stephens 2009; Vehtari et al. 2024; by arviz-stats), zero where there are too few of
    different size.

    **Arguments:** the logarithms of the weights.
    """
    from arviz_stats.base.array import array_stats

    weights = np.exp(logarithms - np.max(logarithms))
    if len(np.unique(weights)) < 2 * _FEWEST:
        return 0.0
    found: Any = array_stats.pareto_khat(weights[None], r_eff=1.0, tail="right")
    return float(found)


def r_hat_limit(series: Float[np.ndarray, "chains samples"]) -> float:
    """The $\\hat R$ above which chains do not agree: 1.01, as Vehtari et al. (2021,
    section 4) say, or what chains of one distribution exceed once in a thousand times
    where each holds few effective samples."""
    chains, samples = series.shape
    halves = 2 * chains
    each = samples / 2 / correlation_time(series)
    quantile = float(scipy.stats.chi2.isf(_ALARM, halves - 1)) / (halves - 1)
    return max(_R_HAT, math.sqrt(1 + quantile / each))
