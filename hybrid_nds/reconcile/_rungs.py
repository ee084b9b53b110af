"""The four rungs: what each compares, and how its limits follow.

u is the unit round-off 2⁻⁵³ throughout. Limits of states are parts of |y| + scale; a
figure shows error and limit in the state's own units, where they are closest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..lowering import expression_depth
from ..problems import ODEProblem
from ._analyses import analysis_figures
from ._names import ALONE
from ._observables import sensitivity
from ._plan import IMPLICIT_TWINS, STAGES, Plan, flat_field
from ._report import Figure, RungResult
from ._stacks import PARTS, Stack, directions, run_once

UNIT = 2.0**-53
# Newton's iteration stops within this of the stage, relative to |y| + scale: what the
# solve of fixed steps asks of both stacks at the least.
NEWTON = 2.0 * float(np.finfo(np.float64).eps) ** 0.57
# Local errors are held to the tolerance a step; how many of them add up is the step
# control's affair. Ten is chosen, not derived: one decade.
STEPS_OF_ERROR = 10.0


def field_rung(plan: Plan, a: Stack, b: Stack) -> RungResult:
    """L0: the field, its Jacobian applied to vectors, and its time gradient."""
    first, second = a.parts(plan), b.parts(plan)
    magnitudes = part_magnitudes(plan)
    depths = part_depths(plan)
    derivation = (
        "Each stack rounds every operation once: its result is off by at most d·u·m, d "
        "the longest chain of roundings in the expression and m = |f| + Σ|yₖ∂f/∂yₖ| + "
        "Σ|aₖ∂f/∂aₖ| + |t∂f/∂t| the condition of f; two stacks, twice that."
    )
    figures = []
    for part in PARTS:
        depth = depths[part]
        difference = np.abs(first[part] - second[part])
        allowed = 2 * depth * UNIT * magnitudes[part]
        # An expression that is zero by structure must be zero.
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(difference == 0, 0.0, difference / allowed)
        place = np.unravel_index(
            np.argmax(np.nan_to_num(ratio, nan=np.inf)), ratio.shape
        )
        figures.append(
            Figure(
                f"{part}, {a.name} against {b.name}",
                float(difference[place]),
                float(allowed[place]),
                derivation,
            )
        )
    return RungResult("L0", tuple(figures))


def part_depths(plan: Plan) -> Mapping[str, int]:
    """The longest chain of roundings in each part."""
    flat = flat_field(plan.problem)
    n = plan.points.shape[1]
    t, u = jnp.asarray(plan.point_times[0]), jnp.asarray(plan.points[0])
    field = expression_depth(lambda t, u: [flat(t, u)], t, u)
    depths = {"field": field}
    for name, v in directions(n).items():

        def applied(t, u, v=v):
            tangent = jnp.asarray(v)
            return [jax.jvp(lambda u: flat(t, u), (u,), (tangent,))[1]]

        # Julia's side multiplies a whole Jacobian by the vector: n more roundings.
        depths[name] = expression_depth(applied, t, u) + n
    depths["time gradient"] = expression_depth(
        lambda t, u: [jax.jacfwd(flat, argnums=0)(t, u)], t, u
    )
    return depths


@functools.lru_cache(maxsize=16)
def part_magnitudes(plan: Plan) -> Mapping[str, np.ndarray]:
    """The condition of each part at the plan's points, shape `(points, n)`."""
    dynamic, static = eqx.partition(plan.problem, eqx.is_inexact_array)

    def all_parts(dynamic: Any, ts: Any, us: Any) -> dict[str, Any]:
        problem = eqx.combine(dynamic, static)
        return jax.vmap(functools.partial(_magnitudes, problem))(ts, us)

    magnitudes = run_once(all_parts)(dynamic, plan.point_times, plan.points)
    return {name: np.asarray(values) for name, values in magnitudes.items()}


def _magnitudes(problem: ODEProblem, t: Any, u: Any) -> dict[str, Any]:
    """The condition of each part at one point, shape `(n,)`."""
    leaves, rebuild = _weights(problem)

    def field(t: Any, u: Any, leaves: Any) -> Any:
        return flat_field(rebuild(leaves))(t, u)

    def magnitude(function: Any) -> Any:
        # function(t, u, leaves) -> (n,)
        value = jnp.abs(function(t, u, leaves))
        value += jnp.abs(jax.jacfwd(function, 1)(t, u, leaves)) @ jnp.abs(u)
        value += jnp.abs(jax.jacfwd(function, 0)(t, u, leaves) * t)
        slopes = jax.jacfwd(function, 2)(t, u, leaves) if leaves else ()
        for slope, leaf in zip(slopes, leaves, strict=True):
            flat_slope = jnp.abs(slope.reshape(value.shape[0], -1))
            value += flat_slope @ jnp.abs(leaf.reshape(-1))
        return value

    magnitudes = {"field": magnitude(field)}
    rows = jnp.abs(jax.jacfwd(field, argnums=1)(t, u, leaves))
    for name, v in directions(u.shape[0]).items():

        def applied(t: Any, u: Any, leaves: Any, v: Any = v) -> Any:
            tangent = jnp.asarray(v)
            return jax.jvp(lambda u: field(t, u, leaves), (u,), (tangent,))[1]

        # The tangent's own terms may cancel: count them by their size.
        magnitudes[name] = magnitude(applied) + rows @ jnp.abs(jnp.asarray(v))
    magnitudes["time gradient"] = magnitude(
        lambda t, u, leaves: jax.jacfwd(field, 0)(t, u, leaves)
    )
    return magnitudes


def _weights(problem: ODEProblem) -> tuple[list[Any], Any]:
    dynamic, static = eqx.partition((problem.field, problem.args), eqx.is_inexact_array)
    leaves, tree = jax.tree_util.tree_flatten(dynamic)

    def rebuild(leaves: Any) -> ODEProblem:
        field, args = eqx.combine(jax.tree_util.tree_unflatten(tree, leaves), static)
        return eqx.tree_at(
            lambda p: (p.field, p.args),
            problem,
            (field, args),
            is_leaf=lambda x: x is None,
        )

    return leaves, rebuild


def scheme_rung(plan: Plan, a: Stack, b: Stack) -> RungResult:
    """L1: twin schemes in the same fixed steps."""
    if plan.scheme_steps is None or plan.scheme_t1 is None:
        reason = "no fixed-step span (mass matrix or none given)"
        return RungResult("L1", reason=reason, applies=False)
    step = abs(plan.scheme_t1 - float(plan.problem.t0)) / plan.scheme_steps
    size = np.abs(plan.points) + plan.scale
    condition = float(np.max(part_magnitudes(plan)["field"] / size))
    depth = part_depths(plan)["field"]
    derivation = (
        "A step of s stages rounds the state s + 2 times and adds h times the field's "
        "rounding d·u·m; over N steps, grown at most G times, in two stacks: "
        "2·G·N·u·(s + 2 + s·h·d·max m/(|y| + scale)). Implicit stages add the "
        "tolerance of Newton's iteration, 2·s·G·N·η."
    )
    figures = []
    for twin in plan.twins:
        first, second = a.scheme(plan, twin), b.scheme(plan, twin)
        stages = STAGES[twin]
        limit = 2 * plan.growth * plan.scheme_steps * UNIT
        limit *= stages + 2 + stages * step * depth * condition
        if twin in IMPLICIT_TWINS:
            limit += 2 * stages * plan.growth * plan.scheme_steps * NEWTON
        claim = f"{twin}, {plan.scheme_steps} fixed steps"
        figures.append(
            state_figure(claim, first, second, plan.scale, limit, derivation)
        )
    return RungResult("L1", tuple(figures))


def state_figure(
    claim: str,
    states: np.ndarray,
    reference: np.ndarray,
    scale: np.ndarray,
    limit: float,
    derivation: str,
    **fields: Any,
) -> Figure:
    """States against a reference, where they differ most beside |y| + scale.

    **Arguments:** the claim; two arrays of the same shape, the last axis that of the
    components; the scale of each; the limit as a part of |y| + scale; how that was
    derived; and other fields of the figure.
    """
    size = np.abs(reference) + scale
    error = np.abs(states - reference)
    part = error / size
    if not np.all(np.isfinite(part)):
        return Figure(claim, math.inf, limit, derivation, **fields)
    place = np.unravel_index(np.argmax(part), part.shape)
    unit = float(size[place])
    return Figure(
        claim, float(error[place]), limit * unit, derivation, size=unit, **fields
    )


def solution_rung(plan: Plan, stacks: tuple[Stack, ...]) -> RungResult:
    """L2: each stack's best solver down a ladder of tolerances."""
    solved = {
        stack.name: {rtol: stack.solution(plan, rtol) for rtol in plan.rtols}
        for stack in stacks
    }
    figures: list[Figure] = []
    derivation = (
        "Error control holds each step's error to the tolerance; the errors grow at "
        f"most G times on the way, and {STEPS_OF_ERROR:.0f} of them may add up "
        "(chosen, not derived): 10·G·rtol plus the reference's own accuracy."
    )
    for stack in stacks:
        reference, source = plan.reference, "the reference"
        accuracy, independent = plan.accuracy, True
        if reference is None:
            other = next((s for s in stacks if s.name != stack.name), stack)
            tight = plan.rtols[-1]
            reference = solved[other.name][tight]
            source = f"{other.name} at rtol {tight:.0e}"
            accuracy = STEPS_OF_ERROR * plan.growth * tight
            independent = other is not stack
        claim = f"{stack.name} {plan.best_solver(stack.name)} against {source}"
        ladder = []
        for rtol in plan.rtols:
            ladder.append(
                state_figure(
                    claim,
                    solved[stack.name][rtol],
                    reference,
                    plan.scale,
                    STEPS_OF_ERROR * plan.growth * rtol + accuracy,
                    derivation,
                    at=rtol,
                    independent=independent,
                )
            )
        figures += ladder
        figures.append(_falls(ladder, stack.name, plan, accuracy))
    if len(stacks) == 2:
        one, two = (solved[stack.name] for stack in stacks)
        for rtol in plan.rtols:
            figures.append(
                state_figure(
                    f"{stacks[0].name} against {stacks[1].name}",
                    one[rtol],
                    two[rtol],
                    plan.scale,
                    2 * STEPS_OF_ERROR * plan.growth * rtol * (1 + 1e-3),
                    "Two stacks within a limit of the truth are within twice that of "
                    "each other.",
                    at=rtol,
                )
            )
    return RungResult("L2", tuple(figures), alone(figures))


def alone(figures: Sequence[Figure]) -> str:
    """Why figures compare nothing, empty where they do, or where one fails."""
    telling = any(figure.independent or not figure.holds for figure in figures)
    return "" if telling else ALONE


def _falls(ladder: list[Figure], name: str, plan: Plan, accuracy: float) -> Figure:
    """The error at the tightest tolerance against that at the loosest."""
    loose, tight = ladder[0], ladder[-1]
    size = tight.size
    # An error a hundredfold below what its tolerance allows is not the tolerance's.
    governed = loose.measured > loose.limit / 100
    fall = np.sqrt(plan.rtols[-1] / plan.rtols[0]) if governed else 1.0
    # Below this the reference and round-off rule, and nothing is left to fall.
    floor = 10 * accuracy + 1e3 * plan.growth * UNIT
    return Figure(
        f"{name}: the error falls with the tolerance",
        tight.measured,
        float(max(loose.relative * fall, floor) * size),
        "An error that follows the tolerance falls in proportion: half the decades "
        "must show, down to the floor of round-off and of the reference. One that is a "
        "hundredfold below its limit from the start must not rise.",
        independent=loose.independent,
        size=size,
    )


def observable_rung(plan: Plan, stacks: tuple[Stack, ...]) -> RungResult:
    """L3: what the user wanted from the solution."""
    if not plan.observables and not plan.analyses:
        return RungResult("L3", reason="no observables named", applies=False)
    rtol = plan.rtols[-1]
    shape = np.shape(plan.problem.y0) if hasattr(plan.problem.y0, "shape") else (-1,)
    figures = []
    states = {s.name: s.solution(plan, rtol) for s in stacks}
    for observable in plan.observables:
        values = {}
        limits = {}
        for name, flat in states.items():
            ys = flat.reshape(len(plan.times), *shape)
            values[name] = observable.function(plan.times, ys)
            base = plan.reference if plan.reference is not None else flat
            moved = sensitivity(
                observable.function,
                plan.times,
                base.reshape(len(plan.times), *shape),
                plan.scale,
            )
            state_limit = STEPS_OF_ERROR * plan.growth * rtol + plan.accuracy
            limits[name] = moved * state_limit + 1e3 * UNIT
        expected = observable.expected
        if expected is None and plan.reference is not None:
            truth = plan.reference.reshape(len(plan.times), *shape)
            expected = observable.function(plan.times, truth)
        derivation = (
            "The observable moves at most by its sensitivity to the states, measured "
            "on the reference, times the limit of L2 at the tightest tolerance."
        )
        if expected is not None:
            for name in states:
                figures.append(
                    Figure(
                        f"{observable.name} of {name} against its expected value",
                        abs(values[name] - expected),
                        limits[name],
                        derivation,
                    )
                )
        if len(states) == 2:
            one, two = states
            figures.append(
                Figure(
                    f"{observable.name}, {one} against {two}",
                    abs(values[one] - values[two]),
                    limits[one] + limits[two],
                    derivation,
                )
            )
    figures += analysis_figures(
        plan.analyses, {s.name: functools.partial(s.analysis, plan) for s in stacks}
    )
    return RungResult("L3", tuple(figures), alone(figures))
