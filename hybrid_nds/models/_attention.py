"""Self-attention as particles on the sphere."""

from __future__ import annotations

from typing import Any, Literal, get_args

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._core import check_choice, check_whole
from ..problems import Interpretation, NoiseKind
from ._base import ContinuousModel, StochasticModel, noise_strength
from ._checks import check_array, check_temperature

Normalization = Literal["softmax", "mean"]


class Attention(ContinuousModel):
    """Tokens on the sphere that attend to each other,
    $\\dot x_i = P_{x_i}\\Bigl(\\tfrac{1}{Z_i}\\sum_j
    e^{\\beta\\langle Qx_i, Kx_j\\rangle}Vx_j\\Bigr)$ with $P_x v = v - \\langle x,
    v\\rangle x$ (Geshkovski, Letrouit, Polyanskiy & Rigollet 2025, A mathematical
    perspective on transformers, equations SA and USA).

    $Z_i = \\sum_j e^{\\beta\\langle Qx_i, Kx_j\\rangle}$ with softmax (SA), and the
    number of tokens that are seen without (USA). A causal mask leaves $j \\le i$ in
    both.

    **Arguments:**

    - `dimension`: of the space, so that the state has shape `(tokens, dimension)`, with
        rows of norm one.
    - `inverse_temperature`: $\\beta$, a number.
    - `normalization`: `"softmax"` or `"mean"`.
    - `causal`: whether a token attends to itself and those before it alone.
    - `query`, `key`, `value`: matrices $Q$, $K$ and $V$ of shape `(dimension,
        dimension)`, the identity where `None`.
    - `dtype`: of the identity.

    **Raises:** `ValueError`, naming the argument.
    """

    query: Float[Array, "dimension dimension"]
    key: Float[Array, "dimension dimension"]
    value: Float[Array, "dimension dimension"]
    inverse_temperature: Float[Array, ""]
    normalization: Normalization = eqx.field(static=True)
    causal: bool = eqx.field(static=True)

    def __init__(
        self,
        dimension: int,
        inverse_temperature: ArrayLike = 1.0,
        *,
        normalization: Normalization = "softmax",
        causal: bool = False,
        query: Float[Array, "dimension dimension"] | None = None,
        key: Float[Array, "dimension dimension"] | None = None,
        value: Float[Array, "dimension dimension"] | None = None,
        dtype: Any = None,
    ):
        caller = "Attention"
        n = check_whole(caller, "dimension", dimension)
        given = {"query": query, "key": key, "value": value}
        self.query, self.key, self.value = (
            jnp.eye(n, dtype=dtype)
            if matrix is None
            else check_array(caller, name, matrix, (n, n))
            for name, matrix in given.items()
        )
        beta = check_array(caller, "inverse_temperature", inverse_temperature, ())
        self.inverse_temperature = beta.astype(self.query.dtype)
        check_choice(caller, "normalization", normalization, get_args(Normalization))
        self.normalization, self.causal = normalization, bool(causal)

    def weights(
        self, y: Float[Array, "tokens dimension"]
    ) -> Float[Array, "tokens tokens"]:
        """How much each token takes of each other, rows by the token that attends."""
        scores = self.inverse_temperature * (y @ self.query.T) @ (y @ self.key.T).T
        tokens = y.shape[0]
        seen = jnp.ones((tokens, tokens), y.dtype)
        if self.causal:
            seen = jnp.tril(seen)
        if self.normalization == "mean":
            counts = jnp.sum(seen, axis=1, keepdims=True)
            return seen * jnp.exp(scores) / counts
        # The largest score taken off: softmax does not change, and cannot overflow.
        top = jnp.max(jnp.where(seen > 0, scores, -jnp.inf), axis=1, keepdims=True)
        raised = seen * jnp.exp(jnp.minimum(scores - top, 0))
        return raised / jnp.sum(raised, axis=1, keepdims=True)

    def energy(self, y: Float[Array, "tokens dimension"]) -> Float[Array, ""]:
        """$\\tfrac{1}{2\\beta n^2}\\sum_{ij} e^{\\beta\\langle x_i, x_j\\rangle}$,
        which with identity matrices and no mask never falls: USA is $n$ times its
        gradient flow on the spheres."""
        beta = self.inverse_temperature
        return jnp.mean(jnp.exp(beta * y @ y.T)) / (2 * beta)

    def __call__(
        self, t: Any, y: Float[Array, "tokens dimension"], args: PyTree = None
    ) -> Float[Array, "tokens dimension"]:
        return tangent(y, self.weights(y) @ (y @ self.value.T))


class NoisyAttention(StochasticModel):
    """Attention with noise along the sphere,
    $dx_i = f_i(x)\\,dt + \\sqrt{2\\tau}\\,P_{x_i}\\circ dW_i$ with $f$ that of
    [`Attention`][hybrid_nds.models.Attention]: Brownian motion on the sphere, in
    Stratonovich's sense (Hsu 2002, example 3.3.2).

    **Arguments:** `attention`, an [`Attention`][hybrid_nds.models.Attention];
    `temperature`, $\\tau$, a number.

    **Raises:** `TypeError` or `ValueError`, naming the argument.
    """

    attention: Attention
    temperature: Float[Array, ""]
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)

    def __init__(self, attention: Attention, temperature: ArrayLike = 0.1):
        if not isinstance(attention, Attention):
            raise TypeError(
                "NoisyAttention: `attention` must be an Attention, got "
                f"{type(attention).__name__}."
            )
        self.attention = attention
        dtype = attention.query.dtype
        given = check_temperature("NoisyAttention", temperature)
        self.temperature = given.astype(dtype)
        self.noise, self.interpretation = "general", "stratonovich"

    def drift(
        self, t: Any, y: Float[Array, "tokens dimension"], args: PyTree = None
    ) -> Float[Array, "tokens dimension"]:
        return self.attention(t, y, args)

    def diffusion(
        self, t: Any, y: Float[Array, "tokens dimension"], args: PyTree = None
    ) -> Float[Array, "tokens dimension motions"]:
        tokens, dimension = y.shape
        across = jnp.eye(dimension, dtype=y.dtype) - y[:, :, None] * y[:, None, :]
        # Each token has motions of its own.
        own = jnp.eye(tokens, dtype=y.dtype)[:, None, :, None]
        whole = own * across[:, :, None, :]
        scale = noise_strength(self.temperature)
        return scale * whole.reshape(tokens, dimension, tokens * dimension)


class CircleAttention(StochasticModel):
    """Unnormalized attention on the circle with noise, in angles,
    $d\\theta_i = \\tfrac{K}{N}\\sum_j e^{\\beta\\cos(\\theta_j - \\theta_i)}
    \\sin(\\theta_j - \\theta_i)\\,dt + \\sqrt{2\\tau}\\,dW_i$.

    With $\\beta = 0$ it is [`NoisyKuramoto`][hybrid_nds.models.NoisyKuramoto]. For
    large $N$ the uniform distribution loses stability at $K = \\tau\\beta/I_1(\\beta)$.

    **Arguments:** `coupling`, `inverse_temperature` and `temperature`: $K$, $\\beta$
    and $\\tau$, numbers; `dtype`, that of the state, JAX's default if `None`.
    """

    coupling: Float[Array, ""]
    inverse_temperature: Float[Array, ""]
    temperature: Float[Array, ""]
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)

    def __init__(
        self,
        coupling: ArrayLike = 1.0,
        inverse_temperature: ArrayLike = 1.0,
        temperature: ArrayLike = 0.1,
        *,
        dtype: Any = None,
    ):
        caller = "CircleAttention"
        strength = check_array(caller, "coupling", coupling, ())
        beta = check_array(caller, "inverse_temperature", inverse_temperature, ())
        tau = check_temperature(caller, temperature)
        self.coupling, self.inverse_temperature, self.temperature = (
            x if dtype is None else x.astype(dtype) for x in (strength, beta, tau)
        )
        self.noise, self.interpretation = "additive", "ito"

    def drift(
        self, t: Any, y: Float[Array, " tokens"], args: PyTree = None
    ) -> Float[Array, " tokens"]:
        apart = y[None, :] - y[:, None]
        pulls = jnp.exp(self.inverse_temperature * jnp.cos(apart)) * jnp.sin(apart)
        return self.coupling * jnp.mean(pulls, axis=1)

    def diffusion(
        self, t: Any, y: Float[Array, " tokens"], args: PyTree = None
    ) -> Float[Array, " tokens"]:
        return noise_strength(self.temperature) * jnp.ones_like(y)


def tangent(
    x: Float[Array, "*batch dimension"], v: Float[Array, "*batch dimension"]
) -> Float[Array, "*batch dimension"]:
    """The part of `v` along the sphere at `x`, of norm one: $v - \\langle x, v\\rangle
    x$."""
    return v - jnp.sum(x * v, axis=-1, keepdims=True) * x
