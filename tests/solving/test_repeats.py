"""Solves that are done again are not checked again, unless something has changed."""

import dataclasses
import gc
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import Event, ODEProblem, Outcome, double_precision, solve
from hybrid_nds.backends import Options
from hybrid_nds.solving import _solve
from hybrid_nds.solving._repeats import Repeats


@dataclasses.dataclass(eq=False)
class Plan:
    """A plan that is known by itself."""

    options: Options = dataclasses.field(default_factory=Options)
    repeatable: bool = True

    def __call__(self, problem):
        raise AssertionError


def problem_of(args=None, y0=(1.0, 2.0)):
    return ODEProblem(lambda t, y, args: -y, jnp.array(y0), 0.0, 1.0, args=args)


class Holder(eqx.Module):
    values: object


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ((1e-6, None), (1e-6, None), True),
        ((1e-6,), (1e-6, None), False),
        ((1e-6,), (np.float64(1e-6),), False),
        ((1,), (True,), False),
        ((0.5,), (0.25,), False),
        (("Tsit5",), ("tsit5",), False),
        (([0.0, 1.0],), ([0.0, 1.0],), True),
        (([0.0, 1.0],), ((0.0, 1.0),), False),
        (([0.0, 1.0],), ([0.0, 0.5],), False),
        ((np.arange(3.0),), (np.arange(3.0),), True),
        ((np.arange(3.0),), (np.arange(3),), False),
        ((np.arange(3.0),), (np.arange(3.0)[None],), False),
        ((np.zeros(1),), (-np.zeros(1),), False),
        ((("form", "scalar"),), (("form", "scalar"),), True),
        ((("form", "scalar"),), (("form", "array"),), False),
    ],
)
def test_options_are_compared_by_type_and_value(first, second, alike):
    repeats, problem, plan = Repeats(), problem_of(), Plan()
    repeats.keep(problem, first, plan)
    assert repeats.find(problem, first) is plan
    assert repeats.find(problem, second) is (plan if alike else None)


def test_other_objects_are_known_by_identity():
    event = Event(lambda t, y, args: y[0])
    times = jnp.arange(3.0)
    repeats, problem, plan = Repeats(), problem_of(), Plan()
    repeats.keep(problem, (event, [event], times), plan)
    assert repeats.find(problem, (event, [event], times)) is plan
    other = Event(event.condition)
    assert repeats.find(problem, (event, [other], times)) is None
    assert repeats.find(problem, (event, [event], jnp.arange(3.0))) is None


@pytest.mark.parametrize(
    "given",
    [
        object(),
        np.array([object()]),
        np.zeros(10_001),
        Holder(np.zeros(1)),
        {"a": 1},
    ],
    ids=["object", "objects", "long", "numpy", "dictionary"],
)
def test_what_can_change_unseen_is_not_kept(given):
    repeats, problem = Repeats(), problem_of()
    repeats.keep(problem, (given,), Plan())
    assert repeats.find(problem, (given,)) is None


def test_arrays_of_numpy_in_a_problem_are_not_kept():
    repeats, problem = Repeats(), problem_of(args={"rate": np.ones(1)})
    repeats.keep(problem, (), Plan())
    assert repeats.find(problem, ()) is None


@pytest.mark.parametrize("place", ["problem", "option"])
def test_containers_changed_in_place_are_seen(place):
    values = {"rate": jnp.array(1.0)}
    holder = Holder(values)
    problem = problem_of(args=values if place == "problem" else None)
    repeats, plan = Repeats(), Plan()
    repeats.keep(problem, (holder,), plan)
    assert repeats.find(problem, (holder,)) is plan
    values["rate"] = jnp.array(2.0)
    assert repeats.find(problem, (holder,)) is None


def test_lists_changed_in_place_are_seen():
    repeats, problem, times = Repeats(), problem_of(), [0.0, 1.0]
    repeats.keep(problem, (times,), Plan())
    times[1] = 0.5
    assert repeats.find(problem, (times,)) is None


def test_the_precision_of_jax_is_part_of_a_solve():
    repeats, plan = Repeats(), Plan()
    with jax.enable_x64(False):
        problem = problem_of()
        repeats.keep(problem, (), plan)
        assert repeats.find(problem, ()) is plan
        with double_precision():
            assert repeats.find(problem, ()) is None


def test_each_problem_keeps_a_few_solves_and_takes_them_along():
    repeats, problem = Repeats(), problem_of()
    plans = [Plan() for _ in range(9)]
    for k in range(9):
        repeats.keep(problem, (k,), plans[k])
    found = [repeats.find(problem, (k,)) for k in range(9)]
    assert found == [None, *plans[1:]]
    last = weakref.ref(plans.pop())
    plans.clear()
    found.clear()
    del problem
    gc.collect()
    assert last() is None


@pytest.fixture
def checks(monkeypatch):
    """How often options were checked."""
    seen = []

    def counted(*args, **kwargs):
        seen.append(args)
        return check(*args, **kwargs)

    check = _solve.check_options
    monkeypatch.setattr(_solve, "check_options", counted)
    return seen


@pytest.mark.julia
@pytest.mark.parametrize(
    "options",
    [
        {"solver": "Tsit5"},
        {"solver": "Rodas5P", "saveat": [0.5, 1.0], "rtol": 1e-8, "atol": [1e-9, 1e-8]},
        {"solver": "Tsit5", "event": Event(lambda t, y, args: y[0] - 0.5)},
        {"solver": "Tsit5", "max_steps": 1, "throw": False},
    ],
    ids=["end", "times", "event", "failure"],
)
def test_the_same_solve_again_is_the_same(julia, checks, options):
    problem = problem_of()
    first = solve(problem, "julia", **options)
    between = solve(problem_of(y0=(3.0, 1.0)), "julia", **options)
    again = solve(problem, "julia", **options)
    assert len(checks) == 2
    assert eqx.tree_equal(first, again)
    assert list(first.stats) == list(again.stats)
    assert not eqx.tree_equal(first, between)
    # What was returned is not written to again.
    assert first.ys is not again.ys
    if first.outcome == Outcome.success:
        # exp(-1), within the tolerance of each of some twenty steps.
        assert np.allclose(first.ys[-1], np.exp(-1) * np.array([1.0, 2.0]), rtol=2e-5)


@pytest.mark.julia
def test_a_failure_is_raised_again(julia, checks):
    problem = problem_of()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="max_steps"):
            solve(problem, "julia", solver="Tsit5", max_steps=1)
    assert len(checks) == 1


@pytest.mark.julia
def test_arrays_of_numpy_are_read_again(julia, checks):
    rate = np.array(1.0)
    problem = ODEProblem(
        lambda t, y, args: -args["rate"] * y, jnp.ones(1), 0.0, 1.0, {"rate": rate}
    )
    for value in (1.0, 2.0):
        rate[...] = value
        end = solve(problem, "julia", solver="Vern7", rtol=1e-9, atol=1e-9).ys[-1, 0]
        assert end == pytest.approx(np.exp(-value), rel=1e-7)
    assert len(checks) == 2


@pytest.mark.julia
def test_an_option_of_another_type_is_still_refused(julia):
    problem = problem_of()
    solve(problem, "julia", solver="Tsit5", max_steps=1, throw=False)
    with pytest.raises(TypeError, match="max_steps"):
        solve(problem, "julia", solver="Tsit5", max_steps=True, throw=False)
