"""What a gradient of a stiff solve costs, in Julia and in Diffrax.

    python benchmarks/gradients.py [--output FOLDER] [--skip-diffrax]

Needs Julia. Each is one compiled `jax.grad` of a loss of the solution, timed beside the
solve alone in one run; figures are minima over calls. Errors are those of the gradient,
relative to that at tolerances a thousand times as tight, in the norm of its logarithmic
derivatives.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import hybrid_nds
from hybrid_nds import ODEProblem, solve
from hybrid_nds.reconcile import load_fixture

CALLS = 100


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss of a solution: its field, its parameters, the span, and the tolerances."""

    title: str
    field: Callable[..., Any]
    y0: Any
    parameters: Any
    times: np.ndarray
    rtol: float
    atol: float
    weights: Any

    def solution(self, parameters: Any, backend: str, solver: str, **options: Any):
        """The solution at the case's times."""
        end = float(self.times[-1])
        problem = ODEProblem(self.field, self.y0, 0.0, end, args=parameters)
        how = {"rtol": self.rtol, "atol": self.atol, **options}
        return solve(problem, backend, solver=solver, saveat=self.times, **how)

    def loss(self, parameters: Any, backend: str, solver: str, **options: Any):
        """The sum of the states, weighted."""
        found = self.solution(parameters, backend, solver, **options)
        return jnp.sum(found.ys * self.weights)


def cases() -> list[Case]:
    """Robertson to 10⁵, POLLU at 121 times, and a stiff network."""

    def robertson(t, y, rates):
        slow, fast = rates[0] * y[0], rates[1] * y[1] ** 2
        back = rates[2] * y[1] * y[2]
        return jnp.stack([back - slow, slow - fast - back, fast])

    pollution = load_fixture("pollu").problem
    rates, rest = eqx.partition(pollution.field, eqx.is_inexact_array)
    network = eqx.nn.MLP(3, 3, 64, 2, jnp.tanh, key=jax.random.key(0))
    weights, static = eqx.partition(network, eqx.is_inexact_array)
    scale, decay = jnp.array([1.0, 1e2, 1.0]), jnp.array([0.1, 1e3, 1.0])

    def stiff(t, y, weights):
        return 5 * eqx.combine(weights, static)(y * scale) - decay * y

    start = jnp.array([1.0, 0.0, 0.0])
    return [
        Case(
            "Robertson, to 10⁵",
            robertson,
            start,
            jnp.array([0.04, 3e7, 1e4]),
            np.geomspace(1e-2, 1e5, 20),
            1e-8,
            1e-12,
            jnp.array([1.0, 1e4, 1.0]),
        ),
        Case(
            "POLLU, 121 times to 60",
            lambda t, y, rates: eqx.combine(rates, rest)(t, y, None),
            pollution.y0,
            rates,
            np.linspace(0.0, 60.0, 122)[1:],
            1e-7,
            1e-5,
            1.0,
        ),
        Case(
            "stiff network 3-64-64-3",
            stiff,
            start,
            weights,
            np.linspace(0.0, 10.0, 11)[1:],
            1e-6,
            1e-8,
            1.0,
        ),
    ]


def least(call: Callable[[], Any]) -> float:
    """Milliseconds of the quickest call."""
    jax.block_until_ready(call())
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return 1e3 * min(seconds)


def logarithmic(parameters: Any, gradient: Any) -> np.ndarray:
    """Derivatives by the logarithms of the parameters, flat."""
    pairs = zip(jax.tree.leaves(parameters), jax.tree.leaves(gradient), strict=True)
    return np.concatenate([np.ravel(x * g) for x, g in pairs])


def row(case: Case, backend: str, solver: str, exact: np.ndarray) -> str:
    """The figures of one solver."""
    alone = jax.jit(lambda p: case.loss(p, backend, solver))
    gradient = jax.jit(jax.grad(lambda p: case.loss(p, backend, solver)))
    before = time.perf_counter()
    found = jax.block_until_ready(gradient(case.parameters))
    first = time.perf_counter() - before
    error = np.linalg.norm(logarithmic(case.parameters, found) - exact)
    error /= np.linalg.norm(exact)
    solved, taken = (least(lambda f=f: f(case.parameters)) for f in (alone, gradient))
    return (
        f"| {case.title} | {solver}, {backend} | {solved:.2f} | {taken:.2f} | "
        f"{taken / solved:.1f} | {error:.0e} | {first:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    folder = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=folder)
    parser.add_argument("--skip-diffrax", action="store_true")
    options = parser.parse_args()
    lines = [
        "# Gradients of stiff solves",
        "",
        "| problem | solver | solve, ms | gradient, ms | ratio | error | first, s |",
        "|---|---|---|---|---|---|---|",
    ]
    with hybrid_nds.double_precision():
        for case in cases():
            tight = {"rtol": case.rtol / 1e3, "atol": case.atol / 1e3}
            tight["recorded_steps"] = 100_000
            reference = jax.grad(
                lambda p, case=case, tight=tight: case.loss(
                    p, "julia", "Rodas5P", **tight
                )
            )(case.parameters)
            exact = logarithmic(case.parameters, reference)
            contenders = [("julia", "Rodas5P"), ("julia", "KenCarp4")]
            contenders += [] if options.skip_diffrax else [("diffrax", "Kvaerno5")]
            for backend, solver in contenders:
                lines.append(row(case, backend, solver, exact))
                print(lines[-1], flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "gradients.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
