"""The jackknife."""

from __future__ import annotations

import numpy as np


def jackknife_error(replicates: np.ndarray) -> np.ndarray:
    """The jackknife's standard error (Efron & Tibshirani 1993, equation 11.5).

    **Arguments:** `replicates`, the estimates with each observation left out in turn,
    shape `(observations, ...)`.
    """
    return np.sqrt((len(replicates) - 1) * replicates.var(axis=0))
