"""Continuous normalizing flows: distributions as images of the normal one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy.stats
from jaxtyping import Array, Float, PRNGKeyArray

from .._core import check_whole
from ..solving import solve
from ._base import ContinuousModel
from ._neural_ode import make_network, with_time

Moving = tuple[Float[Array, " size"], Float[Array, ""]]
"""A point, and how far the logarithm of the density there has fallen."""


class ContinuousNormalizingFlow(ContinuousModel):
    """A flow that carries the standard normal distribution at $t = 0$ to that of data
    at $t = 1$, $\\dot y = N_\\theta(y, t)$, with $\\tfrac{d}{dt}\\log p(y(t)) =
    -\\operatorname{tr}\\partial_yN_\\theta(y, t)$ along it (Chen et al. 2018, Neural
    ordinary differential equations, theorem 1).

    The state is `(y, fall)` with $\\tfrac{d}{dt}$`fall` the trace: exact where `args`
    is `None`; Hutchinson's $\\varepsilon^\\top\\partial_yN\\varepsilon$ for `args` a
    vector $\\varepsilon$ of independent components of mean zero and variance one, the
    same for the whole solve (Grathwohl et al. 2019, FFJORD, equation 8).

    **Arguments:**

    - `size`: of a point, shape `(size,)`.
    - `width`, `depth`: of the network's hidden layers.
    - `activation`: of them, smooth.
    - `key`, `dtype`: as of [`NeuralODE`][hybrid_nds.models.NeuralODE].

    **Raises:** `ValueError` for sizes that are not whole numbers of at least one.
    """

    network: eqx.nn.MLP
    size: int = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        width: int = 64,
        depth: int = 2,
        *,
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "ContinuousNormalizingFlow"
        self.size = check_whole(caller, "size", size)
        self.network = make_network(
            caller, size, width, depth, activation, True, key, dtype
        )

    def velocity(self, t: Any, y: Float[Array, " size"]) -> Float[Array, " size"]:
        """$N_\\theta(y, t)$."""
        return self.network(with_time(y, t))

    def __call__(
        self, t: Any, y: Moving, args: Float[Array, " size"] | None = None
    ) -> Moving:
        point, _ = y
        moved, pushed = jax.linearize(lambda x: self.velocity(t, x), point)
        if args is None:
            basis = jnp.eye(self.size, dtype=point.dtype)
            trace = jnp.trace(jax.vmap(pushed)(basis))
        else:
            trace = args @ pushed(args)
        return moved, trace

    def log_prob(
        self,
        x: Float[Array, " size"],
        key: PRNGKeyArray | None = None,
        **options: Any,
    ) -> Float[Array, ""]:
        """The logarithm of the density at a point.

        **Arguments:** the point, shape `(size,)` (`jax.vmap` for more of them); a JAX
        random key for Hutchinson's estimate, `None` for the exact trace; options of
        [`solve`][hybrid_nds.solve]; a `dt` is a length, and taken backward.

        **Raises:** `ValueError` for another shape.
        """
        if jnp.shape(x) != (self.size,):
            raise ValueError(
                f"ContinuousNormalizingFlow: `x` must have shape ({self.size},), got "
                f"{jnp.shape(x)}; use jax.vmap for several points."
            )
        probe = None if key is None else jr.rademacher(key, (self.size,), x.dtype)
        if options.get("dt") is not None:
            options["dt"] = -abs(options["dt"])
        start = (x, jnp.zeros((), x.dtype))
        base, fall = solve(self.problem(start, 1.0, 0.0, probe), **options).ys
        # Solved from t = 1 down to 0, the integral of the trace has the other sign.
        return jnp.sum(jax.scipy.stats.norm.logpdf(base[-1])) + fall[-1]

    def sample(
        self, key: PRNGKeyArray, count: int, **options: Any
    ) -> Float[Array, "count size"]:
        """Independent points of the distribution at $t = 1$.

        **Arguments:** a JAX random key; how many; options of
        [`solve`][hybrid_nds.solve].
        """
        check_whole("ContinuousNormalizingFlow.sample", "count", count)
        dtype = self.network.layers[0].weight.dtype
        starts = jr.normal(key, (count, self.size), dtype)

        def moved(start: Array) -> Array:
            flow = _Velocity(self)
            return solve(flow.problem(start, 0.0, 1.0), **options).ys[-1]

        return jax.vmap(moved)(starts)


class _Velocity(ContinuousModel):
    """Points alone, without their density."""

    flow: ContinuousNormalizingFlow

    def __call__(self, t: Any, y: Array, args: Any = None) -> Array:
        return self.flow.velocity(t, y)
