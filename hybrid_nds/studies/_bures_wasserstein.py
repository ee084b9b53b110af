"""Gaussian variational inference as a flow: its path, its rate, its accuracy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.linalg
import scipy.special
from jaxtyping import Array, Float

from ..discretization import fit_order
from ..models import BuresWassersteinFlow
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
    "Lambert, Chewi, Bach, Bonnabel & Rigollet 2022, Variational inference via "
    "Wasserstein gradient flows; Katsevich & Rigollet 2024, On the approximation "
    "accuracy of Gaussian variational inference"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The dimension and precision of the Gaussian, sizes of the data, their share."""

    dimension: int = 3
    strongest: float = 5.0
    sizes: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    share: float = 0.8
    nodes: int = 40
    seed: int = 0


class Quadratic(eqx.Module):
    """$V(x) = \\tfrac12x^\\top\\Lambda x$."""

    precision: Float[Array, "n n"]

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        return 0.5 * x @ self.precision @ x


class Logistic(eqx.Module):
    """$V(x) = n(\\log(1 + e^x) - px)$: $n$ answers, a share $p$ of them yes."""

    size: Float[Array, ""]
    share: Float[Array, ""]

    def __call__(self, x: Float[Array, " one"]) -> Float[Array, ""]:
        # Not logaddexp, whose derivatives branch: x is moderate here.
        return self.size * (jnp.log1p(jnp.exp(x[0])) - self.share * x[0])


def flow(t: Any, y: tuple[Array, Array], model: Any) -> tuple[Array, Array]:
    """The flow of mean and covariance."""
    return model(t, y)


def squared_distance(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> float:
    """$W_2^2$ of two Gaussian distributions (Gelbrich 1990)."""
    root = np.real(scipy.linalg.sqrtm(first[1]))
    middle = np.real(scipy.linalg.sqrtm(root @ second[1] @ root))
    apart = np.sum((first[0] - second[0]) ** 2)
    return float(apart + np.trace(first[1] + second[1] - 2 * middle))


def posterior(size: int, share: float) -> tuple[float, float]:
    """Mean and standard deviation of the distribution $e^{-V}$.

    The logistic function of $x$ has the beta law of $np$ and $n(1-p)$, so that they are
    $\\psi(np) - \\psi(n(1-p))$ and the root of $\\psi'(np) + \\psi'(n(1-p))$ (Johnson,
    Kotz & Balakrishnan 1995, section 23.10).
    """
    yes, no = size * share, size * (1 - share)
    mean = scipy.special.digamma(yes) - scipy.special.digamma(no)
    variance = scipy.special.polygamma(1, yes) + scipy.special.polygamma(1, no)
    return float(mean), math.sqrt(float(variance))


@study(
    title="Variational inference as a Bures–Wasserstein flow",
    direction="algorithms",
    source=_SOURCE,
    quick=Config(sizes=(64, 256, 1024)),
    paper=Config(dimension=6, sizes=(64, 128, 256, 512, 1024, 2048, 4096, 8192)),
)
def bures_wasserstein(config: Config, backend: str, sweep: Sweep) -> Findings:
    """How well, and how fast, does a Gaussian learn a posterior?

    Along \\(\\dot m = -E\\nabla V\\), \\(\\dot\\Sigma = 2I - E\\nabla^2V\\,\\Sigma -
    \\Sigma\\,E\\nabla^2V\\) a Gaussian descends \\(\\mathrm{KL}(\\cdot\\|e^{-V})\\) in
    Wasserstein's metric. For a Gaussian target it is
    \\(\\Sigma(t) = \\Lambda^{-1} + e^{-\\Lambda t}(\\Sigma_0 -
    \\Lambda^{-1})e^{-\\Lambda t}\\), and \\(W_2^2\\) falls as \\(e^{-2\\alpha t}\\) or
    faster, with \\(\\alpha\\) the least precision.

    For logistic regression with \\(n\\) answers the mean it comes to is closer to the
    posterior's than Laplace's approximation: in standard deviations of the posterior,
    as \\(n^{-3/2}\\) beside \\(n^{-1/2}\\). The posterior has a closed form.
    """
    d = config.dimension
    keys = jr.split(jr.key(config.seed), 3)
    axes = np.asarray(jnp.linalg.qr(jr.normal(keys[0], (d, d)))[0])
    strengths = np.geomspace(1.0, config.strongest, d)
    precision = (axes * strengths) @ axes.T
    target = (np.zeros(d), np.linalg.inv(precision))
    mean = np.asarray(jr.normal(keys[1], (d,)))
    raw = np.asarray(jr.normal(keys[2], (d, d)))
    start = (mean, raw @ raw.T / d + np.eye(d))
    times = np.linspace(0.0, 3.0, 31)
    problem = ODEProblem(
        flow,
        tuple(jnp.asarray(part) for part in start),
        0.0,
        float(times[-1]),
        args=BuresWassersteinFlow(Quadratic(jnp.asarray(precision)), d, nodes=3),
    )
    means, covariances = precise_states(problem, backend, times)
    off = 0.0
    for number, t in enumerate(times):
        decay = (axes * np.exp(-strengths * t)) @ axes.T
        law = target[1] + decay @ (start[1] - target[1]) @ decay
        off = max(off, float(np.max(np.abs(covariances[number] - law))))
        off = max(off, float(np.max(np.abs(means[number] - decay @ mean))))
    distances = np.array(
        [
            squared_distance(pair, target)
            for pair in zip(means, covariances, strict=True)
        ]
    )
    share = distances * np.exp(2 * strengths[0] * times) / distances[0]
    points = [(size, config.share, config.nodes, backend) for size in config.sizes]
    laplace, inferred = np.array(sweep(_accuracy, points)).T
    inverse = 1 / np.array(config.sizes)
    slopes = [-fit_order(inverse, err[:, None]).order for err in (laplace, inferred)]
    bend = 8 / config.sizes[0]
    return Findings(
        claims=(
            Claim(
                "mean and covariance are the closed form, largest distance",
                expected=0.0,
                source="Σ(t) = Λ⁻¹ + exp(−Λt)(Σ₀ − Λ⁻¹)exp(−Λt), by differentiation",
                measured=off,
                tolerance=1e-9,
                reason="tolerances of 1e-12 a step",
            ),
            Claim(
                "the squared distance to the target over exp(−2αt) times the first, "
                "the largest",
                expected=1.0,
                source="Lambert et al. 2022, theorem 1 and its corollary",
                measured=float(share.max()),
                tolerance=1e-7,
                reason="tolerances of 1e-12 a step, and square roots of matrices",
                relation="≤",
            ),
            Claim(
                "Laplace's mean is off by a power of the size of the data",
                expected=-0.5,
                source="Katsevich & Rigollet 2024, section 1",
                measured=slopes[0],
                tolerance=bend,
                reason="terms of relative order 1/(np(1−p)) bend the line, below 8/n",
            ),
            Claim(
                "the mean of variational inference is off by that to the third",
                expected=-1.5,
                source="Katsevich & Rigollet 2024, theorem 1",
                measured=slopes[1],
                tolerance=bend,
                reason="terms of relative order 1/(np(1−p)) bend the line, below 8/n",
            ),
        ),
        data={
            "times": times,
            "distances": distances,
            "rate": strengths[0],
            "sizes": np.array(config.sizes),
            "laplace": laplace,
            "inferred": inferred,
        },
    )


def _accuracy(point: tuple[int, float, int, str]) -> Float[np.ndarray, " two"]:
    """Errors of Laplace's and of the flow's mean, in deviations of the posterior."""
    size, share, nodes, backend = point
    mode = math.log(share / (1 - share))
    mean, deviation = posterior(size, share)
    bend = size * share * (1 - share)
    potential = Logistic(jnp.asarray(float(size)), jnp.asarray(share))
    problem = ODEProblem(
        flow,
        (jnp.array([mode]), jnp.array([[1 / bend]])),
        0.0,
        # Thirty of the slowest times: 1e-13 is left.
        30 / bend,
        args=BuresWassersteinFlow(potential, 1, nodes=nodes),
    )
    found, _ = precise_end(problem, backend)
    return np.abs(np.array([mode, found[0]]) - mean) / deviation


@bures_wasserstein.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Distances over time with their bound; errors over the size of the data."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    for backend, found in findings.items():
        data, style = found.data, mark(backend)
        left.semilogy(
            data["times"], data["distances"], color="C0", label=backend, **style
        )
        for number, (name, label) in enumerate(
            {"laplace": "Laplace", "inferred": "variational"}.items()
        ):
            right.loglog(
                data["sizes"],
                data[name],
                color=f"C{number + 1}",
                label=f"{label} ({backend})",
                **style,
            )
    data = next(iter(findings.values())).data
    times, sizes = data["times"], data["sizes"]
    bound = data["distances"][0] * np.exp(-2 * data["rate"] * times)
    left.semilogy(times, bound, "k--", label="$e^{-2\\alpha t}$ bound")
    for number, (name, slope) in enumerate({"laplace": -0.5, "inferred": -1.5}.items()):
        line = data[name][0] * (sizes / sizes[0]) ** slope
        colour = f"C{number + 1}"
        right.loglog(sizes, line, "--", color=colour, label=f"slope {slope:g}")
    left.set_xlabel("time")
    left.set_ylabel("$W_2^2$ to the target")
    right.set_xlabel("size $n$ of the data")
    right.set_ylabel("error of the mean, in standard deviations")
    for axes in (left, right):
        axes.legend(fontsize=7)
