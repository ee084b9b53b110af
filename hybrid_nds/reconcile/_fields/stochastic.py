"""Drifts and diffusions of stochastic test problems with closed forms."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._parameters import Parameters, array, number


class Proportional(eqx.Module):
    """A rate, or one for each component, times the state."""

    rate: Float[Array, "*n"]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, args
        return self.rate * y


def geometric(parameters: Parameters) -> tuple[Proportional, Proportional]:
    """Drift and diffusion of dX = aX dt + bX dW."""
    return (
        Proportional(number(parameters, "a")),
        Proportional(number(parameters, "b")),
    )


class ArctanDrift(eqx.Module):
    """−a² sin x cos³ x."""

    a: Float[Array, ""]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, args
        return -(self.a**2) * jnp.sin(y) * jnp.cos(y) ** 3


class ArctanDiffusion(eqx.Module):
    """a cos² x."""

    a: Float[Array, ""]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, args
        return self.a * jnp.cos(y) ** 2


def arctan(parameters: Parameters) -> tuple[ArctanDrift, ArctanDiffusion]:
    """Drift and diffusion of the equation that arctan(aW + tan x₀) solves."""
    a = number(parameters, "a")
    return ArctanDrift(a), ArctanDiffusion(a)


class FadingDrift(eqx.Module):
    """β/√(1+t) − y/(2(1+t)), by component."""

    beta: Float[Array, " n"]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del args
        return self.beta / jnp.sqrt(1 + t) - y / (2 * (1 + t))


class FadingDiffusion(eqx.Module):
    """αβ/√(1+t), by component: additive."""

    alpha: Float[Array, ""]
    beta: Float[Array, " n"]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del y, args
        return self.alpha * self.beta / jnp.sqrt(1 + t)


def fading(parameters: Parameters) -> tuple[FadingDrift, FadingDiffusion]:
    """Drift and diffusion of additive noise that fades with time."""
    beta = array(parameters, "beta")
    return FadingDrift(beta), FadingDiffusion(number(parameters, "alpha"), beta)


class LinearDrift(eqx.Module):
    """A y."""

    matrix: Float[Array, "n n"]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, args
        return self.matrix @ y


class LinearDiffusion(eqx.Module):
    """The columns Bⱼ y."""

    matrices: Float[Array, "m n n"]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, args
        return (self.matrices @ y).T


def linear(parameters: Parameters) -> tuple[LinearDrift, LinearDiffusion]:
    """Drift and diffusion of dX = AX dt + Σ BⱼX dWⱼ."""
    return (
        LinearDrift(array(parameters, "A")),
        LinearDiffusion(array(parameters, "B")),
    )


class MeanReversion(eqx.Module):
    """Θ(μ − y)."""

    theta: Float[Array, "n n"]
    mean: Float[Array, " n"]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, args
        return self.theta @ (self.mean - y)


class Constant(eqx.Module):
    """A diffusion that is the same everywhere."""

    value: Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, y, args
        return self.value


def ornstein_uhlenbeck(parameters: Parameters) -> tuple[MeanReversion, Constant]:
    """Drift and diffusion of dX = Θ(μ − X) dt + Σ dW with full matrices."""
    drift = MeanReversion(array(parameters, "theta"), array(parameters, "mean"))
    return drift, Constant(array(parameters, "sigma"))


class Quarter(eqx.Module):
    """A rate times the state turned by a quarter: (−y₂, y₁)."""

    rate: Float[Array, ""]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, args
        return self.rate * jnp.stack([-y[1], y[0]])


def kubo(parameters: Parameters) -> tuple[Quarter, Quarter]:
    """Drift and diffusion of Kubo's oscillator."""
    return Quarter(number(parameters, "a")), Quarter(number(parameters, "sigma"))


class DoubleWellDrift(eqx.Module):
    """y − y³, without the σ that the model of the package has beside it."""

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, args
        return y - y**3


def double_well(parameters: Parameters) -> tuple[DoubleWellDrift, Constant]:
    """Drift and diffusion of the overdamped motion in the potential y⁴/4 − y²/2."""
    return DoubleWellDrift(), Constant(number(parameters, "sigma")[None])


class SineDrift(eqx.Module):
    """sin y."""

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, args
        return jnp.sin(y)


def periodic(parameters: Parameters) -> tuple[SineDrift, Constant]:
    """Drift and diffusion of the overdamped motion in the potential cos y."""
    return SineDrift(), Constant(number(parameters, "sigma")[None])


class OscillatorDrift(eqx.Module):
    """(v, −γv − ω²x) for the state (x, v)."""

    gamma: Float[Array, ""]
    omega: Float[Array, ""]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, args
        position, velocity = y
        force = -self.gamma * velocity - self.omega**2 * position
        return jnp.stack([velocity, force])


def underdamped(parameters: Parameters) -> tuple[OscillatorDrift, Constant]:
    """Drift and diffusion of a harmonic oscillator with friction and noise."""
    drift = OscillatorDrift(number(parameters, "gamma"), number(parameters, "omega"))
    sigma = number(parameters, "sigma")
    return drift, Constant(jnp.stack([jnp.zeros_like(sigma), sigma])[:, None])


class PredatorPreyDrift(eqx.Module):
    """(x(α − βy − μx), y(−γ + δx − νy)) for prey x and predator y."""

    growth: Float[Array, " species"]
    interaction: Float[Array, "species species"]

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        del t, args
        return y * (self.growth - self.interaction @ y)


def lotka_volterra(parameters: Parameters) -> tuple[PredatorPreyDrift, Proportional]:
    """Drift and diffusion of predator and prey with self-limitation."""
    alpha, beta, mu, gamma, delta, nu, sigma, rho = (
        number(parameters, name)
        for name in ("alpha", "beta", "mu", "gamma", "delta", "nu", "sigma", "rho")
    )
    drift = PredatorPreyDrift(
        jnp.stack([alpha, -gamma]),
        jnp.stack([jnp.stack([mu, beta]), jnp.stack([-delta, nu])]),
    )
    return drift, Proportional(jnp.stack([sigma, rho]))
