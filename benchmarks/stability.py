"""Lyapunov exponents of neural systems: Julia's loops of this package against others.

    python benchmarks/stability.py [--rounds N] [--jitcode K] [--output FOLDER]

Needs Julia, a C compiler, `jitcode` and `jitcsde`. All 64 exponents of the recurrent
network ẋ = −x + W tanh x in 64 dimensions, and the largest of the same network in 16
dimensions with additive noise. Times are of the processor, warm and without
compilation, minima over rounds in which all take turns; ratios are of one run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import symengine
from jaxtyping import Array
from jitcode import jitcode_lyap, y as ordinary_state
from jitcsde import jitcsde, y as stochastic_state

from hybrid_nds import ODEProblem, SDEProblem, runtime
from hybrid_nds.backends import Integration
from hybrid_nds.backends.julia import julia_tangent_flow

ORDINARY, ORDINARY_STEP = 64, 0.05
STOCHASTIC, STOCHASTIC_STEP = 16, 0.01
GAINS, SIGMA = {ORDINARY: 3.0, STOCHASTIC: 2.0}, 0.3
STEPS = 10  # of one interval between two decompositions
LONG = 200  # intervals until JiTCSDE's tangent vector is made short
TOLERANCE = 1e-6
OURS = "hybrid_nds"
HAND, SCAN, JITCODE, JITCSDE = "Julia by hand", "JAX lax.scan", "JiTCODE", "JiTCSDE"

# Logarithms of growth over so many intervals: shape (intervals, exponents).
Run = Callable[[int], np.ndarray]


class Network(eqx.Module):
    """ẏ = −y + W tanh y."""

    weight: Array

    def __call__(self, t, y, args):
        return -y + self.weight @ jnp.tanh(y)


def network(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and a state near the attractor."""
    generator = np.random.default_rng(0)
    weight = GAINS[dimension] * generator.standard_normal((dimension, dimension))
    weight /= np.sqrt(dimension)
    state = generator.standard_normal(dimension)
    for _ in range(4000):
        state = state + 0.02 * (-state + weight @ np.tanh(state))
    return weight, state


def hand() -> Any:
    """The Julia module of hand-written loops."""
    main = runtime.session().main
    if not main.seval("isdefined(Main, :StabilityByHand)"):
        main.include(str(Path(__file__).with_name("stability_hand.jl")))
    return main.StabilityByHand


def _advance(flow: Any, start: np.ndarray, count: int) -> Run:
    directions = np.eye(len(start), count)[None]

    def run(intervals: int) -> np.ndarray:
        segment = flow.advance(start[None], directions, 0, intervals, intervals)
        return segment.growth[0]

    return run


def ordinary_runs() -> dict[str, Run]:
    """Everything that follows the network in 64 dimensions, but under error control."""
    weight, start = network(ORDINARY)
    interval = STEPS * ORDINARY_STEP
    problem = ODEProblem(Network(jnp.asarray(weight)), jnp.asarray(start), 0.0, 1e4)
    flow = julia_tangent_flow(
        problem,
        ORDINARY,
        Integration("julia", "RK4", ORDINARY_STEP),
        interval=interval,
        span=1e4,
    )
    by_hand = hand()

    def hand_run(intervals: int) -> np.ndarray:
        logs = by_hand.ordinary(
            weight, start, ORDINARY, ORDINARY_STEP, STEPS, intervals
        )
        return np.asarray(logs).T

    return {
        OURS: _advance(flow, start, ORDINARY),
        HAND: hand_run,
        SCAN: ordinary_scan(weight, start),
    }


def ordinary_scan(weight: np.ndarray, start: np.ndarray) -> Run:
    """The same steps in JAX, as one would first write them."""
    field, h = Network(jnp.asarray(weight)), ORDINARY_STEP

    def flow(state: tuple[Array, Array]) -> tuple[Array, Array]:
        x, directions = state
        moved = lambda u: field(0.0, u, None)
        along = lambda v: jax.jvp(moved, (x,), (v,))[1]
        return moved(x), jax.vmap(along, 1, 1)(directions)

    def add(state: Any, scale: float, rates: Any) -> Any:
        return jax.tree.map(lambda u, rate: u + scale * rate, state, rates)

    def step(state: Any, _: Any) -> tuple[Any, None]:
        first = flow(state)
        second = flow(add(state, h / 2, first))
        third = flow(add(state, h / 2, second))
        fourth = flow(add(state, h, third))
        total = jax.tree.map(
            lambda a, b, c, d: a + 2 * b + 2 * c + d, first, second, third, fourth
        )
        return add(state, h / 6, total), None

    def interval(state: Any, _: Any) -> tuple[Any, Array]:
        (x, directions), _ = jax.lax.scan(step, state, length=STEPS)
        q, r = jnp.linalg.qr(directions)
        return (x, q), jnp.log(jnp.abs(jnp.diag(r)))

    @eqx.filter_jit
    def whole(state: Any, intervals: int) -> Array:
        return jax.lax.scan(interval, state, length=intervals)[1]

    state = (jnp.asarray(start), jnp.eye(len(start)))
    return lambda intervals: np.asarray(whole(state, intervals))


def stochastic_runs() -> dict[str, Run]:
    """Everything that follows the network with noise."""
    weight, start = network(STOCHASTIC)
    h = STOCHASTIC_STEP
    problem = SDEProblem(
        Network(jnp.asarray(weight)),
        lambda t, y, args: SIGMA * jnp.ones_like(y),
        jnp.asarray(start),
        0.0,
        1e6,
        noise="additive",
        interpretation="ito",
    )
    flow = julia_tangent_flow(
        problem,
        1,
        Integration("julia", "Euler", h, key=jax.random.key(0)),
        interval=STEPS * h,
        span=1e6,
    )
    by_hand = hand()

    def hand_run(intervals: int) -> np.ndarray:
        logs = by_hand.stochastic(weight, start, SIGMA, h, STEPS, intervals, 0)
        return np.asarray(logs)[:, None]

    return {
        OURS: _advance(flow, start, 1),
        HAND: hand_run,
        SCAN: stochastic_scan(weight, start),
        JITCSDE: jitcsde_run(weight, start),
    }


def stochastic_scan(weight: np.ndarray, start: np.ndarray) -> Run:
    """The same steps in JAX; the numbers of an interval are drawn together."""
    field, h = Network(jnp.asarray(weight)), STOCHASTIC_STEP
    moved = lambda u: field(0.0, u, None)

    def step(state: Any, noise: Array) -> tuple[Any, None]:
        x, v = state
        rate, along = jax.jvp(moved, (x,), (v,))
        return (x + h * rate + SIGMA * noise, v + h * along), None

    def interval(state: Any, key: Array) -> tuple[Any, Array]:
        noise = jnp.sqrt(h) * jax.random.normal(key, (STEPS, len(start)))
        (x, v), _ = jax.lax.scan(step, state, noise)
        grown = jnp.linalg.norm(v)
        return (x, v / grown), jnp.log(grown)[None]

    @eqx.filter_jit
    def whole(state: Any, intervals: int) -> Array:
        keys = jax.random.split(jax.random.key(0), intervals)
        return jax.lax.scan(interval, state, keys)[1]

    state = (jnp.asarray(start), jnp.eye(len(start))[0])
    return lambda intervals: np.asarray(whole(state, intervals))


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    # Compilation reads the pyproject.toml of the working folder and may not like it.
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def _symbols(weight: np.ndarray, state: Any) -> tuple[list, list, list]:
    n = len(weight)
    rates = [symengine.Symbol(f"rate_{i}") for i in range(n)]
    helpers = [(rate, symengine.tanh(state(i))) for i, rate in enumerate(rates)]
    field = [
        -state(i) + sum(weight[i, j] * rates[j] for j in range(n)) for i in range(n)
    ]
    return field, helpers, rates


def adaptive_runs(count: int) -> tuple[dict[str, Run], float]:
    """JiTCODE and ours in one method with one tolerance, for so many exponents.

    **Returns:** them, and the seconds that JiTCODE's compilation took.
    """
    weight, start = network(ORDINARY)
    interval = STEPS * ORDINARY_STEP
    problem = ODEProblem(Network(jnp.asarray(weight)), jnp.asarray(start), 0.0, 1e4)
    flow = julia_tangent_flow(
        problem,
        count,
        Integration("julia", "Dopri5", rtol=TOLERANCE, atol=TOLERANCE),
        interval=interval,
        span=1e4,
    )
    field, helpers, _ = _symbols(weight, ordinary_state)
    began = time.perf_counter()
    with _elsewhere():
        made = jitcode_lyap(field, helpers=helpers, n_lyap=count, verbose=False)
        made.generate_f_C(chunk_size=32)
        made.compile_C()
    passed = time.perf_counter() - began
    made.set_integrator("dopri5", rtol=TOLERANCE, atol=TOLERANCE)

    def run(intervals: int) -> np.ndarray:
        made.set_initial_value(start, 0.0)
        ends = interval * np.arange(1, intervals + 1)
        return np.stack([interval * made.integrate(end)[1] for end in ends])

    return {OURS: _advance(flow, start, count), JITCODE: run}, passed


def jitcsde_run(weight: np.ndarray, start: np.ndarray) -> Run:
    """JiTCSDE with the tangent equation written out, in steps of the same length."""
    n, h = len(start), STOCHASTIC_STEP
    state = stochastic_state
    field, helpers, rates = _symbols(weight, state)
    tangent = [
        -state(n + i)
        + sum(weight[i, j] * (1 - rates[j] ** 2) * state(n + j) for j in range(n))
        for i in range(n)
    ]
    noise = [symengine.Float(SIGMA)] * n + [symengine.Float(0.0)] * n
    with _elsewhere():
        made = jitcsde(
            [*field, *tangent], noise, helpers=helpers, additive=True, verbose=False
        )
        made.compile_C()
    # No error is ever too large, and no step longer than the longest.
    made.set_integration_parameters(
        atol=1e100, rtol=1e100, first_step=h, max_step=h, min_step=h / 10
    )

    def run(intervals: int) -> np.ndarray:
        logs = np.empty((intervals, 1))
        u, before, now = np.concatenate([start, np.eye(n)[0]]), 0.0, 0.0
        for index in range(intervals):
            # A new state makes a new integrator, whose noise begins at its seed.
            if index % LONG == 0:
                u[n:] /= np.linalg.norm(u[n:])
                made.set_seed(index)
                made.set_initial_value(u, now)
                before = 0.0
            now = (index + 1) * STEPS * h
            u = np.array(made.integrate(now))
            grown = np.log(np.linalg.norm(u[n:]))
            logs[index], before = grown - before, grown
        return logs

    return run


def measure(
    runs: dict[str, Run], intervals: dict[str, int], rounds: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Seconds of an interval, the least of all rounds, and the mean growth in one."""
    seconds = dict.fromkeys(runs, np.inf)
    growth: dict[str, np.ndarray] = {}
    for name, run in runs.items():
        growth[name] = run(intervals[name])
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.process_time()
            run(intervals[name])
            passed = (time.process_time() - began) / intervals[name]
            seconds[name] = min(seconds[name], passed)
    return seconds, growth


def check_same_steps(runs: dict[str, Run]) -> None:
    """Refuse to time what does not take the same steps."""
    found = [runs[name](20) for name in (OURS, HAND, SCAN)]
    for other in found[1:]:
        # Round-off of a few thousand operations, hardly grown in ten units of time.
        np.testing.assert_allclose(other, found[0], atol=1e-9)


def rows(
    seconds: dict[str, float],
    growth: dict[str, np.ndarray],
    step: float,
    intervals: int,
) -> list[str]:
    """A table: times of all intervals, ratios to ours, and exponents as a check."""
    lines = [
        "| | s | ratio to hybrid_nds | largest exponent | sum |",
        "|---|---|---|---|---|",
    ]
    for name, each in seconds.items():
        exponents = growth[name].mean(axis=0) / (STEPS * step)
        lines.append(
            f"| {name} | {each * intervals:.3g} | {each / seconds[OURS]:.2f} "
            f"| {exponents[0]:.3f} | {exponents.sum():.3f} |"
        )
    return lines


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--jitcode", type=int, default=4, help="how many exponents JiTCODE is to find"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("results")
    )
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    session = runtime.session()
    session.main.seval("import LinearAlgebra; LinearAlgebra.BLAS.set_num_threads(1)")
    before = os.getloadavg()[0]
    ordinary = ordinary_runs()
    check_same_steps(ordinary)
    seconds, growth = measure(ordinary, dict.fromkeys(ordinary, 200), options.rounds)
    lines = [
        f"## All {ORDINARY} exponents, {ORDINARY} dimensions, 2000 steps of RK4",
        "",
        *rows(seconds, growth, ORDINARY_STEP, 200),
        "",
    ]
    if options.jitcode:
        adaptive, passed = adaptive_runs(options.jitcode)
        lengths = dict.fromkeys(adaptive, 200)
        seconds, growth = measure(adaptive, lengths, options.rounds)
        lines += [
            f"## {options.jitcode} exponents of it, Dopri5 at tolerance {TOLERANCE:g}",
            "",
            *rows(seconds, growth, ORDINARY_STEP, 200),
            "",
            f"JiTCODE's C code took {passed:.0f} s to generate and compile, with its "
            "own choice of options. Its tangent vectors start at random, and no "
            "transient is left out here.",
            "",
        ]
    stochastic = stochastic_runs()
    lengths = dict.fromkeys(stochastic, 100_000) | {JITCSDE: 5_000}
    seconds, growth = measure(stochastic, lengths, options.rounds)
    lines += [
        f"## The largest exponent, {STOCHASTIC} dimensions with noise, 10⁶ steps",
        "",
        *rows(seconds, growth, STOCHASTIC_STEP, 100_000),
        "",
        "JiTCSDE over a twentieth of the steps, scaled; each of its steps takes two "
        "evaluations of the drift, Euler's one.",
        "",
    ]
    loads = sorted((before, os.getloadavg()[0]))
    head = [
        "# Lyapunov exponents",
        "",
        f"{os.cpu_count()} shared cores, load average {loads[0]:.1f} to "
        f"{loads[1]:.1f}; processor time, minima over {options.rounds} rounds.",
        "",
    ]
    table = "\n".join([*head, *lines])
    print(table)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "stability.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
