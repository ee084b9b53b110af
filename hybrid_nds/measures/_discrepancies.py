"""Energy distance and maximum mean discrepancy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist, pdist

from ._distance import Distance
from ._permutation import (
    check_permutations,
    divisions,
    pair_statistics,
    permutation_level,
)
from ._samples import generator, in_unit, normalized, thinned, two_samples

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]
_MEDIAN_SAMPLES = 1000


def energy_distance(
    a: Any, b: Any, *, null: bool = False, permutations: int = 999, seed: int = 0
) -> Distance:
    """The energy distance $2E|X-Y| - E|X-X'| - E|Y-Y'|$ of two distributions, unbiased.

    Zero for equal distributions only; the estimate may fall below zero (Székely & Rizzo
    2013, section 2; the mean over pairs of different samples).

    **Arguments:**

    - `a`, `b`: samples, shape `(n,)` or `(n, d)` and `(m,)` or `(m, d)`.
    - `null`: whether to say, by `permutations`, how often one distribution gives as
        much.
    - `seed`: of the permutations.

    **Returns:** a [`Distance`][hybrid_nds.measures.Distance].

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    caller = "energy_distance"
    first, second, exponent = normalized(*two_samples(caller, a, b))
    return _distance(
        caller,
        first,
        second,
        exponent,
        negative_distance,
        null,
        permutations,
        seed,
        {},
    )


def maximum_mean_discrepancy(
    a: Any,
    b: Any,
    *,
    bandwidth: float | None = None,
    null: bool = False,
    permutations: int = 999,
    seed: int = 0,
) -> Distance:
    """The squared maximum mean discrepancy with a Gaussian kernel, unbiased.

    $E\\,k(X,X') + E\\,k(Y,Y') - 2E\\,k(X,Y)$ with
    $k(x,y) = \\exp(-|x-y|^2/(2h^2))$ (Gretton et al. 2012, lemma 6).

    **Arguments:**

    - `a`, `b`: samples, shape `(n,)` or `(n, d)` and `(m,)` or `(m, d)`.
    - `bandwidth`: $h$, in the unit of the samples; by default the median distance of
        the pooled samples (Gretton et al. 2012, section 8), of those that differ where
        most do not.
    - `null`, `permutations`, `seed`: as for the energy distance.

    **Returns:** a [`Distance`][hybrid_nds.measures.Distance].

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    caller = "maximum_mean_discrepancy"
    first, second = two_samples(caller, a, b)
    x, y, exponent = normalized(first, second)
    if bandwidth is None:
        relative = median_distance(x, y)
        width = in_unit(caller, relative, exponent)
    else:
        width = float(bandwidth)
        relative = float(np.ldexp(width, -exponent))
    if not (np.isfinite(width) and width > 0):
        raise ValueError(
            f"{caller}: `bandwidth` must be positive and finite, got {width}"
            + ("; the samples are all alike." if bandwidth is None else ".")
        )
    return _distance(
        caller,
        x,
        y,
        0,
        gaussian_kernel(relative),
        null,
        permutations,
        seed,
        {"bandwidth": width},
    )


def negative_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """$-|x-y|$ of every pair of rows: its statistic is the energy distance."""
    return -cdist(x, y)


def gaussian_kernel(width: float) -> Similarity:
    """$\\exp(-|x-y|^2/(2h^2))$ of every pair of rows."""
    # The quotient is squared, not its parts, which may overflow or vanish.
    return lambda x, y: np.exp(-0.5 * (cdist(x, y) / width) ** 2)


def median_distance(first: np.ndarray, second: np.ndarray) -> float:
    """The median distance of different samples, all taken together.

    Where more than half of the pairs are alike, that of those which are not; 0 where
    all are.
    """
    both = np.concatenate(
        [thinned(first, _MEDIAN_SAMPLES), thinned(second, _MEDIAN_SAMPLES)]
    )
    apart = pdist(both)
    median = float(np.median(apart))
    if median == 0 and np.any(apart > 0):
        median = float(np.median(apart[apart > 0]))
    return median


def _distance(
    caller: str,
    first: np.ndarray,
    second: np.ndarray,
    exponent: int,
    similarity: Similarity,
    null: bool,
    permutations: int,
    seed: int,
    settings: dict[str, Any],
) -> Distance:
    n, m = len(first), len(second)
    random = generator(caller, seed)
    if null:
        check_permutations(caller, permutations)
        settings = settings | {"permutations": permutations, "seed": seed}
    labels = divisions(n, m, permutations if null else 0, random)
    statistics = pair_statistics(np.concatenate([first, second]), n, similarity, labels)
    return Distance(
        name=caller.replace("_", " "),
        value=in_unit(caller, float(statistics[0]), exponent),
        p_value=permutation_level(statistics) if null else None,
        samples=(n, m),
        settings=settings,
    )
