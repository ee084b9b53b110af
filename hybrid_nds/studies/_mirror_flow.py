"""Which of many minimizers a mirror flow finds; how fast Newton's diffusion mixes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..models import (
    GradientFlow,
    HyperbolicEntropy,
    MirrorFlow,
    NaturalGradientFlow,
)
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
    "Gunasekar, Lee, Soudry & Srebro 2018, Characterizing implicit bias; Woodworth et "
    "al. 2020, Kernel and rich regimes; Chewi et al. 2020, Exponential ergodicity of "
    "mirror-Langevin diffusions"
)
TIMES = np.linspace(0.0, 3.0, 31)
"""When the law of Newton's diffusion is looked at."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Data, unknowns, the scales of the start, and condition numbers."""

    data: int = 3
    unknowns: int = 8
    starts: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    condition_numbers: tuple[float, ...] = (1.0, 1e3, 1e6)
    end: float = 60.0
    seed: int = 0


class LeastSquares(eqx.Module):
    """$f(x) = \\tfrac12|Ax - b|^2$."""

    matrix: Float[Array, "m n"]
    right: Float[Array, " m"]

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        return 0.5 * jnp.sum((self.matrix @ x - self.right) ** 2)


class Squares(eqx.Module):
    """The loss of the network $x = u^2 - v^2$ in its weights $(u, v)$."""

    loss: LeastSquares

    def __call__(self, weights: tuple[Array, Array]) -> Float[Array, ""]:
        u, v = weights
        return self.loss(u**2 - v**2)


def mirror_field(
    t: Any, y: tuple[Array, Array], flow: MirrorFlow
) -> tuple[Array, Array]:
    """The mirror flow in the dual; beside it $\\int\\langle\\nabla f, x\\rangle dt$."""
    dual, _ = y
    speed = flow(t, dual)
    return speed, -(speed @ flow.primal(dual))


def newton_moments(
    t: Any, y: tuple[Array, Array], flow: NaturalGradientFlow
) -> tuple[Array, Array]:
    """Mean and covariance of Newton's Langevin diffusion with potential $V$.

    $dX = -(\\nabla^2V)^{-1}\\nabla V\\,dt + \\sqrt2(\\nabla^2V)^{-1/2}dW$, linear for a
    quadratic $V$: $\\dot m = Jm$, $\\dot\\Sigma = J\\Sigma + \\Sigma J^\\top +
    2(\\nabla^2V)^{-1}$.
    """
    mean, covariance = y
    spread = jax.jacfwd(lambda x: flow(t, x))(mean) @ covariance
    noise = jnp.linalg.inv(jax.hessian(flow.loss)(mean))
    return flow(t, mean), spread + spread.T + 2 * noise


def chi_square(
    mean: Float[np.ndarray, " n"],
    covariance: Float[np.ndarray, "n n"],
    scale: Float[np.ndarray, "n n"],
) -> float:
    """$\\chi^2(N(m, \\Sigma)\\,|\\,N(0, (SS^\\top)^{-1}))$ for $S$ = `scale`.

    With $\\mu = S^\\top m$ and $C = S^\\top\\Sigma S$ it is
    $|C(2I - C)|^{-1/2}\\exp(\\mu^\\top(2I - C)^{-1}\\mu) - 1$, a Gaussian integral;
    infinite where $C$ has an eigenvalue of 2 or more.
    """
    mu, c = scale.T @ mean, scale.T @ covariance @ scale
    two = 2 * np.eye(mu.size)
    if np.linalg.eigvalsh(two - c)[0] <= 0:
        return math.inf
    exponent = mu @ np.linalg.solve(two - c, mu)
    _, logarithm = np.linalg.slogdet(c @ (two - c))
    # Beyond the largest number it is infinite, too.
    with np.errstate(over="ignore"):
        return float(np.expm1(exponent - logarithm / 2))


@study(
    title="Mirror flows: implicit bias and Newton's mixing",
    direction="algorithms",
    source=_SOURCE,
    quick=Config(starts=(0.3, 1.0), condition_numbers=(1.0, 1e6)),
    paper=Config(
        data=10,
        unknowns=40,
        starts=(0.03, 0.1, 0.3, 1.0, 3.0),
        condition_numbers=(1.0, 1e2, 1e4, 1e6),
    ),
)
def mirror_flow(config: Config, backend: str, sweep: Sweep) -> Findings:
    """Which of the many solutions of an underdetermined problem does a flow find?

    Along \\(\\tfrac{d}{dt}\\nabla\\varphi(x) = -\\nabla f(x)\\) with
    \\(f = \\tfrac12|Ax-b|^2\\) the dual moves in the row space of \\(A\\) alone, which
    picks the solution closest to the start in Bregman's divergence; and
    \\(\\int\\langle\\nabla f, x - x^*\\rangle dt = D_\\varphi(x^*, x_0)\\) for the
    solution \\(x^*\\) it tends to. The network \\(x = u^2 - v^2\\) trained by the
    gradient flow from \\(u = v = a\\) is such a mirror flow of \\(4f\\), with the
    hyperbolic entropy of scale \\(2a^2\\): small starts give sparse solutions.

    Newton's Langevin diffusion of a quadratic potential contracts the
    \\(\\chi^2\\)-divergence to its distribution as \\(e^{-2t}\\), at any condition
    number; its mean and covariance are solved as an equation, the divergence is a
    closed form.
    """
    given = (config.data, config.unknowns, config.end, config.seed, backend)
    points = [(start, *given) for start in config.starts]
    flows = sweep(_mirror, points)
    ends = np.array([flow["end"] for flow in flows])
    parted = ends - np.array(sweep(_network, points))
    numbers = config.condition_numbers
    divergences = np.array(
        sweep(_newton, [(number, config.seed, backend) for number in numbers])
    )
    share = (divergences * np.exp(2 * TIMES) / divergences[:, :1])[:, 1:]
    return Findings(
        claims=(
            Claim(
                "the mirror flow ends in a solution",
                expected=0.0,
                source="the loss has minimum 0",
                measured=float(max(flow["left"] for flow in flows)),
                tolerance=1e-8,
                reason="the slowest mode decays for sixty times its own time or more",
            ),
            Claim(
                "the dual moves in the row space of the data alone",
                expected=0.0,
                source="Gunasekar et al. 2018, theorem 1: ∇φ(x_∞) − ∇φ(x₀) = Aᵀν",
                measured=float(max(flow["off"] for flow in flows)),
                tolerance=1e-8,
                reason="tolerances of 1e-12 a step over some hundred steps",
            ),
            Claim(
                "the integral of the gap is Bregman's divergence from the start",
                expected=0.0,
                source="d/dt D_φ(x*, x) = −⟨∇f, x − x*⟩",
                measured=float(max(flow["gap"] for flow in flows)),
                tolerance=1e-6,
                reason="tolerances of 1e-12 a step, divergences of order one to ten",
            ),
            Claim(
                "the network u² − v² ends where the mirror flow ends",
                expected=0.0,
                source="Woodworth et al. 2020, theorem 1, with b = 2a²",
                measured=float(np.max(np.abs(parted))),
                tolerance=1e-8,
                reason="two solves with tolerances of 1e-12 a step",
            ),
            Claim(
                "χ² of Newton's diffusion times exp(2t), over its start, stays below 1",
                expected=1.0,
                source="Chewi et al. 2020, theorem 1, with Poincaré's constant 1",
                measured=float(share.max()),
                tolerance=1e-8,
                reason="inverses at condition number 1e6 lose six of sixteen digits",
                relation="≤",
            ),
        ),
        data={
            "start": np.array(config.starts),
            "ends": ends,
            "times": TIMES,
            "divergences": divergences,
            "condition_numbers": np.array(numbers),
        },
    )


def _loss(data: int, unknowns: int, seed: int) -> LeastSquares:
    """An underdetermined problem with a sparse solution."""
    matrix = jr.normal(jr.split(jr.key(seed), 3)[0], (data, unknowns))
    # Rows of length one and at right angles: the slowest rate is that of the mirror.
    matrix = jnp.linalg.qr(matrix.T)[0].T
    sparse = jnp.zeros(unknowns).at[0].set(1.0)
    return LeastSquares(matrix, matrix @ sparse)


def _mirror(point: tuple[float, int, int, float, int, str]) -> dict[str, Any]:
    """The end of the mirror flow; how far it is off where it should be zero."""
    start, data, unknowns, end, seed, backend = point
    loss = _loss(data, unknowns, seed)
    scaled = LeastSquares(2 * loss.matrix, 2 * loss.right)
    mirror = HyperbolicEntropy(2 * start**2)
    flow = MirrorFlow(scaled, mirror)
    origin = jnp.zeros(unknowns)
    time = end * _slowness(start)
    problem = ODEProblem(
        mirror_field, (flow.dual(origin), jnp.zeros(())), 0.0, time, args=flow
    )
    dual, integral = precise_end(problem, backend)
    moved = dual - np.asarray(flow.dual(origin))
    rows = np.asarray(loss.matrix)
    best = flow.primal(jnp.asarray(dual))
    # The dual moves by minus the integral of the gradient.
    gap = float(integral + moved @ best) - float(mirror.divergence(best, origin))
    return {
        "end": best,
        "left": np.max(np.abs(loss.matrix @ best - loss.right)),
        "off": np.max(np.abs(moved - rows.T @ (rows @ moved))),
        "gap": abs(gap),
    }


def _network(
    point: tuple[float, int, int, float, int, str],
) -> Float[np.ndarray, " unknowns"]:
    """The end of the network's training."""
    start, data, unknowns, end, seed, backend = point
    weights = jnp.full(unknowns, start)
    flow = GradientFlow(Squares(_loss(data, unknowns, seed)))
    time = end * _slowness(start)
    u, v = precise_end(flow.problem((weights, weights), 0.0, time), backend)
    return u**2 - v**2


def _slowness(start: float) -> float:
    """Small starts leave the saddle at the origin slowly, at the rate 4a²."""
    return max(1.0, 0.05 / start**2)


def _newton(point: tuple[float, int, str]) -> Float[np.ndarray, " times"]:
    """The χ²-divergence to the distribution that Newton's diffusion tends to, over
    time."""
    condition_number, seed, backend = point
    axes = jnp.linalg.qr(jr.normal(jr.split(jr.key(seed), 3)[2], (3, 3)))[0]
    roots = jnp.sqrt(jnp.geomspace(1.0, condition_number, 3))
    scale = axes * roots
    back = axes / roots
    mean = back @ jnp.array([0.5, -1.0, 0.8])
    covariance = back @ jnp.diag(jnp.array([0.5, 1.5, 1.2])) @ back.T
    problem = ODEProblem(
        newton_moments,
        (mean, (covariance + covariance.T) / 2),
        0.0,
        float(TIMES[-1]),
        # Half of |Sᵀx|², whose Hessian is SSᵀ.
        args=NaturalGradientFlow(LeastSquares(scale.T, jnp.zeros(3))),
    )
    states = zip(*precise_states(problem, backend, TIMES), strict=True)
    return np.array([chi_square(m, c, np.asarray(scale)) for m, c in states])


@mirror_flow.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Solutions by the scale of the start; divergences by condition number."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    for backend, found in findings.items():
        for number, start in enumerate(found.data["start"]):
            end = found.data["ends"][number]
            left.plot(
                np.arange(1, end.size + 1),
                end,
                color=f"C{number}",
                label=f"$a = {start:g}$ ({backend})",
                **mark(backend),
            )
        for number, condition in enumerate(found.data["condition_numbers"]):
            right.semilogy(
                found.data["times"],
                found.data["divergences"][number],
                color=f"C{number}",
                label=f"condition {condition:.0e} ({backend})",
                **mark(backend),
            )
    found = next(iter(findings.values()))
    times, first = found.data["times"], found.data["divergences"][0, 0]
    right.semilogy(times, first * np.exp(-2 * times), "k--", label="$e^{-2t}$ bound")
    left.set_xlabel("coordinate")
    left.set_ylabel("solution found by $u^2 - v^2$")
    right.set_xlabel("time")
    right.set_ylabel("$\\chi^2$ divergence")
    for axes in (left, right):
        axes.legend(fontsize=7)
