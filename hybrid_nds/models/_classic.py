"""Classic systems of dynamics, with their parameters as arrays.

All take a `dtype`, that of the state they are for; JAX's default floating point if
`None`.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from ..problems import Interpretation, NoiseKind
from ._base import ContinuousModel, StochasticModel
from ._checks import check_array


def _number(caller: str, name: str, value: ArrayLike, dtype: Any) -> Float[Array, ""]:
    number = check_array(caller, name, value, ())
    return number if dtype is None else number.astype(dtype)


class Lorenz(ContinuousModel):
    """Lorenz's system, $\\dot x = \\sigma(y - x)$, $\\dot y = x(\\rho - z) - y$,
    $\\dot z = xy - \\beta z$ (Lorenz 1963, Deterministic nonperiodic flow, equations
    25 to 27).

    **Arguments:** `sigma`, `rho`, `beta`, numbers; by default 10, 28 and 8/3.
    """

    sigma: Float[Array, ""]
    rho: Float[Array, ""]
    beta: Float[Array, ""]

    def __init__(
        self,
        sigma: ArrayLike = 10.0,
        rho: ArrayLike = 28.0,
        beta: ArrayLike = 8.0 / 3.0,
        *,
        dtype: Any = None,
    ):
        self.sigma = _number("Lorenz", "sigma", sigma, dtype)
        self.rho = _number("Lorenz", "rho", rho, dtype)
        self.beta = _number("Lorenz", "beta", beta, dtype)

    def __call__(
        self, t: Any, y: Float[Array, " 3"], args: PyTree = None
    ) -> Float[Array, " 3"]:
        u, v, w = y[0], y[1], y[2]
        return jnp.stack(
            [self.sigma * (v - u), u * (self.rho - w) - v, u * v - self.beta * w]
        )


class VanDerPol(ContinuousModel):
    """Van der Pol's oscillator, $\\ddot x = \\mu(1 - x^2)\\dot x - x$ with the state
    $(x, \\dot x)$ (van der Pol 1926, On relaxation-oscillations).

    **Arguments:** `mu`, a number; stiff where it is large.
    """

    mu: Float[Array, ""]

    def __init__(self, mu: ArrayLike = 1.0, *, dtype: Any = None):
        self.mu = _number("VanDerPol", "mu", mu, dtype)

    def __call__(
        self, t: Any, y: Float[Array, " 2"], args: PyTree = None
    ) -> Float[Array, " 2"]:
        return jnp.stack([y[1], self.mu * (1 - y[0] ** 2) * y[1] - y[0]])


class Robertson(ContinuousModel):
    """Robertson's kinetics, $\\dot y_1 = -k_1y_1 + k_3y_2y_3$,
    $\\dot y_2 = k_1y_1 - k_3y_2y_3 - k_2y_2^2$, $\\dot y_3 = k_2y_2^2$ (Robertson 1966;
    Hairer & Wanner 1996, equation IV.1.4).

    The sum of the state is conserved.

    **Arguments:** the rates `slow`, `fast` and `back`, $k_1$, $k_2$, $k_3$; by default
    0.04, 3e7 and 1e4.
    """

    slow: Float[Array, ""]
    fast: Float[Array, ""]
    back: Float[Array, ""]

    def __init__(
        self,
        slow: ArrayLike = 0.04,
        fast: ArrayLike = 3e7,
        back: ArrayLike = 1e4,
        *,
        dtype: Any = None,
    ):
        self.slow = _number("Robertson", "slow", slow, dtype)
        self.fast = _number("Robertson", "fast", fast, dtype)
        self.back = _number("Robertson", "back", back, dtype)

    def __call__(
        self, t: Any, y: Float[Array, " 3"], args: PyTree = None
    ) -> Float[Array, " 3"]:
        decayed = self.slow * y[0]
        joined = self.fast * y[1] ** 2
        returned = self.back * y[1] * y[2]
        return jnp.stack([returned - decayed, decayed - returned - joined, joined])


class FitzHughNagumo(ContinuousModel):
    """FitzHugh and Nagumo's neuron, $\\dot v = v - v^3/3 - w + I$,
    $\\dot w = \\varepsilon(v + a - bw)$ (FitzHugh 1961; Nagumo, Arimoto & Yoshizawa
    1962).

    **Arguments:** `current`, `rate`, `offset`, `damping`: $I$, $\\varepsilon$, $a$ and
    $b$; by default 0.5, 0.08, 0.7 and 0.8, with which it fires periodically.
    """

    current: Float[Array, ""]
    rate: Float[Array, ""]
    offset: Float[Array, ""]
    damping: Float[Array, ""]

    def __init__(
        self,
        current: ArrayLike = 0.5,
        rate: ArrayLike = 0.08,
        offset: ArrayLike = 0.7,
        damping: ArrayLike = 0.8,
        *,
        dtype: Any = None,
    ):
        caller = "FitzHughNagumo"
        self.current = _number(caller, "current", current, dtype)
        self.rate = _number(caller, "rate", rate, dtype)
        self.offset = _number(caller, "offset", offset, dtype)
        self.damping = _number(caller, "damping", damping, dtype)

    def __call__(
        self, t: Any, y: Float[Array, " 2"], args: PyTree = None
    ) -> Float[Array, " 2"]:
        v, w = y[0], y[1]
        fired = v - v**3 / 3 - w + self.current
        return jnp.stack([fired, self.rate * (v + self.offset - self.damping * w)])


class Duffing(ContinuousModel):
    """Duffing's oscillator,
    $\\ddot x = -\\delta\\dot x - \\alpha x - \\beta x^3 + \\gamma\\cos\\omega t$ with
    the state $(x, \\dot x)$ (Guckenheimer & Holmes 1983, section 2.2).

    **Arguments:** `damping`, `stiffness`, `cubic`, `amplitude`, `frequency`:
    $\\delta$, $\\alpha$, $\\beta$, $\\gamma$ and $\\omega$; by default 0.3, -1, 1, 0.5
    and 1.2, with which it is chaotic.
    """

    damping: Float[Array, ""]
    stiffness: Float[Array, ""]
    cubic: Float[Array, ""]
    amplitude: Float[Array, ""]
    frequency: Float[Array, ""]

    def __init__(
        self,
        damping: ArrayLike = 0.3,
        stiffness: ArrayLike = -1.0,
        cubic: ArrayLike = 1.0,
        amplitude: ArrayLike = 0.5,
        frequency: ArrayLike = 1.2,
        *,
        dtype: Any = None,
    ):
        self.damping = _number("Duffing", "damping", damping, dtype)
        self.stiffness = _number("Duffing", "stiffness", stiffness, dtype)
        self.cubic = _number("Duffing", "cubic", cubic, dtype)
        self.amplitude = _number("Duffing", "amplitude", amplitude, dtype)
        self.frequency = _number("Duffing", "frequency", frequency, dtype)

    def __call__(
        self, t: Any, y: Float[Array, " 2"], args: PyTree = None
    ) -> Float[Array, " 2"]:
        x, v = y[0], y[1]
        forced = self.amplitude * jnp.cos(self.frequency * t)
        back = -self.damping * v - self.stiffness * x - self.cubic * x**3
        return jnp.stack([v, back + forced])


class DoubleWell(StochasticModel):
    """Langevin motion in a double well, $dx = (x - x^3)\\,dt + \\sigma\\,dW$ in each
    component, of invariant density $\\propto e^{-2V/\\sigma^2}$ with
    $V = x^4/4 - x^2/2$ (Gardiner 2004, section 5.2).

    **Arguments:** `sigma`, a number.
    """

    sigma: Float[Array, ""]
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)

    def __init__(self, sigma: ArrayLike = 0.5, *, dtype: Any = None):
        self.sigma = _number("DoubleWell", "sigma", sigma, dtype)
        self.noise, self.interpretation = "additive", "ito"

    def potential(self, y: Float[Array, " n"]) -> Float[Array, ""]:
        """$V$, summed over the components."""
        return jnp.sum(y**4 / 4 - y**2 / 2)

    def drift(
        self, t: Any, y: Float[Array, " n"], args: PyTree = None
    ) -> Float[Array, " n"]:
        return y - y**3

    def diffusion(
        self, t: Any, y: Float[Array, " n"], args: PyTree = None
    ) -> Float[Array, " n"]:
        return self.sigma * jnp.ones_like(y)


class StochasticHopf(StochasticModel):
    """The normal form of Hopf's bifurcation with shear and noise,
    $dz = [(\\alpha + i\\beta)z - (a + ib)|z|^2z]\\,dt + \\sigma\\,(dW_1 + i\\,dW_2)$,
    with the state $(\\mathrm{Re}\\,z, \\mathrm{Im}\\,z)$ (DeVille, Sri Namachchivaya &
    Rapti 2011; Doan, Engel, Lamb & Rasmussen 2018).

    The sum of its two Lyapunov exponents does not depend on $b$; shear makes the top
    one positive.

    **Arguments:** `growth`, `rotation`, `saturation`, `shear` and `sigma`: $\\alpha$,
    $\\beta$, $a$, $b$ and $\\sigma$; all 1 by default.
    """

    growth: Float[Array, ""]
    rotation: Float[Array, ""]
    saturation: Float[Array, ""]
    shear: Float[Array, ""]
    sigma: Float[Array, ""]
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)

    def __init__(
        self,
        growth: ArrayLike = 1.0,
        rotation: ArrayLike = 1.0,
        saturation: ArrayLike = 1.0,
        shear: ArrayLike = 1.0,
        sigma: ArrayLike = 1.0,
        *,
        dtype: Any = None,
    ):
        caller = "StochasticHopf"
        self.growth = _number(caller, "growth", growth, dtype)
        self.rotation = _number(caller, "rotation", rotation, dtype)
        self.saturation = _number(caller, "saturation", saturation, dtype)
        self.shear = _number(caller, "shear", shear, dtype)
        self.sigma = _number(caller, "sigma", sigma, dtype)
        self.noise, self.interpretation = "additive", "ito"

    def drift(
        self, t: Any, y: Float[Array, " 2"], args: PyTree = None
    ) -> Float[Array, " 2"]:
        square = y[0] ** 2 + y[1] ** 2
        radial = self.growth - self.saturation * square
        turning = self.rotation - self.shear * square
        return jnp.stack(
            [radial * y[0] - turning * y[1], turning * y[0] + radial * y[1]]
        )

    def diffusion(
        self, t: Any, y: Float[Array, " 2"], args: PyTree = None
    ) -> Float[Array, " 2"]:
        return self.sigma * jnp.ones_like(y)
