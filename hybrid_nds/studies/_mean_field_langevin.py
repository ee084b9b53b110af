"""A wide network in noisy training: what a finite width costs, how fast it learns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..ensembles import Moments, ensemble
from ..models import MeanFieldLangevin, linear_unit
from ..problems import SDEProblem
from ..solving import solve
from ._claim import Claim
from ._findings import Findings
from ._levels import LEVEL, normal_quantile, slope_error
from ._marks import mark
from ._schemes import EULER
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Chizat 2022, Mean-field Langevin dynamics: exponential convergence and annealing; "
    "Suzuki, Wu & Nitanda 2023, Convergence of mean-field Langevin dynamics"
)
INPUT, TARGET = 1.0, 2.0


@dataclasses.dataclass(frozen=True)
class Config:
    """Decay, temperature, numbers of particles, and the sizes of the samples."""

    decay: float = 0.5
    temperature: float = 0.2
    particles: tuple[int, ...] = (2, 4, 8, 16, 32)
    networks: int = 4000
    many: int = 4000
    step: float = 1 / 32
    settled: float = 3.0
    seed: int = 0


def training(
    decay: float, temperature: float, start: Float[Array, "n one"], end: float
) -> SDEProblem:
    """The training of a linear network on one example."""
    model = MeanFieldLangevin(
        jnp.array([[INPUT]]),
        jnp.array([TARGET]),
        unit=linear_unit,
        decay=decay,
        temperature=temperature,
    )
    return model.problem(start, 0.0, end)


def mean_at_rest(decay: float) -> float:
    """The mean that particles settle about, $ay/(\\alpha + a^2)$."""
    return INPUT * TARGET / (decay + INPUT**2)


def output(y: Float[Array, "n one"]) -> Float[Array, ""]:
    """$a\\bar x$."""
    return INPUT * jnp.mean(y)


def free_energy(mean: Any, variance: Any, decay: float, temperature: float) -> Any:
    """$F + \\tau\\int\\mu\\log\\mu$ of a Gaussian distribution."""
    fit = 0.5 * (INPUT * mean - TARGET) ** 2
    entropy = 0.5 * np.log(2 * math.pi * math.e * variance)
    return fit + decay / 2 * (mean**2 + variance) - temperature * entropy


@study(
    title="Mean-field Langevin training",
    direction="continuous models",
    source=_SOURCE,
    quick=Config(particles=(2, 4, 8), networks=1000, many=1000),
    paper=Config(
        particles=(2, 4, 8, 16, 32, 64, 128, 256),
        networks=100_000,
        many=100_000,
        step=1 / 128,
    ),
)
def mean_field_langevin(config: Config, backend: Any, sweep: Sweep) -> Findings:
    """What does a network lose by being of finite width?

    With \\(F = \\tfrac12(a\\,E x - y)^2 + \\tfrac\\alpha2E|x|^2\\) and noise
    \\(\\sqrt{2\\tau}\\), \\(N\\) particles settle at a risk that is above that of the
    mean-field limit by
    \\[ \\frac{a^2\\tau}{2N(\\alpha + a^2)} , \\]
    for their mean is an Ornstein–Uhlenbeck process. The free energy
    \\(F + \\tau\\int\\mu\\log\\mu\\) of the limit falls to its least value as
    \\(e^{-2\\alpha t}\\) or faster; it is taken from mean and variance of many
    particles, which stay Gaussian.
    """
    alpha, tau, h = config.decay, config.temperature, config.step
    pull = alpha + INPUT**2
    rest = mean_at_rest(alpha)
    given = (alpha, tau, h, config.settled)
    rises = sweep(
        _excess,
        [
            (count, config.networks, *given, number, config.seed, backend)
            for number, count in enumerate(config.particles, 1)
        ],
    )
    excess, error = np.array(rises).T
    counts = np.array(config.particles, float)
    theory = INPUT**2 * tau / (2 * counts * pull)
    # The mean's variance from a start without any, in Euler's steps.
    steps = round(config.settled / h)
    discrete = theory * (1 - (1 - h * pull) ** (2 * steps)) / (1 - h * pull / 2)
    scores = (np.abs(excess - theory) - np.abs(discrete - theory)) / error
    slope = np.polyfit(np.log(counts), np.log(np.maximum(excess, 1e-300)), 1)[0]
    sampled = slope_error(counts, excess, error)
    (law,) = sweep(_law, [(config.many, *given, 0, config.seed, backend)])
    times, mean, variance = law
    least = free_energy(rest, tau / alpha, alpha, tau)
    gap = free_energy(mean, variance, alpha, tau) - least
    bound = gap[0] * np.exp(-2 * alpha * times)
    toward = pull * (mean - rest), (alpha - tau / variance) / 2
    spread = np.hypot(
        toward[0] * np.sqrt(variance / config.many),
        toward[1] * variance * math.sqrt(2 / config.many),
    )
    over = (gap - bound - normal_quantile(len(times)) * spread)[1:]
    return Findings(
        claims=(
            Claim(
                "the risk of N particles is above its limit by a²τ/(2N(α + a²)), "
                "largest deviation in standard errors",
                expected=0.0,
                source="the variance of an Ornstein–Uhlenbeck process",
                measured=float(scores.max()),
                tolerance=normal_quantile(len(counts)),
                reason="normal quantile of all together, beyond what Euler's steps and "
                "the finite time are off by, in closed form",
                relation="≤",
                level=LEVEL,
            ),
            Claim(
                "it falls as the number of particles",
                expected=-1.0,
                source="the same formula",
                measured=float(slope),
                error=sampled,
                tolerance=normal_quantile() * sampled,
                reason="normal quantile; Euler's bias is the same for every N",
                level=LEVEL,
            ),
            Claim(
                "the free energy's gap is below its start times exp(−2αt), the most it "
                "is above",
                expected=0.0,
                source="Chizat 2022, theorem 3.2, with a Gaussian distribution's α",
                measured=float(over.max()),
                tolerance=float(gap[0]) * alpha * h + 4 * tau / config.many,
                reason="sampling errors of mean and variance are taken off; Euler's "
                "steps are off by h, finite samples by τ/N",
                relation="≤",
                level=LEVEL,
            ),
        ),
        data={
            "particles": counts,
            "excess": excess,
            "error": error,
            "theory": theory,
            "times": times,
            "gap": gap,
            "bound": bound,
        },
    )


def _excess(
    point: tuple[int, int, float, float, float, float, int, int, str],
) -> Float[np.ndarray, " 2"]:
    """How much the risk of so many particles is above its limit, and the error."""
    particles, networks, decay, tau, step, end, number, seed, backend = point
    rest = mean_at_rest(decay)
    found = ensemble(
        training(decay, tau, jnp.full((particles, 1), rest), end),
        networks,
        key=jr.fold_in(jr.key(seed), number),
        backend=backend,
        solver=EULER[backend],
        dt=step,
        reduce=Moments(order=4, of=output),
    ).reduced
    # Outputs are at the limit's on average: the risk rises by half their square.
    risen = found.variance[0] + (found.mean[0] - INPUT * rest) ** 2
    return np.array([risen, found.variance_standard_error[0]]) / 2


def _law(
    point: tuple[int, float, float, float, float, int, int, str],
) -> Float[np.ndarray, "3 times"]:
    """Times, and mean and variance of many particles then."""
    many, decay, tau, step, end, number, seed, backend = point
    drawn, key = jr.split(jr.fold_in(jr.key(seed), number))
    start = 0.3 + 0.2 * jr.normal(drawn, (many, 1))
    times = np.linspace(0.0, end, 25)
    found = solve(
        training(decay, tau, start, end),
        backend,
        solver=EULER[backend],
        dt=step,
        key=key,
        saveat=times,
    )
    states = np.asarray(found.ys)[:, :, 0]
    return np.stack([times, states.mean(axis=1), states.var(axis=1, ddof=1)])


@mean_field_langevin.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Excess risks over the number of particles; the gap of the free energy."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    data = next(iter(findings.values())).data
    left.loglog(data["particles"], data["theory"], "k--", label="theory")
    right.semilogy(data["times"], data["bound"], "k--", label="$e^{-2\\alpha t}$ bound")
    for backend, found in findings.items():
        data, style = found.data, mark(backend)
        left.errorbar(
            data["particles"],
            data["excess"],
            yerr=data["error"],
            color="C0",
            label=backend,
            **style,
        )
        right.semilogy(data["times"], data["gap"], color="C1", label=backend, **style)
    left.set_xscale("log", base=2)
    left.set_xlabel("particles $N$")
    left.set_ylabel("excess risk")
    right.set_xlabel("time")
    right.set_ylabel("gap of the free energy")
    for axes in (left, right):
        axes.legend(fontsize=7)
