"""L1: twin schemes, the same steps on both stacks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._gradients import gradient_figure, wave_weights
from ._plan import Plan
from ._report import Figure, RungResult
from ._stacks import Stack


def scheme_rung(plan: Plan, a: Stack, b: Stack) -> RungResult:
    """L1: twin schemes in the same fixed steps, along the same path if there is one."""
    if not plan.twins:
        return RungResult("L1", reason=plan.no_twins, applies=False)
    limits, derivation = plan.scheme_limits()
    figures = []
    for twin in plan.twins:
        question = plan.scheme(twin)
        (first,), (second,) = a.ask(question), b.ask(question)
        figures.append(
            state_figure(
                plan.scheme_claim(twin),
                first,
                second,
                plan.scale,
                limits[twin],
                derivation,
            )
        )
    return RungResult("L1", (*figures, *_gradient_figures(plan, a, b)))


def _gradient_figures(plan: Plan, a: Stack, b: Stack) -> list[Figure]:
    """Gradients of twins: of the same steps they are the same to round-off."""
    figures = []
    limits, _ = plan.scheme_limits()
    for twin in plan.gradient_twins:
        question = plan.scheme_gradient(twin)
        (first,), (second,) = a.ask(question), b.ask(question)
        weights = wave_weights(1, plan.scale)
        condition = plan.scheme_gradients[twin].condition(weights, 0.0)
        figures.append(
            gradient_figure(
                f"gradient through {plan.scheme_claim(twin)}",
                first,
                second,
                (1 + condition) * limits[twin],
                "What rounding makes of a state it makes of its cotangent, and the "
                "gradient moves with the states as it does with the start: (1 + K) "
                "times the limit of the states, with K measured by relative moves of "
                f"the start, here {condition:.3g}.",
            )
        )
    return figures


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
    position = np.unravel_index(np.argmax(part), part.shape)
    unit = float(size[position])
    return Figure(
        claim, float(error[position]), limit * unit, derivation, size=unit, **fields
    )
