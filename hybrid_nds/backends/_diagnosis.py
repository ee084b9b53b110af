"""Why a solve could not go on: what is not finite, and where it was first seen."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from .._core import is_concrete
from ..problems import Problem, Term
from ..solution import STAGE_FAILED, UNSTABLE, Solution, code_of

# Of the span, how far ahead of its end a solve is looked at: more is another story.
_AHEAD = 1e-2
# Where the speed of a solution grows by more than this in a step, it may blow up.
_FASTER = 1.05


def diagnosed(solution: Solution, problem: Problem) -> Solution:
    """A solution with a message that names the cause, where it ended as unstable, or
    with an implicit stage that could not be solved.

    **Arguments:** the solution of one solve, outside of JAX's transformations (others
    come back as they are), and its problem.
    """
    arrays = (code_of(solution.outcome), solution.end_time, solution.end_state, problem)
    if not all(is_concrete(leaf) for leaf in jtu.tree_leaves(arrays)):
        return solution
    code = np.asarray(code_of(solution.outcome))
    if code.ndim != 0 or solution.end_state is None:
        return solution
    end = solution.end_time, solution.end_state
    fixed = solution.provenance.rtol is None
    if int(code) == UNSTABLE:
        said = "no longer finite" in solution.message
        found = _cause(problem, *end, fixed=fixed, said=said)
    elif int(code) == STAGE_FAILED and fixed:
        found = _without_solution(problem, *end, solution.provenance.dt)
    else:
        return solution
    message = " ".join(part for part in (solution.message, found) if part)
    return dataclasses.replace(solution, message=message)


def _cause(problem: Problem, t: Any, y: PyTree, *, fixed: bool, said: bool) -> str:
    """The cause in a sentence, beyond what a message has said; of a solve in fixed
    steps, or under error control."""
    missing = _not_finite_inputs(problem)
    if missing:
        return missing
    if found := "" if said else where_not_finite(problem, t, y):
        return found
    if not _finite(y):
        return "" if said else f"The state was not finite at t = {float(t):.9g}."
    size = max((float(np.max(np.abs(leaf))) for leaf in jtu.tree_leaves(y)), default=0)
    if fixed:
        return f"At t = {float(t):.9g} the largest component was {size:.3g}."
    return (
        f"No step from t = {float(t):.9g} on was short enough, where the largest "
        f"component is {size:.3g}: the solution blows up there, the field jumps, or "
        "the tolerances are too tight for the precision."
    )


def _without_solution(problem: Problem, t: Any, y: PyTree, dt: Any) -> str:
    """Whether a solution grows so fast that an implicit step may have none, in a
    sentence, else empty: of y' = y² none has where 4 y dt > 1."""
    if dt is None or problem.kind.follows_path or not _finite(y):
        return ""
    (term,) = problem.terms
    moving = jtu.tree_map(lambda x: np.asarray(x, float), y)

    def slope(state: PyTree) -> PyTree:
        at = jtu.tree_map(lambda x, like: np.asarray(x, like.dtype), state, problem.y0)
        value = term.function(np.asarray(t, problem.dtype), at, problem.args)
        return jtu.tree_map(lambda x: np.asarray(x, float), value)

    before = slope(moving)
    after = slope(jtu.tree_map(lambda x, f: x + float(dt) * f, moving, before))
    first, second = (
        max(float(np.max(np.abs(x), initial=0.0)) for x in jtu.tree_leaves(f))
        for f in (before, after)
    )
    # What is not finite stands for a larger number.
    if not (0 < first < np.inf) or second <= _FASTER * first:
        return ""
    size = max(float(np.max(np.abs(x), initial=0.0)) for x in jtu.tree_leaves(y))
    return (
        f"At t = {float(t):.9g} the largest component was {size:.3g}, and its speed "
        f"grows {second / first:.3g} times in a step of {float(dt):.3g}: a solution "
        "that blows up leaves the equation of a step without a solution."
    )


def where_not_finite(problem: Problem, t: Any, y: PyTree) -> str:
    """Which function of a problem is not finite at a state, or just beyond it, in a
    sentence; empty where all are finite. What is not finite of the state itself stands
    for the start there."""
    if not _finite(y):
        y = jtu.tree_map(
            lambda x, start: np.where(np.isfinite(x), x, start), y, problem.y0
        )
    for term in problem.terms:
        if found := _where_not_finite(problem, term, t, y):
            return found
    return ""


def _not_finite_inputs(problem: Problem) -> str:
    """What the problem was given that is not finite, such as missing data."""
    functions = {term.name: term.function for term in problem.terms}
    named = {"args": problem.args, "y0": problem.y0, **functions}
    for name, tree in named.items():
        for path, leaf in jtu.tree_flatten_with_path(tree)[0]:
            if not eqx.is_inexact_array_like(leaf) or not is_concrete(leaf):
                continue
            values = np.asarray(leaf)
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                index = "".join(f"[{i}]" for i in bad[0])
                return (
                    f"`{name}{jtu.keystr(path)}` holds {len(bad)} of {values.size} "
                    f"values that are not finite, the first {values[tuple(bad[0])]} at "
                    f"{index or 'its only place'}: are data missing? Fill or leave out "
                    "missing values before the solve."
                )
    return ""


def _where_not_finite(problem: Problem, term: Term, t: Any, y: PyTree) -> str:
    """Where a function is not finite: at the end of a solve, or just beyond it."""
    if not _finite(y):
        return ""
    span = float(problem.t1) - float(problem.t0)
    span = span if np.isfinite(span) else float(np.sign(span))
    unit = float(np.finfo(problem.dtype).eps)
    start = np.asarray(t, problem.dtype)
    # Along a path there is no slope.
    slope = None
    if not problem.kind.follows_path:
        slope = term.function(start, y, problem.args)
    ahead = [0.0]
    if slope is not None:
        ahead += list(np.geomspace(unit, _AHEAD, 30) * span)
    for step in ahead:
        at = np.asarray(start + step, problem.dtype)
        moved = y
        if step and slope is not None:
            moved = jtu.tree_map(lambda x, f, h=step: x + h * f, y, slope)
        value = term.function(at, moved, problem.args)
        for path, leaf in jtu.tree_flatten_with_path(value)[0]:
            bad = np.argwhere(~np.isfinite(np.asarray(leaf)))
            if len(bad) and _finite(moved):
                index = ", ".join(str(i) for i in bad[0])
                name_of = jtu.keystr(path) + (f"[{index}]" if index else "")
                place = f"component {name_of}" if name_of else "it"
                found = np.asarray(leaf)[tuple(bad[0])]
                beyond = "" if not step else ", just beyond the last step"
                return (
                    f"The {term.name} is not finite at t = {float(at):.9g}{beyond}: "
                    f"{place} is {found}. It may leave its domain "
                    "there (a logarithm, root or quotient)."
                )
    return ""


def _finite(tree: PyTree) -> bool:
    return all(bool(np.all(np.isfinite(x))) for x in jtu.tree_leaves(tree))
