"""Gradients may differ by what their condition makes of a limit; see
`test_rung_limits`."""

import math

import numpy as np
import pytest
from rung_cases import (
    CONDITION,
    GROWTH,
    MEASURES,
    ONE,
    ORDINARY,
    OTHER,
    POINTS,
    REFERENCE,
    RTOLS,
    SCALE,
    SHARES,
    SPAN,
    STAGES,
    STEPS,
    A,
    U,
    at,
    check_turn,
    disturbed,
    plan,
    verdict,
)

from hybrid_nds.reconcile._fixtures import NamedObservable
from hybrid_nds.reconcile._ode_rungs import observable_rung, solution_rung
from hybrid_nds.reconcile._scheme_rung import scheme_rung


class Conditioned:
    """Gradients of a known condition, of which no other is asked."""

    def condition(self, weights, at):
        return CONDITION


def differentiated(**fields):
    made = plan(gradients=True, **fields)
    # In place of what would be measured by solves.
    vars(made)["scheme_gradients"] = {"Tsit5": Conditioned()}
    vars(made)["solution_gradients"] = Conditioned()
    return made


@SHARES
def test_gradients_of_twins_may_differ_by_what_their_condition_makes_of_it(share):
    place, largest = (0, 2), 4.0
    stages = STAGES["Tsit5"]
    depth, terms, size = MEASURES["field"]
    condition = np.max(terms * size / (np.abs(POINTS) + SCALE))
    part = 2 * GROWTH * STEPS * U
    part *= stages + 2 + stages * SPAN / STEPS * depth * condition
    limit = (1 + CONDITION) * part * largest
    change = lambda table, _: at(table, place, share * limit)
    result = scheme_rung(differentiated(), ONE, disturbed("scheme gradient", change))
    # What is injected is some dozens of roundings of a number of size one.
    claim = f"gradient through Tsit5, {STEPS} fixed steps"
    (figure,) = [f for f in result.figures if f.claim == claim]
    assert figure.limit == pytest.approx(limit, rel=1e-6)
    assert figure.share == pytest.approx(share, rel=1e-2)
    assert result.verdict == verdict(share)


@SHARES
@pytest.mark.parametrize("stack", ["diffrax", "julia"])
def test_gradients_of_solutions_may_be_off_by_their_condition(stack, share):
    place, rtol, largest = (0, 1), RTOLS[1], 4.0
    limit = (1 + CONDITION) * 10 * GROWTH * (rtol + RTOLS[-1]) * largest

    def change(table, label):
        return at(table, place, share * limit) if float(label) == rtol else table

    stacks = [
        disturbed("solution gradient", change, s) if s.name == stack else s
        for s in (ONE, OTHER)
    ]
    result = solution_rung(differentiated(), tuple(stacks))
    broken = [f for f in result.figures if not f.holds]
    claim = f"gradient by {stack} {ORDINARY.best_solver(stack)} "
    (figure,) = [
        f for f in result.figures if f.claim.startswith(claim) and f.at == rtol
    ]
    assert figure.limit == pytest.approx(limit, rel=1e-9)
    assert broken == ([] if share < 1 else [figure])
    assert result.verdict == verdict(share)


@SHARES
def test_a_gradient_must_fall_to_one_value_with_the_tolerance(share):
    # Off by half of what is allowed at the loosest tolerance, a hundredth of that one
    # must be left; the limit of the tightest is a floor, ten times.
    part = (1 + CONDITION) * 10 * GROWTH
    loose = part * (RTOLS[0] + RTOLS[-1]) / 2
    limit = max(loose * math.sqrt(RTOLS[-1] / RTOLS[0]), 10 * part * RTOLS[-1])

    def change(table, label):
        error = {RTOLS[0]: loose, RTOLS[-1]: share * limit}.get(float(label), 0.0)
        return at(table, (0, 1), error * 4.0)

    result = solution_rung(
        differentiated(), (ONE, disturbed("solution gradient", change))
    )
    claim = "gradient by julia: the error falls with the tolerance"
    (figure,) = [f for f in result.figures if f.claim == claim]
    assert figure.limit == pytest.approx(limit * 4.0, rel=1e-6)
    assert figure.holds == (share < 1)


@SHARES
def test_gradients_of_observables_may_be_off_by_their_condition(share):
    # The sum of the last states moves by |y| + scale with each: that is more than the
    # largest entry of the gradient.
    summed = NamedObservable("sum", lambda ts, ys: float(np.sum(ys[-1])), None)
    size = np.sum(np.abs(REFERENCE[-1]) + SCALE)
    limit = 2 * (1 + CONDITION) * 10 * GROWTH * RTOLS[-1] * size
    change = lambda table, _: at(table, (0, 3), share * limit)
    result = observable_rung(
        differentiated(observables=(summed,)),
        (ONE, disturbed("observable gradient", change)),
    )
    check_turn(result, share, "gradient of sum, diffrax against julia", limit)


def test_gradients_and_their_condition_are_those_of_the_closed_form():
    # Of y' = a t y the end is y exp(a T²/2), and Σ w y of it by a relative move of a,
    # of 2a in the unit of moves, is 2a T²/2 times itself; along waves as well, as those
    # of one number begin with one.
    made = plan(gradients=True)
    weights = np.array([[0.3, -0.4]])
    gradients = made.scheme_gradients["Tsit5"]
    found = gradients("diffrax", weights, 0.0)
    start = np.array([1.0, -2.0])
    grown = weights[0] * np.exp(A * SPAN**2 / 2)
    by_start = grown * (np.abs(start) + SCALE)
    by_rate = A * SPAN**2 * np.sum(grown * start)
    # Ten steps of fifth order.
    np.testing.assert_allclose(found, [*by_start, by_rate, by_rate], rtol=1e-8)
    # The first two do not move with the start, the others do.
    moved = A * SPAN**2 * np.sum(by_start * np.cos([2.0, 3.0]))
    expected = abs(moved) / np.max(np.abs(found))
    assert gradients.condition(weights, 0.0) == pytest.approx(expected, rel=1e-6)
