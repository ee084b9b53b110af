"""Self-attention as particles on the sphere (Geshkovski et al.)."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._parameters import Parameters, number


class SphereAttention(eqx.Module):
    """Tokens on the unit sphere, each drawn to the softmax average of all.

    ẋ_i = P(x_i) Σ_j softmax_j(β⟨x_i, x_j⟩) x_j with P(x)v = v − ⟨x, v⟩x; the state
    is of shape (tokens, d).
    """

    beta: Float[Array, ""]

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> SphereAttention:
        return cls(number(parameters, "beta"))

    def __call__(self, t, y, args):
        del t, args
        scores = jnp.einsum("ik,jk->ij", y, y)
        weights = jax.nn.softmax(self.beta * scores, axis=1)
        average = weights @ y
        return average - jnp.sum(y * average, axis=1, keepdims=True) * y
