"""Test equations: Van der Pol in slow time, Prothero and Robinson, a pendulum."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class VanDerPolScaled(eqx.Module):
    """Van der Pol's oscillator in slow time: εÿ = (1 − y²)ẏ − y.

    The factor 1/ε multiplies the whole bracket; μ = 1/√ε in the other form.
    """

    inverse_epsilon: Float[Array, ""]

    def __call__(self, t, y, args):
        del t, args
        position, velocity = y
        force = (1 - position**2) * velocity - position
        return jnp.stack([velocity, self.inverse_epsilon * force])


class ProtheroRobinson(eqx.Module):
    """ẏ = λ(y − cos t) − sin t, whose solution from 1 is cos t whatever λ is."""

    rate: Float[Array, ""]

    def __call__(self, t, y, args):
        del args
        return self.rate * (y - jnp.cos(t)) - jnp.sin(t)


class Pendulum(eqx.Module):
    """A pendulum of unit mass in Cartesian coordinates, index reduced to one.

    The state is (x, y, ẋ, ẏ, λ) with y pointing up; the last row is the second
    derivative of the constraint x² + y² = L², which fixes the multiplier λ, and
    its mass is zero. L enters through the initial state.
    """

    gravity: Float[Array, ""]

    def __call__(self, t, y, args):
        del t, args
        position, velocity, multiplier = y[:2], y[2:4], y[4]
        weight = jnp.stack([jnp.zeros_like(self.gravity), -self.gravity])
        acceleration = weight - multiplier * position
        constraint = jnp.dot(velocity, velocity) + jnp.dot(position, acceleration)
        return jnp.concatenate([velocity, acceleration, constraint[None]])
