"""The least energy that steers a system, and the density of its noisy twin."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.integrate
from jaxtyping import Array, Float

from ..ensembles import Moments, ensemble
from ..problems import ODEProblem, SDEProblem
from ._claim import Claim
from ._findings import Findings
from ._levels import LEVEL, normal_quantile
from ._marks import mark
from ._precise import precise_end
from ._schemes import EULER
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Brockett 1970, Finite dimensional linear systems, section 22; Gaveau 1977, "
    "Principe de moindre action; Stroock & Varadhan 1972, support theorem"
)
DYNAMICS = np.array([[0.0, 1.0], [0.0, 0.0]])
PORT = np.array([[0.0], [1.0]])


@dataclasses.dataclass(frozen=True)
class Config:
    """Targets, heights above the origin, and the sample of the noisy twins."""

    targets: tuple[tuple[float, float], ...] = (
        (1.0, 0.0),
        (0.0, 1.0),
        (1.0, 1.0),
        (-0.5, 1.0),
    )
    heights: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    steps: int = 256
    trajectories: int = 20_000
    seed: int = 0


def gramian_field(t: Any, y: Float[Array, "n n"], args: Any) -> Float[Array, "n n"]:
    """$\\dot W = AW + WA^\\top + BB^\\top$, the covariance of $dX = AXdt + BdW$."""
    dynamics, port = args
    turned = dynamics @ y
    return turned + turned.T + port @ port.T


def steered(t: Any, y: tuple[Array, ...], args: Any) -> tuple[Array, ...]:
    """The system under its best control $u = B^\\top p$, $\\dot p = -A^\\top p$.

    Beside it the energy $\\tfrac12\\int|u|^2dt$.
    """
    dynamics, port = args
    x, costate, _ = y
    u = port.T @ costate
    return dynamics @ x + port @ u, -dynamics.T @ costate, 0.5 * jnp.sum(u**2)


def heisenberg(t: Any, y: tuple[Array, ...], args: Any) -> tuple[Array, ...]:
    """Heisenberg's system under its best control, by Pontryagin's principle.

    $\\dot x_1 = u_1$, $\\dot x_2 = u_2$, $\\dot x_3 = \\tfrac12(x_1u_2 - x_2u_1)$ with
    $u_1 = p_1 - \\tfrac12x_2p_3$, $u_2 = p_2 + \\tfrac12x_1p_3$ and Hamilton's
    equations for $H = \\tfrac12|u|^2$; beside it the energy.
    """
    x, p, _ = y
    u = jnp.stack([p[0] - 0.5 * x[1] * p[2], p[1] + 0.5 * x[0] * p[2]])
    area = 0.5 * (x[0] * u[1] - x[1] * u[0])
    moved = jnp.stack([u[0], u[1], area])
    turned = jnp.stack([-0.5 * u[1] * p[2], 0.5 * u[0] * p[2], jnp.zeros_like(area)])
    return moved, turned, 0.5 * jnp.sum(u**2)


def linear_drift(t: Any, y: Float[Array, " n"], args: Any) -> Float[Array, " n"]:
    """$Ay$."""
    return args[0] @ y


def linear_noise(t: Any, y: Float[Array, " n"], args: Any) -> Float[Array, "n m"]:
    """$B$."""
    return args[1]


def no_drift(t: Any, y: Float[Array, " n"], args: Any) -> Float[Array, " n"]:
    """Nothing moves without control."""
    return jnp.zeros_like(y)


def heisenberg_noise(t: Any, y: Float[Array, " n"], args: Any) -> Float[Array, "n two"]:
    """Heisenberg's fields: increments of the plane, and the area they sweep."""
    one = jnp.ones_like(y[0])
    none = jnp.zeros_like(one)
    first = jnp.stack([one, none, -0.5 * y[1]])
    return jnp.stack([first, jnp.stack([none, one, 0.5 * y[0]])], axis=1)


def density(height: float) -> float:
    """The density of Heisenberg's diffusion at time 1 above the origin, by quadrature.

    $(2\\pi)^{-2}\\int\\frac{\\lambda/2}{\\sinh(\\lambda/2)}e^{i\\lambda z}d\\lambda$
    (Gaveau 1977; Lévy 1951), which is $\\tfrac14\\operatorname{sech}^2(\\pi z)$.
    """

    def transform(s: float) -> float:
        return (s / 2) / math.sinh(s / 2) if s else 1.0

    integral = scipy.integrate.quad(
        transform, 0, 200, weight="cos", wvar=height, epsabs=1e-14, limit=400
    )[0]
    return 2 * integral / (2 * math.pi) ** 2


@study(
    title="Controllability and transition densities",
    direction="continuous models",
    source=_SOURCE,
    quick=Config(heights=(0.5, 1.0), steps=64, trajectories=8000),
    paper=Config(steps=1024, trajectories=1_000_000),
)
def controllability(config: Config, backend: str, sweep: Sweep) -> Findings:
    """What does it cost to steer a system where its noise would seldom go?

    With the noise of \\(dX = AX\\,dt + B\\,dW\\) replaced by a control \\(u\\,dt\\),
    the least energy \\(\\tfrac12\\int|u|^2\\) that reaches \\(x\\) from rest is
    \\(\\tfrac12x^\\top W^{-1}x\\) with the Gramian \\(W\\), the covariance of the noisy
    twin: minus the logarithm of its density, but for a constant. A double integrator
    that must move by 1 in unit time and come to rest takes 6.

    Heisenberg's system can move up only by turning round: \\(2\\pi z\\) for the height
    \\(z\\), and its density falls as \\(e^{-2\\pi z}\\). Best controls are found from
    the costate and run on either backend, noisy twins are sampled.
    """
    (gramian,) = sweep(_gramian, [(backend,)])
    # With p(1) = W⁻¹x, and so p(0) the same carried back: Aᵀ is nilpotent.
    last = np.linalg.solve(gramian, np.array(config.targets).T)
    costates = ((np.eye(2) + DYNAMICS.T) @ last).T.tolist()
    moves = sweep(_steering, [(tuple(costate), backend) for costate in costates])
    ends = np.array([move["end"] for move in moves])
    energies = np.array([move["energy"] for move in moves])
    rises = sweep(_turning, [(height, backend) for height in config.heights])
    costs = np.array([rise["energy"] for rise in rises])
    tops = np.array([rise["end"] for rise in rises])
    missed = np.max(np.abs(ends - np.array(config.targets)))
    law, area = sweep(
        _twin,
        [
            (which, config.steps, config.trajectories, config.seed, number, backend)
            for number, which in enumerate(("linear", "heisenberg"))
        ],
    )
    sampled = [_half_square(law["covariance"], target) for target in config.targets]
    discrete = discrete_gramian(config.steps)
    bias = [
        abs(_half_square(discrete, target) / _half_square(gramian, target) - 1)
        for target in config.targets
    ]
    off = float(np.max(np.abs(np.array(sampled) / energies - 1)))
    spread = math.sqrt(2 / config.trajectories)
    together = normal_quantile(len(config.targets))
    heights = np.array(config.heights)
    missed_tops = np.abs(tops - np.outer(heights, [0.0, 0.0, 1.0]))
    logs = -np.log([density(height) for height in heights])
    remainder = float(np.ptp(logs[-2:] - costs[-2:]))
    wide, wide_error = area["covariance"][2, 2], area["variance_error"][2]
    return Findings(
        claims=(
            Claim(
                "steering the double integrator by 1, to rest, takes the energy",
                expected=6.0,
                source="½ (1, 0) W⁻¹ (1, 0)ᵀ with W = ((1/3, 1/2), (1/2, 1))",
                measured=energies[config.targets.index((1.0, 0.0))],
                tolerance=1e-9,
                reason="tolerances of 1e-12 a step",
            ),
            Claim(
                "best controls reach their targets, the largest distance",
                expected=0.0,
                source="Brockett 1970, section 22, theorem 1",
                measured=max(missed, np.max(missed_tops)),
                tolerance=1e-9,
                reason="tolerances of 1e-12 a step",
            ),
            Claim(
                "minus the logarithm of the sampled twin's density, but for its "
                "constant, over the energy, less one",
                expected=0.0,
                source="the density of a Gaussian distribution",
                measured=off,
                error=spread,
                tolerance=together * spread + max(bias),
                reason="a quadratic form of an inverse Wishart matrix has the relative "
                "variance 2/N; Euler's covariance by its own recursion",
                level=LEVEL,
            ),
            Claim(
                "rising by z in Heisenberg's system takes 2πz, largest distance",
                expected=0.0,
                source="isoperimetry: a circle of area z has length 2√(πz)",
                measured=float(np.max(np.abs(costs - 2 * np.pi * heights))),
                tolerance=1e-9,
                reason="tolerances of 1e-12 a step",
            ),
            Claim(
                "minus the logarithm of Heisenberg's density rises as the energy does",
                expected=0.0,
                source="Gaveau 1977, the density above the origin",
                measured=remainder,
                tolerance=2 * math.exp(-2 * math.pi * heights[-2]) + 1e-4,
                reason="the next term of the density, 2 exp(−2πz), and a quadrature to "
                "1e-14 of a density of 1e-6",
            ),
            Claim(
                "the area that its noisy twin sweeps has variance 1/4",
                expected=0.25,
                source="Lévy 1951: E exp(iλA) = sech(λ/2)",
                measured=wide,
                error=wide_error,
                tolerance=normal_quantile() * wide_error + 0.25 / config.steps,
                reason="normal quantile, and the share 1/n that n steps of Euler leave "
                "out",
                level=LEVEL,
            ),
        ),
        data={
            "energies": energies,
            "sampled": np.array(sampled),
            "heights": heights,
            "costs": costs,
            "logs": logs,
        },
    )


def _system() -> tuple[Array, Array]:
    """A and B."""
    return jnp.asarray(DYNAMICS), jnp.asarray(PORT)


def _gramian(point: tuple[str]) -> Float[np.ndarray, "n n"]:
    """The covariance of the double integrator's noisy twin at time 1."""
    (backend,) = point
    problem = ODEProblem(gramian_field, jnp.zeros((2, 2)), 0.0, 1.0, args=_system())
    return precise_end(problem, backend)


def discrete_gramian(steps: int) -> Float[np.ndarray, "n n"]:
    """The covariance after so many steps of Euler and Maruyama."""
    h = 1 / steps
    one, found = np.eye(2) + h * DYNAMICS, np.zeros((2, 2))
    for _ in range(steps):
        found = one @ found @ one.T + h * PORT @ PORT.T
    return found


def _half_square(covariance: np.ndarray, target: tuple[float, ...]) -> float:
    """$\\tfrac12x^\\top\\Sigma^{-1}x$."""
    x = np.array(target)
    return 0.5 * float(x @ np.linalg.solve(covariance, x))


def _steering(point: tuple[tuple[float, ...], str]) -> dict[str, np.ndarray]:
    """Where a first costate steers the double integrator, and the energy it takes."""
    costate, backend = point
    start = (jnp.zeros(2), jnp.array(costate), jnp.zeros(()))
    problem = ODEProblem(steered, start, 0.0, 1.0, args=_system())
    end, _, energy = precise_end(problem, backend)
    return {"end": end, "energy": energy}


def _turning(point: tuple[float, str]) -> dict[str, np.ndarray]:
    """Where Heisenberg's system comes by rising to a height, and the energy."""
    height, backend = point
    # Once round at the rate 2π, on a circle of the area of the height.
    swift = math.sqrt(4 * math.pi * height)
    start = (jnp.zeros(3), jnp.array([swift, 0.0, 2 * math.pi]), jnp.zeros(()))
    end, _, energy = precise_end(ODEProblem(heisenberg, start, 0.0, 1.0), backend)
    return {"end": end, "energy": energy}


def _twin(point: tuple[str, int, int, int, int, str]) -> dict[str, np.ndarray]:
    """The covariance of a noisy twin at time 1, and errors of its variances."""
    which, steps, trajectories, seed, number, backend = point
    if which == "linear":
        parts = (linear_drift, linear_noise, jnp.zeros(2), 0.0, 1.0)
        problem = SDEProblem(*parts, args=_system(), noise="additive")
    else:
        parts = (no_drift, heisenberg_noise, jnp.zeros(3), 0.0, 1.0)
        problem = SDEProblem(*parts, noise="general")
    law = ensemble(
        problem,
        trajectories,
        key=jr.split(jr.key(seed))[number],
        backend=backend,
        solver=EULER[backend],
        dt=1 / steps,
        reduce=Moments(order=4, covariance=True),
    ).reduced
    return {
        "covariance": law.covariance[0],
        "variance_error": law.variance_standard_error[0],
    }


@controllability.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Energies against logarithms of densities, of both systems."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    for backend, found in findings.items():
        data, style = found.data, mark(backend)
        left.plot(data["energies"], data["sampled"], color="C0", label=backend, **style)
        right.plot(
            data["heights"],
            data["costs"],
            color="C1",
            label=f"energy ({backend})",
            **style,
        )
    top = float(max(found.data["energies"].max() for found in findings.values()))
    left.plot([0, top], [0, top], "k--", label="equal")
    many = np.linspace(0.0, max(config.heights), 50)
    right.plot(many, 2 * np.pi * many, "k--", label="$2\\pi z$")
    logs = 2 * np.log(2 * np.cosh(np.pi * many))
    right.plot(many, logs, "k:", label="$-\\log p_1(0, 0, z)$")
    left.set_xlabel("least energy to the target")
    left.set_ylabel("$-\\log$ density of the noisy twin + constant")
    right.set_xlabel("height $z$")
    right.set_ylabel("energy")
    for axes in (left, right):
        axes.legend(fontsize=7)
