"""Each rung turns at its limit, and the limit is that of the textbook's formula.

Two stacks that answer alike are made to differ, in one answer at one place, by 0.3 and
by 3 times a limit that is worked out here, from the formula and the numbers of a
problem of one line: the rung must hold once and break once, by that figure alone.
Nothing is solved.
"""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from hybrid_nds import ODEProblem, SDEProblem
from hybrid_nds.reconcile._analyses import PlannedAnalysis
from hybrid_nds.reconcile._field_rung import field_rung
from hybrid_nds.reconcile._fixtures import NamedObservable
from hybrid_nds.reconcile._ode_plan import EXPLICIT_TWINS, IMPLICIT_TWINS, ODEPlan
from hybrid_nds.reconcile._ode_rungs import observable_rung, solution_rung
from hybrid_nds.reconcile._parts import PARTS, FieldPoints
from hybrid_nds.reconcile._scheme_rung import scheme_rung
from hybrid_nds.reconcile._sde_fixtures import Law, Moment
from hybrid_nds.reconcile._sde_plan import SDEPlan
from hybrid_nds.reconcile._sde_rungs import law_rung, strong_rung

# The unit round-off of double precision.
U = 2.0**-53
SHARES = pytest.mark.parametrize("share", [0.3, 3.0])

# The field a·t·y at a few points.
A = 0.7
POINTS = np.array([[1.0, -2.0], [0.5, 3.0], [4.0, 0.25]])
POINT_TIMES = np.array([0.5, 0.25, 2.0])
SCALE = np.array([1.0, 0.5])
GROWTH, ACCURACY, RTOLS = 2.0, 1e-9, (1e-4, 1e-5, 1e-6)
TIMES = np.array([0.5, 1.0])
REFERENCE = np.array([[1.0, -2.0], [3.0, 0.5]])
SPAN, STEPS = 0.5, 10
# By two components of the start, and by the parameters along ones and along waves.
GRADIENT = np.array([[1.0, -2.0, 0.5, 4.0]])
CONDITION = 7.0


def field(t, y, a):
    return a * t * y


def at(answer, place, change):
    """The answer with one number moved."""
    moved = np.array(answer, float)
    moved[place] += change
    return moved


class Answering:
    """A stack of given answers, changed where a question of a kind asks for it. Where
    limits are of round-off they are zeros, which move by tiny numbers without being
    rounded.

    **Arguments:** the name; the kind of question; and the change, a function of the
    answer's table and of its label.
    """

    def __init__(self, name, kind="", change=lambda table, label: table):
        self.name, self.versions = name, {}
        self._kind, self._change = kind, change

    def ask(self, question):
        tables = [np.asarray(self._table(question.kind, x)) for x in question.labels]
        if question.kind == self._kind:
            tables = map(self._change, tables, question.labels)
        return tuple(tables)

    def _table(self, kind, label):
        if kind.startswith("part"):
            return np.zeros_like(POINTS)
        if kind == "strong":
            # An error of exactly the order of the method, on every path and at every
            # time.
            solver, steps = label.split()
            exact = np.ones((2 * len(TIMES), 1))
            return exact + (1.0 / int(steps)) ** stochastic().order(solver)
        return {
            "scheme": np.zeros_like(REFERENCE),
            "solution": REFERENCE,
            "sample": SAMPLES,
            "analysis": [[1.0, 2.0], [0.1, 0.2]],
        }.get(kind, GRADIENT)


ONE, OTHER = Answering("diffrax"), Answering("julia")


def disturbed(kind, change, stack=OTHER):
    return Answering(stack.name, kind, change)


def verdict(share):
    return "passed" if share < 1 else "failed"


def check_turn(result, share, claim, limit, failing=None):
    """The figure of a claim is a share of a limit worked out, and what breaks at three
    limits is this figure and those named."""
    (figure,) = [f for f in result.figures if f.claim == claim]
    assert figure.limit == pytest.approx(limit, rel=1e-6)
    # What was injected is a difference of rounded numbers.
    assert figure.share == pytest.approx(share, rel=1e-2)
    broken = {f.claim for f in result.figures if not f.holds}
    assert broken == (set() if share < 1 else {claim, *(failing or ())})
    assert result.verdict == verdict(share)


def plan(**fields):
    problem = ODEProblem(field, jnp.array([1.0, -2.0]), 0.0, 1.0, jnp.asarray(A))
    values = {
        "name": "line",
        "problem": problem,
        "backends": ("diffrax", "julia"),
        "rungs": ("L0", "L1", "L2", "L3"),
        "fields": {"": FieldPoints(problem, POINTS, POINT_TIMES)},
        "times": TIMES,
        "reference": REFERENCE,
        "accuracy": ACCURACY,
        "scheme_t1": SPAN,
        "scheme_steps": STEPS,
        "rtols": RTOLS,
        "scale": SCALE,
        "growth": GROWTH,
        "stiff": False,
        "observables": (),
    }
    return ODEPlan(**(values | fields))


ORDINARY = plan()

# Depth of the longest chain of roundings, and the condition m, part by part. The field
# is two products, and |f| + |y f'| + |a f'| + |t f'| four times its size. Its Jacobian
# times v is as deep, and two more for the matrix; a·t·v counts once itself, once each
# for a and t, and once for the terms that the product adds up. The time gradient is
# a·y: one product, three times its size.
MEASURES = {
    "field": (2, 4, np.abs(A * POINT_TIMES[:, None] * POINTS)),
    "jacobian on ones": (4, 4, np.abs(A * POINT_TIMES[:, None] * np.ones(2))),
    "jacobian on waves": (4, 4, np.abs(A * POINT_TIMES[:, None] * np.cos([1.0, 2.0]))),
    "time gradient": (1, 3, np.abs(A * POINTS)),
}


def round_off(part, place):
    """2·d·u·m: each of two stacks rounds a chain of d operations."""
    depth, terms, size = MEASURES[part]
    return 2 * depth * U * terms * size[place]


@SHARES
@pytest.mark.parametrize("part", PARTS)
def test_fields_may_differ_by_the_roundings_of_both(part, share):
    place = (1, 0)
    limit = round_off(part, place)

    def change(table, label):
        return at(table, place, share * limit) if label == part else table

    result = field_rung(ORDINARY, ONE, disturbed("part", change))
    check_turn(result, share, f"{part}, diffrax against julia", limit)


# Evaluations of the field in a step; of pairs whose last is the next one's first too.
STAGES = {"Euler": 1, "Heun": 2, "Midpoint": 2, "Ralston": 2, "Bosh3": 4}
STAGES |= {"Dopri5": 7, "Tsit5": 7, "Kvaerno5": 7}


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


def drift(t, y, a):
    return -y


def diffusion(t, y, a):
    return 0.5 * y


# A sample of the normal distribution without chance: its quantiles.
COUNT = 100
SAMPLES = scipy.stats.norm.ppf((np.arange(COUNT) + 0.5) / COUNT)[:, None]
MEAN = Moment((1,), 0.0, "a symmetric law")
SQUARE = Moment((2,), float(np.mean(SAMPLES**2)), "that of the sample")


def stochastic(**fields):
    problem = SDEProblem(drift, diffusion, jnp.array([1.0]), 0.0, 1.0)
    values = {
        "name": "line",
        "problem": problem,
        "fields": dict.fromkeys(("drift", "diffusion"), ORDINARY.fields[""]),
        "increments": np.zeros((2, 64, 1)),
        "areas": np.zeros((2, 64, 1)),
        "times": TIMES,
        "reference": np.ones((2, 2, 1)),
        "source": "the closed form",
        "steps": (8, 16, 32, 64),
        "scale": np.array([0.5]),
        "orders": {},
        "at_least": (),
        "law": Law(1.0, 8, (MEAN, SQUARE)),
        "backends": ("diffrax", "julia"),
        "rungs": ("L0", "L1", "L2", "L3"),
        "analyses": (),
    }
    return SDEPlan(**(values | fields))


@SHARES
@pytest.mark.parametrize("label", ["drift", "diffusion"])
def test_drift_and_diffusion_may_differ_by_the_roundings_of_both(label, share):
    place = (2, 1)
    limit = round_off("field", place)

    def change(table, part):
        return at(table, place, share * limit) if part == "field" else table

    result = field_rung(stochastic(), ONE, disturbed(f"part of {label}", change))
    check_turn(result, share, f"{label}: field, diffrax against julia", limit)


@SHARES
def test_stochastic_twins_may_differ_by_one_part_in_a_million_million(share):
    place = (1, 1)
    # Of states that are zero the scale alone is left.
    limit = 1e-12 * 0.5

    def change(states, asked):
        return at(states, place, share * limit) if asked == "Euler" else states

    result = scheme_rung(stochastic(), ONE, disturbed("scheme", change))
    check_turn(result, share, "Euler, 64 steps along one path", limit)


def slope_result(off, **fields):
    """The rung where Julia's errors of Euler's method have another order."""

    def change(states, label):
        solver, steps = label.split()
        if solver != "Euler":
            return states
        return 1.0 + (states - 1.0) * (1.0 / int(steps)) ** off

    return strong_rung(stochastic(**fields), (ONE, disturbed("strong", change)))


@SHARES
@pytest.mark.parametrize("sign", [1, -1])
def test_orders_may_be_off_by_a_tenth_either_way(sign, share):
    result = slope_result(sign * share * 0.1)
    (figure,) = [f for f in result.figures if f.claim.startswith("julia Euler ")]
    assert figure.limit == 0.1
    assert figure.measured == pytest.approx(share * 0.1, rel=1e-9)
    broken = [f for f in result.figures if not f.holds]
    assert broken == ([figure] if share > 1 else [])
    assert result.verdict == verdict(share)


def test_an_order_that_is_only_bounded_may_be_higher():
    assert slope_result(0.3, at_least=("Euler",)).verdict == "passed"
    assert slope_result(-0.3, at_least=("Euler",)).verdict == "failed"


@SHARES
@pytest.mark.parametrize("sign", [1, -1])
def test_means_may_be_off_by_their_sampling_error(sign, share):
    # Student's two-sided quantile at a thousandth, shared by two moments.
    deviation = np.std(SAMPLES, ddof=1) / math.sqrt(COUNT)
    limit = scipy.stats.t.isf(1e-3 / 2 / 2, COUNT - 1) * deviation

    def change(states, label):
        return states + sign * share * limit

    result = law_rung(stochastic(), (disturbed("sample", change),))
    check = [f for f in result.figures if f.claim.startswith("E[y1] ")]
    assert [f.limit for f in check] == [pytest.approx(limit, rel=1e-9)]
    assert [f.share for f in check] == [pytest.approx(share, rel=1e-6)]
    assert [f.holds for f in check] == [share < 1]
    assert result.verdict == verdict(share)


@SHARES
def test_laws_may_differ_at_a_level_of_a_thousandth(share):
    # Welch's test of the mean, of five after Holm: p = 10^(-3 share)/5. A mean moved in
    # a normal sample shows nowhere more.
    p = 10.0 ** (-3 * share) / 5
    deviation = np.std(SAMPLES, ddof=1) * math.sqrt(2 / COUNT)
    move = scipy.stats.t.isf(p / 2, 2 * COUNT - 2) * deviation
    known = stochastic(law=Law(1.0, 8, ()))
    result = law_rung(
        known, (ONE, disturbed("sample", lambda states, label: states + move))
    )
    (figure,) = result.figures
    assert figure.limit == pytest.approx(3.0)
    assert result.verdict == verdict(share)
    if share > 1:
        assert figure.share == pytest.approx(share, rel=1e-6)
