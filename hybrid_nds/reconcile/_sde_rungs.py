"""L2 and L3 of a stochastic problem: strong orders, and the distribution."""

from __future__ import annotations

import math

import numpy as np
import scipy.stats

from ..discretization import fit_order
from ..measures import compare_laws
from ._analyses import analysis_figures
from ._report import Figure, RungResult, alone
from ._sde_plan import SDEPlan
from ._stacks import Stack

# How far a measured slope may be from the order of theory.
SLOPE_LIMIT = 0.1
INTERVAL_LEVEL = 0.99
LAW_LEVEL = 0.001


def strong_rung(plan: SDEPlan, stacks: tuple[Stack, ...]) -> RungResult:
    """L2: the strong error falls at the method's order along the same paths."""
    span = float(plan.problem.t1) - float(plan.problem.t0)
    derivation = (
        "Slope of the mean error over paths and times, over steps of "
        f"{', '.join(map(str, plan.steps))} a span, against the order of theory; "
        f"intervals of level {INTERVAL_LEVEL:g} as hybrid_nds.discretization makes "
        f"them. A slope may be {SLOPE_LIMIT:g} off (chosen)."
    )
    figures = []
    for stack in stacks:
        for solver in plan.strong_solvers(stack.name):
            reference, source, independent = plan.reference, plan.source, True
            if reference is None:
                other = _other(plan, stacks, stack, solver)
                reference = plan.strong_states(other, solver, plan.increments.shape[1])
                source = f"{source} of {other.name}"
                independent = other is not stack
            tables = []
            for steps in plan.steps:
                gaps = plan.strong_states(stack, solver, steps) - reference
                sizes = np.linalg.norm(gaps / plan.scale, axis=-1)
                tables.append(np.mean(sizes, axis=-1))
            table = np.stack(tables)
            order = plan.order(solver)
            claim = f"{stack.name} {solver} against {source}: order {order:g}"
            if not np.all(np.isfinite(table)) or np.any(table.mean(axis=1) == 0):
                claim += ", no slope"
                lost = Figure(claim, math.inf, SLOPE_LIMIT, derivation)
                figures.append(lost)
                continue
            fit = fit_order([span / k for k in plan.steps], table, level=INTERVAL_LEVEL)
            bounded = solver in plan.at_least
            claim += (" or more" if bounded else "") + (
                f", slope {fit.order:.3f} in [{fit.low:.3f}, {fit.high:.3f}]"
            )
            gap = order - fit.order
            measured = max(gap, 0.0) if bounded else abs(gap)
            figures.append(
                Figure(
                    claim, measured, SLOPE_LIMIT, derivation, independent=independent
                )
            )
    return RungResult("L2", tuple(figures), alone(figures))


def _other(
    plan: SDEPlan,
    stacks: tuple[Stack, ...],
    stack: Stack,
    solver: str,
) -> Stack:
    """The other stack where it has the method, else the same one."""
    for other in stacks:
        if other.name != stack.name and solver in plan.strong_solvers(other.name):
            return other
    return stack


def law_rung(plan: SDEPlan, stacks: tuple[Stack, ...]) -> RungResult:
    """L3: moments against their closed forms, and one stack's distribution against
    another's."""
    moments = plan.law.moments
    derivation = (
        f"Student's t-test of each moment, all together at level {LAW_LEVEL:g} "
        "(Bonferroni)."
    )
    samples = {stack.name: stack.ask(plan.samples(stack.name))[0] for stack in stacks}
    figures = []
    for name, states in samples.items():
        for moment in moments:
            values = moment.product(states)
            count = len(values)
            quantile = scipy.stats.t.ppf(1 - LAW_LEVEL / len(moments) / 2, count - 1)
            error = float(np.std(values, ddof=1) / np.sqrt(count))
            figures.append(
                Figure(
                    f"{moment.name} at t = {plan.law.t1:g}, {name} against its value",
                    float(abs(np.mean(values) - moment.value)),
                    float(quantile * error),
                    derivation,
                )
            )
    if len(samples) == 2:
        (one, first), (two, second) = samples.items()
        # Fewer samples than by default in the permutation tests, whose time grows with
        # the square; the power that is stated is that of the tests of moments.
        comparison = compare_laws(first, second, level=LAW_LEVEL, kernel_samples=300)
        figures.append(
            Figure(
                f"law of {one} against that of {two}: −log10 of the smallest adjusted "
                f"p ({comparison.worst.name})",
                -math.log10(max(comparison.worst.adjusted, 1e-300)),
                -math.log10(LAW_LEVEL),
                f"hybrid_nds.measures.compare_laws at level {LAW_LEVEL:g}, all tests "
                f"together; a mean moved by {comparison.shift.mean:g} deviations would "
                f"be seen with probability {comparison.power:.3f} or more.",
            )
        )
    figures += analysis_figures(plan.analyses, stacks, plan.analysis)
    if not figures:
        return RungResult("L3", reason="no known moments, and no second stack")
    return RungResult("L3", tuple(figures), alone(figures))
