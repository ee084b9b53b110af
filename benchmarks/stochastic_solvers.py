"""One stochastic solve through this package against StochasticDiffEq by hand.

    python benchmarks/stochastic_solvers.py [--output FOLDER]

Needs Julia. Geometric Brownian motion in 8192 fixed steps along a stored path. By hand
are in-place functions and a `NoiseGrid`, timed by a loop inside Julia; ours is called
from Python, as its user does. A time is the minimum over rounds in which all take
turns.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_nds import BrownianPath, SDEProblem, StoredPath, runtime, solve
from hybrid_nds._core import write_text

STEPS, ROUNDS = 8192, 25
DRIFT, DIFFUSION, START = 1.01, 0.87, 0.5
# Ours by name, and the same method by hand.
METHODS = {
    "EM": "EM(false)",
    "RKMil": "RKMil()",
    "SRIW1": "SRIW1()",
    "ImplicitEM": "ImplicitEM(autodiff = AutoFiniteDiff())",
}


def hand() -> Any:
    """The module of what is written by hand."""
    session = runtime.session()
    source = Path(__file__).with_name("stochastic_solvers_hand.jl")
    session.main.include(str(source))
    return session.main.StochasticByHand


def measure(rounds: int) -> dict[str, tuple[float, float, float]]:
    """By method: seconds of ours and by hand, and how far their ends are apart."""
    problem = SDEProblem(
        lambda t, y, args: DRIFT * y,
        lambda t, y, args: DIFFUSION * y,
        jnp.array([START]),
        0.0,
        1.0,
        noise="diagonal",
        interpretation="ito",
    )
    path = BrownianPath(jax.random.key(0), 1, 0.0, 1.0, 1 / STEPS, "space-time")
    increments, areas = path.increments()
    stored = StoredPath(increments, areas, t0=0.0, t1=1.0)
    by_hand = hand()
    grid = by_hand.grid(
        np.asarray(increments).reshape(-1),
        # Rößler's second motion of the space-time area.
        2 * np.sqrt(3) * np.asarray(areas).reshape(-1),
    )
    times = {name: [np.inf, np.inf] for name in METHODS}
    gaps = {}
    for round_ in range(rounds + 1):
        for name, expression in METHODS.items():
            began = time.perf_counter()
            solution = solve(problem, "julia", solver=name, path=stored)
            ours = time.perf_counter() - began
            seconds, end = by_hand.timed(by_hand.method(expression), *grid, START)
            # The first round compiles.
            if round_:
                times[name] = np.minimum(times[name], [ours, seconds]).tolist()
            gaps[name] = abs(float(solution.ys[-1, 0]) - float(end))
    return {name: (*times[name], gaps[name]) for name in METHODS}


def report(found: dict[str, tuple[float, float, float]], load: list[float]) -> str:
    rows = [
        "# One stochastic solve",
        "",
        f"{os.cpu_count()} shared cores, load average {min(load):.1f} to "
        f"{max(load):.1f}; wall time, minima over {ROUNDS} rounds; {STEPS} steps.",
        "",
        "| | hybrid_nds, ms | by hand, ms | ratio | ends apart |",
        "|---|---|---|---|---|",
    ]
    for name, (ours, by_hand, gap) in found.items():
        rows.append(
            f"| {name} | {ours * 1e3:.2f} | {by_hand * 1e3:.2f} | "
            f"{ours / by_hand:.2f} | {gap:.1e} |"
        )
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parent / "results"
    parser.add_argument("--output", type=Path, default=default)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    load = [os.getloadavg()[0]]
    found = measure(ROUNDS)
    load.append(os.getloadavg()[0])
    text = report(found, load)
    print(text)
    write_text(options.output / "stochastic_solvers.md", text)


if __name__ == "__main__":
    main()
