"""Why an orbit could not be followed with its tangent vectors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...analysis import AnalysisError
from ...backends import where_not_finite
from ...problems import ODEProblem, SDEProblem
from ...solution import Provenance
from ...solving import solve
from ._lyapunov_plan import LyapunovPlan


def diverged(
    caller: str,
    problem: ODEProblem | SDEProblem,
    method: Provenance,
    plan: LyapunovPlan,
    states: np.ndarray,
    segment: Any,
    done: int,
) -> AnalysisError:
    """The error of an orbit that diverged: where, when, and what was first not finite.

    **Arguments:** the analysis; its problem, method and plan; the states at the start
    of the segment, shape `(chains, n)`; the segment, and how many intervals came
    before it.
    """
    chain = int(np.flatnonzero(segment.failed)[0])
    index = done + segment.growth.shape[1] - 1
    start = float(problem.t0) + plan.interval * index
    when = f"between t = {start:.6g} and t = {start + plan.interval:.6g}"
    which = f" of chain {chain}" if plan.chains > 1 else ""
    before = "" if index else ", in the first interval"
    end = segment.states[chain]
    if problem.kind.follows_path:
        found = _of_functions(problem, end, (start, start + plan.interval))
    else:
        times = float(problem.t0) + plan.interval * done, start + plan.interval
        found = _of_solve(problem, method, states[chain], times)
    lost = found or not np.all(np.isfinite(end))
    if lost:
        found = found or "its state is no longer finite."
        advice = (
            ""
            if any(f"The {term.name} is not finite" in found for term in problem.terms)
            else " Take a shorter `dt` or an implicit `solver`; if the system itself "
            "escapes, start in the basin of its attractor (`y0`, or `initial`)."
        )
        return AnalysisError(
            f"{caller}: the orbit{which} diverged {when}{before}: {found}{advice}"
        )
    if not np.all(np.isfinite(segment.growth[chain, -1])):
        return AnalysisError(
            f"{caller}: a tangent vector{which} became zero or infinite {when}; take a "
            "shorter `interval`. A flow that contracts to a point at once has "
            "exponents of minus infinity: ask for fewer `exponents`."
        )
    return AnalysisError(
        f"{caller}: the solver could not get through the interval{which} {when}: "
        "the orbit escapes to infinity there, or the problem is stiff and wants an "
        "implicit `solver`; else raise `max_steps`, or loosen `rtol` and `atol`."
    )


def _of_functions(problem: Any, state: np.ndarray, times: tuple[float, float]) -> str:
    """Which function of a stochastic problem is not finite about its last state."""
    last = problem.flat_state.unflatten(state)
    causes = (where_not_finite(problem, time, last) for time in times)
    return next((cause for cause in causes if cause), "")


def _of_solve(
    problem: Any, method: Provenance, state: np.ndarray, times: tuple[float, float]
) -> str:
    """What a solve of the orbit alone says of its end, empty where it gets through."""
    unit = problem.dtype.type
    alone = dataclasses.replace(
        problem,
        y0=problem.flat_state.unflatten(state),
        t0=unit(times[0]),
        t1=unit(times[1]),
    )
    options: dict[str, Any] = {"dt": method.dt}
    if method.rtol is not None:
        options = {"rtol": method.rtol, "atol": method.atol}
    solution = solve(
        alone, method.backend, solver=method.solver, throw=False, **options
    )
    return "" if bool(solution.succeeded) else solution.message
