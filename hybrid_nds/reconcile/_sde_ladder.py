"""The ladder of a stochastic problem."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._core import double_precision
from ..problems import SDEProblem, forward_problem
from ._analyses import PlannedAnalysis
from ._names import NO_JULIA
from ._report import RUNGS, Report, RungResult
from ._sde_fixtures import StochasticFixture
from ._sde_plan import StochasticPlan, plan_stochastic_fixture, plan_stochastic_problem
from ._sde_rungs import (
    law_rung,
    stochastic_field_rung,
    stochastic_scheme_rung,
    stochastic_solution_rung,
)
from ._sde_stacks import LiveStochasticStack, RecordedStochasticStack, StochasticStack
from ._stacks import RECORD

Problem = TypeVar("Problem")


def climb_stochastic(
    problem: SDEProblem | StochasticFixture,
    rungs: Sequence[str],
    scale: Any,
    analyses: Sequence[PlannedAnalysis],
    julia: str,
    progress: Callable[[str], None] | None,
    finished: Callable[[RungResult], None] | None,
) -> Report:
    """Take a stochastic problem up the ladder; see
    [`reconcile`][hybrid_nds.reconcile.reconcile]."""
    with double_precision():
        state, stack = _julia_side(problem, julia)
        plan = (
            plan_stochastic_fixture(problem)
            if isinstance(problem, StochasticFixture)
            else plan_stochastic_problem(
                forward_problem(in_double(problem)), scale, analyses
            )
        )
        diffrax = LiveStochasticStack("diffrax")
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


def climb_rungs(
    rungs: Sequence[str],
    climb: Callable[[str], RungResult],
    progress: Callable[[str], None] | None,
    finished: Callable[[RungResult], None] | None,
) -> tuple[RungResult, ...]:
    """Climb the rungs asked for, from the lowest, and note how long each took."""
    results = []
    for rung in RUNGS:
        if rung not in rungs:
            continue
        if progress is not None:
            progress(rung)
        started = time.perf_counter()
        result = climb(rung)
        seconds = time.perf_counter() - started
        results.append(dataclasses.replace(result, seconds=seconds))
        if finished is not None:
            finished(results[-1])
    return tuple(results)


def _julia_side(
    problem: SDEProblem | StochasticFixture, julia: str
) -> tuple[str, StochasticStack | None]:
    from ..runtime import configured

    if julia == "live" or (julia == "auto" and configured()):
        return "live", LiveStochasticStack("julia")
    if isinstance(problem, StochasticFixture):
        path = problem.path / RECORD
        if path.is_file():
            return "recorded", RecordedStochasticStack(path)
        if julia == "recorded":
            raise ValueError(f"reconcile: {path} is missing; record it with Julia.")
    elif julia == "recorded":
        raise ValueError(
            'reconcile: `julia="recorded"` is for fixtures; a problem of your own '
            "has no recorded results."
        )
    return "absent", None


def _climb(
    rung: str,
    plan: StochasticPlan,
    diffrax: StochasticStack,
    julia: StochasticStack | None,
) -> RungResult:
    if rung not in plan.rungs:
        return RungResult(rung, reason="the problem names no such rung", applies=False)
    if rung in ("L0", "L1"):
        if julia is None:
            return RungResult(rung, reason=NO_JULIA)
        climb = stochastic_field_rung if rung == "L0" else stochastic_scheme_rung
        return climb(plan, diffrax, julia)
    stacks = [diffrax] if "diffrax" in plan.backends else []
    if julia is not None and "julia" in plan.backends:
        stacks.append(julia)
    climb = stochastic_solution_rung if rung == "L2" else law_rung
    return climb(plan, tuple(stacks))


def in_double(problem: Problem) -> Problem:
    """The problem with every floating-point array in double precision."""

    def widen(leaf: Any) -> Any:
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(np.asarray(leaf), jnp.float64)
        return leaf

    return jtu.tree_map(widen, problem)
