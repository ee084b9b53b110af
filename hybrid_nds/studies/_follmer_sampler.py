"""Föllmer's sampler: a diffusion that ends in a given distribution at the least
cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..discretization import weak_order
from ..ensembles import Moments, ensemble
from ..models import PathDivergence
from ..problems import SDEProblem
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
    "Föllmer 1985, An entropy approach to the time reversal of diffusion processes; "
    "Tzen & Raginsky 2019, Theoretical guarantees for sampling and inference in "
    "generative models with latent diffusions"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The target, the error of the drift, steps, and sizes of the samples."""

    mean: float = 1.0
    deviation: float = 0.5
    error: float = 0.5
    steps: int = 64
    samples: int = 20_000
    weak_steps: tuple[int, ...] = (8, 16, 32, 64)
    weak_samples: int = 4000
    seed: int = 0


def sampler(t: Any, z: Float[Array, " one"], args: Any) -> Float[Array, " one"]:
    """Föllmer's drift to $N(m, s^2)$ from zero: $(m/s^2 - cx)/(1 + c(1 - t))$.

    $c = 1/s^2 - 1$.
    """
    mean, deviation, _ = args
    c = 1 / deviation**2 - 1
    return (mean / deviation**2 - c * z) / (1 + c * (1 - t))


def erring(t: Any, z: Float[Array, " one"], args: Any) -> Float[Array, " one"]:
    """The same with an error $\\delta = \\kappa x$."""
    return sampler(t, z, args) + args[2] * z


def nothing(t: Any, z: Float[Array, " one"], args: Any) -> Float[Array, " one"]:
    """No drift: Brownian motion."""
    return jnp.zeros_like(z)


def unit(t: Any, z: Float[Array, " one"], args: Any) -> Float[Array, " one"]:
    """Noise of strength one."""
    return jnp.ones_like(z)


def latent(mean: float, deviation: float, error: float | None = None) -> SDEProblem:
    """Föllmer's diffusion against Brownian motion, or one that errs against his."""
    drift, reference = (sampler, nothing) if error is None else (erring, sampler)
    args = tuple(jnp.asarray(number) for number in (mean, deviation, error or 0.0))
    start = (jnp.zeros(1), jnp.zeros(()))
    return PathDivergence(drift, reference, unit).problem(start, 0.0, 1.0, args)


def squared(y: tuple[Float[Array, " one"], Any]) -> Float[Array, ""]:
    """The square of the sample."""
    return y[0][0] ** 2


def divergence(mean: float, deviation: float) -> float:
    """$\\mathrm{KL}(N(m, s^2)\\,\\|\\,N(0, 1))$."""
    return 0.5 * (mean**2 + deviation**2 - 1) - math.log(deviation)


def discrete(config: Config, steps: int, error: float) -> tuple[float, ...]:
    """Moments of Euler's steps by their recursion.

    **Returns:** the end's mean and variance, $\\tfrac12E\\int b^2dt$ and
    $\\tfrac12E\\int\\delta^2dt$ as sums over steps; all of them tend to those of the
    diffusion as steps shrink.
    """
    h, m, s = 1 / steps, config.mean, config.deviation
    c = 1 / s**2 - 1
    mean = variance = cost = path = 0.0
    for k in range(steps):
        scale = 1 + c * (1 - k * h)
        # The drift is its value at the mean, and a slope times the distance from it.
        level, slope = (m / s**2 - c * mean) / scale, -c / scale
        cost += h / 2 * (level**2 + slope**2 * variance)
        path += h / 2 * error**2 * (mean**2 + variance)
        mean += h * (level + error * mean)
        variance = (1 + h * (slope + error)) ** 2 * variance + h
    return mean, variance, cost, path


@study(
    title="Föllmer's sampler and latent diffusions",
    direction="continuous models",
    source=_SOURCE,
    quick=Config(steps=32, samples=4000, weak_steps=(8, 16, 32), weak_samples=2000),
    paper=Config(steps=512, samples=1_000_000, weak_samples=100_000),
)
def follmer_sampler(config: Config, backend: Any, sweep: Sweep) -> Findings:
    """What does it cost to turn noise into a sample?

    Among all drifts that bring Brownian motion from zero to the distribution \\(N(m,
    s^2)\\) at time one, \\(b(t, x) = (m/s^2 - cx)/(1 + c(1-t))\\) with \\(c = 1/s^2 -
    1\\) has the least energy: \\(\\tfrac12E\\int b^2dt\\) is the divergence
    \\(\\mathrm{KL}(N(m, s^2)\\|N(0, 1))\\) of the ends. Paths of a drift that is wrong
    by \\(\\delta\\) diverge from these by \\(\\tfrac12E\\int\\delta^2dt\\), by
    Girsanov's theorem. Euler's steps sample a distribution that is off by an amount of
    order \\(h\\), whose moments obey a recursion.
    """
    m, s = config.mean, config.deviation
    best, wrong = sweep(
        _law,
        [
            (m, s, error, config.steps, config.samples, number, config.seed, backend)
            for number, error in enumerate((None, config.error))
        ],
    )
    weak = (config.weak_steps, config.weak_samples)
    (order,) = sweep(_weak, [(m, s, *weak, 2, config.seed, backend)])
    fine = 1 << 16
    steps = discrete(config, config.steps, 0.0)
    gone = discrete(config, config.steps, config.error)[3]
    limit = discrete(config, fine, config.error)[3]
    exact = divergence(m, s)
    quantile = normal_quantile()
    # Against steps eight times shorter than the shortest, as it is measured.
    order_error = slope_error(order["steps"], order["errors"], order["standard_errors"])
    counts = np.array(sorted(config.weak_steps))
    squares = [_square(config, n) for n in (*counts, 8 * counts[-1])]
    biases = np.abs(np.array(squares[:-1]) - squares[-1])
    recursion = float(np.polyfit(np.log(1 / counts), np.log(biases), 1)[0])
    sampled = "normal quantile, and what Euler's steps are off by, from their recursion"
    return Findings(
        claims=(
            Claim(
                "samples have the mean m",
                expected=m,
                source="Föllmer 1985",
                measured=best["mean"],
                error=best["mean_error"],
                tolerance=quantile * best["mean_error"] + abs(steps[0] - m),
                reason=sampled,
                level=LEVEL,
            ),
            Claim(
                "samples have the variance s²",
                expected=s**2,
                source="Föllmer 1985",
                measured=best["variance"],
                error=best["variance_error"],
                tolerance=quantile * best["variance_error"] + abs(steps[1] - s**2),
                reason=sampled,
                level=LEVEL,
            ),
            Claim(
                "the energy of the drift is the divergence of the ends",
                expected=exact,
                source="Föllmer 1985; KL(N(m, s²)‖N(0, 1)) in closed form",
                measured=best["cost"],
                error=best["cost_error"],
                tolerance=quantile * best["cost_error"] + abs(steps[2] - exact),
                reason=sampled,
                level=LEVEL,
            ),
            Claim(
                "paths of a wrong drift diverge by half the mean square of its error",
                expected=limit,
                source="Girsanov's theorem, with moments by recursion in 65536 steps",
                measured=wrong["cost"],
                error=wrong["cost_error"],
                tolerance=quantile * wrong["cost_error"] + abs(gone - limit),
                reason=sampled,
                level=LEVEL,
            ),
            Claim(
                "Euler's distribution is off by a multiple of the step",
                expected=1.0,
                source="weak order of Euler's method",
                measured=order["order"],
                error=order_error,
                tolerance=quantile * order_error + abs(recursion - 1),
                reason="normal quantile of the slope, and how much these steps bend "
                "the line, from their recursion",
                level=LEVEL,
            ),
        ),
        data={
            "steps": order["steps"],
            "bias": order["errors"],
            "bias_error": order["standard_errors"],
            "cost": np.array(
                [law[name] for law in (best, wrong) for name in ("cost", "cost_error")]
            ),
        },
    )


def _law(
    point: tuple[float, float, float | None, int, int, int, int, str],
) -> dict[str, Any]:
    """Mean and variance of the sample and the mean of its cost, with errors."""
    mean, deviation, error, steps, samples, number, seed, backend = point
    found = ensemble(
        latent(mean, deviation, error),
        samples,
        key=jr.fold_in(jr.key(seed), number),
        backend=backend,
        solver=EULER[backend],
        dt=1 / steps,
        reduce=Moments(order=4),
    ).reduced
    (z, cost), (z_error, cost_error) = found.mean, found.standard_error
    return {
        "mean": z[0, 0],
        "mean_error": z_error[0, 0],
        "variance": found.variance[0][0, 0],
        "variance_error": found.variance_standard_error[0][0, 0],
        "cost": cost[0],
        "cost_error": cost_error[0],
    }


def _weak(
    point: tuple[float, float, tuple[int, ...], int, int, int, str],
) -> dict[str, Any]:
    """The weak order of Euler's method, with the biases it is fitted to."""
    mean, deviation, steps, samples, number, seed, backend = point
    found = weak_order(
        latent(mean, deviation),
        EULER[backend],
        squared,
        key=jr.fold_in(jr.key(seed), number),
        backend=backend,
        steps=steps,
        paths=samples,
    )
    return {
        "order": found.order,
        "steps": found.steps,
        "errors": found.errors,
        "standard_errors": found.standard_errors,
    }


def _square(config: Config, steps: int) -> float:
    """$E X^2$ of the sample that so many steps of Euler give."""
    mean, variance, _, _ = discrete(config, steps, 0.0)
    return mean**2 + variance


@follmer_sampler.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """The bias over steps, and both divergences beside what they must be."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    steps = next(iter(findings.values())).data["steps"]
    exact = config.mean**2 + config.deviation**2
    bias = [abs(_square(config, round(1 / h)) - exact) for h in steps]
    left.loglog(steps, bias, "k-", label="recursion, to the limit")
    left.loglog(steps, bias[0] * steps / steps[0], "k--", label="slope 1")
    limits = (
        divergence(config.mean, config.deviation),
        discrete(config, 1 << 16, config.error)[3],
    )
    right.bar([0, 1], limits, color="0.85", label="theory")
    for backend, found in findings.items():
        data, style = found.data, mark(backend)
        left.errorbar(
            data["steps"],
            data["bias"],
            yerr=data["bias_error"],
            color="C0",
            label=f"{backend}, to steps eight times shorter",
            **style,
        )
        values, errors = data["cost"][::2], data["cost"][1::2]
        right.errorbar([0, 1], values, yerr=errors, color="C1", label=backend, **style)
    left.set_xscale("log", base=2)
    left.set_xlabel("step")
    left.set_ylabel("bias of $E X^2$")
    right.set_xticks(
        [0, 1], ["$\\frac{1}{2}E\\int b^2$", "$\\frac{1}{2}E\\int\\delta^2$"]
    )
    right.set_ylabel("divergence")
    for axes in (left, right):
        axes.legend(fontsize=7)
