"""Kuramoto's coupled oscillators."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from ..problems import Interpretation, NoiseKind
from ._base import ContinuousModel, StochasticModel, noise_strength
from ._checks import check_array, check_temperature


class Kuramoto(ContinuousModel):
    """Coupled oscillators,
    $\\dot\\theta_i = \\omega_i + \\tfrac{K}{N}\\sum_j\\sin(\\theta_j - \\theta_i)$
    (Kuramoto 1984, Chemical oscillations, waves, and turbulence, equation 5.4.1).

    For large $N$ and frequencies of a symmetric unimodal density $g$ they lock from
    $K = 2/(\\pi g(0))$ on.

    **Arguments:**

    - `frequencies`: $\\omega$, shape `(oscillators,)`, in radians per unit of time.
    - `coupling`: $K$, a number.

    **Raises:** `ValueError` for another shape.
    """

    frequencies: Float[Array, " oscillators"]
    coupling: Float[Array, ""]

    def __init__(
        self, frequencies: Float[Array, " oscillators"], coupling: ArrayLike = 1.0
    ):
        self.frequencies = check_array("Kuramoto", "frequencies", frequencies, (None,))
        dtype = self.frequencies.dtype
        self.coupling = check_array("Kuramoto", "coupling", coupling, ()).astype(dtype)

    def __call__(
        self, t: Any, y: Float[Array, " oscillators"], args: PyTree = None
    ) -> Float[Array, " oscillators"]:
        return _pulled(self.frequencies, self.coupling, y)


class NoisyKuramoto(StochasticModel):
    """Coupled oscillators with noise, $d\\theta_i = \\bigl(\\omega_i +
    \\tfrac{K}{N}\\sum_j\\sin(\\theta_j - \\theta_i)\\bigr)dt + \\sqrt{2\\tau}\\,dW_i$
    (Sakaguchi 1988, Cooperative phenomena in coupled oscillator systems under external
    fields).

    For equal frequencies and large $N$ they lock from $K = 2\\tau$ on, to the order
    parameter $r = I_1(Kr/\\tau)/I_0(Kr/\\tau)$.

    **Arguments:** `frequencies` and `coupling` as of
    [`Kuramoto`][hybrid_nds.models.Kuramoto]; `temperature`, $\\tau$, a number.

    **Raises:** `ValueError` for another shape.
    """

    frequencies: Float[Array, " oscillators"]
    coupling: Float[Array, ""]
    temperature: Float[Array, ""]
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)

    def __init__(
        self,
        frequencies: Float[Array, " oscillators"],
        coupling: ArrayLike = 1.0,
        temperature: ArrayLike = 1.0,
    ):
        caller = "NoisyKuramoto"
        self.frequencies = check_array(caller, "frequencies", frequencies, (None,))
        dtype = self.frequencies.dtype
        self.coupling = check_array(caller, "coupling", coupling, ()).astype(dtype)
        self.temperature = check_temperature(caller, temperature).astype(dtype)
        self.noise, self.interpretation = "additive", "ito"

    def drift(
        self, t: Any, y: Float[Array, " oscillators"], args: PyTree = None
    ) -> Float[Array, " oscillators"]:
        return _pulled(self.frequencies, self.coupling, y)

    def diffusion(
        self, t: Any, y: Float[Array, " oscillators"], args: PyTree = None
    ) -> Float[Array, " oscillators"]:
        return noise_strength(self.temperature) * jnp.ones_like(y)


def order_parameter(y: Float[Array, "*batch oscillators"]) -> Float[Array, "*batch"]:
    """How far oscillators are in step, $r = |N^{-1}\\sum_j e^{i\\theta_j}|$, between 0
    and 1 (Kuramoto 1984, equation 5.4.9).

    **Arguments:** `y`, angles in radians, along the last axis.
    """
    return jnp.hypot(jnp.mean(jnp.cos(y), axis=-1), jnp.mean(jnp.sin(y), axis=-1))


def _pulled(frequencies: Array, coupling: Array, y: Array) -> Array:
    # Of the mean field: as many sines as oscillators, not their square.
    along, across = jnp.mean(jnp.cos(y)), jnp.mean(jnp.sin(y))
    return frequencies + coupling * (across * jnp.cos(y) - along * jnp.sin(y))
