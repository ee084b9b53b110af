"""Small oscillators and test equations: two forms of Van der Pol, Lorenz, others."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._parameters import Parameters, number


class VanDerPol(eqx.Module):
    """Van der Pol's oscillator in its own time: ÿ = μ(1 − y²)ẏ − y."""

    mu: Float[Array, ""]

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> VanDerPol:
        return cls(number(parameters, "mu"))

    def __call__(self, t, y, args):
        del t, args
        position, velocity = y
        return jnp.stack([velocity, self.mu * (1 - position**2) * velocity - position])


class VanDerPolScaled(eqx.Module):
    """Van der Pol's oscillator in slow time: εÿ = (1 − y²)ẏ − y.

    The factor 1/ε multiplies the whole bracket; μ = 1/√ε in the other form.
    """

    inverse_epsilon: Float[Array, ""]

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> VanDerPolScaled:
        return cls(number(parameters, "inverse_epsilon"))

    def __call__(self, t, y, args):
        del t, args
        position, velocity = y
        force = (1 - position**2) * velocity - position
        return jnp.stack([velocity, self.inverse_epsilon * force])


class Lorenz(eqx.Module):
    """Lorenz's convection model of 1963."""

    sigma: Float[Array, ""]
    rho: Float[Array, ""]
    beta: Float[Array, ""]

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> Lorenz:
        return cls(*(number(parameters, name) for name in ("sigma", "rho", "beta")))

    def __call__(self, t, y, args):
        del t, args
        x, y_, z = y
        return jnp.stack(
            [self.sigma * (y_ - x), x * (self.rho - z) - y_, x * y_ - self.beta * z]
        )


class ProtheroRobinson(eqx.Module):
    """ẏ = λ(y − cos t) − sin t, whose solution from 1 is cos t whatever λ is."""

    rate: Float[Array, ""]

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> ProtheroRobinson:
        return cls(number(parameters, "rate"))

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

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> Pendulum:
        return cls(number(parameters, "gravity"))

    def __call__(self, t, y, args):
        del t, args
        position, velocity, multiplier = y[:2], y[2:4], y[4]
        weight = jnp.stack([jnp.zeros_like(self.gravity), -self.gravity])
        acceleration = weight - multiplier * position
        constraint = jnp.dot(velocity, velocity) + jnp.dot(position, acceleration)
        return jnp.concatenate([velocity, acceleration, constraint[None]])
