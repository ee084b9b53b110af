"""Stability of linear stochastic equations: almost surely, in moments, in a scheme."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..ensembles import Moments, ensemble
from ..models import CommonNoiseSDE
from ..problems import SDEProblem
from ..stability import lyapunov_spectrum, moment_exponent
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
    "Khasminskii 2012, Stochastic Stability of Differential Equations, section 5.5; "
    "Arnold, Crauel & Wihstutz 1983; Higham 2000, Mean-square and asymptotic stability "
    "of the stochastic theta method"
)
# The implicit methods are Julia's alone.
THETAS = {"diffrax": (0.0,), "julia": (0.0, 0.5, 1.0)}


@dataclasses.dataclass(frozen=True)
class Config:
    """The scalar equation, its moments, a network, steps, and sizes of samples."""

    drift: float = 0.5
    noise: float = 1.2
    moments: tuple[float, ...] = (0.5, 1.0, 2.0)
    sampled_moment: float = 1.0
    neurons: int = 3
    step: float = 1 / 64
    time: float = 100.0
    chains: int = 64
    trajectories: int = 20_000
    implicit_trajectories: int = 2000
    scheme_drifts: tuple[float, ...] = (-3.0, -1.5, -0.5)
    scheme_noises: tuple[float, ...] = (0.3, 1.0, 2.0)
    seed: int = 0


def drift(t: Any, y: Float[Array, " one"], args: Any) -> Float[Array, " one"]:
    """$aX$."""
    return args[0] * y


def diffusion(t: Any, y: Float[Array, " one"], args: Any) -> Float[Array, " one"]:
    """$\\sigma X$."""
    return args[1] * y


def square(y: Float[Array, " one"]) -> Float[Array, ""]:
    """$X^2$."""
    return y[0] ** 2


def equation(a: float, sigma: float, end: float, start: float = 1.0) -> SDEProblem:
    """The scalar equation $dX = aX\\,dt + \\sigma X\\,dW$."""
    args = (jnp.asarray(a), jnp.asarray(sigma))
    return SDEProblem(drift, diffusion, jnp.full(1, start), 0.0, end, args=args)


def euler_exponent(a: float, sigma: float, step: float) -> float:
    """$h^{-1}E\\log|1 + ah + \\sigma\\sqrt h\\,\\xi|$: of the steps, by quadrature."""
    x, weights = np.polynomial.hermite_e.hermegauss(80)
    logs = np.log(np.abs(1 + a * step + sigma * np.sqrt(step) * x))
    return float(weights @ logs / weights.sum() / step)


def theta_factor(z: float, s: float, theta: float) -> float:
    """How the second moment grows in a step, $z = \\lambda h$ and $s = \\sigma^2h$."""
    return ((1 + (1 - theta) * z) ** 2 + s) / (1 - theta * z) ** 2


@study(
    title="Linear stochastic stability",
    direction="algorithms",
    source=_SOURCE,
    quick=Config(
        time=20.0,
        chains=32,
        trajectories=4000,
        implicit_trajectories=1000,
        scheme_drifts=(-3.0, -0.5),
        scheme_noises=(0.3, 1.5),
    ),
    paper=Config(
        time=1000.0,
        chains=256,
        trajectories=1_000_000,
        implicit_trajectories=100_000,
    ),
)
def linear_stochastic_stability(config: Config, backend: Any, sweep: Sweep) -> Findings:
    """Is noise good or bad for stability?

    Solutions of \\(dX = aX\\,dt + \\sigma X\\,dW\\) grow at the rate \\(a -
    \\sigma^2/2\\) almost surely, and their \\(p\\)-th moments at \\(pa +
    p(p-1)\\sigma^2/2\\): noise stabilizes paths while it destabilizes mean squares, so
    both are reported. A network that rests at zero keeps all its exponents but for
    \\(-\\sigma^2/2\\) under noise common to its neurons. A step of
    \\(\\theta\\)-Maruyama is stable in mean square exactly where
    \\[ 2\\lambda + \\sigma^2 + (1-2\\theta)h\\lambda^2 < 0 ; \\]
    its factor is measured from steps of the solver itself, the implicit ones in Julia.
    """
    a, sigma, h = config.drift, config.noise, config.step
    p, given = config.sampled_moment, (config.seed, backend)
    follow = (sigma, h, config.time, config.chains)
    top, network = sweep(
        _exponents,
        [
            ("equation", a, *follow, 1 - LEVEL, 0, *given),
            ("network", config.neurons, *follow, 1 - LEVEL / config.neurons, 1, *given),
        ],
    )
    theory = a - sigma**2 / 2
    powers = np.array(config.moments)
    growth = powers * a + powers * (powers - 1) * sigma**2 / 2
    exact = np.array(
        [
            moment_exponent(equation(a, sigma, 1.0), power, method="exact").value
            for power in powers
        ]
    )
    (sampled,) = sweep(
        _moment, [(a, sigma, p, h, config.trajectories, 1 - LEVEL, 2, *given)]
    )
    rates = network["rates"]
    shifted = np.sort(rates.real)[::-1] - sigma**2 / 2
    outside = np.maximum(network["low"] - shifted, shifted - network["high"])
    bias = max(
        abs(euler_exponent(r, sigma, h) - (r - sigma**2 / 2)) for r in rates.real
    )
    steps = [
        (rate, noise, theta)
        for theta in THETAS[backend]
        for rate in config.scheme_drifts
        for noise in config.scheme_noises
    ]
    factors = sweep(
        _factor,
        [
            (
                *step,
                # Implicit steps are a solve each: fewer of them.
                config.implicit_trajectories if step[2] else config.trajectories,
                number,
                *given,
            )
            for number, step in enumerate(steps, 3)
        ],
    )
    factor, error = np.array(factors).T
    z, noises, theta = np.array(steps).T
    s = noises**2
    stable = 2 * z + s + (1 - 2 * theta) * z**2 < 0
    scores = np.abs(factor - theta_factor(z, s, theta)) / error
    significant = np.abs(factor - 1) > normal_quantile(len(steps)) * error
    wrong = int(np.sum(significant & ((factor < 1) != stable)))
    return Findings(
        claims=(
            Claim(
                "solutions grow almost surely at the rate a − σ²/2",
                expected=theory,
                source="Khasminskii 2012, section 5.5, by Itô's formula",
                measured=top["exponents"][0],
                error=top["standard_errors"][0],
                tolerance=(top["high"][0] - top["low"][0]) / 2
                + abs(euler_exponent(a, sigma, h) - theory),
                reason="Student's interval, and Euler's bias by quadrature",
                level=LEVEL,
            ),
            Claim(
                "moments grow at the rate pa + p(p−1)σ²/2, largest distance",
                expected=0.0,
                source="Itô's formula for |X|^p",
                measured=float(np.max(np.abs(exact - growth))),
                tolerance=1e-10,
                reason="a matrix of one element",
            ),
            Claim(
                "a sampled moment grows at that rate",
                expected=p * a + p * (p - 1) * sigma**2 / 2,
                source="Itô's formula for |X|^p",
                measured=sampled["value"],
                error=sampled["standard_error"],
                tolerance=(sampled["high"] - sampled["low"]) / 2
                + p * (a**2 + sigma**4) * h,
                reason="the interval of the slope, and Euler's weak error of order h",
                level=LEVEL,
            ),
            Claim(
                "common noise shifts every exponent of a network by −σ²/2, the "
                "most one is outside of its interval",
                expected=0.0,
                source="Arnold, Crauel & Wihstutz 1983",
                measured=float(outside.max()),
                error=float(network["standard_errors"].max()),
                tolerance=bias + h * float(np.max(np.abs(rates) ** 2)),
                reason="Student's intervals together, the bias of Euler's steps by "
                "quadrature, and h|λ|² where they turn",
                relation="≤",
                level=LEVEL,
            ),
            Claim(
                "mean squares after one step are those of θ-Maruyama, largest "
                "deviation in standard errors",
                expected=0.0,
                source="Higham 2000, equation 3.2",
                measured=float(scores.max()),
                tolerance=normal_quantile(len(steps)),
                reason="normal quantile of all steps together",
                relation="≤",
                level=LEVEL,
            ),
            Claim(
                "steps that grow where 2λ + σ² + (1−2θ)hλ² < 0, or shrink where not",
                expected=0.0,
                source="Higham 2000, theorem 3.1",
                measured=wrong,
                tolerance=0.0,
                reason="of steps whose growth differs from 1 by more than its error",
                level=LEVEL,
            ),
        ),
        data={
            "moments": powers,
            "growth": exact,
            "top": top["exponents"],
            "sampled": np.array([p, sampled["value"], sampled["standard_error"]]),
            "z": z,
            "s": s,
            "theta": theta,
            "factor": factor,
        },
    )


def _exponents(
    point: tuple[str, float, float, float, float, int, float, int, int, Any],
) -> dict[str, np.ndarray]:
    """Lyapunov exponents at zero, and the rates that they would be without noise."""
    kind, size, sigma, step, time, chains, level, number, seed, backend = point
    # Keys of the network's weights and of the noise.
    drawn, key = jr.split(jr.fold_in(jr.key(seed), number))
    # The size is the equation's drift, or how many neurons the network has.
    if kind == "equation":
        problem, rates = equation(size, sigma, time, 0.0), np.array([size])
    else:
        n, rest = int(size), jnp.zeros(int(size))
        model = CommonNoiseSDE(n, 8, strength=sigma, key=drawn, dtype=float)
        problem = model.problem(rest, 0.0, time)
        rates = np.linalg.eigvals(np.asarray(jax.jacfwd(model.network)(rest)))
    found = lyapunov_spectrum(
        problem,
        backend=backend,
        solver=EULER[backend],
        dt=step,
        time=time,
        key=key,
        chains=chains,
        level=level,
    )
    return {
        "rates": rates,
        "exponents": found.exponents,
        "standard_errors": found.standard_errors,
        "low": found.low,
        "high": found.high,
    }


def _moment(
    point: tuple[float, float, float, float, int, float, int, int, Any],
) -> dict[str, float]:
    """The sampled rate at which a moment grows, with its error and interval."""
    a, sigma, p, step, trajectories, level, number, seed, backend = point
    found = moment_exponent(
        equation(a, sigma, 1.0),
        p,
        method="monte-carlo",
        backend=backend,
        solver=EULER[backend],
        dt=step,
        trajectories=trajectories,
        key=jr.fold_in(jr.key(seed), number),
        level=level,
    )
    return {
        "value": found.value,
        "standard_error": found.standard_error,
        "low": found.low,
        "high": found.high,
    }


def _factor(
    point: tuple[float, float, float, int, int, int, str],
) -> Float[np.ndarray, " 2"]:
    """The factor of the mean square in one step of length one, and its error."""
    rate, noise, theta, trajectories, number, seed, backend = point
    options: dict[str, Any] = {"solver": EULER[backend]}
    if theta:
        options = {"solver": "ImplicitEM", "theta": theta}
    found = ensemble(
        equation(rate, noise, 1.0),
        trajectories,
        key=jr.fold_in(jr.key(seed), number),
        backend=backend,
        dt=1.0,
        reduce=Moments(of=square),
        **options,
    ).reduced
    return np.array([found.mean[0], found.standard_error[0]])


@linear_stochastic_stability.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Growth rates of moments; steps that shrink and grow, with the boundaries."""
    figure.set_size_inches(8.4, 3.8)
    left, right = figure.subplots(1, 2)
    a, sigma = config.drift, config.noise
    p = np.linspace(0.0, max(config.moments), 100)
    left.plot(p, p * a + p * (p - 1) * sigma**2 / 2, "k-", label="theory")
    left.plot(p, p * (a - sigma**2 / 2), "k:", label="slope $a - \\sigma^2/2$")
    left.axhline(0.0, color="k", linewidth=0.5)
    z = np.linspace(1.2 * min(config.scheme_drifts), 0.0, 200)
    for number, theta in enumerate((0.0, 0.5, 1.0)):
        edge = np.maximum(0.0, -2 * z - (1 - 2 * theta) * z**2)
        right.plot(z, edge, color=f"C{number}", label=f"$\\theta = {theta:g}$")
    for backend, found in findings.items():
        data, style = found.data, mark(backend)
        at, value, error = data["sampled"]
        left.errorbar(
            [at],
            [value],
            yerr=[error],
            color="C3",
            label=f"sampled ({backend})",
            **style,
        )
        left.plot(data["moments"], data["growth"], color="C0", **style)
        for number, theta in enumerate((0.0, 0.5, 1.0)):
            for grows, face in ((False, f"C{number}"), (True, "none")):
                shown = (data["theta"] == theta) & ((data["factor"] > 1) == grows)
                # Apart from one another, for all methods take the same steps; crosses
                # could not be hollow.
                square = {"marker": "s", "markersize": 7}
                hollow = square if backend == "julia" else {}
                right.plot(
                    data["z"][shown] + 0.13 * number,
                    data["s"][shown],
                    color=f"C{number}",
                    markerfacecolor=face,
                    **style | hollow,
                )
    right.plot([], [], "ko", label="a step shrinks (square: julia)")
    right.plot([], [], "ko", markerfacecolor="none", label="a step grows")
    left.set_xlabel("moment $p$")
    left.set_ylabel("growth rate")
    right.set_xlabel("$\\lambda h$")
    right.set_ylabel("$\\sigma^2 h$")
    for axes in (left, right):
        axes.legend(fontsize=7)
