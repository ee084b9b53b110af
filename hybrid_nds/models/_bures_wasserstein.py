"""Gaussian variational inference as a flow of distributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._core import check_whole
from ._base import ContinuousModel
from ._checks import check_function

Gaussian = tuple[Float[Array, " n"], Float[Array, "n n"]]
"""Mean and covariance."""


class BuresWassersteinFlow(ContinuousModel):
    """The gradient flow of $\\mathrm{KL}(\\cdot\\,\\|\\,e^{-V})$ over Gaussians in
    Wasserstein's metric, $\\dot m = -E\\nabla V(X)$,
    $\\dot\\Sigma = 2I - E\\nabla^2V(X)\\,\\Sigma - \\Sigma\\,E\\nabla^2V(X)$ with
    $X \\sim N(m, \\Sigma)$ (Lambert, Chewi, Bach, Bonnabel & Rigollet 2022, Variational
    inference via Wasserstein gradient flows).

    Expectations are by the product rule of Gauss and Hermite, exact for potentials of
    degree up to `2 * nodes` in each component.

    **Arguments:**

    - `potential`: $V$, a function of a point, shape `(n,)`, that returns a scalar.
    - `size`: $n$, small: there are `nodes ** size` points.
    - `nodes`: of the rule in one dimension.

    The state is a tuple of the mean, shape `(n,)`, and the covariance, `(n, n)`.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    potential: Callable[[Array], Array]
    size: int = eqx.field(static=True)
    nodes: int = eqx.field(static=True)

    def __init__(
        self,
        potential: Callable[[Array], Array],
        size: int,
        *,
        nodes: int = 5,
    ):
        caller = "BuresWassersteinFlow"
        self.potential = check_function(caller, "potential", potential)
        size = check_whole(caller, "size", size)
        nodes = check_whole(caller, "nodes", nodes)
        if nodes**size > 100_000:
            raise ValueError(
                f"{caller}: `nodes` ** `size` must be 100000 points at most, got "
                f"{nodes} ** {size}; take fewer `nodes`."
            )
        self.size, self.nodes = size, nodes

    def __call__(self, t: Any, y: Gaussian, args: PyTree = None) -> Gaussian:
        mean, covariance = y
        points, weights = _product_rule(self.size, self.nodes)
        nodes = jnp.asarray(points, mean.dtype)
        shares = jnp.asarray(weights, mean.dtype)
        x = mean + nodes @ jnp.linalg.cholesky(covariance).T
        slope = shares @ jax.vmap(jax.grad(self.potential))(x)
        bend = jnp.tensordot(shares, jax.vmap(jax.hessian(self.potential))(x), 1)
        turned = bend @ covariance
        return -slope, 2 * jnp.eye(self.size, dtype=mean.dtype) - turned - turned.T


def _product_rule(size: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of the rule for the standard normal distribution."""
    at, weights = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.meshgrid(*[at] * size, indexing="ij")
    shares = np.meshgrid(*[weights / weights.sum()] * size, indexing="ij")
    points = np.stack([g.ravel() for g in grid], axis=-1)
    return points, np.prod([s.ravel() for s in shares], axis=0)
