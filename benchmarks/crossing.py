"""What it costs to cross into Julia, and what a batch gains from threads.

    python benchmarks/crossing.py [--output FOLDER]

Needs Julia. Costs are the minimum over rounds. Single solves are timed beside the same
problem written by hand in Julia, called from a loop there, in one run. Batches run in
processes of their own, one for each number of Julia threads, beside Diffrax's `vmap`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from contenders import Tolerance, contenders, error, load

import hybrid_nds
from hybrid_nds import runtime
from hybrid_nds.backends.julia._adjoint import call_shared
from hybrid_nds.backends.julia._shared import SharedSolve

ROUNDS, CALLS, LENGTH = 7, 2000, 10_000
TOLERANCE = Tolerance(1e-6, 1e-9)
SETTINGS: dict[str, Any] = {
    "rtol": TOLERANCE.rtol,
    "atol": TOLERANCE.atol,
    "max_steps": 1_000_000,
}
BATCH = 1000
CASES = (
    ("robertson", "Rodas5P"),
    ("robertson", "RadauIIA5"),
    ("pollu", "Rodas5P"),
    ("neural_ode", "Tsit5"),
)
UNSEEN = 40

# A solve that does nothing: what is left is the crossing.
EMPTY = """
module EmptySolve
using HybridNDS: HybridNDS, Batch, Report, SharedSolve, Watch, Workspace
struct Nothings
    start::Vector{Float64}
    parameters::Vector{Float64}
    times::Vector{Float64}
    report::Report
    saved_times::Vector{Float64}
    saved_states::Matrix{Float64}
    message::String
end
Nothings() = Nothings(zeros(3), Float64[], Float64[], Report(), [1.0], zeros(3, 1), "")
HybridNDS.solve_trajectory!(batch::Batch, nothings::Nothings, ::Int, ::Watch) =
    (nothings.report.count = 1; nothings.saved_states .= nothings.start; nothing)
make() = Workspace{Float64, Nothings}(Nothings(), Vector{Float64}[])
HybridNDS.HOST_FUNCTIONS["empty_solve"] =
    () -> SharedSolve{Float64}(make, nothing, 0, 1)
end
"""


def microseconds(call: Callable[[], Any], count: int = CALLS) -> float:
    """What a call takes: the least over rounds."""
    least = np.inf
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(count):
            call()
        least = min(least, (time.perf_counter() - begin) / count)
    return 1e6 * least


def quickest(call: Callable[[], Any]) -> float:
    """What a call takes: the least of several, in microseconds."""
    least = np.inf
    for _ in range(UNSEEN):
        begin = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - begin)
    return 1e6 * least


def crossing() -> dict[str, float]:
    """A call of a solve that does nothing, against an empty compiled function."""
    session = runtime.session()
    session.main.seval(EMPTY)
    made = session.bridge.make("empty_solve")
    shared = SharedSolve(session, made, "solve: nothing has no derivatives.")
    rest = [np.zeros(k) for k in (0, 4, 1, 0, 0)]

    def cross(state: jax.Array) -> jax.Array:
        return call_shared(shared, [state, *rest])[3]

    def looped(step: Callable[[jax.Array], jax.Array]) -> Any:
        body = lambda state, _: (step(state), None)
        return jax.jit(lambda s: jax.lax.scan(body, s, None, length=LENGTH)[0])

    state = jnp.arange(3.0)
    plain, empty = jax.jit(cross), jax.jit(lambda state: state + 1)
    inside, outside = looped(cross), looped(lambda state: state + 1)
    assert np.array_equal(plain(state), state)
    wait = lambda f: lambda: f(state).block_until_ready()
    once = microseconds(wait(plain)) - microseconds(wait(empty))
    again = microseconds(wait(inside), 1) - microseconds(wait(outside), 1)
    return {"from Python": once, "in a scan": again / LENGTH}


def single() -> list[dict[str, Any]]:
    """Warm solves: called plainly, of the same problem and of ones not seen before,
    compiled, and by hand in Julia."""
    rows = []
    for name, solver in CASES:
        fixture = load(name)
        wanted = [c for c in contenders(fixture) if c.solver == solver]
        ours, hand = (
            next(c for c in wanted if c.family == family)
            for family in ("hybrid_nds", "Julia by hand")
        )
        problem = fixture.problem

        @jax.jit
        def compiled(y0: jax.Array, problem=problem, solver=solver) -> jax.Array:
            other = hybrid_nds.ODEProblem(
                problem.field, y0, problem.t0, problem.t1, args=problem.args
            )
            return hybrid_nds.solve(other, "julia", solver=solver, **SETTINGS).ys

        state = ours.solve(TOLERANCE)
        assert state is not None
        hand.solve(TOLERANCE)
        y0 = jnp.asarray(problem.y0)
        least = [np.inf] * 4
        for _ in range(ROUNDS):
            times = (
                quickest(lambda ours=ours: ours.solve(TOLERANCE)),
                unseen(problem, solver),
                quickest(lambda f=compiled, y=y0: f(y).block_until_ready()),
                1e6 * min(hand.seconds(TOLERANCE, UNSEEN)),
            )
            least = [min(pair) for pair in zip(least, times, strict=True)]
        keys = ("plain", "unseen", "compiled", "by hand")
        row = {"problem": name, "solver": solver, "error": error(fixture, state)}
        rows.append(row | dict(zip(keys, least, strict=True)))
    return rows


def unseen(problem: hybrid_nds.ODEProblem, solver: str) -> float:
    """What a plain solve takes of a problem whose like was solved, but not itself: the
    least of several, in microseconds."""
    starts = [jnp.asarray(problem.y0) * (1 + 1e-9 * k) for k in range(UNSEEN)]
    others = [eqx.tree_at(lambda p: p.y0, problem, start) for start in starts]
    least = np.inf
    for other in others:
        begin = time.perf_counter()
        hybrid_nds.solve(other, "julia", solver=solver, **SETTINGS)
        least = min(least, time.perf_counter() - begin)
    return 1e6 * least


def batch(threads: int) -> dict[str, float]:
    """A thousand POLLU solves from other starts, in milliseconds."""
    session = runtime.session(threads=threads)
    assert session.threads == threads
    fixture = load("pollu")
    problem = fixture.problem
    factors = 1 + 0.1 * jax.random.uniform(jax.random.key(0), (BATCH, 1))
    starts = factors * jnp.asarray(problem.y0)

    def ours(y0: jax.Array) -> jax.Array:
        other = hybrid_nds.ODEProblem(
            problem.field, y0, problem.t0, problem.t1, args=problem.args
        )
        solution = hybrid_nds.solve(
            other, "julia", solver="Rodas5P", rtol=1e-6, atol=1e-9
        )
        return solution.ys[0]

    def theirs(y0: jax.Array) -> jax.Array:
        solution = hybrid_nds.solve(
            hybrid_nds.ODEProblem(
                problem.field, y0, problem.t0, problem.t1, args=problem.args
            ),
            "diffrax",
            solver=diffrax.Kvaerno5(),
            rtol=1e-6,
            atol=1e-9,
        )
        return solution.ys[0]

    found = {}
    for name, one, rounds in (("julia", ours, 5), ("diffrax", theirs, 2)):
        if name == "diffrax" and threads > 1:
            continue
        every = jax.jit(jax.vmap(one))
        every(starts).block_until_ready()
        least = np.inf
        for _ in range(rounds):
            begin = time.perf_counter()
            every(starts).block_until_ready()
            least = min(least, time.perf_counter() - begin)
        found[name] = 1e3 * least
    return found


def report(costs: dict[str, float], rows: Any, batches: Any) -> str:
    """The record in Markdown."""
    one, two = batches
    lines = [
        "# The crossing into Julia",
        "",
        f"{os.cpu_count()} cores, shared with other jobs while this ran; times are the "
        "least over rounds.",
        "",
        "A solve that does nothing, beyond an empty compiled function: "
        f"{costs['from Python']:.1f} µs from Python, {costs['in a scan']:.2f} µs in "
        "`jax.lax.scan`.",
        "",
        "One warm solve at rtol 1e-6, atol 1e-9, in µs:",
        "",
        "| problem | solver | error | `solve` again | of another problem | inside "
        "`jax.jit` | by hand in Julia |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {r['problem']} | {r['solver']} | {r['error']:.1e} | {r['plain']:.0f} | "
            f"{r['unseen']:.0f} | {r['compiled']:.0f} | {r['by hand']:.0f} |"
            for r in rows
        ),
        "",
        f"`jax.vmap` of {BATCH} POLLU solves with Rodas5P: {one['julia']:.0f} ms on "
        f"one Julia thread, {two['julia']:.0f} ms on two, a ratio of "
        f"{one['julia'] / two['julia']:.2f}; Diffrax's `vmap` with Kvaerno5 at the "
        f"same tolerances: {one['diffrax']:.0f} ms, "
        f"{one['diffrax'] / two['julia']:.0f} times that of two threads.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--batch", type=int, help="run the batch on so many threads")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if arguments.batch:
        print(json.dumps(batch(arguments.batch)))
        return
    batches = []
    for threads in (1, 2):
        command = [sys.executable, __file__, "--batch", str(threads)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        batches.append(json.loads(done.stdout.splitlines()[-1]))
    text = report(crossing(), single(), batches)
    print(text)
    if arguments.output:
        (arguments.output / "crossing.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
