"""A damped oscillator whose frequency is noisy, and when that makes it grow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.integrate
import scipy.optimize
from jaxtyping import Array, Float

from ..problems import SDEProblem
from ..stability import lyapunov_spectrum, mean_square_abscissa
from ._claim import Claim
from ._findings import Findings
from ._levels import LEVEL
from ._marks import mark
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Imkeller & Lederer 2001, Some formulas for Lyapunov exponents and rotation "
    "numbers in two dimensions; Mallick & Marcq 2003, Stability analysis of a "
    "noise-induced Hopf bifurcation; Khasminskii 2012, section 6.8"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The oscillator, strengths of its noise, and the size of the sample."""

    frequency: float = 1.0
    damping: float = 0.5
    noises: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)
    step: float = 1 / 128
    time: float = 100.0
    chains: int = 64
    seed: int = 0


def drift(t: Any, y: Float[Array, " 2"], args: Any) -> Float[Array, " 2"]:
    """$(v, -\\omega_0^2x - \\gamma v)$."""
    frequency, damping, _ = args
    return jnp.stack([y[1], -(frequency**2) * y[0] - damping * y[1]])


def diffusion(t: Any, y: Float[Array, " 2"], args: Any) -> Float[Array, " 2"]:
    """$(0, \\sigma x)$."""
    return jnp.stack([jnp.zeros_like(y[0]), args[2] * y[0]])


def oscillator(
    frequency: float, damping: float, noise: float, end: float = 1.0
) -> SDEProblem:
    """The problem at rest, where tangent vectors are solutions themselves.

    Both interpretations are one: the diffusion does not depend on the component that
    it drives. Stratonovich's allows Heun's method, which does not feed oscillations.
    """
    args = tuple(jnp.asarray(number) for number in (frequency, damping, noise))
    return SDEProblem(
        drift,
        diffusion,
        jnp.zeros(2),
        0.0,
        end,
        args=args,
        noise="scalar",
        interpretation="stratonovich",
    )


def exponent(frequency: float, damping: float, noise: float) -> float:
    """The top Lyapunov exponent, by quadrature.

    $-\\tfrac{\\gamma}{2} + \\tfrac12\\int_0^\\infty\\sqrt u\\,w\\,du\\,/
    \\int_0^\\infty u^{-1/2}w\\,du$ with
    $w = \\exp(-\\tfrac{2}{\\sigma^2}(au + \\tfrac{u^3}{12}))$ and
    $a = \\omega_0^2 - \\gamma^2/4$ (Imkeller & Lederer 2001, theorem 2).
    """
    a = frequency**2 - damping**2 / 4

    # With u = q² neither integrand is singular.
    def weight(q: float, power: int) -> float:
        return q**power * math.exp(-2 / noise**2 * (a * q**2 + q**6 / 12))

    top, bottom = (
        scipy.integrate.quad(weight, 0, math.inf, args=(power,), epsrel=1e-10)[0]
        for power in (2, 0)
    )
    return -damping / 2 + 0.5 * top / bottom


@study(
    title="An oscillator destabilised by noise",
    direction="algorithms",
    source=_SOURCE,
    quick=Config(noises=(1.0, 3.0), step=1 / 64, time=20.0, chains=32),
    paper=Config(
        noises=tuple(k / 4 for k in range(1, 17)), step=1 / 512, time=400.0, chains=512
    ),
)
def noise_destabilised_oscillator(
    config: Config, backend: Any, sweep: Sweep
) -> Findings:
    """How much noise does a damped oscillator bear?

    Where the frequency of \\(dx = v\\,dt\\), \\(dv = (-\\omega_0^2x - \\gamma
    v)\\,dt + \\sigma x\\,dW\\) is noisy the energy fed in competes with damping.
    The top Lyapunov exponent is
    \\[ \\lambda = -\\frac\\gamma2 + \\frac12\\frac{\\int_0^\\infty\\sqrt u\\,w(u)\\,du}
    {\\int_0^\\infty u^{-1/2}w(u)\\,du}, \\qquad
    w = e^{-\\frac{2}{\\sigma^2}\\left(au + \\frac{u^3}{12}\\right)}, \\]
    with \\(a = \\omega_0^2 - \\gamma^2/4\\). Mean squares grow from
    \\(\\sigma^2 = 2\\gamma\\omega_0^2\\) on, long before almost all paths do.
    """
    system = (config.frequency, config.damping)
    level = 1 - LEVEL / len(config.noises)
    sample = (config.step, config.time, config.chains, level)
    tops = sweep(
        _top,
        [
            (*system, noise, *sample, number, config.seed, backend)
            for number, noise in enumerate(config.noises)
        ],
    )
    measured, error, low, high = np.array(tops).T
    theory = np.array([exponent(*system, noise) for noise in config.noises])
    outside = np.maximum(low - theory, theory - high)
    worst = int(np.argmax(outside))

    def abscissa(square: float) -> float:
        return mean_square_abscissa(oscillator(*system, math.sqrt(square))).value

    threshold = 2 * config.damping * config.frequency**2
    bracket = (threshold / 50, 50 * threshold)
    root = scipy.optimize.root_scalar(abscissa, bracket=bracket, xtol=1e-12).root
    # Heun's weak error is of the first order with the square of the noise.
    bias = config.step * max(config.noises) ** 2 / 4
    return Findings(
        claims=(
            Claim(
                "exponents are those of the formula, the most one is outside of its "
                "interval",
                expected=0.0,
                source="Imkeller & Lederer 2001, theorem 2, by quadrature",
                measured=float(outside[worst]),
                error=float(error[worst]),
                tolerance=bias,
                reason="Student's intervals together; the weak error of a step of "
                "length h, σ²h/4",
                relation="≤",
                level=LEVEL,
            ),
            Claim(
                "mean squares grow from this σ² on",
                expected=threshold,
                source="Khasminskii 2012: 2γω₀², by the Routh–Hurwitz criterion",
                measured=float(root),
                tolerance=1e-8,
                reason="eigenvalues of a matrix of three rows, whose real part is "
                "simple at the root",
            ),
        ),
        data={
            "noise": np.array(config.noises),
            "measured": measured,
            "error": error,
            "threshold": root,
        },
    )


def _top(
    point: tuple[float, float, float, float, float, int, float, int, int, Any],
) -> Float[np.ndarray, " 4"]:
    """The top exponent, its error, and the ends of its interval."""
    frequency, damping, noise, step, time, chains, level, number, seed, backend = point
    found = lyapunov_spectrum(
        oscillator(frequency, damping, noise, time),
        exponents=1,
        backend=backend,
        solver="Heun",
        dt=step,
        key=jr.fold_in(jr.key(seed), number),
        chains=chains,
        level=level,
    )
    parts = (found.exponents, found.standard_errors, found.low, found.high)
    return np.concatenate(parts)


@noise_destabilised_oscillator.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Both rates of growth over the strength of the noise."""
    axes = figure.subplots()
    many = np.linspace(0.1, 1.05 * max(config.noises), 80)
    system = (config.frequency, config.damping)
    theory = [exponent(*system, noise) for noise in many]
    axes.plot(many, theory, "k-", label="top exponent, theory")
    squares = [mean_square_abscissa(oscillator(*system, s)).value / 2 for s in many]
    axes.plot(many, squares, "C1--", label="half the rate of mean squares")
    for backend, found in findings.items():
        axes.errorbar(
            found.data["noise"],
            found.data["measured"],
            yerr=found.data["error"],
            color="C0",
            label=f"top exponent ({backend})",
            **mark(backend),
        )
    axes.axhline(0.0, color="k", linewidth=0.5)
    threshold = math.sqrt(2 * config.damping) * config.frequency
    axes.axvline(
        threshold, color="C1", linestyle=":", label="$\\sqrt{2\\gamma}\\omega_0$"
    )
    axes.set_xlabel("strength of the noise $\\sigma$")
    axes.set_ylabel("rate of growth")
    axes.legend(fontsize=7)
