"""Tokens that attend to one another on the sphere, and how fast they cluster."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.integrate
from jaxtyping import Array, Float

from ..models import Attention, CircleAttention
from ..problem import ODEProblem
from ._claim import Claim
from ._findings import Findings
from ._marks import mark
from ._precise import precise_end, precise_states
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Geshkovski, Letrouit, Polyanskiy & Rigollet 2025, A mathematical perspective on "
    "transformers, equations SA and USA, section 6; Cowsik, Nebabu, Qi & Ganguli 2024"
)
NORMALIZATIONS: dict[str, Literal["softmax", "mean"]] = {"SA": "softmax", "USA": "mean"}
NEAR = (1e-5, 1e-7)
"""Distances of cosines from one between which the tail's rate is measured."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Tokens, temperatures, and random starts for the energy."""

    tokens: int = 8
    inverse_temperatures: tuple[float, ...] = (0.0, 1.0, 3.0)
    cosines: tuple[float, ...] = tuple(k / 20 for k in range(1, 20))
    starts: int = 4
    splay: tuple[float, ...] = (-1.2, -0.8, -0.5, 0.0)
    seed: int = 0


def tokens(t: Any, y: Float[Array, "n d"], model: Attention) -> Float[Array, "n d"]:
    """Self-attention on the sphere."""
    return model(t, y)


def circle(t: Any, y: Float[Array, " n"], model: CircleAttention) -> Float[Array, " n"]:
    """Unnormalized attention on the circle without its noise."""
    return model.drift(t, y)


def speed(kind: str, beta: float, n: int, cosine: float) -> float:
    """$\\dot\\gamma$ for tokens that start orthonormal, all of one cosine $\\gamma$.

    $2e^{\\beta\\gamma}(1-\\gamma)((n-1)\\gamma+1)$, over $e^\\beta +
    (n-1)e^{\\beta\\gamma}$ with softmax, over $n$ without.
    """
    raised = math.exp(beta * cosine)
    among = math.exp(beta) + (n - 1) * raised if kind == "SA" else n
    return 2 * raised * (1 - cosine) * ((n - 1) * cosine + 1) / among


def arrival(kind: str, beta: float, n: int, cosine: float) -> float:
    """When the cosine has risen from zero to a value, by quadrature."""

    # Over the logarithm of 1 - γ the integrand is smooth up to the end.
    def slowness(s: float) -> float:
        left = math.exp(-s)
        return left / speed(kind, beta, n, 1 - left)

    end = -math.log1p(-cosine)
    return scipy.integrate.quad(slowness, 0.0, end, epsabs=1e-11, epsrel=1e-11)[0]


def splay_rate(beta: float) -> float:
    """The rate at which three tokens leave the corners of a triangle on the circle.

    $-f'(2\\pi/3)$ for $f(\\varphi) = e^{\\beta\\cos\\varphi}\\sin\\varphi$:
    $e^{-\\beta/2}(\\tfrac12 + \\tfrac34\\beta)$.
    """
    return math.exp(-beta / 2) * (0.5 + 0.75 * beta)


@study(
    title="Clustering of tokens under self-attention",
    direction="continuous models",
    source=_SOURCE,
    quick=Config(
        inverse_temperatures=(1.0,),
        cosines=(0.25, 0.5, 0.75),
        starts=2,
        splay=(-0.9, -0.4),
    ),
    paper=Config(tokens=64, inverse_temperatures=(0.0, 0.5, 1.0, 2.0, 4.0), starts=16),
)
def attention_clustering(config: Config, backend: str, sweep: Sweep) -> Findings:
    """How fast do the tokens of a transformer become one?

    Tokens that start orthonormal stay at one cosine \\(\\gamma\\) with each other,
    which rises as
    \\[ \\dot\\gamma = \\frac{2e^{\\beta\\gamma}(1-\\gamma)((n-1)\\gamma+1)}
    {e^\\beta+(n-1)e^{\\beta\\gamma}} \\]
    under softmax attention (SA), and with \\(n\\) for a denominator without softmax
    (USA): in the end \\(1-\\gamma\\) falls at the rate 2, or \\(2e^\\beta\\). All
    tokens are solved for; the times at which their cosines must have risen to given
    values are quadratures. From any start the interaction energy rises; for
    \\(\\beta < -\\tfrac23\\) alone do three tokens stay apart, at the corners of a
    triangle.
    """
    n = config.tokens
    found, wanted, rates, slack = {}, np.array(config.cosines), [], []
    worst = 0.0
    for kind, normalization in NORMALIZATIONS.items():
        for beta in config.inverse_temperatures:
            model = Attention(n, beta, normalization=normalization, dtype=float)
            times = [arrival(kind, beta, n, cosine) for cosine in config.cosines]
            tail = [arrival(kind, beta, n, 1 - near) for near in NEAR]
            problem = ODEProblem(tokens, jnp.eye(n), 0.0, tail[-1], args=model)
            states = precise_states(problem, backend, np.array([0.0, *times, *tail]))
            apart = states[:, :, None] - states[:, None]
            # Half the square of a chord is 1 - γ, without cancellation.
            gaps = np.sum(apart**2, axis=-1)[:, *np.triu_indices(n, 1)] / 2
            worst = max(worst, float(np.max(np.abs(1 - gaps[1:-2] - wanted[:, None]))))
            first, last = gaps[-2:].mean(axis=1)
            limit = 2.0 if kind == "SA" else 2 * math.exp(beta)
            rates.append(math.log(first / last) / (tail[1] - tail[0]) / limit)
            near = speed(kind, beta, n, 1 - NEAR[0]) / NEAR[0]
            slack.append(abs(near / limit - 1))
            found[f"{kind} {beta:g}"] = np.stack([times, 1 - gaps[1:-2].mean(axis=1)])
    off = int(np.argmax(np.abs(np.array(rates) - 1)))
    fall = max(
        _fall(config, backend, normalization, key)
        for normalization in NORMALIZATIONS.values()
        for key in jr.split(jr.key(config.seed), config.starts)
    )
    measured = np.array([_leaving(backend, beta) for beta in config.splay])
    theory = np.array([splay_rate(beta) for beta in config.splay])
    # Without its exponential factor the rate is a line in β.
    line = np.polyfit(config.splay, measured * np.exp(np.array(config.splay) / 2), 1)
    return Findings(
        claims=(
            Claim(
                "cosines of all tokens rise as the reduced equation says, largest "
                "distance",
                expected=0.0,
                source="Geshkovski et al. 2025, theorem 6.9, as a quadrature",
                measured=worst,
                tolerance=1e-6,
                reason="tolerances of 1e-12 a step, growing over the transient",
            ),
            Claim(
                "tails fall at the rate 2 (SA) and 2 exp(β) (USA), worst ratio",
                expected=1.0,
                source="the reduced equation at γ = 1",
                measured=rates[off],
                tolerance=max(slack) + 1e-6,
                reason="the rate at 1 − γ = 1e-5 by the reduced equation, and "
                "tolerances of 1e-12 beside chords of 1e-4",
            ),
            Claim(
                "the interaction energy never falls, the largest fall",
                expected=0.0,
                source="Geshkovski et al. 2025, section 3.4: a gradient flow",
                measured=fall,
                tolerance=1e-10,
                reason="tolerances of 1e-12 a step beside energies of order one",
                relation="≤",
            ),
            Claim(
                "three tokens leave a triangle at the rate of its linearization",
                expected=0.0,
                source="−f′(2π/3) = exp(−β/2)(1/2 + 3β/4)",
                measured=float(np.max(np.abs(measured - theory))),
                tolerance=1e-4,
                reason="a start 1e-5 away, so that terms of the second order are 1e-5",
            ),
            Claim(
                "the triangle is stable below this β",
                expected=-2 / 3,
                source="the zero of its rate",
                measured=float(-line[1] / line[0]),
                tolerance=2e-4,
                reason="the tolerance of the rates over the slope 3/4 of the line",
            ),
        ),
        data={"splay": np.array(config.splay), "rates": measured, **found},
    )


def _fall(config: Config, backend: str, normalization: Any, key: Any) -> float:
    """The largest fall of the energy between two times, from a random start."""
    model = Attention(3, 2.0, normalization=normalization, dtype=float)
    start = jr.normal(key, (2 * config.tokens, 3), float)
    start = start / jnp.linalg.norm(start, axis=1, keepdims=True)
    problem = ODEProblem(tokens, start, 0.0, 8.0, args=model)
    states = precise_states(problem, backend, np.linspace(0.0, 8.0, 81))
    energies = np.asarray(jax.vmap(model.energy)(jnp.asarray(states)))
    return float(np.max(-np.diff(energies)))


def _leaving(backend: str, beta: float) -> float:
    """The rate at which a small distance from the triangle grows, per unit of time."""
    corners = np.array([0.0, 2 * np.pi / 3, 4 * np.pi / 3])
    off = 1e-5 * np.array([1.0, -0.5, -0.5])
    model = CircleAttention(1.0, beta, dtype=float)
    problem = ODEProblem(circle, jnp.asarray(corners + off), 0.0, 1.0, args=model)
    left = precise_end(problem, backend) - corners
    # Turning all tokens alike is no distance.
    left = left - left.mean()
    return math.log(np.linalg.norm(left) / np.linalg.norm(off))


@attention_clustering.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Cosines over time, and the rate at which the triangle is left."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    n = config.tokens
    cosines = 1 - np.geomspace(1.0, 1e-3, 120)
    for row, kind in enumerate(NORMALIZATIONS):
        for number, beta in enumerate(config.inverse_temperatures):
            times = [arrival(kind, beta, n, c) for c in cosines]
            colour = f"C{number + row * len(config.inverse_temperatures)}"
            left.plot(
                times, cosines, color=colour, label=f"{kind}, $\\beta = {beta:g}$"
            )
            for backend, found in findings.items():
                at, values = found.data[f"{kind} {beta:g}"]
                left.plot(at, values, color=colour, **mark(backend))
    many = np.linspace(min(config.splay) - 0.1, max(config.splay) + 0.1, 100)
    theory = [splay_rate(beta) for beta in many]
    right.plot(many, theory, "k-", label="linearization")
    for backend, found in findings.items():
        at, values = found.data["splay"], found.data["rates"]
        right.plot(at, values, color="C3", label=backend, **mark(backend))
    right.axvline(-2 / 3, color="k", linestyle=":", label="$\\beta = -2/3$")
    right.axhline(0.0, color="k", linewidth=0.5)
    left.set_xlabel("time")
    left.set_ylabel("cosine $\\gamma$ between tokens")
    right.set_xlabel("$\\beta$")
    right.set_ylabel("rate of leaving the triangle")
    for axes in (left, right):
        axes.legend(fontsize=7)
