"""Distances between distributions by operations that JAX can trace and differentiate.

Each is of samples about a common centre in a unit of their own, both constants to
derivatives: what is homogeneous has the same derivative whatever they are.
"""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

_ITERATIONS, _THRESHOLD = 2000, 1e-4


def energy_statistic(
    x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, ""]:
    """The unbiased estimate of
    [`energy_distance`][hybrid_nds.measures.energy_distance]."""
    x, y, unit = _normalized(x, y)
    return unit * _unbiased(*(-_roots(d) for d in _squares(x, y)))


def discrepancy_statistic(
    x: Float[Array, "n d"], y: Float[Array, "m d"], bandwidth: float | None
) -> Float[Array, ""]:
    """The unbiased estimate of
    [`maximum_mean_discrepancy`][hybrid_nds.measures.maximum_mean_discrepancy]; the
    default bandwidth counts as a constant."""
    x, y, unit = _normalized(x, y)
    if bandwidth is None:
        both = stop_gradient(jnp.concatenate([x, y]))
        pairs = jnp.triu_indices(len(both), 1)
        width = _median(_roots(_between(both, both)[pairs]))
    else:
        width = jnp.asarray(bandwidth, x.dtype) / unit
    return _unbiased(*(jnp.exp(-d / width / width / 2) for d in _squares(x, y)))


def sinkhorn_statistic(
    x: Float[Array, "n d"], y: Float[Array, "m d"], epsilon: float | None
) -> Float[Array, ""]:
    """[`sinkhorn_divergence`][hybrid_nds.measures.sinkhorn_divergence], its default
    regularization a constant; its iteration ends where marginals are met to 1e-4."""
    x, y, unit = _normalized(x, y)
    if epsilon is None:
        strength = stop_gradient(jnp.mean(_between(x, y))) / 20
        # All points are one: any strength will do.
        strength = jnp.where(strength > 0, strength, jnp.ones_like(strength))
    else:
        strength = jnp.asarray(epsilon, x.dtype) / unit / unit
    value, _ = sinkhorn(x, y, strength, threshold=_THRESHOLD, iterations=_ITERATIONS)
    return value * unit * unit


def sinkhorn(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    strength: Any,
    *,
    threshold: float,
    iterations: int,
) -> tuple[Float[Array, ""], Any]:
    """The Sinkhorn divergence of normalized samples, by ott-jax.

    **Returns:** its value, and whether each of its iterations converged.
    """
    with warnings.catch_warnings():
        # ott-jax imports a library that announces its own retirement.
        warnings.simplefilter("ignore", DeprecationWarning)
        from ott.geometry.geometry import Geometry
        from ott.tools.sinkhorn_divergence import sinkhorn_divergence
    own, other, cross = _squares(x, y)
    weights: Any = [jnp.full(len(z), 1 / len(z), z.dtype) for z in (x, y)]
    # Not all of ott-jax names the types and ranks of its constants.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        value, output = sinkhorn_divergence(
            # Costs of differences: ott-jax takes |x|² + |y|² - 2xy for points.
            Geometry,
            *(cross, own, other),
            a=weights[0],
            b=weights[1],
            epsilon=strength,
            solve_kwargs={"threshold": threshold, "max_iterations": iterations},
        )
    return value, jnp.asarray(output.converged)


def _normalized(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Samples about a common centre, of order one, and their unit, a power of two."""
    centre = stop_gradient(x[:1])
    x, y = x - centre, y - centre
    largest = stop_gradient(jnp.maximum(jnp.max(jnp.abs(x)), jnp.max(jnp.abs(y))))
    mantissa, _ = jnp.frexp(largest)
    unit = jnp.where(largest > 0, largest / mantissa, jnp.ones_like(largest))
    return x / unit, y / unit, unit


def _median(distances: Array) -> Array:
    """The median; where more than half are zero, that of the others; 1 of zeros."""
    median = jnp.median(distances)
    count = jnp.sum(distances > 0)
    ordered = jnp.sort(jnp.where(distances > 0, distances, jnp.inf))
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    others = jnp.where(count > 0, middle, jnp.ones_like(middle))
    return jnp.where(median > 0, median, others)


def _between(x: Array, y: Array) -> Array:
    return jnp.sum((x[:, None] - y[None]) ** 2, axis=-1)


def _squares(x: Array, y: Array) -> tuple[Array, Array, Array]:
    return _between(x, x), _between(y, y), _between(x, y)


def _roots(squares: Array) -> Array:
    """Distances; those of zero have no gradient: another number in their place."""
    positive = jnp.where(squares > 0, squares, jnp.ones_like(squares))
    return jnp.where(squares > 0, jnp.sqrt(positive), jnp.zeros_like(squares))


def _unbiased(own: Array, other: Array, cross: Array) -> Array:
    """$E\\,k(X,X') + E\\,k(Y,Y') - 2E\\,k(X,Y)$, pairs of one sample left out."""

    def apart(k: Array) -> Array:
        n = k.shape[0]
        return (jnp.sum(k) - jnp.trace(k)) / (n * (n - 1))

    return apart(own) + apart(other) - 2 * jnp.mean(cross)
