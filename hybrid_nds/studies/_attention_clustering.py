"""Tokens that attend to one another on the sphere, and how fast they cluster."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.integrate
from jaxtyping import Array, Float, PRNGKeyArray

from ..ensembles import Moments, ensemble
from ..models import Attention, CircleAttention
from ..problems import ODEProblem
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
CLUSTERED = 1e-3
"""How close to one all cosines are where tokens count as one cluster."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Tokens, temperatures, random starts for the energy, and for the diagram."""

    tokens: int = 8
    inverse_temperatures: tuple[float, ...] = (0.0, 1.0, 3.0)
    cosines: tuple[float, ...] = tuple(k / 20 for k in range(1, 20))
    starts: int = 4
    splay: tuple[float, ...] = (-1.2, -0.8, -0.5, 0.0)
    diagram_temperatures: tuple[float, ...] = tuple(k / 2 for k in range(13))
    diagram_starts: int = 16
    dimension: int = 64
    end: float = 20.0
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


def clustered(y: Float[Array, "n d"]) -> Float[Array, ""]:
    """One where all tokens are one cluster, zero elsewhere."""
    return jnp.all(y @ y.T >= 1 - CLUSTERED).astype(y.dtype)


def anywhere(key: PRNGKeyArray, n: int, d: int) -> Float[Array, "n d"]:
    """Tokens that are independent and uniform on the sphere."""
    drawn = jr.normal(key, (n, d), float)
    return drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)


@study(
    title="Clustering of tokens under self-attention",
    direction="continuous models",
    source=_SOURCE,
    quick=Config(
        inverse_temperatures=(1.0,),
        cosines=(0.25, 0.5, 0.75),
        starts=2,
        splay=(-0.9, -0.4),
        diagram_temperatures=(0.0, 3.0),
        diagram_starts=4,
        dimension=16,
    ),
    paper=Config(
        tokens=32,
        inverse_temperatures=(0.0, 0.5, 1.0, 2.0, 4.0),
        starts=16,
        diagram_temperatures=tuple(k / 4 for k in range(37)),
        diagram_starts=256,
        dimension=128,
        end=30.0,
    ),
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

    Random tokens in many dimensions are nearly orthonormal, and cluster when these do:
    the share of random starts whose cosines are all above 0.999 is drawn over time and
    \\(\\beta\\), with the time of orthonormal ones.
    """
    points = [
        (kind, beta, config.tokens, config.cosines, backend)
        for kind in NORMALIZATIONS
        for beta in config.inverse_temperatures
    ]
    rises = sweep(_rise, points)
    rates = np.array([rise["rate"] for rise in rises])
    off = int(np.argmax(np.abs(rates - 1)))
    falls = sweep(
        _fall,
        [
            (kind, 2 * config.tokens, config.seed, number, backend)
            for kind in NORMALIZATIONS
            for number in range(config.starts)
        ],
    )
    measured = np.array(sweep(_leaving, [(beta, backend) for beta in config.splay]))
    theory = np.array([splay_rate(beta) for beta in config.splay])
    times = tuple(np.linspace(0.0, config.end, 81).tolist())
    size = (config.tokens, config.dimension, config.diagram_starts)
    diagram = sweep(
        _clustering,
        [
            (beta, *size, times, config.seed, number, backend)
            for number, beta in enumerate(config.diagram_temperatures)
        ],
    )
    # Without its exponential factor the rate is a line in β.
    line = np.polyfit(config.splay, measured * np.exp(np.array(config.splay) / 2), 1)
    return Findings(
        claims=(
            Claim(
                "cosines of all tokens rise as the reduced equation says, largest "
                "distance",
                expected=0.0,
                source="Geshkovski et al. 2025, theorem 6.9, as a quadrature",
                measured=max(rise["off"] for rise in rises),
                tolerance=1e-6,
                reason="tolerances of 1e-12 a step, growing over the transient",
            ),
            Claim(
                "tails fall at the rate 2 (SA) and 2 exp(β) (USA), worst ratio",
                expected=1.0,
                source="the reduced equation at γ = 1",
                measured=rates[off],
                tolerance=float(max(rise["slack"] for rise in rises)) + 1e-6,
                reason="the rate at 1 − γ = 1e-5 by the reduced equation, and "
                "tolerances of 1e-12 beside chords of 1e-4",
            ),
            Claim(
                "the interaction energy never falls, the largest fall",
                expected=0.0,
                source="Geshkovski et al. 2025, section 3.4: a gradient flow",
                measured=max(falls),
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
            Claim(
                "in as many dimensions all random starts end in one cluster, their "
                "share at the least β",
                expected=1.0,
                source="Geshkovski et al. 2025, theorem 6.3",
                measured=diagram[int(np.argmin(config.diagram_temperatures))][-1],
                tolerance=0.0,
                reason="almost surely, in the long run",
            ),
        ),
        data={
            "diagram": np.stack(diagram),
            "diagram_times": np.array(times),
            "splay": np.array(config.splay),
            "rates": measured,
            **{
                f"{kind} {beta:g}": np.stack([rise["times"], rise["cosines"]])
                for (kind, beta, *_), rise in zip(points, rises, strict=True)
            },
        },
    )


def _rise(point: tuple[str, float, int, tuple[float, ...], str]) -> dict[str, Any]:
    """Cosines when they should be given ones, and the tail's rate over its limit."""
    kind, beta, n, cosines, backend = point
    model = Attention(n, beta, normalization=NORMALIZATIONS[kind], dtype=float)
    times = [arrival(kind, beta, n, cosine) for cosine in cosines]
    tail = [arrival(kind, beta, n, 1 - near) for near in NEAR]
    problem = ODEProblem(tokens, jnp.eye(n), 0.0, tail[-1], args=model)
    states = precise_states(problem, backend, np.array([0.0, *times, *tail]))
    apart = states[:, :, None] - states[:, None]
    # Half the square of a chord is 1 - γ, without cancellation.
    gaps = np.sum(apart**2, axis=-1)[:, *np.triu_indices(n, 1)] / 2
    risen = 1 - gaps[1:-2]
    first, last = gaps[-2:].mean(axis=1)
    limit = 2.0 if kind == "SA" else 2 * math.exp(beta)
    near = speed(kind, beta, n, 1 - NEAR[0]) / NEAR[0]
    return {
        "times": times,
        "cosines": risen.mean(axis=1),
        "off": np.max(np.abs(risen - np.array(cosines)[:, None])),
        "rate": math.log(first / last) / (tail[1] - tail[0]) / limit,
        "slack": abs(near / limit - 1),
    }


def _fall(point: tuple[str, int, int, int, str]) -> float:
    """The largest fall of the energy between two times, from a random start."""
    kind, n, seed, number, backend = point
    model = Attention(3, 2.0, normalization=NORMALIZATIONS[kind], dtype=float)
    start = anywhere(jr.fold_in(jr.key(seed), number), n, 3)
    problem = ODEProblem(tokens, start, 0.0, 8.0, args=model)
    states = precise_states(problem, backend, np.linspace(0.0, 8.0, 81))
    energies = np.asarray(jax.vmap(model.energy)(jnp.asarray(states)))
    return float(np.max(-np.diff(energies)))


def _clustering(
    point: tuple[float, int, int, int, tuple[float, ...], int, int, str],
) -> Float[np.ndarray, " times"]:
    """The share of random starts that are one cluster at each time."""
    beta, n, d, starts, times, seed, number, backend = point
    model = Attention(d, beta, dtype=float)
    found = ensemble(
        ODEProblem(tokens, jnp.eye(n, d), 0.0, times[-1], args=model),
        starts,
        key=jr.fold_in(jr.key(seed), number),
        backend=backend,
        solver="Tsit5",
        rtol=1e-6,
        atol=1e-8,
        saveat=np.array(times),
        initial=functools.partial(anywhere, n=n, d=d),
        reduce=Moments(of=clustered),
    ).reduced
    return np.ravel(found.mean)


def _leaving(point: tuple[float, str]) -> float:
    """The rate at which a small distance from the triangle grows, per unit of time."""
    beta, backend = point
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
    """Cosines over time, clusters over time and β, rates of leaving the triangle."""
    figure.set_size_inches(12.0, 3.8)
    left, middle, right = figure.subplots(1, 3)
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
    betas = np.array(config.diagram_temperatures)
    data = next(iter(findings.values())).data
    image = middle.pcolormesh(
        data["diagram_times"], betas, data["diagram"], vmin=0, vmax=1, rasterized=True
    )
    figure.colorbar(image, ax=middle, label="share of random starts in one cluster")
    for (backend, found), line in zip(findings.items(), (":", "--"), strict=False):
        at = np.argmax(found.data["diagram"] >= 0.5, axis=1)
        met = found.data["diagram"][:, -1] >= 0.5
        half = found.data["diagram_times"][at]
        label = f"half of them ({backend})"
        middle.plot(half[met], betas[met], "w", linestyle=line, label=label)
    finer = np.linspace(betas.min(), betas.max(), 60)
    alone = [arrival("SA", beta, n, 1 - CLUSTERED) for beta in finer]
    middle.plot(alone, finer, "C3", label="orthonormal start")
    middle.set(xlim=(0.0, config.end), xlabel="time", ylabel="$\\beta$")
    left.set_xlabel("time")
    left.set_ylabel("cosine $\\gamma$ between tokens")
    right.set_xlabel("$\\beta$")
    right.set_ylabel("rate of leaving the triangle")
    for axes in (left, right):
        axes.legend(fontsize=7)
    middle.legend(fontsize=7, facecolor="0.4", labelcolor="w", framealpha=0.7)
