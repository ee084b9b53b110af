"""Which scheme and step reaches an error cheapest."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from .._core import precision_of
from ..analysis import analysis_provenance, progress_bar
from ..backends import state_size
from ..problems import ODEProblem, Problem, SDEProblem, check_kind
from ..solving import solve
from ._runs import (
    check_steps,
    draw,
    exact_states,
    finest_steps,
    flat_end,
    flat_state,
    needs_area,
    path_solver,
)
from ._work_precision_result import WorkPrecision, WorkRow

_METHODS = {"diffrax": ("Tsit5", "Dopri8", "Kvaerno5")}
_REFERENCE_RTOL = 1e-12
_MAX_STEPS = 1_000_000
# Shorter than this, a solve is timed several at a time.
_LEAST_SECONDS = 0.02


def work_precision(
    problem: ODEProblem | SDEProblem,
    methods: Mapping[str, Sequence[str]] | None = None,
    *,
    rtols: Sequence[float] = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8),
    steps: Sequence[int] | None = None,
    exact: Callable[[Any], Any] | Any = None,
    paths: int = 200,
    key: PRNGKeyArray | None = None,
    refine: int = 16,
    repeats: int = 3,
    max_steps: int = 100_000,
    progress: bool = False,
) -> WorkPrecision:
    """Errors and costs of methods on a problem, on either backend.

    An ordinary problem is solved with error control at each of `rtols` (with `atol`
    the same times the largest component of the start), or in fixed `steps`; the error
    is that of the end state, in the Euclidean norm. A stochastic problem is solved in
    fixed `steps` along the same Brownian paths, and the error is the mean over them
    (Kloeden & Platen 1992, equation 9.6.1). Times are the processor's, the least of
    `repeats`, after one run that compiles.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem] or
        [`SDEProblem`][hybrid_nds.SDEProblem].
    - `methods`: names of solvers by backend, such as `{"diffrax": ["Tsit5"], "julia":
        ["Vern7", "Rodas5P"]}`. For an ordinary problem by default three of Diffrax's.
    - `rtols`: relative tolerances; of no meaning with `steps`.
    - `steps`: numbers of fixed steps, three or more; for a stochastic problem each
        twice the one before, by default 16 to 256.
    - `exact`: the end state, or for a stochastic problem a JAX function of the path (a
        [`StoredPath`][hybrid_nds.StoredPath]) that gives it. Without it, an ordinary
        problem is solved at a tolerance of 1e-12 by the last of `methods`, and a
        stochastic one in steps `refine` times shorter, by each method itself.
    - `paths`, `key`: how many Brownian paths, and the JAX random key for them.
    - `refine`: see `exact`; a power of two.
    - `repeats`: how often each is timed.
    - `max_steps`: of a solve with error control, which else counts as failed.
    - `progress`: whether to show progress.

    **Returns:** a [`WorkPrecision`][hybrid_nds.discretization.WorkPrecision]; ask it
    for the [`cheapest`][hybrid_nds.discretization.WorkPrecision.cheapest] row.

    **Raises:** `ValueError` or `TypeError`, naming the argument; what `solve` raises
    for a solver that does not suit the problem.
    """
    caller = "work_precision"
    check_kind(caller, problem, "ode", "sde")
    stochastic = problem.kind.follows_path
    if methods is None:
        if stochastic:
            raise ValueError(
                f"{caller}: a stochastic problem needs `methods`, names of solvers by "
                "backend that suit its noise."
            )
        methods = _METHODS
    pairs = [(backend, solver) for backend in methods for solver in methods[backend]]
    if not pairs or not set(methods) <= {"diffrax", "julia"}:
        raise ValueError(
            f'{caller}: `methods` must name solvers of "diffrax" or "julia", got '
            f"{dict(methods)!r}."
        )
    if repeats < 1:
        raise ValueError(f"{caller}: `repeats` must be one or more, got {repeats}.")
    with precision_of(problem):
        if stochastic:
            counts = check_steps(
                caller,
                (16, 32, 64, 128, 256) if steps is None else steps,
                doubling=True,
            )
            rows, reference = _stochastic(
                problem, pairs, counts, exact, paths, key, refine, repeats, progress
            )
        else:
            counts = (
                None if steps is None else check_steps(caller, steps, doubling=False)
            )
            requested = tuple(float(rtol) for rtol in rtols)
            if counts is None and (not requested or min(requested) <= 0):
                raise ValueError(
                    f"{caller}: `rtols` must be positive numbers, got {list(rtols)}."
                )
            rows, reference = _ordinary(
                problem, pairs, requested, counts, exact, repeats, max_steps, progress
            )
    settings = {"repeats": repeats, "methods": [f"{s} on {b}" for b, s in pairs]}
    return WorkPrecision(
        rows=tuple(rows),
        reference=reference,
        paths=paths if stochastic else 1,
        settings=settings,
        provenance=analysis_provenance("/".join(methods), caller, field="jax/lowered"),
    )


def _ordinary(
    problem: Problem,
    pairs: Sequence[tuple[str, str]],
    rtols: Sequence[float],
    counts: Sequence[int] | None,
    exact: Any,
    repeats: int,
    max_steps: int,
    progress: bool,
) -> tuple[list[WorkRow], str]:
    reference = "the exact solution"
    size = state_size(problem)
    if exact is not None:
        truth = flat_state(exact)
    else:
        backend, solver = pairs[-1]
        rtol = _REFERENCE_RTOL if problem.dtype == np.float64 else 1e-6
        reference = f"{solver} on {backend} at a tolerance of {rtol:g}"
        truth = flat_end(
            solve(
                problem, backend, solver=solver, rtol=rtol, atol=rtol * size,
                max_steps=_MAX_STEPS,
            )
        )  # fmt: skip
    span = float(problem.t1) - float(problem.t0)
    rows = []
    choices = list(rtols if counts is None else counts)
    with progress_bar(progress, "Solves", len(pairs) * len(choices)) as advance:
        for backend, solver in pairs:
            limit = max_steps if counts is None else max(counts) + 16
            run = _solver_of(backend, solver, limit)
            for choice in choices:
                lengths = (
                    {"rtol": choice, "atol": choice * size}
                    if counts is None
                    else {"dt": span / choice}
                )
                call = functools.partial(run, problem, lengths)
                solution = call()
                good = bool(solution.succeeded)
                gap = np.linalg.norm(flat_end(solution) - truth) if good else math.inf
                taken = float(np.asarray(solution.stats["num_steps"]))
                seconds = _least_seconds(call, repeats)
                rows.append(
                    WorkRow(
                        backend,
                        solver,
                        float(choice) if counts is None else None,
                        None if counts is None else int(choice),
                        float(gap),
                        0.0,
                        taken,
                        seconds,
                    )
                )
                advance(1)
    return rows, reference


def _solver_of(
    backend: str, solver: str, max_steps: int
) -> Callable[[Problem, Mapping[str, float]], Any]:
    """A solve as a function of the problem and of its tolerances or its step."""

    def run(problem: Problem, lengths: Mapping[str, Any]) -> Any:
        return solve(
            problem,
            backend,
            solver=solver,
            throw=False,
            max_steps=max_steps,
            **lengths,
        )

    if backend == "julia":
        return run
    # Compiled with the state as an argument: it must not be folded away.
    compiled = eqx.filter_jit(run)

    def timed(problem: Problem, lengths: Mapping[str, float]) -> Any:
        # As arrays, all tolerances share one compilation.
        given = {n: jnp.asarray(x, problem.dtype) for n, x in lengths.items()}
        return jax.block_until_ready(compiled(problem, given))

    return timed


def _stochastic(
    problem: Problem,
    pairs: Sequence[tuple[str, str]],
    counts: Sequence[int],
    exact: Any,
    paths: int,
    key: Any,
    refine: int,
    repeats: int,
    progress: bool,
) -> tuple[list[WorkRow], str]:
    finest = finest_steps("work_precision", counts, exact, refine)
    area = any(needs_area(solver, backend) for backend, solver in pairs)
    dw, h = draw("work_precision", problem, key, paths, finest, area)
    reference = "the exact solution"
    truth = None
    if exact is not None:
        truth = exact_states(problem, exact, dw, h)
    else:
        reference = f"each method in {finest} steps"
    rows = []
    with progress_bar(progress, "Solves", len(pairs) * len(counts)) as advance:
        for backend, solver in pairs:
            own = h if needs_area(solver, backend) else None
            target = truth
            if target is None:
                target = path_solver(problem, backend, solver, finest)(dw, own)[:, -1]
            for count in counts:
                along = path_solver(problem, backend, solver, count)
                ends = along(dw, own)[:, -1]
                gaps = np.linalg.norm(np.subtract(ends, target, dtype=float), axis=1)
                good = bool(np.all(np.isfinite(gaps)))
                seconds = _least_seconds(functools.partial(along, dw, own), repeats)
                rows.append(
                    WorkRow(
                        backend,
                        solver,
                        None,
                        count,
                        float(gaps.mean()) if good else math.inf,
                        float(gaps.std(ddof=1) / math.sqrt(paths)) if good else 0.0,
                        float(count),
                        seconds / paths,
                    )
                )
                advance(1)
    return rows, reference


def _least_seconds(call: Callable[[], Any], repeats: int) -> float:
    """The processor's seconds of one call, the least of some."""
    best, calls = math.inf, 1
    for _ in range(repeats):
        while True:
            began = time.process_time()
            for _ in range(calls):
                call()
            spent = time.process_time() - began
            if spent >= _LEAST_SECONDS:
                break
            calls *= 2
        best = min(best, spent / calls)
    return best
