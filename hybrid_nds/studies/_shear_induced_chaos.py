"""A noisy limit cycle that shear makes chaotic."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.stats
from jaxtyping import Float

from ..models import StochasticHopf
from ..problems import SDEProblem
from ..solving import solve
from ..stability import lyapunov_spectrum
from ._claim import Claim, Relation
from ._findings import Findings
from ._levels import LEVEL
from ._marks import mark
from ._schemes import EULER
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "DeVille, Sri Namachchivaya & Rapti 2011, Stability of a stochastic "
    "two-dimensional non-Hamiltonian system; Doan, Engel, Lamb & Rasmussen 2018, Hopf "
    "bifurcation with additive noise"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Shears, the sample, and the long step at which Euler's method overflows."""

    shears: tuple[float, ...] = (0.0, 5.0, 10.0)
    step: float = 1 / 512
    time: float = 50.0
    chains: int = 64
    large_shear: float = 200.0
    long_step: float = 1 / 512
    seed: int = 0


def hopf(shear: float, end: float) -> SDEProblem:
    """The stochastic normal form, all its other parameters one."""
    return StochasticHopf(shear=shear, dtype=float).problem(
        jnp.array([1.0, 0.0]), 0.0, end
    )


def sum_of_exponents() -> float:
    """$2\\alpha - 4aE|z|^2$, the mean divergence.

    $|z|^2$ has a density in proportion to $e^{u - u^2/2}$: it is normal with mean and
    variance one, but for being positive.
    """
    mean = 1 + scipy.stats.norm.pdf(1.0) / scipy.stats.norm.cdf(1.0)
    return float(2 - 4 * mean)


@study(
    title="Shear-induced chaos",
    direction="algorithms",
    source=_SOURCE,
    quick=Config(shears=(5.0, 10.0), step=1 / 256, time=60.0, chains=64),
    paper=Config(
        shears=(0.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0),
        step=1 / 2048,
        time=400.0,
        chains=256,
    ),
)
def shear_induced_chaos(config: Config, backend: Any, sweep: Sweep) -> Findings:
    """Does shear turn a stable cycle chaotic when there is noise?

    In \\(\\dot z = (\\alpha + i\\beta)z - (a + ib)|z|^2z\\) with complex noise of
    strength \\(\\sigma\\), all one but the shear \\(b\\), the sum of both Lyapunov
    exponents is the mean divergence \\(2\\alpha - 4aE|z|^2 = -3.1504\\ldots\\) whatever
    \\(b\\) is, by a truncated normal distribution; the top one is negative at \\(b =
    5\\) and positive at \\(b = 10\\). Large shear is stiff: Euler and Maruyama's method
    overflows in steps in which an implicit one does not (the latter in Julia).
    """
    theory = sum_of_exponents()
    level = 1 - LEVEL / len(config.shears)
    sample = (config.step, config.time, config.chains, level)
    spectra = sweep(
        _spectrum,
        [
            (shear, *sample, number, config.seed, backend)
            for number, shear in enumerate(config.shears, 1)
        ],
    )
    found = np.array(spectra)
    total, total_error, quantile = found[:, 2:].T
    outside = np.abs(total - theory) - quantile * total_error
    worst = int(np.argmax(outside))
    tops = dict(zip(config.shears, found, strict=True))
    claims = [
        Claim(
            "the exponents' sum does not depend on shear, the most one is outside of "
            f"its interval about {theory:.4f}",
            expected=0.0,
            source="the mean divergence, by a truncated normal distribution",
            measured=float(outside[worst]),
            error=float(total_error[worst]),
            tolerance=config.step * (4 + max(config.shears)),
            reason="Student's intervals together, and the weak error of the first "
            "order in a step",
            relation="≤",
            level=LEVEL,
        )
    ]
    signs: tuple[tuple[float, Relation], ...] = ((5.0, "≤"), (10.0, "≥"))
    for shear, relation in signs:
        if shear in tops:
            top, error = tops[shear][:2]
            claims.append(
                Claim(
                    f"the top exponent at b = {shear:g} is "
                    f"{'negative' if relation == '≤' else 'positive'}",
                    expected=0.0,
                    source="DeVille et al. 2011, figure 4; Doan et al. 2018",
                    measured=float(top),
                    error=float(error),
                    tolerance=0.0,
                    reason="its sign alone",
                    relation=relation,
                )
            )
    methods = {EULER[backend]: True}
    if backend == "julia":
        methods["ImplicitEM"] = False
    long_step = (config.large_shear, config.long_step, 0, config.seed, backend)
    ends = sweep(_overflows, [(solver, *long_step) for solver in methods])
    for overflows, overflowed in zip(methods.values(), ends, strict=True):
        claims.append(
            Claim(
                f"{'Euler' if overflows else 'an implicit'} step "
                f"{'overflows' if overflows else 'does not overflow'} where it is long "
                "and shear large",
                expected=float(overflows),
                source="|1 + hλ| > 1 for explicit steps of a rotation of rate b|z|²",
                measured=float(overflowed),
                tolerance=0.0,
                reason="yes or no",
            )
        )
    return Findings(
        claims,
        {
            "shear": np.array(config.shears),
            "top": found[:, 0],
            "top_error": found[:, 1],
            "sum": total,
            "sum_error": total_error,
        },
    )


def _spectrum(
    point: tuple[float, float, float, int, float, int, int, Any],
) -> Float[np.ndarray, " 5"]:
    """The top exponent, the sum, their errors, and Student's quantile."""
    shear, step, time, chains, level, number, seed, backend = point
    found = lyapunov_spectrum(
        hopf(shear, time),
        backend=backend,
        solver="Heun",
        dt=step,
        key=jr.fold_in(jr.key(seed), number),
        chains=chains,
        level=level,
    )
    top, error = found.exponents[0], found.standard_errors[0]
    quantile = (found.high[0] - found.low[0]) / 2 / error
    return np.array([top, error, found.sum, found.sum_error, quantile])


def _overflows(point: tuple[str, float, float, int, int, str]) -> bool:
    """Whether a method overflows in long steps at a large shear."""
    solver, shear, step, number, seed, backend = point
    found = solve(
        hopf(shear, 4.0),
        backend,
        solver=solver,
        dt=step,
        key=jr.fold_in(jr.key(seed), number),
        throw=False,
    )
    return not (found.succeeded and np.all(np.isfinite(np.asarray(found.ys))))


@shear_induced_chaos.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """The top exponent and the sum over shear."""
    axes = figure.subplots()
    for backend, found in findings.items():
        data, style = found.data, mark(backend)
        for name, label, colour in (
            ("top", "top exponent", "C0"),
            ("sum", "sum of exponents", "C1"),
        ):
            axes.errorbar(
                data["shear"],
                data[name],
                yerr=data[f"{name}_error"],
                color=colour,
                label=f"{label} ({backend})",
                **style,
            )
    axes.axhline(
        sum_of_exponents(), color="C1", linestyle="--", label="mean divergence"
    )
    axes.axhline(0.0, color="k", linewidth=0.5)
    axes.set_xlabel("shear $b$")
    axes.set_ylabel("Lyapunov exponent")
    axes.legend(fontsize=7)
