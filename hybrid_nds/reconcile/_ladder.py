"""`reconcile`: one problem up the ladder."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._core import double_precision
from ..analysis import AnalysisResult
from ..problems import ODEProblem, SDEProblem, forward_problem
from ._analyses import PlannedAnalysis
from ._fixtures import Fixture
from ._names import NO_JULIA
from ._plan import Plan, plan_fixture, plan_problem
from ._report import RUNGS, Report, RungResult
from ._rungs import field_rung, observable_rung, scheme_rung, solution_rung
from ._sde_fixtures import StochasticFixture
from ._sde_ladder import climb_rungs, climb_stochastic, in_double
from ._stacks import RECORD, LiveStack, RecordedStack, Stack


def reconcile(
    problem: ODEProblem | SDEProblem | Fixture | StochasticFixture,
    *,
    rungs: Sequence[str] = RUNGS,
    observables: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] | None = None,
    analyses: Mapping[str, Callable[[Any, Any], AnalysisResult]] | None = None,
    scale: Any = None,
    julia: str = "auto",
    progress: Callable[[str], None] | None = None,
    finished: Callable[[RungResult], None] | None = None,
) -> Report:
    """Take a problem to both solver stacks and say how far they agree, rung by rung.

    L0 compares the field, L1 the same scheme in the same steps, L2 each stack's own
    best solver down a ladder of tolerances, L3 what is wanted from the solution. For a
    stochastic problem L1 is along one Brownian path, L2 the strong order of each
    method, and L3 the law. All run in double precision.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem] or
        [`SDEProblem`][hybrid_nds.SDEProblem] of your own, or a
        [`Fixture`][hybrid_nds.reconcile.Fixture] or
        [`StochasticFixture`][hybrid_nds.reconcile.StochasticFixture], which brings a
        reference. Without one, each stack is held to the other's solve at the tightest
        tolerance, or to its own on the finest grid.
    - `rungs`: which to climb.
    - `observables`: for an ordinary problem of your own, named functions
        `(ts, ys) -> float` of times and states (an array with a leading axis of times).
    - `analyses`: for a problem of your own, named functions
        `(problem, backend) -> result`, such as a call of
        [`lyapunov_spectrum`][hybrid_nds.stability.lyapunov_spectrum]: L3 then holds the
        stacks' results to their intervals, which should be wide enough for every one of
        them to hold (`level=0.999`).
    - `scale`: for a problem of your own, the scale of each component, a positive number
        or shape `(n,)`: errors are relative to `|y| + scale`. By default the largest
        size of each component on the way, so that units change no verdict.
    - `julia`: `"live"` demands a running Julia, `"recorded"` a fixture's recorded
        results, `"auto"` takes the first where a Julia is configured.
    - `progress`: called with the name of each rung before it is climbed.
    - `finished`: called with the result of each rung after it.

    **Returns:** a [`Report`][hybrid_nds.reconcile.Report]. A rung that compared nothing
    independent, as without Julia and without a reference, is `"not compared"`, and so
    is a report of such rungs: it has not `passed`.

    **Raises:** `ValueError` for an unknown rung or `julia`, a `scale` that is not
    positive, or for recorded results of
    a problem that has none; what the Julia session raises where it is demanded.
    """
    unknown = [rung for rung in rungs if rung not in RUNGS]
    if unknown or not rungs:
        raise ValueError(
            f"reconcile: `rungs` must be some of {', '.join(RUNGS)}, got {list(rungs)}."
        )
    if julia not in ("auto", "live", "recorded"):
        raise ValueError(
            f'reconcile: `julia` must be "auto", "live" or "recorded", got {julia!r}.'
        )
    stochastic = isinstance(problem, SDEProblem | StochasticFixture)
    if stochastic and observables is not None:
        raise ValueError(
            "reconcile: `observables` are for ordinary problems; of a stochastic one "
            "the law is compared."
        )
    if isinstance(problem, Fixture) and observables is not None:
        raise ValueError("reconcile: a fixture names its own `observables`.")
    if isinstance(problem, Fixture | StochasticFixture) and analyses is not None:
        raise ValueError("reconcile: a fixture names its own `analyses`.")
    planned = [PlannedAnalysis(name, run) for name, run in (analyses or {}).items()]
    if stochastic:
        return climb_stochastic(
            problem, rungs, scale, planned, julia, progress, finished
        )
    with double_precision():
        state, stack = _julia_side(problem, julia)
        plan = (
            plan_fixture(problem)
            if isinstance(problem, Fixture)
            else plan_problem(
                forward_problem(in_double(problem)),
                dict(observables or {}),
                scale,
                planned,
            )
        )
        diffrax = LiveStack("diffrax")
        results = climb_rungs(
            rungs,
            lambda rung: _climb(rung, plan, diffrax, stack),
            progress,
            finished,
        )
        versions = {"hybrid_nds": importlib.metadata.version("hybrid_nds")}
        versions |= dict(diffrax.versions)
        if stack is not None:
            versions |= {f"{name} (Julia)": v for name, v in stack.versions.items()}
    return Report(plan.name, results, state, tuple(sorted(versions.items())))


def _julia_side(problem: ODEProblem | Fixture, julia: str) -> tuple[str, Stack | None]:
    from ..runtime import configured

    if julia == "live" or (julia == "auto" and configured()):
        return "live", LiveStack("julia")
    if isinstance(problem, Fixture):
        path = problem.path / RECORD
        if path.is_file():
            return "recorded", RecordedStack(path)
        if julia == "recorded":
            raise ValueError(f"reconcile: {path} is missing; record it with Julia.")
        return "absent", None
    if julia == "recorded":
        raise ValueError(
            'reconcile: `julia="recorded"` is for fixtures; a problem of your own '
            "has no recorded results."
        )
    return "absent", None


def _climb(rung: str, plan: Plan, diffrax: Stack, julia: Stack | None) -> RungResult:
    if rung not in plan.rungs:
        return RungResult(rung, reason="the problem names no such rung", applies=False)
    if rung in ("L0", "L1"):
        if julia is None:
            return RungResult(rung, reason=NO_JULIA)
        climb = field_rung if rung == "L0" else scheme_rung
        return climb(plan, diffrax, julia)
    stacks: list[Stack] = [diffrax] if "diffrax" in plan.backends else []
    if julia is not None and "julia" in plan.backends:
        stacks.append(julia)
    if not stacks:
        return RungResult(rung, reason="it takes Julia to solve it, and none is here")
    climb = solution_rung if rung == "L2" else observable_rung
    return climb(plan, tuple(stacks))
