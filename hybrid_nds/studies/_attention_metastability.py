"""How long clusters of tokens stay apart, and why that is stiff."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
from jaxtyping import Array, Float

from ..methods import PRECISE_SOLVERS
from ..models import Attention
from ..problems import Event, ODEProblem
from ..solving import solve
from ._attention_clustering import speed, tokens
from ._claim import Claim
from ._findings import Findings
from ._marks import mark
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Geshkovski, Koubbi, Polyanskiy & Rigollet 2024, Dynamic metastability in the "
    "self-attention model; Hairer & Wanner 1996, Solving Ordinary Differential "
    "Equations II"
)
METHODS = {
    "diffrax": {"explicit": "Tsit5", "implicit": "Kvaerno5"},
    "julia": {"explicit": "Tsit5", "implicit": "Rodas5P"},
}
MET = 0.9


@dataclasses.dataclass(frozen=True)
class Config:
    """Temperatures and starting cosines of two tokens; two arcs of four tokens."""

    inverse_temperatures: tuple[float, ...] = (4.0, 6.0, 8.0, 10.0, 12.0)
    cosines: tuple[float, ...] = (0.0, 0.3)
    stiff_temperature: float = 8.0
    apart: float = 2 * np.pi / 3
    half_width: float = 0.3
    horizon: float = 4000.0


def met(t: Any, y: Float[Array, "2 2"], model: Attention) -> Float[Array, ""]:
    """Zero where the cosine of two tokens has risen to 0.9."""
    return y[0] @ y[1] - MET


def meeting_time(beta: float, start: float) -> float:
    """When two tokens have come to the cosine 0.9, by quadrature."""

    def slowness(cosine: float) -> float:
        return 1 / speed("SA", beta, 2, cosine)

    return scipy.integrate.quad(slowness, start, MET, epsabs=0.0, epsrel=1e-11)[0]


@study(
    title="Metastability of attention, and its stiffness",
    direction="continuous models",
    source=_SOURCE,
    quick=Config(inverse_temperatures=(6.0, 8.0), cosines=(0.0,), horizon=2000.0),
    paper=Config(
        inverse_temperatures=(4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0),
        cosines=(0.0, 0.2, 0.4, 0.6),
        horizon=50_000.0,
    ),
)
def attention_metastability(config: Config, backend: str, sweep: Sweep) -> Findings:
    """How long do clusters of tokens look as if they would stay?

    Two tokens with the cosine \\(\\gamma_0\\) meet after a time \\(T\\) that grows
    exponentially with \\(\\beta\\), \\(d\\log T/d\\beta \\to 1 - \\gamma_0\\): by
    Laplace's method \\(\\beta T\\) has that slope but for \\(O(\\beta^{-2})\\). The
    time to come to \\(\\gamma = 0.9\\) is found as an event and compared with a
    quadrature.

    Eight tokens in two arcs collapse to two clusters at a rate of order one, and then
    hardly move for a long time: explicit solvers must follow the fast rate to the end.
    At \\(\\beta = 8\\) they evaluate the field ten times as often as implicit ones or
    more, Jacobians counted as evaluations.
    """
    betas = np.array(config.inverse_temperatures)
    pairs = [(b, c) for c in config.cosines for b in config.inverse_temperatures]
    shape = len(config.cosines), len(betas)
    met_at = sweep(_meeting, [(*pair, backend) for pair in pairs])
    times = np.array(met_at).reshape(shape)
    theory = np.array([meeting_time(*pair) for pair in pairs]).reshape(shape)
    slopes = np.diff(np.log(betas * times), axis=1)[:, -1] / (betas[-1] - betas[-2])
    off = np.abs(slopes - (1 - np.array(config.cosines)))
    arcs = (config.half_width, config.apart)
    given = (*arcs, config.stiff_temperature, config.horizon, backend)
    methods = [METHODS[backend][kind] for kind in ("explicit", "implicit")]
    explicit, implicit = sweep(_evaluations, [(name, *given) for name in methods])
    return Findings(
        claims=(
            Claim(
                "two tokens meet when the quadrature says, largest relative distance",
                expected=0.0,
                source="Geshkovski et al. 2025, the equation of two tokens",
                measured=float(np.max(np.abs(times / theory - 1))),
                tolerance=1e-6,
                reason="tolerances of 1e-11 a step, growing by the unstable rate",
            ),
            Claim(
                "log(βT) grows with β at the rate 1 − γ₀, largest distance",
                expected=0.0,
                source="Geshkovski et al. 2024, with Laplace's method",
                measured=float(off.max()),
                tolerance=float(4 / betas[-2] ** 2),
                reason="the next term of Laplace's method, below 4/β²",
            ),
            Claim(
                "explicit evaluations of the field over implicit ones",
                expected=10.0,
                source="Hairer & Wanner 1996, section IV.1: stability rules the steps",
                measured=explicit / implicit,
                tolerance=0.0,
                reason="a bound",
                relation="≥",
            ),
        ),
        data={
            "beta": betas,
            "times": times,
            "evaluations": np.array([explicit, implicit]),
        },
    )


def _meeting(point: tuple[float, float, str]) -> float:
    """When two tokens meet, as an event."""
    beta, cosine, backend = point
    sine = float(np.sqrt(1 - cosine**2))
    problem = ODEProblem(
        tokens,
        jnp.array([[1.0, 0.0], [cosine, sine]]),
        0.0,
        2 * meeting_time(beta, cosine),
        args=Attention(2, beta, dtype=float),
    )
    found = solve(
        problem,
        backend,
        solver=PRECISE_SOLVERS[backend],
        rtol=1e-11,
        atol=1e-13,
        event=Event(met),
        # Stability rules the steps of this method, over exponentially long times.
        max_steps=1_000_000,
    )
    return float(found.ts[-1])


def _evaluations(point: tuple[str, float, float, float, float, str]) -> int:
    """How often a method evaluates the field of eight tokens, or its Jacobian."""
    solver, half_width, apart, beta, horizon, backend = point
    arc = half_width * np.linspace(-1.0, 1.0, 4)
    angles = np.concatenate([arc, apart + arc])
    start = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    model = Attention(2, beta, dtype=float)
    seen = [0]

    def count() -> None:
        seen[0] += 1

    def counted(t: Any, y: Array, args: Attention) -> Array:
        jax.debug.callback(count)
        return tokens(t, y, args)

    field = tokens if backend == "julia" else counted
    problem = ODEProblem(field, start, 0.0, horizon, args=model)
    found = solve(
        problem, backend, solver=solver, rtol=1e-6, atol=1e-9, max_steps=1_000_000
    )
    if backend == "julia":
        names = ("num_field_evaluations", "num_jacobian_evaluations")
        return sum(int(found.stats[name]) for name in names)
    jax.block_until_ready(found.ys)
    jax.effects_barrier()
    return seen[0]


@attention_metastability.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Meeting times over β, and evaluations of both kinds of solvers."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    low, high = min(config.inverse_temperatures), max(config.inverse_temperatures)
    many = np.linspace(low, high, 60)
    for number, cosine in enumerate(config.cosines):
        colour = f"C{number}"
        curve = [meeting_time(beta, cosine) for beta in many]
        label = f"quadrature, $\\gamma_0 = {cosine:g}$"
        left.semilogy(many, curve, color=colour, label=label)
        for backend, found in findings.items():
            left.semilogy(
                found.data["beta"],
                found.data["times"][number],
                color=colour,
                label=backend if number == 0 else None,
                **mark(backend),
            )
    names = []
    for position, (backend, found) in enumerate(findings.items()):
        for number, value in enumerate(found.data["evaluations"]):
            right.bar(2 * position + number, value, color=f"C{number + 2}")
        names += [f"{solver}\n({backend})" for solver in METHODS[backend].values()]
    right.set_yscale("log")
    right.set_xticks(range(len(names)), names)
    right.set_ylabel("evaluations, eight tokens in two arcs")
    left.set_xlabel("$\\beta$")
    left.set_ylabel("time to meet")
    left.legend(fontsize=7)
