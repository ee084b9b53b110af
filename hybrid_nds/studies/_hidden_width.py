"""Residual networks of finite width against those of infinite width and depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..discretization import depth_scaling, strong_order, width_scaling
from ..models import MeanFieldResNet
from ..problems import ODEProblem
from ._claim import Claim
from ._findings import Findings
from ._levels import LEVEL, normal_quantile, slope_error
from ._marks import mark
from ._precise import precise_end
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Lu, Ma, Lu, Lu & Ying 2020, A mean-field analysis of deep ResNet; Chizat 2025, "
    "The hidden width of deep ResNets"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Depths and widths, and how many random networks of each."""

    depths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    widths: tuple[int, ...] = (1, 2, 4, 8, 16)
    networks: int = 2000
    seed: int = 0


def field(t: Any, y: Float[Array, " d"], args: Any) -> Float[Array, " d"]:
    """The limit, $\\dot x = E[v\\tanh(vx)]$ with $v$ standard normal."""
    nodes, shares = args
    return jnp.tanh(y[:, None] * nodes) @ (shares * nodes)


def normal_rule() -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """Nodes and weights of the trapezoidal rule for the standard normal distribution.

    Its error for a function analytic in a strip of half width $a$ is
    $O(e^{-2\\pi a/h})$ (Trefethen & Weideman 2014, theorem 5.1): at $h = 0.1$ below
    1e-30 for $\\tanh(vx)$ with $x \\le 2$, so that the cut at 9 decides, 1e-18.
    """
    nodes, h = np.linspace(-9.0, 9.0, 181, retstep=True)
    return nodes, np.exp(-(nodes**2) / 2) * float(h) / np.sqrt(2 * np.pi)


def limit() -> ODEProblem:
    """The equation of infinite width and depth, from 1."""
    rule = tuple(jnp.asarray(part) for part in normal_rule())
    return ODEProblem(field, jnp.ones(1), 0.0, 1.0, args=rule)


def network(depth: int, width: int, key: Any) -> Float[Array, " one"]:
    """The output at 1 of a network with $u = v + \\xi$, all independent."""
    drawn = MeanFieldResNet.independent(depth, width, 1, key=key, dtype=float)
    return drawn(jnp.ones(1))


@study(
    title="Hidden width of residual networks",
    direction="discretization",
    source=_SOURCE,
    quick=Config(depths=(16, 64, 256), widths=(1, 4, 16), networks=500),
    paper=Config(
        depths=(16, 32, 64, 128, 256, 512, 1024, 2048),
        widths=(1, 2, 4, 8, 16, 32, 64),
        networks=20_000,
    ),
)
def hidden_width(config: Config, backend: str, sweep: Sweep) -> Findings:
    """How wide must a deep residual network be?

    Layers \\(x \\leftarrow x + (LM)^{-1}\\sum_{j\\le M}u_j\\tanh(v_jx)\\) with
    independent \\(v \\sim N(0,1)\\), \\(u = v + N(0,1)\\), tend to
    \\(\\dot x = E[v\\tanh(vx)]\\) as \\(1/L + 1/\\sqrt{LM}\\): one hidden neuron a
    layer is enough, for depth makes up for width, at the rate \\(-\\tfrac12\\);
    layers of infinite width are Euler's steps, of rate \\(-1\\).

    The expectation is a quadrature to rounding. The limit and its Euler steps run on
    either backend, random networks in JAX.
    """
    depths, widths, deepest = config.depths, config.widths, config.depths[-1]
    given = (config.networks, config.seed, backend)
    (wide,) = sweep(_wide, [(depths, backend)])
    thin, widening = sweep(
        _random,
        [("depth", depths, 1, 0, *given), ("width", widths, deepest, 1, *given)],
    )
    return Findings(
        claims=(
            Claim(
                "with one hidden neuron a layer the distance falls as a root of depth",
                expected=-0.5,
                source="variance of a sum of independent terms",
                measured=thin["slope"],
                error=_error(thin),
                tolerance=normal_quantile() * _error(thin) + 0.5 / config.depths[0],
                reason="normal quantile, and the relative term of the next "
                "order of the mean square, below 1/L",
                level=LEVEL,
            ),
            Claim(
                "with layers of infinite width it falls as depth itself",
                expected=-1.0,
                source="Euler's method has order one",
                measured=-wide["order"],
                tolerance=1 / config.depths[0],
                reason="the relative term of the second order in 1/L",
            ),
            Claim(
                "at one depth it falls as a root of width",
                expected=-0.5,
                source="variance of a mean of independent terms",
                measured=widening["slope"],
                error=_error(widening),
                tolerance=normal_quantile() * _error(widening)
                + 0.5 * _share(wide, widening),
                reason="normal quantile, and the share of the square that is "
                "Euler's and does not fall with width",
                level=LEVEL,
            ),
        ),
        data={
            "depth": np.array(config.depths),
            "wide": wide["errors"][np.argsort(-wide["steps"])],
            "thin": thin["errors"],
            "width": np.array(config.widths),
            "widening": widening["errors"],
        },
    )


def _wide(point: tuple[tuple[int, ...], str]) -> dict[str, Any]:
    """The order at which layers of infinite width tend to the limit, with errors."""
    depths, backend = point
    problem = limit()
    end = precise_end(problem, backend)
    found = strong_order(problem, "Euler", backend=backend, steps=depths, exact=end)
    return {"order": found.order, "steps": found.steps, "errors": found.errors}


def _random(
    point: tuple[str, tuple[int, ...], int, int, int, int, str],
) -> dict[str, Any]:
    """How random networks tend to the limit over depth or width, the other fixed."""
    over, sizes, fixed, number, draws, seed, backend = point
    end = precise_end(limit(), backend)
    sample: dict[str, Any] = {
        "draws": draws,
        "key": jr.fold_in(jr.key(seed), number),
    }
    if over == "depth":
        found = depth_scaling(
            lambda depth, key: network(depth, fixed, key), end, depths=sizes, **sample
        )
    else:
        found = width_scaling(
            lambda width, key: network(fixed, width, key), end, widths=sizes, **sample
        )
    return {
        "slope": found.slope,
        "sizes": found.sizes,
        "errors": found.errors,
        "standard_errors": found.standard_errors,
    }


def _error(found: Mapping[str, Any]) -> float:
    return slope_error(found["sizes"], found["errors"], found["standard_errors"])


def _share(wide: Mapping[str, Any], widening: Mapping[str, Any]) -> float:
    """Euler's part of the mean square at the largest width."""
    return float(min(wide["errors"]) ** 2 / widening["errors"][-1] ** 2)


@hidden_width.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Distances over depth and over width, with the slopes of the theory."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    curves = [
        (left, "depth", "thin", "one hidden neuron", -0.5),
        (left, "depth", "wide", "infinite width", -1.0),
        (right, "width", "widening", f"depth {config.depths[-1]}", -0.5),
    ]
    for number, (axes, over, name, label, slope) in enumerate(curves):
        for backend, found in findings.items():
            sizes, values = found.data[over], found.data[name]
            axes.loglog(
                sizes,
                values,
                color=f"C{number}",
                label=f"{label} ({backend})",
                **mark(backend),
            )
        found = next(iter(findings.values()))
        sizes, values = found.data[over], found.data[name]
        line = values[0] * (sizes / sizes[0]) ** slope
        axes.loglog(sizes, line, "--", color=f"C{number}", label=f"slope {slope:g}")
        axes.set_xscale("log", base=2)
        axes.set_xlabel("depth $L$" if over == "depth" else "width $M$")
        axes.set_ylabel("root mean square distance to the limit")
        axes.legend(fontsize=7)
