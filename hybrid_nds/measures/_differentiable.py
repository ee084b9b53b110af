"""Distances between laws by operations that JAX can trace and differentiate."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

_ITERATIONS, _THRESHOLD = 2000, 1e-4


def energy_statistic(
    x: Float[Array, "n d"], y: Float[Array, "m d"]
) -> Float[Array, ""]:
    """The unbiased estimate of
    [`energy_distance`][hybrid_nds.measures.energy_distance]."""
    return _unbiased(*(-jnp.sqrt(_positive(d)) * (d > 0) for d in _squares(x, y)))


def discrepancy_statistic(
    x: Float[Array, "n d"], y: Float[Array, "m d"], bandwidth: float | None
) -> Float[Array, ""]:
    """The unbiased estimate of
    [`maximum_mean_discrepancy`][hybrid_nds.measures.maximum_mean_discrepancy]; the
    default bandwidth counts as a constant."""
    squares = _squares(x, y)
    if bandwidth is None:
        both = stop_gradient(jnp.concatenate([x, y]))
        pairs = jnp.triu_indices(len(both), 1)
        width = jnp.sqrt(jnp.median(_between(both, both)[pairs]))
        # All alike: any width will do.
        width = jnp.where(width > 0, width, 1)
    else:
        width = jnp.asarray(bandwidth, x.dtype)
    return _unbiased(*(jnp.exp(-d / (2 * width**2)) for d in squares))


def sinkhorn_statistic(
    x: Float[Array, "n d"], y: Float[Array, "m d"], epsilon: float | None
) -> Float[Array, ""]:
    """[`sinkhorn_divergence`][hybrid_nds.measures.sinkhorn_divergence], its default
    regularization a constant; its iteration ends where marginals are met to 1e-4."""
    with warnings.catch_warnings():
        # ott-jax imports a library that announces its own retirement.
        warnings.simplefilter("ignore", DeprecationWarning)
        from ott.geometry.pointcloud import PointCloud
        from ott.tools.sinkhorn_divergence import sinkhorn_divergence
    if epsilon is None:
        strength = 0.05 * jnp.mean(stop_gradient(_between(x, y)))
    else:
        strength = jnp.asarray(epsilon, x.dtype)
    settings = {"threshold": _THRESHOLD, "max_iterations": _ITERATIONS}
    return sinkhorn_divergence(
        PointCloud, x, y, epsilon=strength, solve_kwargs=settings
    )[0]


def _between(x: Array, y: Array) -> Array:
    return jnp.sum((x[:, None] - y[None]) ** 2, axis=-1)


def _squares(x: Array, y: Array) -> tuple[Array, Array, Array]:
    return _between(x, x), _between(y, y), _between(x, y)


def _positive(squares: Array) -> Array:
    """Distances of zero have no gradient: another number in their place."""
    return jnp.where(squares > 0, squares, 1)


def _unbiased(own: Array, other: Array, cross: Array) -> Array:
    """$E\\,k(X,X') + E\\,k(Y,Y') - 2E\\,k(X,Y)$, pairs of one sample left out."""

    def apart(k: Array) -> Array:
        n = k.shape[0]
        return (jnp.sum(k) - jnp.trace(k)) / (n * (n - 1))

    return apart(own) + apart(other) - 2 * jnp.mean(cross)
