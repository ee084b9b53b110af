"""Plans of one line, and stacks of stated answers, for the limits of the rungs."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from hybrid_nds import ODEProblem, SDEProblem
from hybrid_nds.reconcile._ode_plan import ODEPlan
from hybrid_nds.reconcile._parts import FieldPoints
from hybrid_nds.reconcile._sde_fixtures import Law, Moment
from hybrid_nds.reconcile._sde_plan import SDEPlan

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


# Evaluations of the field in a step; of pairs whose last is the next one's first too.
STAGES = {"Euler": 1, "Heun": 2, "Midpoint": 2, "Ralston": 2, "Bosh3": 4}
STAGES |= {"Dopri5": 7, "Tsit5": 7, "Kvaerno5": 7}


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
