"""Time against error of every way to solve four problems, called from Python, warm.

    python benchmarks/work_precision.py [--quick] [--problem NAME] [--output FOLDER]

Needs Julia. Every contender solves down a ladder of tolerances, `atol = rtol * scale`
with the scale of the problem's fixture (its smallest component, and by component); the
error is the largest of a component at the end, relative to |y| + scale, against the
fixture's reference. A time is processor time of one thread, the minimum over rounds in
which all contenders take turns. Ratios are between work-precision curves of one run, at
an equal error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from pathlib import Path

import contenders
import diagram
import jax
import numpy as np
import ratios

from hybrid_nds import runtime

# One thread for everyone: libraries read these when they are first imported.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
RTOLS = tuple(10.0**-k for k in range(3, 11))
QUICK_RTOLS = (1e-4, 1e-6, 1e-8)
ROUNDS, QUICK_ROUNDS = 7, 3
# Of one point in one round; and the longest solve of which tighter ones are tried.
SLICE_SECONDS, LONGEST_SECONDS = 0.03, 0.15
# Slower solves than this sit two of three rounds out.
SLOW_SECONDS = 0.1
MOST_CALLS = 100


@dataclasses.dataclass
class Point:
    """One contender at one tolerance: its error and its times."""

    contender: contenders.Contender
    tolerance: contenders.Tolerance
    error: float
    first: float
    seconds: list[float] = dataclasses.field(default_factory=list)

    def as_dict(self) -> dict:
        return {
            "family": self.contender.family,
            "solver": self.contender.solver,
            "rtol": self.tolerance.rtol,
            "atol": np.asarray(self.tolerance.atol).tolist(),
            "error": self.error,
            "seconds": min(self.seconds),
            "median_seconds": float(np.median(self.seconds)),
            "solves": len(self.seconds),
        }


def collect(name: str, rtols: tuple[float, ...]) -> list[Point]:
    """Solve once with every contender at every tolerance, to compile and to compare."""
    fixture = contenders.load(name)
    points = []
    for contender in contenders.contenders(fixture):
        for rtol in rtols:
            taken = 0.0
            for tolerance in contenders.tolerances(fixture, contender.solver, rtol):
                state = contender.solve(tolerance)
                if state is None or not np.all(np.isfinite(state)):
                    print(f"  {contender.family}, {contender.solver}: no {rtol:.0e}")
                    continue
                taken = min(contender.seconds(tolerance, 2))
                error = contenders.error(fixture, state)
                points.append(Point(contender, tolerance, error, taken))
            if taken > LONGEST_SECONDS:
                break
    return points


def measure(points: list[Point], rounds: int) -> None:
    """Time all points in turns, in another order every round."""
    generator = np.random.default_rng(0)
    for turn in range(rounds):
        for k in generator.permutation(len(points)):
            point = points[k]
            if point.first > SLOW_SECONDS and turn % 3:
                continue
            calls = min(MOST_CALLS, max(1, math.floor(SLICE_SECONDS / point.first)))
            point.seconds += point.contender.seconds(point.tolerance, calls)


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few tolerances, rounds")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} unless told")
    parser.add_argument("--problem", choices=contenders.PROBLEMS, action="append")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("results")
    )
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rtols = QUICK_RTOLS if options.quick else RTOLS
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    session = runtime.session()
    session.main.seval("import LinearAlgebra; LinearAlgebra.BLAS.set_num_threads(1)")
    begin, load = time.time(), [os.getloadavg()[0]]
    curves = {}
    for name in options.problem or contenders.PROBLEMS:
        print(f"{contenders.PROBLEMS[name]}: solving once", flush=True)
        points = collect(name, rtols)
        print(f"  timing {len(points)} points in {rounds} rounds", flush=True)
        measure(points, rounds)
        load.append(os.getloadavg()[0])
        curves[name] = [point.as_dict() for point in points]
    machine = {
        "cores": os.cpu_count(),
        "load": [round(x, 2) for x in load],
        "minutes": round((time.time() - begin) / 60, 1),
        "rounds": rounds,
        "versions": dict(session.versions) | {"jax": jax.__version__},
    }
    write(curves, machine, options.output)


def write(curves: dict, machine: dict, folder: Path) -> None:
    """Print the ratios; write them, the points and the diagram."""
    table = ratios.table(curves, machine)
    print(table)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine, "points": curves}, indent=1)
    (folder / "work_precision.json").write_text(text + "\n", encoding="utf-8")
    (folder / "work_precision.md").write_text(table, encoding="utf-8")
    diagram.draw(curves, folder / "work_precision.png")


if __name__ == "__main__":
    if any(name not in os.environ for name in ONE_THREAD):
        environment = ONE_THREAD | os.environ
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    main()
