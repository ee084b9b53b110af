"""Controlled bilinear systems by their Chen–Fliess series, and their complexity."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..problems import ODEProblem
from ._claim import Claim
from ._findings import Findings
from ._marks import mark
from ._precise import precise_end
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Fliess 1981, Fonctionnelles causales non linéaires; Hanson & Raginsky 2024, "
    "Rademacher complexity of neural ODEs via Chen–Fliess series"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The longest words, the horizons, the dimension, and the size of the sample."""

    longest: int = 12
    horizons: tuple[float, ...] = (0.5, 1.0, 2.0)
    dimension: int = 4
    controls: int = 2
    sample: int = 10
    seed: int = 0


def controls(t: Any, phases: Float[Array, " m"]) -> Float[Array, " m"]:
    """Smooth controls between -1 and 1."""
    return jnp.sin(3 * t + phases)


def field(t: Any, y: Float[Array, " d"], args: Any) -> Float[Array, " d"]:
    """The bilinear system, $\\dot x = \\sum_i u_i(t)A_ix$."""
    matrices, phases = args
    return jnp.einsum("m,mij,j->i", controls(t, phases), matrices, y)


def words(t: Any, y: Float[Array, "words d"], args: Any) -> Float[Array, "words d"]:
    """The sums over all words of one length: each is driven by the one before.

    $\\dot x^{(k)} = \\sum_i u_iA_ix^{(k-1)}$, $x^{(0)} = x_0$: iterated integrals,
    by differentiation.
    """
    matrices, phases = args
    driven = jnp.einsum("m,mij,kj->ki", controls(t, phases), matrices, y[:-1])
    return jnp.concatenate([jnp.zeros_like(y[:1]), driven])


def scalar_field(t: Any, y: Float[Array, " n"], args: Any) -> Float[Array, " n"]:
    """The scalar system $\\dot x = ux$ with a constant control, for a sample."""
    return args * y


def remainder_bound(size: float, order: int) -> float:
    """$\\sum_{k>N}(TM)^k/k!$ for $TM$ = `size` and $N$ = `order`."""
    # Terms beyond fall faster than those of a geometric series of ratio one half.
    stop = order + 2 * math.ceil(size) + 60
    return sum(size**k / math.factorial(k) for k in range(order + 1, stop))


@study(
    title="Chen–Fliess series and Rademacher complexity",
    direction="continuous models",
    source=_SOURCE,
    quick=Config(longest=8, horizons=(1.0,), sample=8),
    paper=Config(longest=20, dimension=16, controls=3, sample=16),
)
def chen_fliess(config: Config, backend: str, sweep: Sweep) -> Findings:
    """How many words does it take to describe a controlled system?

    The state of \\(\\dot x = \\sum_i u_iA_ix\\) is a series over words of iterated
    integrals of the controls. With \\(|u_i| \\le 1\\) and \\(M = \\sum_i\\|A_i\\|\\),
    words longer than \\(N\\) contribute at most
    \\[ \\|x_0\\|\\sum_{k>N}(TM)^k/k! . \\]
    The sums over words of one length solve a triangular equation, and so does the
    state itself: both are solved and compared.

    The functions \\(x \\mapsto x(T)\\) that the scalar system \\(\\dot x = ux\\),
    \\(|u| \\le 1\\), can be steered to have the Rademacher complexity
    \\(\\sinh(T)\\,\\mathbb E|n^{-1}\\sum_k\\varepsilon_kx_k|\\): the supremum is at a
    constant control \\(\\pm1\\), whose ends are solved for, and all \\(2^n\\) signs
    are summed.
    """
    sizes = (config.longest, config.dimension, config.controls)
    given = (config.seed, backend)
    errors = np.array(
        sweep(_errors, [(horizon, *sizes, *given) for horizon in config.horizons])
    )
    orders = range(config.longest + 1)
    bounds = np.array(
        [[remainder_bound(h, n) for n in orders] for h in config.horizons]
    )
    points = [(horizon, config.sample, *given) for horizon in config.horizons]
    ratios = np.array(sweep(_complexity, points))
    return Findings(
        claims=(
            Claim(
                "the series cut after N letters is within its bound, largest excess",
                expected=0.0,
                source="Fliess 1981: ‖x₀‖ Σ_{k>N} (TM)^k/k!",
                measured=np.max(errors - bounds),
                tolerance=1e-10,
                reason="two solves with tolerances of 1e-12 a step",
                relation="≤",
            ),
            Claim(
                "complexity of the scalar system over sinh(T) E|Σεx|/n, less one",
                expected=0.0,
                source="supremum of a linear function over an interval",
                measured=np.max(np.abs(ratios - 1)),
                tolerance=1e-9,
                reason="tolerances of 1e-12 a step; signs are summed exactly",
            ),
        ),
        data={
            "order": np.arange(config.longest + 1),
            "errors": errors,
            "bounds": bounds,
            "horizons": np.array(config.horizons),
        },
    )


def _errors(point: tuple[float, int, int, int, int, str]) -> Float[np.ndarray, " n"]:
    """Distances of the series to the state, by the longest word."""
    horizon, longest, d, m, seed, backend = point
    keys = jr.split(jr.key(seed), 4)
    matrices = jr.normal(keys[0], (m, d, d))
    norms = jnp.linalg.norm(matrices, ord=2, axis=(1, 2))
    # M = 1: the horizon is then the size TM itself.
    args = (matrices / jnp.sum(norms), jr.uniform(keys[1], (m,), maxval=2 * jnp.pi))
    start = jr.normal(keys[2], (d,))
    start = start / jnp.linalg.norm(start)
    stacked = jnp.zeros((longest + 1, d)).at[0].set(start)
    exact, terms = (
        precise_end(ODEProblem(right, state, 0.0, horizon, args=args), backend)
        for right, state in ((field, start), (words, stacked))
    )
    return np.linalg.norm(np.cumsum(terms, axis=0) - exact, axis=1)


def _complexity(point: tuple[float, int, int, str]) -> float:
    """The complexity of the scalar system over its closed form."""
    horizon, size, seed, backend = point
    sample = np.asarray(jr.normal(jr.split(jr.key(seed), 4)[3], (size,)))
    high, low = (
        precise_end(
            ODEProblem(scalar_field, sample, 0.0, horizon, args=jnp.asarray(u)),
            backend,
        )
        for u in (1.0, -1.0)
    )
    signs = np.array(list(itertools.product((-1, 1), repeat=size)))
    measured = np.maximum(signs @ high, signs @ low).mean()
    return float(measured / (math.sinh(horizon) * np.abs(signs @ sample).mean()))


@chen_fliess.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Errors of the cut series and their bounds, over the length of words."""
    axes = figure.subplots()
    for backend, found in findings.items():
        for number, horizon in enumerate(found.data["horizons"]):
            axes.semilogy(
                found.data["order"],
                found.data["errors"][number],
                color=f"C{number}",
                label=f"error, $TM = {horizon:g}$ ({backend})",
                **mark(backend),
            )
    found = next(iter(findings.values()))
    for number in range(len(found.data["horizons"])):
        label = "bound" if number == 0 else None
        axes.semilogy(
            found.data["order"],
            found.data["bounds"][number],
            "--",
            color=f"C{number}",
            label=label,
        )
    axes.set_xlabel("longest word $N$")
    axes.set_ylabel("distance of the cut series to the state")
    axes.legend(fontsize=7)
