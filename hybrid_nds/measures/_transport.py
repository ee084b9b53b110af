"""Wasserstein distances: on the line, of Gaussians, sliced, and by Sinkhorn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from .._core import double_precision
from ._differentiable import sinkhorn
from ._distance import Distance
from ._permutation import check_permutations, divisions, permutation_level
from ._samples import generator, in_unit, normalized, two_samples


def wasserstein(
    a: Any,
    b: Any,
    *,
    order: Literal[1, 2] = 2,
    null: bool = False,
    permutations: int = 999,
    seed: int = 0,
) -> Distance:
    """The Wasserstein distance of two distributions on the line, exact for the samples.

    $W_p^p = \\int_0^1 |F_a^{-1}(q) - F_b^{-1}(q)|^p\\,dq$ (Villani 2003, theorem 2.18).

    **Arguments:**

    - `a`, `b`: samples, shape `(n,)` and `(m,)`, or with a second axis of length one.
    - `order`: $p$, 1 or 2.
    - `null`: whether to say, by `permutations`, how often one distribution gives as
        much.
    - `seed`: of the permutations.

    **Returns:** a [`Distance`][hybrid_nds.measures.Distance], in the unit of the
    samples.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    first, second = two_samples("wasserstein", a, b)
    _check_order("wasserstein", order)
    if first.shape[1] != 1:
        raise ValueError(
            "wasserstein: `a` and `b` must be samples on the line, got "
            f"{first.shape[1]} components; take sliced_wasserstein, "
            "gaussian_wasserstein or sinkhorn_divergence."
        )

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        return line_distance(x[:, 0], y[:, 0], order)

    return _with_null(
        f"W{order}", "wasserstein", first, second, distance, null, permutations, seed
    )


def gaussian_wasserstein(
    a: Any, b: Any, *, null: bool = False, permutations: int = 999, seed: int = 0
) -> Distance:
    """The 2-Wasserstein distance of the Gaussians with the samples' moments.

    $W_2^2 = |m_a-m_b|^2 + \\operatorname{tr}(A + B - 2(A^{1/2}BA^{1/2})^{1/2})$, the
    Bures–Wasserstein distance (Givens & Shortt 1984, proposition 7); a lower bound of
    the distance of the distributions themselves (Gelbrich 1990).

    **Arguments:**

    - `a`, `b`: samples, shape `(n, d)` and `(m, d)`.
    - `null`: whether to say, by `permutations`, how often one distribution gives as
        much.
    - `seed`: of the permutations.

    **Returns:** a [`Distance`][hybrid_nds.measures.Distance], in the unit of the
    samples.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    first, second = two_samples("gaussian_wasserstein", a, b)
    return _with_null(
        "Gaussian W2",
        "gaussian_wasserstein",
        first,
        second,
        _gaussian_distance,
        null,
        permutations,
        seed,
    )


def _gaussian_distance(x: np.ndarray, y: np.ndarray) -> float:
    left, right = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    values, vectors = np.linalg.eigh(left)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    # The eigenvalues of a product that is symmetric and not negative but for rounding.
    inner = np.linalg.eigvalsh(root @ right @ root)
    cross = np.sum(np.sqrt(np.maximum(inner, 0.0)))
    means = np.sum((x.mean(0) - y.mean(0)) ** 2)
    squared = means + np.trace(left) + np.trace(right) - 2 * cross
    return float(np.sqrt(max(squared, 0.0)))


def sliced_wasserstein(
    a: Any,
    b: Any,
    *,
    order: Literal[1, 2] = 2,
    directions: int = 100,
    null: bool = False,
    permutations: int = 199,
    seed: int = 0,
) -> Distance:
    """The sliced Wasserstein distance of two distributions.

    $(E_\\theta W_p^p(\\theta^T a, \\theta^T b))^{1/p}$, the mean over random directions
    on the sphere (Bonneel et al. 2015, definition 4), each exact on the line.

    **Arguments:**

    - `a`, `b`: samples, shape `(n, d)` and `(m, d)`.
    - `order`: $p$, 1 or 2.
    - `directions`: how many directions.
    - `null`, `permutations`: as for `wasserstein`.
    - `seed`: of the directions and the permutations.

    **Returns:** a [`Distance`][hybrid_nds.measures.Distance], in the unit of the
    samples.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    first, second = two_samples("sliced_wasserstein", a, b)
    _check_order("sliced_wasserstein", order)
    if not isinstance(directions, int | np.integer) or directions < 1:
        raise ValueError(
            "sliced_wasserstein: `directions` must be a positive integer, got "
            f"{directions!r}."
        )
    random = generator("sliced_wasserstein", seed)
    axes = random.standard_normal((first.shape[1], directions))
    axes /= np.linalg.norm(axes, axis=0)

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        powers = [
            line_distance(u, v, order) ** order
            for u, v in zip((x @ axes).T, (y @ axes).T, strict=True)
        ]
        return float(np.mean(powers) ** (1 / order))

    return _with_null(
        f"sliced W{order}",
        "sliced_wasserstein",
        first,
        second,
        distance,
        null,
        permutations,
        seed,
        {"directions": int(directions)},
    )


def sinkhorn_divergence(
    a: Any,
    b: Any,
    *,
    epsilon: float | None = None,
    null: bool = False,
    permutations: int = 199,
    seed: int = 0,
) -> Distance:
    """The Sinkhorn divergence of two distributions, by ott-jax.

    Entropy-regularized transport at cost $|x-y|^2$ less what the regularization gives a
    distribution with itself, so that equal distributions are at zero (Feydy et al.
    2019, equation 3); its limit for small `epsilon` is $W_2^2$.

    **Arguments:**

    - `a`, `b`: samples, shape `(n, d)` and `(m, d)`.
    - `epsilon`: the regularization, in the squared unit of the samples; by default a
        twentieth of the mean cost.
    - `null`: whether to say, by `permutations`, how often one distribution gives as
        much.
    - `seed`: of the permutations.

    **Returns:** a [`Distance`][hybrid_nds.measures.Distance], in the squared unit of
    the samples.

    **Raises:** `ValueError` or `TypeError`, naming the argument; `RuntimeError` where
    Sinkhorn's iteration does not converge.
    """
    caller = "sinkhorn_divergence"
    first, second = two_samples(caller, a, b)
    if epsilon is not None and not (np.isfinite(epsilon) and epsilon > 0):
        raise ValueError(
            f"{caller}: `epsilon` must be positive and finite, got {epsilon}."
        )
    with double_precision():
        x, y, exponent = normalized(first, second)
        if epsilon is None:
            relative = 0.05 * float(np.mean(cdist(x, y, "sqeuclidean")))
            epsilon = in_unit(caller, relative, 2 * exponent)
        else:
            relative = float(np.ldexp(epsilon, -2 * exponent))

        @jax.jit
        def solved(x: Any, y: Any, strength: Any) -> tuple[Any, Any]:
            return sinkhorn(x, y, strength, threshold=1e-6, iterations=20_000)

        def distance(x: np.ndarray, y: np.ndarray) -> float:
            if not (np.any(x) or np.any(y)):
                # All points are one, the centre.
                return 0.0
            value, converged = solved(jnp.asarray(x), jnp.asarray(y), relative)
            if not np.all(converged):
                raise RuntimeError(
                    f"{caller}: Sinkhorn's iteration did not converge at epsilon = "
                    f"{epsilon:.3g}; pass a larger `epsilon`."
                )
            return float(value)

        return _with_null(
            "Sinkhorn divergence",
            caller,
            first,
            second,
            distance,
            null,
            permutations,
            seed,
            {"epsilon": float(epsilon)},
            power=2,
        )


def line_distance(x: np.ndarray, y: np.ndarray, order: int) -> float:
    """$W_p$ of two samples on the line, of any two sizes."""
    x, y = np.sort(x), np.sort(y)
    if len(x) == len(y):
        gaps, weights = np.abs(x - y), 1 / len(x)
    else:
        # Between these levels both quantile functions are constant.
        n, m = len(x), len(y)
        levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
        left = levels[:-1]
        gaps = np.abs(x[left // m] - y[left // n])
        weights = np.diff(levels) / (n * m)
    return float(np.sum(weights * gaps**order) ** (1 / order))


def _check_order(caller: str, order: Any) -> None:
    if order not in (1, 2):
        raise ValueError(f"{caller}: `order` must be 1 or 2, got {order!r}.")


def _with_null(
    name: str,
    caller: str,
    first: np.ndarray,
    second: np.ndarray,
    distance: Callable[[np.ndarray, np.ndarray], float],
    null: bool,
    permutations: int,
    seed: int,
    settings: dict[str, Any] | None = None,
    power: int = 1,
) -> Distance:
    """A distance that scales as the samples to a power, with its null level."""
    first, second, exponent = normalized(first, second)
    value, level = distance(first, second), None
    settings = settings or {}
    if null:
        check_permutations(caller, permutations)
        pooled = np.concatenate([first, second])
        labels = divisions(
            len(first), len(second), permutations, generator(caller, seed + 1)
        )
        chosen = labels[:, 1:].astype(bool)
        others = [distance(pooled[one], pooled[~one]) for one in chosen.T]
        level = permutation_level(np.asarray([value, *others]))
        settings = settings | {"permutations": permutations, "seed": seed}
    found = in_unit(caller, value, power * exponent)
    return Distance(name, found, level, (len(first), len(second)), settings)
