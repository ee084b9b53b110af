"""Residual networks with random weights against their stochastic equation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.stats
from jaxtyping import Array, Float

from ..ensembles import Moments, ensemble
from ..problems import SDEProblem
from ..stability import lyapunov_spectrum
from ._claim import Claim
from ._findings import Findings
from ._levels import LEVEL, normal_quantile
from ._marks import mark
from ._schemes import EULER
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Cohen, Cont, Rossier & Xu 2021, Scaling properties of deep residual networks; "
    "Newman 1986, The distribution of Lyapunov exponents"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The width, depths and scalings of the networks, and the sizes of the samples."""

    width: int = 4
    depths: tuple[int, ...] = (4, 16, 64)
    powers: tuple[float, ...] = (0.5, 0.75, 1.0)
    networks: int = 4000
    step: float = 0.01
    time: float = 50.0
    chains: int = 64
    seed: int = 0


def rest(t: Any, y: Float[Array, " d"], scale: Any) -> Float[Array, " d"]:
    """No drift."""
    return jnp.zeros_like(y)


def weights(t: Any, y: Float[Array, " d"], scale: Any) -> Float[Array, "d motions"]:
    """A motion for each weight: the row $i$ of $dB\\,y$ with $B_{ij}$ over $d$."""
    d = y.shape[0]
    return scale * jnp.kron(jnp.eye(d, dtype=y.dtype), y) / jnp.sqrt(d)


def networks(width: int, depth: int, power: float) -> SDEProblem:
    """Networks of one depth: the steps of Euler and Maruyama are their layers."""
    # An increment over 1/L has the variance 1/L, a layer asks for L to the -2q.
    scale = jnp.asarray(depth ** (0.5 - power))
    start = jnp.ones(width) / jnp.sqrt(width)
    return SDEProblem(rest, weights, start, 0.0, 1.0, args=scale, noise="general")


def mean_logarithm(width: int, depth: int) -> tuple[float, float]:
    """Mean and variance of $\\log|h_L|^2$ for $q = \\tfrac12$, by quadrature.

    In each layer $|h|^2$ is multiplied by $|e + g/\\sqrt L|^2$ with
    $g \\sim N(0, I/d)$: by a variable of the noncentral chi-squared distribution of $d$
    degrees of freedom and noncentrality $Ld$, over $Ld$.
    """
    size = depth * width
    middle, deviation = width + size, math.sqrt(2 * (width + 2 * size))
    # Tails beyond 12 deviations are below the rounding of the sum.
    low, high = max(1e-9, middle - 12 * deviation), middle + 12 * deviation
    x = np.linspace(low, high, 40_001)
    density = scipy.stats.ncx2.pdf(x, width, size)
    logarithm = np.log(x / size)
    total = np.trapezoid(density, x)
    mean = np.trapezoid(density * logarithm, x) / total
    variance = np.trapezoid(density * (logarithm - mean) ** 2, x) / total
    return depth * float(mean), depth * float(variance)


def squared_norm(y: Float[Array, " d"]) -> Float[Array, ""]:
    """$|h|^2$."""
    return jnp.sum(y**2)


def logarithm(y: Float[Array, " d"]) -> Float[Array, ""]:
    """$\\log|h|^2$."""
    return jnp.log(jnp.sum(y**2))


@study(
    title="Random residual networks and their stochastic limit",
    direction="discretization",
    source=_SOURCE,
    quick=Config(
        width=3,
        depths=(4, 64),
        powers=(0.5, 1.0),
        networks=2000,
        time=10.0,
        chains=32,
    ),
    paper=Config(
        depths=(4, 16, 64, 256, 1024), networks=200_000, time=400.0, chains=256
    ),
)
def random_resnet(config: Config, backend: Any, sweep: Sweep) -> Findings:
    """What do residual networks with independent random weights tend to?

    Layers \\(h \\leftarrow h + L^{-q}Wh\\), \\(W_{ij} \\sim N(0, 1/d)\\), multiply the
    mean square by \\(1 + L^{-2q}\\) each. At \\(q = \\tfrac12\\) they are the steps of
    Euler and Maruyama for \\(dh = dB\\,h/\\sqrt d\\) with a Brownian motion for each
    weight; its norm is lognormal, \\(\\log|h_1|^2 \\sim N(1 - 2/d, 4/d)\\), and its
    Lyapunov exponents are \\(\\tfrac12 - k/d\\), so that the mean square grows while
    half of all directions shrink.

    Networks are the solver's own steps, on either backend.
    """
    d, given = config.width, (config.seed, backend)
    pairs = [(depth, power) for depth in config.depths for power in config.powers]
    laws = sweep(
        _moments,
        [
            (d, *pair, config.networks, number, *given)
            for number, pair in enumerate(pairs, 1)
        ],
    )
    shape = len(config.depths), len(config.powers)
    means, errors = (
        np.array([law[name] for law in laws]).reshape(shape)
        for name in ("square", "square_error")
    )
    expected = np.array([(1 + L ** (-2 * q)) ** L for L, q in pairs]).reshape(shape)
    scores = np.abs(means - expected) / errors
    deepest = laws[pairs.index((config.depths[-1], 0.5))]
    mean, mean_error = deepest["mean"], deepest["mean_error"]
    spread, spread_error = deepest["variance"], deepest["variance_error"]
    finite_mean, finite_spread = mean_logarithm(d, config.depths[-1])
    (spectrum,) = sweep(
        _spectrum,
        [(d, config.step, config.time, config.chains, 1 - LEVEL / d, 0, *given)],
    )
    theory = 0.5 - np.arange(1, d + 1) / d
    outside = np.maximum(spectrum["low"] - theory, theory - spectrum["high"])
    four = normal_quantile()
    return Findings(
        claims=(
            Claim(
                "mean squares are those of the network, largest deviation in "
                "standard errors",
                expected=0.0,
                source="E|h_L|² = (1 + L^{−2q})^L, from independence",
                measured=float(scores.max()),
                tolerance=normal_quantile(scores.size),
                reason="normal quantile for all depths and scalings together",
                relation="≤",
                level=LEVEL,
            ),
            Claim(
                "the deepest network's E log|h|² is 1 − 2/d",
                expected=1 - 2 / d,
                source="Itô's formula for log|h|²",
                measured=mean,
                error=mean_error,
                tolerance=four * mean_error + abs(finite_mean - (1 - 2 / d)),
                reason="normal quantile, and what a finite depth is off by, from "
                "quadrature of the noncentral chi-squared distribution",
                level=LEVEL,
            ),
            Claim(
                "the deepest network's Var log|h|² is 4/d",
                expected=4 / d,
                source="Itô's formula for log|h|²",
                measured=spread,
                error=spread_error,
                tolerance=four * spread_error + abs(finite_spread - 4 / d),
                reason="normal quantile, and what a finite depth is off by, from "
                "quadrature of the noncentral chi-squared distribution",
                level=LEVEL,
            ),
            Claim(
                "Lyapunov exponents are 1/2 − k/d, the most one is outside of its "
                "interval",
                expected=0.0,
                source="Newman 1986, for the limit of many layers",
                measured=float(outside.max()),
                error=float(spectrum["standard_errors"].max()),
                tolerance=config.step,
                reason="Student's intervals for all exponents together; Euler's "
                "bias, of the top one h(−1/4 + 3/(2d) − 2/d²) by expansion, is below h",
                relation="≤",
                level=LEVEL,
            ),
        ),
        data={
            "depth": np.array(config.depths),
            "powers": np.array(config.powers),
            "means": means,
            "errors": errors,
            "expected": expected,
            "exponents": spectrum["exponents"],
            "exponent_errors": spectrum["standard_errors"],
        },
    )


def _moments(point: tuple[int, int, float, int, int, int, str]) -> dict[str, Any]:
    """The mean of $|h_L|^2$, and mean and variance of its logarithm, with errors."""
    width, depth, power, count, number, seed, backend = point
    found = ensemble(
        networks(width, depth, power),
        count,
        key=jr.fold_in(jr.key(seed), number),
        backend=backend,
        solver=EULER[backend],
        dt=1 / depth,
        reduce={
            "square": Moments(of=squared_norm),
            "logarithm": Moments(order=4, of=logarithm),
        },
    ).reduced
    square, law = found["square"], found["logarithm"]
    return {
        "square": square.mean[0],
        "square_error": square.standard_error[0],
        "mean": law.mean[0],
        "mean_error": law.standard_error[0],
        "variance": law.variance[0],
        "variance_error": law.variance_standard_error[0],
    }


def _spectrum(
    point: tuple[int, float, float, int, float, int, int, Any],
) -> dict[str, Float[np.ndarray, " d"]]:
    """The Lyapunov exponents of the limit, with their errors and intervals."""
    width, step, time, chains, level, number, seed, backend = point
    rested, one = jnp.zeros(width), jnp.ones(())
    found = lyapunov_spectrum(
        SDEProblem(rest, weights, rested, 0.0, time, args=one, noise="general"),
        backend=backend,
        solver=EULER[backend],
        dt=step,
        key=jr.fold_in(jr.key(seed), number),
        chains=chains,
        level=level,
    )
    return {
        "exponents": found.exponents,
        "standard_errors": found.standard_errors,
        "low": found.low,
        "high": found.high,
    }


@random_resnet.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Mean squares over depth, and the Lyapunov spectrum."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    found = next(iter(findings.values()))
    depths = found.data["depth"]
    many = np.geomspace(depths[0], depths[-1], 200)
    for number, power in enumerate(found.data["powers"]):
        colour, line = f"C{number}", (1 + many ** (-2 * power)) ** many
        left.semilogx(many, line, color=colour, label=f"theory, $q = {power:g}$")
    k = np.arange(1, found.data["exponents"].size + 1)
    right.plot(k, 0.5 - k / k.size, "k-", label="$\\frac{1}{2} - k/d$")
    for backend, found in findings.items():
        for number in range(len(found.data["powers"])):
            left.errorbar(
                depths,
                found.data["means"][:, number],
                yerr=found.data["errors"][:, number],
                color=f"C{number}",
                label=backend if number == 0 else None,
                **mark(backend),
            )
        right.errorbar(
            k,
            found.data["exponents"],
            yerr=found.data["exponent_errors"],
            color="C3",
            label=backend,
            **mark(backend),
        )
    left.set_xscale("log", base=2)
    left.set_xlabel("depth $L$")
    left.set_ylabel("$E|h_L|^2$")
    right.set_xlabel("$k$")
    right.set_xticks(k)
    right.set_ylabel("Lyapunov exponent")
    for axes in (left, right):
        axes.legend(fontsize=7)
