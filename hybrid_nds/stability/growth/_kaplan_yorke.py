"""The Kaplan–Yorke dimension of an attractor, from its Lyapunov exponents."""

from __future__ import annotations

import math

import numpy as np

from ...statistics import jackknife_error


def kaplan_yorke(exponents: np.ndarray, dimension: int) -> float:
    """Kaplan and Yorke's dimension $j + \\sum_{i\\le j} \\lambda_i/|\\lambda_{j+1}|$,
    with $j$ the most leading exponents of nonnegative sum (Kaplan & Yorke 1979).

    **Returns:** NaN where the exponents known are too few to tell.
    """
    ordered = np.sort(exponents)[::-1]
    sums = np.cumsum(ordered)
    negative = np.flatnonzero(sums < 0)
    if not negative.size:
        return float(dimension) if len(ordered) == dimension else math.nan
    j = int(negative[0])
    return j + (float(sums[j - 1]) / abs(float(ordered[j])) if j else 0.0)


def dimension_error(batches: np.ndarray, dimension: int) -> float:
    """The standard error of the dimension, each batch left out once
    (Efron & Tibshirani 1993, equation 11.5).

    **Arguments:** exponents by batch, shape `(batches, k)`; the state's dimension.
    """
    without = (batches.sum(axis=0) - batches) / (len(batches) - 1)
    replicates = np.array([kaplan_yorke(row, dimension) for row in without])
    return float(jackknife_error(replicates))
