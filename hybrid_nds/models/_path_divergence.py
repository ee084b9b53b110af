"""How far apart two laws of paths are, carried along one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..problems import Interpretation, NoiseKind
from ._base import StochasticModel
from ._checks import check_function

Followed = tuple[Float[Array, " size"], Float[Array, ""]]
"""A state, and the divergence up to now."""


class PathDivergence(StochasticModel):
    """A diffusion that carries along how far its distribution is from that of another
    with the same noise, $dz = f(t, z)\\,dt + g(t, z)\\,dW$ (Itô, diagonal noise) with
    $d\\ell = \\tfrac12|u|^2dt$, $u = (f - h)/g$.

    By Girsanov's theorem $E\\,\\ell(T)$ is the Kullback–Leibler divergence of the
    distribution of paths with drift $f$ from that with drift $h$ (Li et al. 2020,
    Scalable gradients for stochastic differential equations, equation 10).

    **Arguments:** `drift_of`, `prior` and `volatility`: $f$, $h$ and $g$, callables
    `(t, z, args)` that return shape `(size,)`; $g$ is never zero, and each of its
    components depends on no other one of the state.

    The state is `(z, divergence)`, shapes `(size,)` and `()`.

    **Raises:** `TypeError` for what is not callable.
    """

    drift_of: Callable[[Any, Any, Any], Array]
    prior: Callable[[Any, Any, Any], Array]
    volatility: Callable[[Any, Any, Any], Array]
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)

    def __init__(
        self,
        drift_of: Callable[[Any, Any, Any], Array],
        prior: Callable[[Any, Any, Any], Array],
        volatility: Callable[[Any, Any, Any], Array],
    ):
        caller = "PathDivergence"
        self.drift_of = check_function(caller, "drift_of", drift_of)
        self.prior = check_function(caller, "prior", prior)
        self.volatility = check_function(caller, "volatility", volatility)
        self.noise, self.interpretation = "diagonal", "ito"

    def drift(self, t: Any, y: Followed, args: PyTree = None) -> Followed:
        z, _ = y
        f = self.drift_of(t, z, args)
        u = (f - self.prior(t, z, args)) / self.volatility(t, z, args)
        return f, 0.5 * jnp.sum(u**2)

    def diffusion(self, t: Any, y: Followed, args: PyTree = None) -> Followed:
        z, divergence = y
        return self.volatility(t, z, args), jnp.zeros_like(divergence)
