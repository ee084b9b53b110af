"""`reconcile`: one problem up the ladder."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._core import double_precision
from ..analysis import AnalysisResult
from ..problems import KindName, ODEProblem, SDEProblem, check_kind, forward_problem
from ._analyses import PlannedAnalysis
from ._field_rung import field_rung
from ._fixtures import Fixture
from ._names import NO_JULIA
from ._ode_plan import plan_ode_fixture, plan_ode_problem
from ._ode_rungs import observable_rung, solution_rung
from ._plan import Plan
from ._report import RUNGS, Report, RungResult
from ._scheme_rung import scheme_rung
from ._sde_fixtures import StochasticFixture
from ._sde_plan import plan_sde_fixture, plan_sde_problem
from ._sde_rungs import law_rung, strong_rung
from ._stacks import RECORD, LiveStack, RecordedStack, Recorder, Stack


def reconcile(
    problem: ODEProblem | SDEProblem | Fixture | StochasticFixture,
    *,
    rungs: Sequence[str] = RUNGS,
    observables: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] | None = None,
    analyses: Mapping[str, Callable[[Any, Any], AnalysisResult]] | None = None,
    gradients: bool = False,
    scale: Any = None,
    julia: str = "auto",
    progress: Callable[[str], None] | None = None,
    finished: Callable[[RungResult], None] | None = None,
) -> Report:
    """Take a problem to both solver stacks and say how far they agree, rung by rung.

    L0 compares the field and its Jacobian, that of a large field entry by entry where
    few may be other than zero, L1 the same scheme in the same steps, L2 each stack's
    own best solver down a ladder of tolerances, L3 what is wanted from the solution.
    For a stochastic problem L1 is along one Brownian path, L2 the strong order of each
    method, and L3 the distribution. All run in double precision. Of a large problem
    with few entries L0 alone solves nothing.

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
    - `gradients`: for a problem of your own, whether to compare gradients by start and
        parameters, too: on L1 those of twins, and for an ordinary problem on L2 those
        of the states at all times and on L3 those of the observables. It takes some
        seconds more, most of them to compile Diffrax's.
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

    **Raises:** `TypeError` for what is no problem or fixture; `ValueError` for an
    unknown rung or `julia`, a `scale` that is not
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
    fixture = problem if isinstance(problem, Fixture | StochasticFixture) else None
    posed: Any = problem if fixture is None else fixture.problem
    check_kind("reconcile", posed, "ode", "sde")
    if posed.kind.name != "ode" and observables is not None:
        raise ValueError(
            "reconcile: `observables` are for ordinary problems; of a stochastic one "
            "the distribution is compared."
        )
    if not isinstance(gradients, bool):
        raise TypeError(
            f"reconcile: `gradients` must be True or False, got {gradients!r}."
        )
    for name, given in (
        ("observables", observables),
        ("analyses", analyses),
        ("gradients", gradients or None),
    ):
        if fixture is not None and given is not None:
            raise ValueError(f"reconcile: a fixture names its own `{name}`.")
    with double_precision():
        state, stack = _julia_side(fixture, julia)
        plan = (
            _plan_own(posed, observables or {}, scale, analyses or {}, rungs, gradients)
            if fixture is None
            else plan_fixture(fixture)
        )
        diffrax = LiveStack("diffrax")
        results = []
        for rung in RUNGS:
            if rung not in rungs:
                continue
            if progress is not None:
                progress(rung)
            started = time.perf_counter()
            result = _climb(rung, plan, diffrax, stack)
            seconds = time.perf_counter() - started
            results.append(dataclasses.replace(result, seconds=seconds))
            if finished is not None:
                finished(results[-1])
        versions = {"hybrid_nds": importlib.metadata.version("hybrid_nds")}
        versions |= dict(diffrax.versions)
        if stack is not None:
            versions |= {f"{name} (Julia)": v for name, v in stack.versions.items()}
    return Report(plan.name, tuple(results), state, tuple(sorted(versions.items())))


def record(fixture: Fixture | StochasticFixture) -> None:
    """Climb with Julia alone, live, and write its answers beside the fixture."""
    with double_precision():
        plan, julia = plan_fixture(fixture), Recorder(LiveStack("julia"))
        for rung in plan.rungs:
            _climb(rung, plan, julia if rung in _PAIRED else None, julia)
    julia.write(fixture.path / RECORD)


def plan_fixture(fixture: Fixture | StochasticFixture) -> Plan:
    """What is compared of a fixture."""
    if isinstance(fixture, StochasticFixture):
        return plan_sde_fixture(fixture)
    return plan_ode_fixture(fixture)


def _plan_own(
    problem: Any,
    observables: Mapping[str, Callable[[np.ndarray, np.ndarray], float]],
    scale: Any,
    analyses: Mapping[str, Callable[[Any, Any], AnalysisResult]],
    rungs: Sequence[str],
    gradients: bool,
) -> Plan:
    problem = forward_problem(_in_double(problem))
    planned = [PlannedAnalysis(name, run) for name, run in analyses.items()]
    if problem.kind.name == "sde":
        return plan_sde_problem(problem, scale, planned, gradients=gradients)
    gradients = gradients and not problem.kind.mass_matrix
    return plan_ode_problem(
        problem, observables, scale, planned, rungs=rungs, gradients=gradients
    )


def _julia_side(
    fixture: Fixture | StochasticFixture | None, julia: str
) -> tuple[str, Stack | None]:
    from ..runtime import configured

    if julia == "live" or (julia == "auto" and configured()):
        return "live", LiveStack("julia")
    if fixture is not None:
        path = fixture.path / RECORD
        if path.is_file():
            return "recorded", RecordedStack(path)
        if julia == "recorded":
            raise ValueError(f"reconcile: {path} is missing; record it with Julia.")
    elif julia == "recorded":
        raise ValueError(
            'reconcile: `julia="recorded"` is for fixtures; a problem of your own '
            "has no recorded results."
        )
    return "absent", None


# The rungs that compare two stacks, and those that hold each to a reference, too.
_PAIRED: Mapping[str, Any] = MappingProxyType({"L0": field_rung, "L1": scheme_rung})
_BY_KIND: Mapping[KindName, Mapping[str, Any]] = MappingProxyType(
    {
        "ode": {"L2": solution_rung, "L3": observable_rung},
        "sde": {"L2": strong_rung, "L3": law_rung},
    }
)


def _climb(
    rung: str, plan: Plan, diffrax: Stack | None, julia: Stack | None
) -> RungResult:
    if rung not in plan.rungs:
        return RungResult(rung, reason="the problem names no such rung", applies=False)
    if rung in _PAIRED:
        if diffrax is None or julia is None:
            return RungResult(rung, reason=NO_JULIA)
        return _PAIRED[rung](plan, diffrax, julia)
    sides = {"diffrax": diffrax, "julia": julia}
    stacks = tuple(s for n, s in sides.items() if s is not None and n in plan.backends)
    if not stacks:
        return RungResult(rung, reason="it takes Julia to solve it, and none is here")
    return _BY_KIND[plan.problem.kind.name][rung](plan, stacks)


def _in_double(problem: Any) -> Any:
    """The problem with every floating-point array in double precision."""

    def widen(leaf: Any) -> Any:
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(np.asarray(leaf), jnp.float64)
        return leaf

    return jtu.tree_map(widen, problem)
