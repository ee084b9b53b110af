"""Each rung turns at its limit, and the limit is that of the textbook's formula.

Two stacks that answer alike are made to differ, in one answer at one place, by 0.3 and
by 3 times a limit that is worked out here, from the formula and the numbers of a
problem of one line: the rung must hold once and break once, by that figure alone.
Nothing is solved.
"""

import math

import numpy as np
import pytest
from rung_cases import (
    ACCURACY,
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
    U,
    at,
    check_turn,
    disturbed,
    plan,
    round_off,
    stochastic,
    verdict,
)

from hybrid_nds.reconcile._analyses import PlannedAnalysis
from hybrid_nds.reconcile._field_rung import field_rung
from hybrid_nds.reconcile._fixtures import NamedObservable
from hybrid_nds.reconcile._ode_plan import EXPLICIT_TWINS, IMPLICIT_TWINS
from hybrid_nds.reconcile._ode_rungs import observable_rung, solution_rung
from hybrid_nds.reconcile._parts import PARTS
from hybrid_nds.reconcile._scheme_rung import scheme_rung
from hybrid_nds.reconcile._sde_rungs import law_rung


@SHARES
@pytest.mark.parametrize("part", PARTS)
def test_fields_may_differ_by_the_roundings_of_both(part, share):
    place = (1, 0)
    limit = round_off(part, place)

    def change(table, label):
        return at(table, place, share * limit) if label == part else table

    result = field_rung(ORDINARY, ONE, disturbed("part", change))
    check_turn(result, share, f"{part}, diffrax against julia", limit)


@SHARES
@pytest.mark.parametrize("twin", STAGES)
def test_twins_may_differ_by_the_roundings_of_their_steps(twin, share):
    assert set(STAGES) == {*EXPLICIT_TWINS, *IMPLICIT_TWINS}
    stages, place = STAGES[twin], (1, 1)
    depth, terms, size = MEASURES["field"]
    condition = np.max(terms * size / (np.abs(POINTS) + SCALE))
    part = 2 * GROWTH * STEPS * U
    part *= stages + 2 + stages * SPAN / STEPS * depth * condition
    if twin in IMPLICIT_TWINS:
        # What both stacks' Newton iterations are asked to stop within.
        part += 2 * stages * GROWTH * STEPS * 2 * np.finfo(float).eps ** 0.57
    # Of states that are zero the scale alone is left.
    limit = part * SCALE[place[1]]

    def change(states, asked):
        return at(states, place, share * limit) if asked == twin else states

    result = scheme_rung(ORDINARY, ONE, disturbed("scheme", change))
    check_turn(result, share, f"{twin}, {STEPS} fixed steps", limit)
    # Implicit schemes are held to Newton's tolerance, and no explicit one is.
    assert (limit > 1e-9) == (twin in IMPLICIT_TWINS)


def size_at(place):
    return (np.abs(REFERENCE) + SCALE)[place]


@SHARES
@pytest.mark.parametrize("rtol", RTOLS[:-1])
@pytest.mark.parametrize("stack", ["diffrax", "julia"])
def test_solutions_may_be_off_by_ten_grown_tolerances(stack, rtol, share):
    place = (0, 1)
    limit = (10 * GROWTH * rtol + ACCURACY) * size_at(place)

    def change(states, asked):
        return at(states, place, share * limit) if float(asked) == rtol else states

    stacks = [
        disturbed("solution", change, s) if s.name == stack else s for s in (ONE, OTHER)
    ]
    result = solution_rung(ORDINARY, tuple(stacks))
    figures = [f for f in result.figures if f.at == rtol]
    claim = f"{stack} {ORDINARY.best_solver(stack)} "
    (figure,) = [f for f in figures if f.claim.startswith(claim)]
    assert figure.limit == pytest.approx(limit, rel=1e-9)
    assert figure.share == pytest.approx(share, rel=1e-6)
    broken = [f for f in result.figures if not f.holds]
    assert (figure in broken) == (share > 1)
    # Beside it the two stacks against each other, at the same tolerance.
    assert {f.at for f in broken} <= {rtol}
    assert result.verdict == verdict(share)


@SHARES
def test_two_solutions_may_differ_by_twice_that(share):
    # Without a reference, that is how the tightest solves of the two are compared.
    place, rtol = (1, 0), RTOLS[1]
    size = size_at(place)
    limit = 2 * 10 * GROWTH * rtol * (1 + 1e-3) * size

    def change(states, asked):
        return at(states, place, share * limit) if float(asked) == rtol else states

    result = solution_rung(ORDINARY, (disturbed("solution", change, ONE), OTHER))
    (figure,) = [
        f for f in result.figures if f.claim == "diffrax against julia" and f.at == rtol
    ]
    assert figure.limit == pytest.approx(limit, rel=1e-9)
    assert figure.holds == (share < 1)
    assert result.verdict == verdict(share)


@SHARES
def test_an_error_must_fall_with_the_tolerance(share):
    # A fiftieth of its limit at the loosest tolerance; over two decades of tolerance
    # one of error must show, though all are within their own limits.
    place, size = (1, 0), size_at((1, 0))
    loose = (10 * GROWTH * RTOLS[0] + ACCURACY) / 50
    limit = loose * math.sqrt(RTOLS[-1] / RTOLS[0])

    def change(states, asked):
        error = {RTOLS[0]: loose, RTOLS[-1]: share * limit}.get(float(asked), 0.0)
        return at(states, place, error * size)

    result = solution_rung(ORDINARY, (ONE, disturbed("solution", change)))
    claim = "julia: the error falls with the tolerance"
    check_turn(result, share, claim, limit * size)


@SHARES
def test_observables_may_be_off_by_what_the_states_may(share):
    # The sum of the last states moves by one for each: by |y| + scale all together.
    place = (1, 0)
    limit = np.sum(np.abs(REFERENCE[-1]) + SCALE)
    limit = limit * (10 * GROWTH * RTOLS[-1] + ACCURACY) + 1e3 * U
    summed = NamedObservable("sum", lambda ts, ys: float(np.sum(ys[-1])), None)

    def change(states, label):
        return at(states, place, share * limit)

    result = observable_rung(
        plan(observables=(summed,)), (ONE, disturbed("solution", change))
    )
    check_turn(
        result,
        share,
        "sum of julia against its expected value",
        limit,
        {"sum, diffrax against julia"},
    )


def planned_analysis():
    return PlannedAnalysis("pair", lambda *_: None, np.array([1.0, 2.0]), 0.05)


@SHARES
@pytest.mark.parametrize("kind", ["ordinary", "stochastic"])
def test_analyses_may_be_off_by_their_intervals(kind, share):
    # Half a width of 0.2 and a bias of 0.05.
    limit = 0.2 + 0.05

    def change(table, label):
        return at(table, (0, 1), share * limit)

    other = disturbed("analysis", change)
    claim = "pair, julia against the value expected"
    if kind == "stochastic":
        found = law_rung(stochastic(analyses=(planned_analysis(),)), (other,))
        check_turn(found, share, claim, limit)
        return
    found = observable_rung(plan(analyses=(planned_analysis(),)), (ONE, other))
    check_turn(found, share, claim, limit, {"pair, diffrax against julia"})
    (pair,) = [f for f in found.figures if f.claim == "pair, diffrax against julia"]
    assert pair.limit == pytest.approx(math.hypot(0.2, 0.2) + 2 * 0.05)
