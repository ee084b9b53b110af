"""Interacting particles: tokens that attend to each other, gravitating bodies."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class SphereAttention(eqx.Module):
    """Tokens on the unit sphere, each drawn to the softmax average of all.

    ẋ_i = P(x_i) Σ_j softmax_j(β⟨x_i, x_j⟩) x_j with P(x)v = v − ⟨x, v⟩x; the state
    is of shape (tokens, d).
    """

    beta: Float[Array, ""]

    def __call__(self, t, y, args):
        del t, args
        scores = jnp.einsum("ik,jk->ij", y, y)
        weights = jax.nn.softmax(self.beta * scores, axis=1)
        average = weights @ y
        return average - jnp.sum(y * average, axis=1, keepdims=True) * y


class Pleiades(eqx.Module):
    """Seven stars in a plane, attracting each other; the constant of gravity is 1.

    The state is the flat vector (x₁…x₇, y₁…y₇, ẋ₁…ẋ₇, ẏ₁…ẏ₇).
    """

    masses: Float[Array, " bodies"]

    def __call__(self, t, y, args):
        del t, args
        position, velocity = y.reshape(2, 2, -1)
        # separation[c, i, j] points from body i to body j.
        separation = position[:, None, :] - position[:, :, None]
        # A body does not pull at itself: a distance of one there keeps the power
        # and its derivative finite, and the separation of zero removes the term.
        distance_squared = jnp.sum(separation**2, axis=0)
        distance_squared += jnp.eye(position.shape[1], dtype=y.dtype)
        pull = self.masses / distance_squared**1.5
        acceleration = jnp.sum(pull * separation, axis=2)
        return jnp.concatenate([velocity.ravel(), acceleration.ravel()])
