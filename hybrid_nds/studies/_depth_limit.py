"""Residual networks of growing depth against their ordinary differential equation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..discretization import Scaling, depth_scaling
from ..problems import ODEProblem
from ._claim import Claim
from ._findings import Findings
from ._marks import mark
from ._precise import precise_end
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = "Cohen, Cont, Rossier & Xu 2021, Scaling properties of deep residual networks"


@dataclasses.dataclass(frozen=True)
class Config:
    """Depths, the width of the network, and the numbers of random networks."""

    depths: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512)
    width: int = 8
    random_networks: int = 2000
    seed: int = 0


def weight(
    s: Float[Array, ""], parts: tuple[Float[Array, "d d"], Float[Array, "d d"]]
) -> Float[Array, "d d"]:
    """The smooth weight at the depth $s$ in [0, 1]: $\\cos(2s)A + \\sin(3s)B$."""
    return jnp.cos(2 * s) * parts[0] + jnp.sin(3 * s) * parts[1]


def field(t: Any, y: Float[Array, " d"], args: Any) -> Float[Array, " d"]:
    """The limit, $\\dot x = W(t)\\tanh x$."""
    return weight(t, args) @ jnp.tanh(y)


def network(
    x: Float[Array, " d"], parts: Any, depth: int, stages: int
) -> Float[Array, " d"]:
    """The end of a network whose layers are Euler's (one stage) or Heun's steps."""
    h = 1 / depth

    def layer(x: Array, number: Array) -> tuple[Array, None]:
        first = weight(number * h, parts) @ jnp.tanh(x)
        if stages == 1:
            return x + h * first, None
        second = weight((number + 1) * h, parts) @ jnp.tanh(x + h * first)
        return x + h / 2 * (first + second), None

    return jax.lax.scan(layer, x, jnp.arange(depth))[0]


def random_network(
    x: Float[Array, " d"], depth: int, key: PRNGKeyArray
) -> Float[Array, " d"]:
    """The end of a network whose layers have weights of their own, of mean zero."""

    def layer(x: Array, key: PRNGKeyArray) -> tuple[Array, None]:
        weights = jr.normal(key, (x.size, x.size)) / jnp.sqrt(x.size)
        return x + weights @ jnp.tanh(x) / depth, None

    return jax.lax.scan(layer, x, jr.split(key, depth))[0]


@study(
    title="Depth limit of residual networks",
    direction="discretization",
    source=_SOURCE,
    quick=Config(depths=(32, 64, 128, 256), random_networks=500),
    paper=Config(
        depths=(8, 16, 32, 64, 128, 256, 512, 1024, 2048), random_networks=20_000
    ),
)
def depth_limit(config: Config, backend: str, sweep: Sweep) -> Findings:
    """At what rate does a residual network tend to its equation as its depth grows?

    Layers \\(x_{l+1} = x_l + L^{-1} W(l/L)\\tanh x_l\\) with a smooth \\(W\\) are
    Euler's steps of \\(\\dot x = W(t)\\tanh x\\): their ends tend to that of the
    equation as \\(L^{-1}\\), and as \\(L^{-2}\\) where a layer is a step of Heun's
    method. With independent weights of mean zero at the same scale there is no such
    equation: the network tends to the identity, at the rate \\(L^{-1/2}\\) of a sum of
    \\(L\\) independent terms divided by \\(L\\).

    The equation is solved on either backend with tolerances of 1e-12; networks run in
    JAX, and those with independent weights, which have no equation, along with Diffrax.
    """
    given = (config.width, config.depths, config.seed, backend)
    euler, heun = sweep(_smooth, [(stages, *given) for stages in (1, 2)])
    claims = [
        Claim(
            "the distance of a network to its equation falls with depth as a power",
            expected=-1.0,
            source="Euler's method has order one",
            measured=euler["slope"],
            error=(euler["high"] - euler["low"]) / 2,
            tolerance=0.05,
            reason="terms of the second order in 1/L bend the line at small L",
        ),
        Claim(
            "with layers of Heun's method it falls as the square",
            expected=-2.0,
            source="Heun's method has order two",
            measured=heun["slope"],
            error=(heun["high"] - heun["low"]) / 2,
            tolerance=0.1,
            reason="terms of the third order in 1/L bend the line at small L",
        ),
    ]
    data = {"depth": euler["sizes"], "euler": euler["errors"], "heun": heun["errors"]}
    if backend == "diffrax":
        draws = config.random_networks
        (random,) = sweep(_random, [(config.width, config.depths, draws, config.seed)])
        half = (random["high"] - random["low"]) / 2
        data["random"] = random["errors"]
        claims.append(
            Claim(
                "with independent weights the distance to the start falls as a root",
                expected=-0.5,
                source="variance of a sum of independent terms",
                measured=random["slope"],
                error=half / 1.96,
                tolerance=2 * half + 0.1 / min(config.depths),
                reason="twice the half width of the 95 % interval, and the relative "
                "term of the next order of the mean square, below 0.2/L by Taylor's "
                "expansion of tanh² at 1",
                level=1e-4,
            )
        )
    return Findings(claims, data)


def _smooth(point: tuple[int, int, tuple[int, ...], int, str]) -> dict[str, Any]:
    """How networks with smooth weights, and layers of so many stages, tend to it."""
    stages, d, depths, seed, backend = point
    keys = jr.split(jr.key(seed), 3)
    # Of norm about one each, so that the constants of the rates are moderate.
    parts = tuple(jr.normal(key, (d, d)) / (2 * jnp.sqrt(d)) for key in keys[:2])
    x = jr.normal(keys[2], (d,))
    end = precise_end(ODEProblem(field, x, 0.0, 1.0, args=parts), backend)
    run = jax.jit(network, static_argnums=(2, 3))
    found = depth_scaling(
        lambda depth: run(x, parts, depth, stages), end, depths=depths
    )
    return _numbers(found)


def _random(point: tuple[int, tuple[int, ...], int, int]) -> dict[str, Any]:
    """How networks with independent weights tend to the identity."""
    d, depths, draws, seed = point
    start = jnp.ones(d)
    found = depth_scaling(
        lambda depth, key: random_network(start, depth, key),
        start,
        depths=depths,
        draws=draws,
        # Another than those of the smooth weights.
        key=jr.split(jr.key(seed), 4)[3],
    )
    return _numbers(found)


def _numbers(found: Scaling) -> dict[str, Any]:
    """A fitted slope with its interval, and the errors that it is fitted to."""
    return {
        "slope": found.slope,
        "low": found.low,
        "high": found.high,
        "sizes": found.sizes,
        "errors": found.errors,
    }


@depth_limit.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Distances over depth, with the slopes of the theory."""
    axes = figure.subplots()
    labels = {
        "euler": ("smooth weights", -1.0),
        "heun": ("Heun's layers", -2.0),
        "random": ("independent weights, to the start", -0.5),
    }
    for number, (name, (label, slope)) in enumerate(labels.items()):
        colour = f"C{number}"
        for backend, found in findings.items():
            if name not in found.data:
                continue
            depths, values = found.data["depth"], found.data[name]
            shown = f"{label} ({backend})"
            axes.loglog(depths, values, color=colour, label=shown, **mark(backend))
            line = values[-1] * (depths / depths[-1]) ** slope
            axes.loglog(depths, line, "--", color=colour)
        axes.plot([], [], "--", color=colour, label=f"slope {slope:g}")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("depth $L$")
    axes.set_ylabel("distance")
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
