"""Null levels of distances, by permutation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_BLOCK = 512


def pair_statistics(
    pooled: np.ndarray,
    first: int,
    similarity: Callable[[np.ndarray, np.ndarray], np.ndarray],
    labels: np.ndarray,
) -> np.ndarray:
    """The unbiased two-sample statistic of a similarity, for many ways to divide.

    $\\overline{k}_{AA} + \\overline{k}_{BB} - 2\\,\\overline{k}_{AB}$ with means over
    pairs of different samples (Gretton et al. 2012, equation 3). The matrix of pairs is
    never kept whole: a block of rows meets every division at once.

    **Arguments:** the pooled samples, shape `(n + m, d)`; `n`; the similarity of rows,
    `(p, d), (q, d) -> (p, q)`; `labels`, one column a division, 1.0 where a sample
    belongs to the first group.

    **Returns:** one statistic a division.
    """
    count = len(pooled)
    within_first, within_second, across = (np.zeros(labels.shape[1]) for _ in range(3))
    for start in range(0, count, _BLOCK):
        rows = slice(start, min(start + _BLOCK, count))
        block = similarity(pooled[rows], pooled)
        own = np.arange(rows.start, rows.stop)
        block[own - rows.start, own] = 0.0
        to_first = block @ labels
        to_second = block.sum(axis=1, keepdims=True) - to_first
        mine = labels[rows]
        within_first += np.sum(mine * to_first, axis=0)
        within_second += np.sum((1 - mine) * to_second, axis=0)
        across += np.sum(mine * to_second, axis=0)
    n, m = first, count - first
    return (
        within_first / (n * (n - 1))
        + within_second / (m * (m - 1))
        - 2 * across / (n * m)
    )


def divisions(
    n: int, m: int, permutations: int, random: np.random.Generator
) -> np.ndarray:
    """The division as it is, then random ones of the same sizes, one column each."""
    labels = np.zeros((n + m, permutations + 1))
    labels[:n] = 1.0
    labels[:, 1:] = random.permuted(labels[:, 1:], axis=0)
    return labels


def permutation_level(statistics: np.ndarray) -> float:
    """The p-value of the first statistic among those of permutations.

    $(1 + \\#\\{T_i \\ge T_0\\})/(1 + B)$, exact whatever the sample size (Phipson &
    Smyth 2010, equation 2).
    """
    observed, others = statistics[0], statistics[1:]
    # Equal divisions must count as equal whatever the order of their sums.
    slack = 1e-12 * (np.abs(observed) + np.max(np.abs(others), initial=0.0))
    return float((1 + np.sum(others >= observed - slack)) / (1 + len(others)))


def check_permutations(caller: str, permutations: int) -> None:
    """Refuse a number of permutations that says nothing.

    **Raises:** `ValueError`, naming the argument.
    """
    whole = isinstance(permutations, int | np.integer)
    if not whole or isinstance(permutations, bool) or permutations < 19:
        raise ValueError(
            f"{caller}: `permutations` must be an integer of at least 19, which can "
            f"show a level of 5 %; got {permutations!r}."
        )
