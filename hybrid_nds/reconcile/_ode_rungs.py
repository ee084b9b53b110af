"""L2 and L3 of an ordinary problem: tolerances, and what is wanted of a solution.

Limits of states are parts of |y| + scale; a figure shows error and limit in the state's
own units, where they are closest.
"""

from __future__ import annotations

import numpy as np

from ._analyses import analysis_figures
from ._field_rung import UNIT
from ._gradients import gradient_figure, observable_weights, wave_weights
from ._observables import sensitivity
from ._ode_plan import ODEPlan
from ._report import Figure, RungResult, alone
from ._scheme_rung import state_figure
from ._stacks import Stack

# Local errors are held to the tolerance a step; how many of them add up is the step
# control's affair. Ten is chosen, not derived: one decade.
STEPS_OF_ERROR = 10.0


def solution_rung(plan: ODEPlan, stacks: tuple[Stack, ...]) -> RungResult:
    """L2: each stack's best solver down a ladder of tolerances."""
    solved = {
        stack.name: {rtol: stack.ask(plan.solution(rtol))[0] for rtol in plan.rtols}
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
    if plan.gradients:
        figures += _gradient_ladder(plan, stacks)
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


_GRADIENT_DERIVATION = (
    "A gradient moves with the states as it does with the start, and its cotangents "
    "run through the same steps: (1 + K) times the limit of the states, on either "
    "side, with K measured by relative moves of the start, here {:.3g}."
)


def _gradient_ladder(plan: ODEPlan, stacks: tuple[Stack, ...]) -> list[Figure]:
    """The gradient by each stack's best solver against the other's tightest one."""
    weights = wave_weights(len(plan.times), plan.scale)
    tight = plan.rtols[-1]
    found = {
        stack.name: {
            rtol: stack.ask(plan.gradient("solution gradient", f"{rtol:.0e}", weights))[
                0
            ]
            for rtol in plan.rtols
        }
        for stack in stacks
    }
    condition = plan.solution_gradients.condition(weights, tight)
    part = (1 + condition) * STEPS_OF_ERROR * plan.growth
    figures = []
    for stack in stacks:
        other = next((s for s in stacks if s.name != stack.name), stack)
        ladder = [
            gradient_figure(
                f"gradient by {stack.name} {plan.best_solver(stack.name)} against "
                f"{other.name} at rtol {tight:.0e}",
                found[stack.name][rtol],
                found[other.name][tight],
                part * (rtol + tight),
                _GRADIENT_DERIVATION.format(condition),
                at=rtol,
                independent=other is not stack,
            )
            for rtol in plan.rtols
        ]
        name = f"gradient by {stack.name}"
        figures += [*ladder, _falls(ladder, name, plan, part * tight)]
    return figures


def _falls(ladder: list[Figure], name: str, plan: ODEPlan, accuracy: float) -> Figure:
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


def observable_rung(plan: ODEPlan, stacks: tuple[Stack, ...]) -> RungResult:
    """L3: what the user wanted from the solution."""
    if not plan.observables and not plan.analyses:
        return RungResult("L3", reason="no observables named", applies=False)
    rtol = plan.rtols[-1]
    shape = np.shape(plan.problem.y0) if hasattr(plan.problem.y0, "shape") else (-1,)
    figures = []
    states = {s.name: s.ask(plan.solution(rtol))[0] for s in stacks}
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
    if plan.gradients and "julia" in states:
        figures += _observable_gradients(plan, stacks, shape)
    figures += analysis_figures(plan.analyses, stacks, plan.analysis)
    return RungResult("L3", tuple(figures), alone(figures))


def _observable_gradients(
    plan: ODEPlan, stacks: tuple[Stack, ...], shape: tuple[int, ...]
) -> list[Figure]:
    """The gradient of each observable, on one stack against the other."""
    rtol, figures = plan.rtols[-1], []
    ys = plan.reference
    if ys is None:
        ys = stacks[0].ask(plan.solution(rtol))[0]
    for observable in plan.observables:
        weights = observable_weights(
            observable.function,
            plan.times,
            ys.reshape(len(plan.times), *shape),
            plan.scale,
        )
        question = plan.gradient("observable gradient", observable.name, weights)
        first, *others = [stack.ask(question)[0] for stack in stacks]
        if not others:
            continue
        condition = plan.solution_gradients.condition(weights, rtol)
        # Of an invariant the gradient is small beside the states' part in it.
        least = float(np.sum(np.abs(weights) * (np.abs(ys) + plan.scale)))
        figures.append(
            gradient_figure(
                f"gradient of {observable.name}, {stacks[0].name} against "
                f"{stacks[1].name}",
                first,
                others[0],
                2 * (1 + condition) * STEPS_OF_ERROR * plan.growth * rtol,
                _GRADIENT_DERIVATION.format(condition),
                least=least,
            )
        )
    return figures
