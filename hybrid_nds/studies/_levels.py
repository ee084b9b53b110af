"""How far a sample may be off before a claim fails."""

from __future__ import annotations

import numpy as np
import scipy.stats
from jaxtyping import Float

LEVEL = 1e-4
"""The probability that a statistical claim fails though it is true."""


def normal_quantile(together: int = 1) -> float:
    """How many standard errors one of so many means may be off, in either direction.

    All of them stay within with the probability 1 - `LEVEL` or more (Bonferroni).
    """
    return float(scipy.stats.norm.isf(LEVEL / 2 / together))


def slope_error(
    sizes: Float[np.ndarray, " k"],
    errors: Float[np.ndarray, " k"],
    standard_errors: Float[np.ndarray, " k"],
) -> float:
    """The standard error of a slope through sampled errors, both axes logarithmic.

    Of least squares, with independent errors that are small beside what they are of.
    """
    x = np.log(sizes)
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    return float(np.linalg.norm(weights * standard_errors / errors))
