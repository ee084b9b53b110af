"""Small solves at a matched error: who reaches it first, called from Python, warm.

    python benchmarks/matched.py [--output FOLDER]

Needs Julia. Each contender solves down a ladder of tolerances; its row is the loosest
whose error at the end, measured against a reference, is at most that of the table.
Every call is one from Python, and waits for the result: a compiled function of the
state or of the parameters, and for `hybrid_nds` a plain `solve` as well; hand-written
Julia is called in a loop there. Times are the least over many calls. `diffsol-jax`
takes part where it is installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from contenders import hand_parts, hand_written, load
from jaxtyping import Array

import hybrid_nds

RTOLS = tuple(10.0**-k for k in range(4, 13))
SECONDS, CALLS = 0.4, 400
Solver = Callable[[float], Callable[[], np.ndarray | None]]


@dataclasses.dataclass(frozen=True)
class Case:
    """A problem, what it is compared by, and what solves it.

    **Fields:** its name and problem; the reference at its end and the scale of each
    component, to which an error is relative beside its size; the error to reach; field
    and Jacobian in Julia by hand; solvers of Julia and of Diffrax; the field with a
    tuple of components and a parameter vector, as `diffsol-jax` takes it, if it can.
    """

    name: str
    problem: hybrid_nds.ODEProblem
    reference: np.ndarray
    scale: np.ndarray
    target: float
    by_hand: Any
    julia: tuple[str, ...]
    diffrax: tuple[str, ...]
    tuples: tuple[Callable[..., Any], tuple[float, ...]] | None = None

    def error(self, state: np.ndarray) -> float:
        """The largest error of a component, relative to |y| + scale."""
        size = np.abs(self.reference) + self.scale
        return float(np.max(np.abs(np.ravel(state) - self.reference) / size))


def of_fixture(name: str, target: float, **more: Any) -> Case:
    """A problem with a published or checked reference."""
    fixture = load(name)
    assert fixture.reference.ys is not None
    return Case(
        fixture.title,
        fixture.problem,
        np.ravel(fixture.reference.ys[-1]),
        np.ravel(fixture.settings.scale),
        target,
        **more,
    )


def cases() -> Iterator[Case]:
    """The problems, with errors that a user may ask for."""
    stiff: dict[str, Any] = {
        "julia": ("Rodas5P", "RadauIIA5", "FBDF"),
        "diffrax": ("Kvaerno5", "Kvaerno3"),
    }
    smooth: dict[str, Any] = {
        "julia": ("Tsit5", "Vern7"),
        "diffrax": ("Tsit5", "Dopri8"),
    }

    def robertson(t: Any, y: Any, k: Any) -> Any:
        slow, fast, back = k[0] * y[0], k[1] * y[1] * y[1], k[2] * y[1] * y[2]
        return -slow + back, slow - back - fast, fast

    rates = load("robertson").parameters
    constants = tuple(float(rates[name]) for name in ("k1", "k2", "k3"))
    yield of_fixture(
        "robertson",
        1e-7,
        by_hand=hand_parts(load("robertson")),
        tuples=(robertson, constants),
        **stiff,
    )
    mu = 1000.0
    yield of_fixture(
        "vdpol",
        1e-5,
        by_hand=hand_written().van_der_pol(mu),
        tuples=(
            lambda t, y, m: (y[1], m[0] * (1 - y[0] * y[0]) * y[1] - y[0]),
            (mu,),
        ),
        **stiff,
    )
    yield of_fixture("pollu", 1e-6, by_hand=hand_parts(load("pollu")), **stiff)
    yield lotka_volterra(**smooth)
    network = load("neural_ode")
    yield of_fixture("neural_ode", 1e-7, by_hand=hand_parts(network), **smooth)


def lotka_volterra(**more: Any) -> Case:
    """Predator and prey; the reference is what two stacks agree on."""
    a, b, c, d = constants = (1.5, 1.0, 3.0, 1.0)

    def field(t: Any, y: Any, args: Any) -> Array:
        x, z = y
        return jnp.stack([a * x - b * x * z, -c * z + d * x * z])

    problem = hybrid_nds.ODEProblem(field, jnp.ones(2), 0.0, 10.0)
    tight: dict[str, Any] = {"rtol": 1e-13, "atol": 1e-13}
    one = hybrid_nds.solve(problem, "julia", solver="Vern9", **tight).ys[-1]
    other = hybrid_nds.solve(problem, "diffrax", solver="Dopri8", **tight).ys[-1]
    assert np.allclose(one, other, rtol=1e-11, atol=0)
    return Case(
        "Lotka–Volterra, to t = 10",
        problem,
        np.asarray(one),
        np.zeros(2),
        1e-7,
        hand_written().lotka_volterra(a, b, c, d),
        tuples=(
            lambda t, y, k: (
                k[0] * y[0] - k[1] * y[0] * y[1],
                k[3] * y[0] * y[1] - k[2] * y[1],
            ),
            constants,
        ),
        **more,
    )


def ours(case: Case, solver: str, *, compiled: bool) -> Solver:
    """`hybrid_nds.solve`, plainly or within a compiled function."""
    problem, y0 = case.problem, jnp.asarray(case.problem.y0)

    def at(rtol: float) -> Callable[[], np.ndarray | None]:
        options: dict[str, Any] = {
            "solver": solver,
            "rtol": rtol,
            "atol": absolute(case, rtol),
            "max_steps": 1_000_000,
            "throw": False,
        }

        def solved(problem: hybrid_nds.ODEProblem) -> Any:
            return hybrid_nds.solve(problem, "julia", **options)

        def other(y0: Array) -> Any:
            return solved(
                hybrid_nds.ODEProblem(
                    problem.field, y0, problem.t0, problem.t1, args=problem.args
                )
            ).ys

        inside = jax.jit(other)
        if compiled:
            return lambda: np.asarray(inside(y0))
        return lambda: np.asarray(solved(problem).ys)

    return at


def by_hand(case: Case, solver: str) -> Solver:
    """Julia alone: the state once, and its time from within."""
    hand, start = hand_written(), np.ravel(np.asarray(case.problem.y0))
    problem = hand.problem(case.by_hand, start, float(case.problem.t1))

    def at(rtol: float) -> Callable[[], np.ndarray | None]:
        def solve() -> np.ndarray | None:
            state = hand.final_state(problem, solver, rtol, absolute(case, rtol))
            return None if state is None else np.asarray(state)

        return solve

    return at


def theirs(case: Case, solver: str) -> Solver:
    """Diffrax within a compiled function."""
    problem, y0 = case.problem, jnp.asarray(case.problem.y0)

    @jax.jit
    def run(y0: Array, rtol: float, atol: float) -> Any:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(problem.field),  # pyright: ignore[reportArgumentType]
            getattr(diffrax, solver)(),
            problem.t0,
            problem.t1,
            None,
            y0,
            problem.args,
            stepsize_controller=diffrax.PIDController(rtol, atol),
            max_steps=1_000_000,
            throw=False,
        ).ys

    return lambda rtol: lambda: np.asarray(run(y0, rtol, absolute(case, rtol)))


def diffsol(case: Case, solver: str) -> Solver:
    """`diffsol-jax` within a compiled function of the parameters."""
    import diffsol_jax  # pyright: ignore[reportMissingImports]

    assert case.tuples is not None
    field, values = case.tuples
    weights = jnp.asarray(values)
    problem = diffsol_jax.ODEProblem(field, jnp.asarray(case.problem.y0), weights)
    ends = jnp.asarray([case.problem.t0, case.problem.t1])

    def at(rtol: float) -> Callable[[], np.ndarray | None]:
        atol = absolute(case, rtol)
        run = jax.jit(
            # Its default first step of 1 leaves the start of stiff problems unresolved.
            lambda p: problem.solve(
                p, ends, ode_solver=solver, h0=1e-6, rtol=rtol, atol=atol
            )
        )

        def solve() -> np.ndarray | None:
            times, states = run(weights)
            reached = np.isclose(np.asarray(times)[-1], float(case.problem.t1))
            return np.asarray(states)[-1] if reached else None

        return solve

    return at


def absolute(case: Case, rtol: float) -> float:
    """Small enough for every component."""
    scale = case.scale[case.scale > 0]
    return rtol * float(min(1.0, np.min(scale, initial=1.0)))


def contenders(case: Case) -> Iterator[tuple[str, str, Solver]]:
    """Everyone who can solve it: a family, a solver, and how."""
    for solver in case.julia:
        yield "hybrid_nds, plain", solver, ours(case, solver, compiled=False)
        yield "hybrid_nds, compiled", solver, ours(case, solver, compiled=True)
        yield "Julia by hand", solver, by_hand(case, solver)
    for solver in case.diffrax:
        yield "Diffrax, compiled", solver, theirs(case, solver)
    try:
        import diffsol_jax  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return
    if case.tuples is not None:
        # Explicit steps on a stiff problem would take hours.
        smooth = ("tsit45",) if "Tsit5" in case.julia else ()
        for solver in ("bdf", "esdirk34", "tr_bdf2", *smooth):
            yield "diffsol-jax, compiled", solver, diffsol(case, solver)


def least(call: Callable[[], Any]) -> float:
    """Microseconds of a call: the least of many."""
    best, begin, count = math.inf, time.perf_counter(), 0
    while count < 5 or (count < CALLS and time.perf_counter() - begin < SECONDS):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        count += 1
    return 1e6 * best


def measured(
    case: Case, family: str, solver: str, at: Solver
) -> tuple[float, float, float] | str:
    """Microseconds, error and `rtol` of the first tolerance that reaches the target; or
    why none does."""
    reason = "does not reach it"
    for rtol in RTOLS:
        solve = at(rtol)
        try:
            state = solve()
        except Exception as error:
            reason = f"fails: {str(error).splitlines()[0][:80]}"
            continue
        if state is None or not np.all(np.isfinite(state)):
            continue
        error = case.error(state)
        if error > case.target:
            continue
        if family != "Julia by hand":
            return least(solve), error, rtol
        hand, start = hand_written(), np.ravel(np.asarray(case.problem.y0))
        problem = hand.problem(case.by_hand, start, float(case.problem.t1))
        atol = absolute(case, rtol)
        seconds = hand.seconds(problem, solver, rtol, atol, CALLS // 4)
        return 1e6 * min(seconds), error, rtol
    return reason


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    lines = [
        "# Small solves at a matched error",
        "",
        f"{os.cpu_count()} cores, shared with other jobs while this ran; one warm "
        "call, the least of many, at the loosest of the tolerances 10⁻⁴, 10⁻⁵, … whose "
        "error at the end is at most that given.",
    ]
    for case in cases():
        lines += [
            "",
            f"## {case.name}: error at most {case.target:.0e}",
            "",
            "| who | solver | µs | error | rtol |",
            "|---|---|---|---|---|",
        ]
        for family, solver, at in contenders(case):
            found = measured(case, family, solver, at)
            if isinstance(found, str):
                lines.append(f"| {family} | {solver} | {found} | | |")
            else:
                took, error, rtol = found
                lines.append(
                    f"| {family} | {solver} | {took:.0f} | {error:.0e} | {rtol:.0e} |"
                )
            print(lines[-1], flush=True)
    text = "\n".join([*lines, ""])
    print(text)
    if arguments.output:
        (arguments.output / "matched.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
