"""One call of a lowered field against hand-written Julia and a callback into JAX.

    python benchmarks/native_field.py [--output FOLDER]

Needs Julia. Everything is called from a loop in Julia, on states that take turns. A
time is the minimum over rounds in which all take turns; ratios are of one run. The
callback is the cheapest we know: a jitted JAX field behind a wrapper made once, reading
and writing memory that both languages see.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from contenders import hand_parts, hand_written, load

from hybrid_nds import ODEProblem, lowering, runtime
from hybrid_nds.backends.julia._fields import FunctionCache

ROUNDS, SLICE_NANOSECONDS = 60, 1e6
STATES = 8


@dataclasses.dataclass
class Call:
    """A function of Julia's calling convention, and what a call of it costs."""

    function: Any
    output: Any
    parameters: Any
    nanoseconds: float = np.inf

    def measure(self, states: Any, count: int) -> float:
        """Time calls, keep the minimum."""
        taken = hand_written().nanoseconds(
            self.function, self.output, states, self.parameters, count
        )
        self.nanoseconds = min(self.nanoseconds, taken)
        return taken


class MLPField(eqx.Module):
    """ẏ = MLP(y)."""

    mlp: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.mlp(y)


def problems() -> list[tuple[str, ODEProblem, Any]]:
    """Names, problems, and their hand-written fields and Jacobians."""
    rows = []
    for name, title in (
        ("robertson", "Robertson"),
        ("pollu", "POLLU"),
        ("brusselator_1d", "Brusselator 1-D"),
    ):
        fixture = load(name)
        rows.append((title, fixture.problem, hand_parts(fixture)))
    for width in (32, 64):
        mlp = eqx.nn.MLP(3, 3, width, 2, activation=jnp.tanh, key=jax.random.key(0))
        parts = hand_written().network(
            [np.asarray(layer.weight) for layer in mlp.layers],
            [np.asarray(layer.bias) for layer in mlp.layers],
        )
        problem = ODEProblem(MLPField(mlp), np.ones(3), 0.0, 1.0)
        rows.append((f"MLP 3-{width}-{width}-3", problem, parts))
    return rows


def callback(problem: ODEProblem) -> Any:
    """The field as jitted JAX, called from Julia through shared memory."""
    shape = np.shape(problem.y0)
    field = jax.jit(lambda y: jnp.ravel(problem.field(0.0, y.reshape(shape), None)))
    views: list[np.ndarray] = []

    def call() -> None:
        views[1][...] = np.asarray(field(views[0]))

    made = hand_written().host(call, problem.dimension)
    views += [np.asarray(made.state), np.asarray(made.output)]
    call()
    return made


def calls(problem: ODEProblem, by_hand: Any, cache: FunctionCache) -> dict[str, Call]:
    """All that is timed for one problem."""
    session, hand, n = runtime.session(), hand_written(), problem.dimension
    lowered = lowering.lower_problem(problem)
    own = hand.vector(lowered.parameters)
    none = hand.vector(np.empty(0))
    vector: Callable[[], Any] = lambda: session.main.zeros(n)
    matrix: Callable[[], Any] = lambda: session.main.zeros(n, n)
    return {
        "field": Call(cache.get(session, lowered.drift), vector(), own),
        "field by hand": Call(by_hand[0], vector(), none),
        "jacobian": Call(cache.get(session, lowered.jacobian), matrix(), own),
        "jacobian by hand": Call(by_hand[1], matrix(), none),
        "callback": Call(callback(problem), vector(), none),
    }


def check(title: str, made: dict[str, Call], states: Any, parts: str) -> None:
    """Refuse to time two functions that do not agree."""
    for call in (made[parts], made[f"{parts} by hand"]):
        call.function(call.output, states[0], call.parameters, 0.0)
    first, second = (
        np.asarray(made[name].output) for name in (parts, f"{parts} by hand")
    )
    if not np.allclose(first, second, rtol=1e-12, atol=1e-12 * np.max(np.abs(first))):
        raise AssertionError(f"{title}: the {parts} by hand is another function")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("results")
    )
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    session = runtime.session()
    session.main.seval("import LinearAlgebra; LinearAlgebra.BLAS.set_num_threads(1)")
    load_before, cache, hand = os.getloadavg()[0], FunctionCache(), hand_written()
    generator = np.random.default_rng(0)
    lines = [
        "| problem | field, ns | by hand | ratio | Jacobian, ns | by hand | ratio "
        "| bytes | callback, µs | callback / field |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for title, problem, by_hand in problems():
        columns = generator.uniform(0.1, 1.0, (problem.dimension, STATES))
        states = hand.states(columns)
        made = calls(problem, by_hand, cache)
        for part in ("field", "jacobian"):
            check(title, made, states, part)
        counts = {
            name: max(1, int(SLICE_NANOSECONDS / call.measure(states, 20)))
            for name, call in made.items()
        }
        for _ in range(ROUNDS):
            for name, call in made.items():
                call.measure(states, counts[name])
        bytes_allocated = sum(
            hand.bytes(call.function, call.output, states[0], call.parameters)
            for name, call in made.items()
            if name in ("field", "jacobian")
        )
        field, field_hand, jacobian, jacobian_hand, called = (
            call.nanoseconds for call in made.values()
        )
        lines.append(
            f"| {title} | {field:.1f} | {field_hand:.1f} | {field / field_hand:.2f} "
            f"| {jacobian:.1f} | {jacobian_hand:.1f} | {jacobian / jacobian_hand:.2f} "
            f"| {bytes_allocated} | {called / 1e3:.1f} | {called / field:.0f} |"
        )
        print(lines[-1], flush=True)
    load_range = sorted((load_before, os.getloadavg()[0]))
    table = "\n".join(
        [
            "# One call of a field",
            "",
            f"{os.cpu_count()} shared cores, load average {load_range[0]:.1f} to "
            f"{load_range[1]:.1f}; minima over {ROUNDS} rounds.",
            "",
            *lines,
            "",
        ]
    )
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "native_field.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
