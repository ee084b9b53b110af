"""Moments of a linear stochastic equation, exactly: its generator on polynomials."""

from __future__ import annotations

import itertools
import math

import numpy as np

from ._linear_noise import LinearNoise, check_lifted


def moment_operator(caller: str, linear: LinearNoise, p: int) -> np.ndarray:
    """The generator on homogeneous polynomials of degree `p`.

    $Lq = \\sum_i (Ax)_i\\,\\partial_i q + \\frac12 \\sum_{ik} \\sum_j (B_jx)_i
    (B_jx)_k\\,\\partial_i\\partial_k q$ keeps the degree, so that $E\\,q(X_t)$ obeys a
    linear equation; for $p = 2$ it is $I\\otimes A + A\\otimes I + \\sum_j B_j\\otimes
    B_j$ on symmetric matrices (Brockett 1976; Arnold 1974, section 11.4).

    **Returns:** a matrix of $\\binom{n+p-1}{p}$ rows.
    """
    n = len(linear.a)
    size = math.comb(n + p - 1, p)
    check_lifted(caller, size)
    exponents = [
        tuple(np.bincount(chosen, minlength=n).tolist())
        for chosen in itertools.combinations_with_replacement(range(n), p)
    ]
    index_of = {alpha: i for i, alpha in enumerate(exponents)}
    # Coefficients of x_k x_l in the second-order part, for each pair of derivatives.
    second = 0.5 * np.einsum("jik,jml->imkl", linear.b, linear.b)
    matrix = np.zeros((size, size))
    for alpha, row in index_of.items():
        for i in range(n):
            if alpha[i] == 0:
                continue
            once = _changed(alpha, i, -1)
            for k in range(n):
                weight = alpha[i] * linear.a[i, k]
                matrix[row, index_of[_changed(once, k, 1)]] += weight
            for m in range(n):
                if once[m] == 0:
                    continue
                twice = _changed(once, m, -1)
                factor = alpha[i] * once[m]
                for k in range(n):
                    raised = _changed(twice, k, 1)
                    for q in range(n):
                        column = index_of[_changed(raised, q, 1)]
                        matrix[row, column] += factor * second[i, m, k, q]
    return matrix


def _changed(alpha: tuple[int, ...], i: int, by: int) -> tuple[int, ...]:
    return (*alpha[:i], alpha[i] + by, *alpha[i + 1 :])
