"""Contracting recurrent networks over any time: distances, errors and noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..ensembles import Moments, ensemble
from ..problems import ODEProblem, SDEProblem
from ._claim import Claim
from ._findings import Findings
from ._levels import LEVEL, normal_quantile
from ._marks import mark
from ._precise import precise_states
from ._schemes import EULER
from ._study import study
from ._sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = (
    "Davydov, Jafarpour & Bullo 2022, Non-Euclidean contraction theory; Miller & Hardt "
    "2019, Stable recurrent models; Pham, Tabareau & Slotine 2009, A contraction "
    "theory approach to stochastic incremental stability"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Neurons, the rate, the horizon, the error of the field, and the noise."""

    neurons: int = 8
    rate: float = 0.2
    horizon: float = 1000.0
    field_error: float = 1e-3
    noise: float = 0.3
    settled: float = 6.0
    step: float = 1 / 32
    trajectories: int = 4000
    seed: int = 0


def network(
    t: Any, y: Float[Array, "two n"], args: tuple[Array, ...]
) -> Float[Array, "two n"]:
    """Two copies of $\\dot x = -x + W\\tanh x + u(t)$, the second with an error.

    The error of the field is a constant in each component.
    """
    weights, phases, error = args
    inputs = jnp.sin(t + phases)
    return -y + jnp.tanh(y) @ weights.T + inputs + error


def noise(
    t: Any, y: Float[Array, "two n"], args: tuple[Array, ...]
) -> Float[Array, "two n"]:
    """Noise of its own for every neuron of both copies."""
    return args[3] * jnp.ones_like(y)


def noisy_network(t: Any, y: Array, args: tuple[Array, ...]) -> Array:
    """The drift of the noisy copies, without error."""
    return network(t, y, args[:3])


def squared_distance(y: Float[Array, "two n"]) -> Float[Array, ""]:
    """$|x - y|^2$."""
    return jnp.sum((y[0] - y[1]) ** 2)


@study(
    title="Contracting recurrent networks over an infinite horizon",
    direction="continuous models",
    source=_SOURCE,
    quick=Config(neurons=4, horizon=100.0, settled=3.0, trajectories=1000),
    paper=Config(neurons=64, horizon=10_000.0, settled=12.0, trajectories=200_000),
)
def contracting_rnn(config: Config, backend: str, sweep: Sweep) -> Findings:
    """Does a continuous model stay close to its data for ever?

    For \\(\\dot x = -x + W\\tanh x + u(t)\\) with \\(c = 1 - \\|W\\|_\\infty > 0\\) two
    solutions come together, \\(\\|x-y\\|_\\infty \\le e^{-ct}\\|x_0-y_0\\|_\\infty\\),
    and a field that is wrong by \\(\\varepsilon\\) gives a solution that is wrong by
    at most \\(\\varepsilon/c\\), over any time. Under independent noise of strength
    \\(\\sigma\\) in every neuron two copies stay within
    \\[ \\limsup E|x-y|^2 \\le n\\sigma^2/\\lambda,
    \\qquad \\lambda = 1 - \\|W\\|_2, \\]
    with equality without weights.
    """
    n, drawn = config.neurons, (config.neurons, config.seed)
    near, errors = sweep(
        _distances,
        [
            (*drawn, config.rate, 1.0, 0.0, 20.0, 81, backend),
            (
                *drawn,
                config.rate,
                0.0,
                config.field_error,
                config.horizon,
                401,
                backend,
            ),
        ],
    )
    times = np.linspace(0.0, 20.0, 81)
    share = near * np.exp(config.rate * times) / near[0]
    long = np.linspace(0.0, config.horizon, 401)
    bound = config.field_error / config.rate
    weights, _, _ = _drawn(*drawn, config.rate)
    spectral = float(np.linalg.norm(np.asarray(weights), 2))
    theory = n * config.noise**2 / (1 - spectral)
    late = np.linspace(config.settled / 8, config.settled, 8)
    noisy = (config.noise, config.settled, config.step, config.trajectories, backend)
    # At the rate 1 there are no weights.
    (mean, error), (free, free_error) = sweep(
        _parted,
        [
            (*drawn, rate, number, *noisy)
            for number, rate in enumerate((config.rate, 1.0))
        ],
    )
    linear = n * config.noise**2 * (1 - np.exp(-2 * config.settled))
    four = normal_quantile()
    return Findings(
        claims=(
            Claim(
                "distances over exp(−ct) times the first, the largest",
                expected=1.0,
                source="Davydov et al. 2022: the matrix measure is at most −c",
                measured=float(share.max()),
                tolerance=1e-8,
                reason="tolerances of 1e-12 a step beside distances of 0.02",
                relation="≤",
            ),
            Claim(
                "a wrong field's error over ε/c, the largest",
                expected=1.0,
                source="Grönwall's inequality with a negative rate",
                measured=float(errors.max() / bound),
                tolerance=1e-6,
                reason="tolerances of 1e-12 a step beside errors of 1e-3",
                relation="≤",
            ),
            Claim(
                "E|x − y|² of noisy copies over nσ²/λ",
                expected=1.0,
                source="Pham et al. 2009, theorem 2, for two noisy copies",
                measured=float(mean[-1] / theory),
                error=float(error[-1] / theory),
                tolerance=float(four * error[-1] / theory) + config.step,
                reason="normal quantile; Euler's variance is larger by h/(2 − h)",
                relation="≤",
                level=LEVEL,
            ),
            Claim(
                "without weights it is nσ² but for what is left of the start",
                expected=linear,
                source="Ornstein and Uhlenbeck's process",
                measured=float(free[-1]),
                error=float(free_error[-1]),
                tolerance=float(four * free_error[-1]) + config.step * linear,
                reason="normal quantile; Euler's variance is larger by h/(2 − h)",
                level=LEVEL,
            ),
        ),
        data={
            "times": times,
            "near": near,
            "long": long,
            "errors": errors,
            "late": late,
            "parted": mean,
            "parted_free": free,
            "limits": np.array([config.rate, bound, theory, linear]),
        },
    )


def _drawn(n: int, seed: int, rate: float) -> tuple[Array, Array, Array]:
    """Weights, phases of the inputs, and a key for noise."""
    keys = jr.split(jr.key(seed), 3)
    raw = jr.uniform(keys[0], (n, n))
    # Rows of one sum, and positive: the bounds are then close to being attained.
    weights = (1 - rate) * raw / jnp.sum(raw, axis=1, keepdims=True)
    return weights, jr.uniform(keys[1], (n,), maxval=2 * jnp.pi), keys[2]


def _distances(point: tuple[Any, ...]) -> Float[np.ndarray, " times"]:
    """Distances of the two copies in the maximum norm."""
    n, seed, rate, apart, error, end, count, backend = point
    weights, phases, _ = _drawn(n, seed, rate)
    start = jnp.stack([jnp.full(n, apart / 2), jnp.full(n, -apart / 2)])
    args = (weights, phases, jnp.zeros((2, n)).at[1].set(error))
    problem = ODEProblem(network, start, 0.0, end, args=args)
    states = precise_states(problem, backend, np.linspace(0.0, end, count))
    return np.max(np.abs(states[:, 0] - states[:, 1]), axis=1)


def _parted(point: tuple[Any, ...]) -> Float[np.ndarray, "two times"]:
    """The mean square distance of noisy copies at some times, and its error."""
    n, seed, rate, number, strength, settled, step, trajectories, backend = point
    weights, phases, key = _drawn(n, seed, rate)
    none = jnp.zeros((2, n))
    problem = SDEProblem(
        noisy_network,
        noise,
        none,
        0.0,
        settled,
        args=(weights, phases, none, jnp.asarray(strength)),
        noise="additive",
    )
    found = ensemble(
        problem,
        trajectories,
        key=jr.fold_in(key, number),
        backend=backend,
        solver=EULER[backend],
        dt=step,
        saveat=np.linspace(settled / 8, settled, 8),
        reduce=Moments(of=squared_distance),
    ).reduced
    return np.stack([np.ravel(found.mean), np.ravel(found.standard_error)])


@contracting_rnn.figure
def draw(figure: Figure, config: Config, findings: Mapping[str, Findings]) -> None:
    """Distances, errors and mean squares over time, with their bounds."""
    figure.set_size_inches(9.6, 3.4)
    axes = figure.subplots(1, 3)
    found = next(iter(findings.values()))
    rate, bound, theory, linear = found.data["limits"]
    times = found.data["times"]
    axes[0].semilogy(
        times, found.data["near"][0] * np.exp(-rate * times), "k--", label="$e^{-ct}$"
    )
    axes[1].axhline(bound, color="k", linestyle="--", label="$\\varepsilon/c$")
    axes[2].axhline(theory, color="k", linestyle="--", label="$n\\sigma^2/\\lambda$")
    axes[2].axhline(linear, color="k", linestyle=":", label="$n\\sigma^2$")
    for backend, found in findings.items():
        data, style = found.data, mark(backend)
        axes[0].semilogy(
            data["times"], data["near"], color="C0", label=backend, **style
        )
        axes[1].plot(data["long"], data["errors"], color="C1", label=backend, **style)
        axes[2].plot(data["late"], data["parted"], color="C2", label=backend, **style)
        axes[2].plot(
            data["late"],
            data["parted_free"],
            color="C3",
            label=f"no weights ({backend})",
            **style,
        )
    axes[0].set_ylabel("distance of two starts")
    axes[1].set_ylabel("error of the wrong field")
    axes[2].set_ylabel("$E|x - y|^2$ of noisy copies")
    for one in axes:
        one.set_xlabel("time")
        one.legend(fontsize=7)
