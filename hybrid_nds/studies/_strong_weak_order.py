"""Strong and weak orders of schemes where solutions are known."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..discretization import strong_order, weak_order
from ..ensembles import Moments, ensemble
from ..problems import SDEProblem
from ._claim import Claim
from ._controllability import heisenberg_noise, no_drift
from ._findings import Findings
from ._levels import LEVEL, normal_quantile, slope_error
from ._marks import mark
from ._schemes import EULER
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Kloeden & Platen 1992, Numerical Solution of Stochastic Differential Equations, "
    "theorems 10.2.2, 10.3.5 and 14.1.5; Rößler 2010; Lévy 1951, Wiener's random "
    "function and other Laplacian random functions"
)
MILSTEIN = {"diffrax": "ItoMilstein", "julia": "RKMil"}
RATE, VOLATILITY = 1.0, 0.6


@dataclasses.dataclass(frozen=True)
class Config:
    """Numbers of steps, of paths, and the frequencies of the area's transform."""

    steps: tuple[int, ...] = (16, 32, 64, 128)
    weak_steps: tuple[int, ...] = (4, 8, 16, 32)
    paths: int = 1000
    weak_paths: int = 3000
    frequencies: tuple[float, ...] = (1.0, 2.0, 4.0)
    area_steps: int = 64
    areas: int = 10_000
    seed: int = 0


def growth(t: Any, y: Float[Array, " one"], args: Any) -> Float[Array, " one"]:
    """The drift $aX$ of geometric Brownian motion."""
    return RATE * y


def volatility(t: Any, y: Float[Array, " one"], args: Any) -> Float[Array, " one"]:
    """Its diffusion $\\sigma X$."""
    return VOLATILITY * y


def washboard(t: Any, y: Float[Array, " 2"], args: Any) -> Float[Array, " 2"]:
    """A periodic force $2\\sin x$, for additive noise."""
    return 2 * jnp.sin(y)


def shaken(t: Any, y: Float[Array, " 2"], args: Any) -> Float[Array, " 2"]:
    """Additive noise, strong beside the drift."""
    return 2 * jnp.ones_like(y)


def equation(noise: str) -> SDEProblem:
    """The problem with noise of one kind."""
    if noise == "multiplicative":
        return SDEProblem(growth, volatility, jnp.ones(1), 0.0, 1.0)
    if noise == "additive":
        start = jnp.array([0.0, 1.0])
        return SDEProblem(washboard, shaken, start, 0.0, 1.0, noise="additive")
    # The third component is the area that two motions sweep.
    return SDEProblem(
        no_drift, heisenberg_noise, jnp.zeros(3), 0.0, 1.0, noise="general"
    )


def geometric(path: Any) -> Float[Array, " one"]:
    """Geometric Brownian motion's end along a path."""
    motion = path.values()[0][-1]
    return jnp.exp(RATE - VOLATILITY**2 / 2 + VOLATILITY * motion)


def wave(y: Float[Array, " 3"], frequency: float) -> Float[Array, ""]:
    """$\\cos\\lambda A$."""
    return jnp.cos(frequency * y[2])


def first(y: Float[Array, " n"]) -> Float[Array, ""]:
    """The first component."""
    return y[0]


def discrete_transform(frequency: float, steps: int) -> float:
    """$E\\cos\\lambda A$ of the area that so many steps of Euler sweep.

    $\\prod_k(1 + (\\lambda h/2)^2\\cot^2\\tfrac{(2k-1)\\pi}{2n})^{-1/2}$ over
    $k = 1, \\dots, n$: the area is $\\tfrac12a^\\top Sb$ of independent normal vectors
    and the matrix $S$ of signs, with eigenvalues $\\pm i\\cot\\tfrac{(2k-1)\\pi}{2n}$.
    """
    k = np.arange(1, steps + 1)
    roots = 1 / np.tan((2 * k - 1) * np.pi / (2 * steps))
    factors = 1 + (frequency / (2 * steps)) ** 2 * roots**2
    return float(np.exp(-0.5 * np.sum(np.log(factors))))


def weak_slope(steps: tuple[int, ...]) -> float:
    """The slope of Euler's weak error $e^a - (1 + ah)^n$ over these steps."""
    n = np.array(steps)
    errors = np.exp(RATE) - (1 + RATE / n) ** n
    return float(np.polyfit(-np.log(n), np.log(errors), 1)[0])


def _error(estimate: Mapping[str, Any]) -> float:
    """The sampling error of an order; errors of several steps share their paths."""
    return slope_error(
        estimate["steps"], estimate["errors"], estimate["standard_errors"]
    )


@study(
    title="Strong and weak orders",
    direction="discretization",
    source=_SOURCE,
    quick=Config(
        steps=(16, 32, 64),
        weak_steps=(4, 8, 16),
        paths=400,
        weak_paths=1200,
        frequencies=(2.0,),
        area_steps=32,
        areas=4000,
    ),
    paper=Config(
        steps=(16, 32, 64, 128, 256, 512),
        weak_steps=(4, 8, 16, 32, 64),
        paths=10_000,
        weak_paths=100_000,
        area_steps=256,
        areas=1_000_000,
    ),
)
def strong_weak_order(config: Config, backend: Any, sweep: Sweep) -> Findings:
    """How fast do schemes for stochastic equations converge, along paths and in
    distribution?

    Euler and Maruyama's method has strong order one half and weak order one; Milstein's
    has strong order one where noise commutes, and Euler's has it where noise is
    additive. SRA1 sees the space-time area of every step, and reaches three halves
    there. Noise that does not commute sweeps a Lévy area, which increments do not know:
    Euler's order is one half again, though in distribution
    \\(E\\cos\\lambda A = \\operatorname{sech}(\\lambda/2)\\) is met.
    """
    euler, milstein = EULER[backend], MILSTEIN[backend]
    given = (config.seed, backend)
    strong = ("strong", config.steps, config.paths)
    weak = ("weak", config.weak_steps, config.weak_paths)
    # Methods on one problem see the same paths, those of one number.
    runs = [
        ("Euler, multiplicative noise", 0.5, strong, "multiplicative", euler, 0),
        ("Milstein, multiplicative noise", 1.0, strong, "multiplicative", milstein, 0),
        ("Euler, additive noise", 1.0, strong, "additive", euler, 1),
        ("SRA1, additive noise", 1.5, strong, "additive", "SRA1", 1),
        ("Euler, noise that does not commute", 0.5, strong, "turning", euler, 2),
        ("Euler, multiplicative noise", 1.0, weak, "multiplicative", euler, 3),
    ]
    estimates = sweep(_order, [(*kind, *run, *given) for _, _, kind, *run in runs])
    names = [f"{kind} order: {name}" for name, _, (kind, *_), *_ in runs]
    bend = max(0.1, abs(weak_slope(config.weak_steps) - 1))
    claims = [
        Claim(
            name,
            expected=order,
            source="Kloeden & Platen 1992"
            if "SRA1" not in name
            else "Rößler 2010, section 6",
            measured=estimate["order"],
            error=_error(estimate),
            tolerance=normal_quantile() * _error(estimate)
            + (bend if name.startswith("weak") else 0.1),
            reason="normal quantile, and terms of the next order: 0.1 in steps of 1/16 "
            "and less, of the weak error by its closed form (1 + ah)^n",
            level=LEVEL,
        )
        for name, (_, order, *_), estimate in zip(names, runs, estimates, strict=True)
    ]
    areas = (config.frequencies, config.area_steps, config.areas, 4, *given)
    ((means, errors),) = sweep(_transform, [areas])
    theory = np.array([1 / math.cosh(f / 2) for f in config.frequencies])
    discrete = [discrete_transform(f, config.area_steps) for f in config.frequencies]
    beyond = (np.abs(means - theory) - np.abs(np.array(discrete) - theory)) / errors
    claims.append(
        Claim(
            "Lévy's area has E cos(λA) = sech(λ/2), largest deviation in "
            "standard errors",
            expected=0.0,
            source="Lévy 1951",
            measured=float(beyond.max()),
            tolerance=normal_quantile(len(theory)),
            reason="normal quantile, beyond what Euler's steps are off by, in "
            "closed form",
            relation="≤",
            level=LEVEL,
        )
    )
    data: dict[str, Any] = {
        "frequencies": np.array(config.frequencies),
        "transform": means,
        "transform_error": errors,
        "names": np.array(names),
    }
    for number, estimate in enumerate(estimates):
        data[f"{number}"] = np.stack([estimate["steps"], estimate["errors"]])
    return Findings(claims, data)


def _order(
    point: tuple[str, tuple[int, ...], int, str, str, int, int, str],
) -> dict[str, Any]:
    """The order of a method along paths or in distribution, with the errors it is
    fitted to."""
    kind, steps, paths, noise, solver, number, seed, backend = point
    options: dict[str, Any] = {
        "backend": backend,
        "steps": steps,
        "paths": paths,
        "key": jr.fold_in(jr.key(seed), number),
        "exact": geometric if noise == "multiplicative" else None,
    }
    if kind == "strong":
        found = strong_order(equation(noise), solver, refine=8, **options)
    else:
        found = weak_order(equation(noise), solver, first, **options)
    return {
        "order": found.order,
        "steps": found.steps,
        "errors": found.errors,
        "standard_errors": found.standard_errors,
    }


def _transform(
    point: tuple[tuple[float, ...], int, int, int, int, str],
) -> Float[np.ndarray, "2 frequencies"]:
    """Means of $\\cos\\lambda A$ over areas of Euler's steps, and their errors."""
    frequencies, steps, count, number, seed, backend = point
    areas = ensemble(
        equation("turning"),
        count,
        key=jr.fold_in(jr.key(seed), number),
        backend=backend,
        solver=EULER[backend],
        dt=1 / steps,
        reduce={
            f"{frequency:g}": Moments(of=functools.partial(wave, frequency=frequency))
            for frequency in frequencies
        },
    ).reduced
    laws = [areas[f"{frequency:g}"] for frequency in frequencies]
    return np.array([(law.mean[0], law.standard_error[0]) for law in laws]).T


@strong_weak_order.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Errors over steps with the orders of the theory; the transform of the area."""
    figure.set_size_inches(9.4, 5.0)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    orders = (0.5, 1.0, 1.0, 1.5, 0.5, 1.0)
    for number, order in enumerate(orders):
        for backend, found in findings.items():
            steps, errors = found.data[f"{number}"]
            name = str(found.data["names"][number])
            left.loglog(
                steps,
                errors,
                color=f"C{number}",
                label=f"{name} ({backend})",
                **mark(backend),
            )
        steps, errors = next(iter(findings.values())).data[f"{number}"]
        line = errors[0] * (steps / steps[0]) ** order
        left.loglog(steps, line, "--", color=f"C{number}")
    left.plot([], [], "k--", label="order of the theory")
    many = np.linspace(0.0, 1.1 * max(config.frequencies), 100)
    right.plot(many, 1 / np.cosh(many / 2), "k-", label="sech$(\\lambda/2)$")
    for backend, found in findings.items():
        right.errorbar(
            found.data["frequencies"],
            found.data["transform"],
            yerr=found.data["transform_error"],
            color="C0",
            label=backend,
            **mark(backend),
        )
    left.set_xscale("log", base=2)
    left.set_xlabel("step")
    left.set_ylabel("error")
    right.set_xlabel("$\\lambda$")
    right.set_ylabel("$E\\cos\\lambda A$")
    right.legend(fontsize=7)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=6)
