"""Lyapunov exponents of ordinary and stochastic problems."""

from __future__ import annotations

import dataclasses
import math
import os
import time as clock
from typing import Any, Literal

import numpy as np
from jaxtyping import PRNGKeyArray

from ..._core import check_level, check_positive, precision_of
from ...analysis import AnalysisError, SavedProgress, progress_bar
from ...backends import Integration
from ...backends.diffrax import diffrax_tangent_flow, powers_of_two
from ...noise import BrownianPath, NativePath, StoredPath
from ...problems import (
    ODEProblem,
    Problem,
    SDEProblem,
    arrays_text,
    digest,
    problem_fingerprint,
)
from ._divergence import diverged
from ._lyapunov_plan import (
    LyapunovPlan,
    Sampling,
    check_lyapunov_problem,
    make_plan,
    start_directions,
    start_states,
)
from ._lyapunov_result import LyapunovSpectrum, spectrum_of
from ._lyapunov_step import SecondRun, second_runs, step_check

_CALLER = "lyapunov_spectrum"
# Seconds of one segment: between two of them a run can be interrupted, and is saved.
_SEGMENT = 1.0
_ENTRIES = 2**24


def lyapunov_spectrum(
    problem: ODEProblem | SDEProblem,
    *,
    exponents: int | None = None,
    backend: Literal["diffrax", "julia"] = "diffrax",
    solver: Any = None,
    dt: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    interval: float | None = None,
    transient: float | None = None,
    time: float | None = None,
    key: PRNGKeyArray | None = None,
    path: BrownianPath | StoredPath | NativePath | None = None,
    chains: int = 1,
    initial: Any = None,
    level: float = 0.95,
    tolerance: float | None = None,
    check_step: bool = True,
    max_steps: int | None = None,
    progress: bool = False,
    save: str | os.PathLike[str] | None = None,
) -> LyapunovSpectrum:
    """The Lyapunov exponents of a flow, ordinary or stochastic.

    Tangent vectors $V$ are carried along an orbit by the equation that
    [`tangent_problem`][hybrid_nds.problems.tangent_problem] states, for a
    stochastic problem driven by the same noise. After each interval $\\tau$ they are
    made orthonormal by a QR decomposition, and
    $\\lambda_i = \\lim_{N\\to\\infty} (N\\tau)^{-1} \\sum_{s=1}^N \\log |R^{(s)}_{ii}|$
    (Benettin et al. 1980; Dieci, Russell & Van Vleck 1997). Errors are batch means over
    time and chains, with batches of at least ten autocorrelation times; intervals of an
    ordinary problem are wider by the error of the discretization.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem] or
        [`SDEProblem`][hybrid_nds.SDEProblem]. The orbit starts at its `y0` and `t0`,
        and goes on past its `t1` where `time` asks for it.
    - `exponents`: how many, the largest first; by default all.
    - `backend`: `"diffrax"`, or `"julia"`, where the whole loop runs on the lowered
        tangent field: in Euler's and Heun's schemes of stochastic problems in loops of
        this package, else in those of OrdinaryDiffEq (by default Vern7) and
        StochasticDiffEq, implicit methods among them.
    - `solver`, `dt`, `rtol`, `atol`: as for [`solve`][hybrid_nds.solve]. A stochastic
        problem takes fixed steps. An ordinary one by default holds `rtol` and `atol`
        of 1e-8 (1e-4 and 1e-6 in float32), tangent vectors included. For a stochastic
        problem with additive noise `solver` may also be an implicit one for ordinary
        problems, such as `"ImplicitEuler"`, which then is implicit in the drift.
    - `interval`: how long tangent vectors grow between two QR decompositions; with `dt`
        whole steps, by default ten; else a thousandth of the time or less.
    - `transient`: how long to go before anything counts, for the orbit to come to its
        attractor and the directions to theirs; by default a tenth of all.
    - `time`: how long to average; by default what the transient leaves of the span of
        `problem`.
    - `key`: a JAX random key, for the noise and for `initial`.
    - `path`: for a stochastic problem its Brownian path, in place of `key`, over all of
        the time.
    - `chains`: how many independent orbits to average over.
    - `initial`: their initial states, as for [`ensemble`][hybrid_nds.ensemble]: a
        callable `key -> y0`, or arrays with a leading axis of `chains`. By default all
        start at `problem.y0`.
    - `level`: of the intervals, such as 0.95.
    - `tolerance`: the required standard error; a result with a larger one says it has
        not converged, and what would do.
    - `check_step`: for an ordinary problem, whether to run once more, with tolerances a
        hundred times larger, or steps twice as long, for half the cost again; where an
        interval takes few steps, with smaller ones. The error of the discretization
        follows from the difference: it is taken to fall at least with the square root
        of the tolerances, or the order of the method. A stochastic problem is not run
        again: its exponents are those of the scheme.
    - `max_steps`: the most steps in one interval under error control.
    - `progress`: whether to show progress.
    - `save`: a file to keep progress in: a run that was cut off goes on from there, to
        the same result to the last bit.

    **Returns:** a [`LyapunovSpectrum`][hybrid_nds.stability.LyapunovSpectrum]; look at
    its `converged`.

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] for an orbit that diverges,
    saying when, and for an interval too long to tell the exponents apart.
    """
    check_lyapunov_problem(_CALLER, problem)
    check_level(_CALLER, level)
    if tolerance is not None:
        tolerance = check_positive(_CALLER, "tolerance", tolerance)
    with precision_of(problem):
        integration = _integration(
            problem, Integration(backend, solver, dt, rtol, atol, key, path, max_steps)
        )
        sampling = Sampling(time, transient, interval, chains, initial)
        plan = make_plan(_CALLER, problem, exponents, integration, sampling)
        flow = tangent_flow(problem, plan, integration)
        states = start_states(_CALLER, problem, initial, plan.chains, integration.key)
        where = flow.provenance
        settings: dict[str, Any] = {
            "interval": plan.interval,
            "transient": plan.interval * plan.burn_in,
            "time": plan.interval * plan.averaged,
            "chains": plan.chains,
        }
        identity = {
            "problem": problem_fingerprint(problem),
            "noise": arrays_text((integration.key, path)),
            "start": arrays_text(states),
        }

        def run(flow: Any, plan: LyapunovPlan, suffix: str) -> tuple[np.ndarray, int]:
            saved = None
            if save is not None:
                used = digest([repr(plan), repr(flow.provenance), str(max_steps)])
                file = f"{os.fspath(save)}{suffix}"
                saved = SavedProgress(_CALLER, file, identity | {"settings": used})
            return follow(_CALLER, problem, flow, plan, states, saved, progress)

        growth, steps = run(flow, plan, "")

        def again(second: SecondRun) -> np.ndarray:
            finer = plan.divided(second.division)
            other = dataclasses.replace(integration, **second.options)
            flow = tangent_flow(problem, finer, other)
            return run(flow, finer, ".again")[0][:, finer.burn_in :]

        step = None
        if check_step and not problem.kind.follows_path:
            precision = float(np.finfo(problem.dtype).eps)
            each = steps / (plan.intervals * plan.chains)
            runs = second_runs(
                where.solver, plan.interval, integration, each, precision
            )
            step = step_check(runs, again, precision)
    averaged = growth[:, plan.burn_in :]
    _check_apart(problem, averaged, plan.interval)
    return spectrum_of(
        averaged,
        interval=plan.interval,
        dimension=problem.dimension,
        level=level,
        tolerance=tolerance,
        settings=settings,
        provenance=where,
        step=step,
    )


def tangent_flow(
    problem: ODEProblem | SDEProblem, plan: LyapunovPlan, integration: Integration
) -> Any:
    """Orbits and tangent vectors on a backend, ready to be advanced."""
    make = diffrax_tangent_flow
    if integration.backend == "julia":
        from ...backends.julia import julia_tangent_flow as make
    span = plan.interval * plan.intervals
    return make(problem, plan.exponents, integration, interval=plan.interval, span=span)


def _integration(problem: Problem, requested: Integration) -> Integration:
    """Fixed steps for a stochastic problem; for others tight tolerances or steps."""
    if problem.kind.follows_path and requested.adaptive:
        raise ValueError(
            f"{_CALLER}: a stochastic problem is followed in fixed steps: pass `dt`, "
            "and leave out `rtol` and `atol`."
        )
    checked = requested.checked(_CALLER, problem, takes_path=True)
    if problem.kind.follows_path or checked.dt is not None:
        return checked
    rtol, atol = (1e-8, 1e-8) if problem.dtype == np.float64 else (1e-4, 1e-6)
    return dataclasses.replace(
        checked,
        rtol=rtol if checked.rtol is None else checked.rtol,
        atol=atol if checked.atol is None else checked.atol,
    )


def follow(
    caller: str,
    problem: ODEProblem | SDEProblem,
    flow: Any,
    plan: LyapunovPlan,
    states: np.ndarray,
    saved: SavedProgress | None,
    progress: bool,
) -> tuple[np.ndarray, int]:
    """Follow all orbits to the end, in segments of about a second.

    **Returns:** the logarithmic growth, shape `(chains, intervals, k)`, and how many
    steps were tried.
    """
    total, k = plan.intervals, plan.exponents
    n = problem.dimension
    directions = start_directions(n, k, plan.chains)
    parts: list[np.ndarray] = []
    done, steps = 0, 0
    kept = None if saved is None else saved.read()
    if kept is not None:
        states, directions = kept["states"], kept["directions"]
        parts, done = [kept["growth"]], kept["growth"].shape[1]
        steps = int(kept["steps"])
    # The growth of one segment fits in memory, however many chains there are.
    capacity = min(powers_of_two(total), powers_of_two(_ENTRIES // (plan.chains * k)))
    count = min(16, capacity)
    with progress_bar(progress, caller, total, done) as advance:
        while done < total:
            count = min(count, total - done, capacity)
            began = clock.perf_counter()
            segment = flow.advance(states, directions, done, count, capacity)
            if bool(np.any(segment.failed)):
                raise diverged(
                    caller, problem, flow.provenance, plan, states, segment, done
                )
            states, directions = segment.states, segment.directions
            parts.append(segment.growth)
            done, steps = done + count, steps + segment.steps
            advance(count)
            if saved is not None:
                parts = [np.concatenate(parts, axis=1)]
                now = {"states": states, "directions": directions, "growth": parts[0]}
                saved.write(now | {"steps": np.asarray(steps)})
            passed = clock.perf_counter() - began
            # Cut by the clock, which changes no bit of the result.
            count = max(1, int(count * min(8.0, _SEGMENT / max(passed, 1e-6))))
    return np.concatenate(parts, axis=1), steps


def _check_apart(problem: Any, growth: np.ndarray, interval: float) -> None:
    """Refuse growth in which round-off of the fastest hides the slowest."""
    if growth.shape[2] < 2:
        return
    spread = float(np.max(np.ptp(growth, axis=2)))
    most = -0.5 * math.log(float(np.finfo(problem.dtype).eps))
    if spread > most:
        raise AnalysisError(
            f"{_CALLER}: within one `interval` of {interval:g} tangent vectors grow "
            f"apart by a factor of e^{spread:.0f}, and round-off of the longest drowns "
            f"the shortest; take an interval of {0.8 * interval * most / spread:.2g}, "
            "or ask for fewer `exponents`."
        )
