"""One call, two backends: the same meaning of every shared option on both."""

import diffrax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tree_allclose

from hybrid_nds import Event, ODEProblem, SolveError, SteadyState, solve, to_diffrax

pytestmark = [pytest.mark.julia, pytest.mark.usefixtures("julia")]

TIGHT = {"rtol": 1e-9, "atol": 1e-11, "solver": "Tsit5"}
# Two solutions within a hundred steps' tolerance of the truth.
CLOSE = {"rtol": 2e-7, "atol": 2e-9}


def pendulum(t, y, args):
    force = -args["stiffness"] * jnp.sin(y["angle"])
    return {"angle": y["speed"], "speed": force - 0.1 * jnp.cos(t) * y["speed"]}


def swing(t0=0.0, t1=4.0, dtype=np.float64, speed=0.5):
    y0 = {
        "angle": jnp.array([[1.0, 2.0]], dtype),
        "speed": jnp.array([[speed, -0.5]], dtype),
    }
    return ODEProblem(pendulum, y0, t0, t1, {"stiffness": jnp.array(1.5, dtype)})


def both(problem, **options):
    theirs = [solve(problem, name, **options) for name in ("diffrax", "julia")]
    first, second = theirs
    assert first.outcome_name == second.outcome_name
    assert (first.event_index is None) == (second.event_index is None)
    if first.event_index is not None:
        assert int(first.event_index) == int(second.event_index)
    assert np.asarray(first.ts).dtype == np.asarray(second.ts).dtype
    return theirs


SAVED = {
    "end": None,
    "times": [0.0, 0.5, 3.9],
    "a Diffrax object": diffrax.SaveAt(ts=jnp.array([1.0, 4.0])),
    "dense": "dense",
}


@pytest.mark.parametrize("saveat", SAVED.values(), ids=SAVED)
def test_saved_times_and_states(saveat):
    first, second = both(swing(), saveat=saveat, **TIGHT)
    np.testing.assert_array_equal(first.ts, second.ts)
    assert tree_allclose(second.ys, first.ys, **CLOSE)
    assert tree_allclose(second.end_state, first.end_state, **CLOSE)
    assert float(first.end_time) == float(second.end_time) == 4.0


def test_dense_output():
    first, second = both(swing(), saveat="dense", **TIGHT)
    for t in (0.0, 1.7, 4.0, np.array([[0.5, 1.5]])):
        assert tree_allclose(second.evaluate(t), first.evaluate(t), **CLOSE)
    for solution in (first, second):
        with pytest.raises(ValueError, match=r"`t` must lie within the solved span"):
            solution.evaluate(4.5)


def test_steps():
    for solution in both(swing(), saveat="steps", **TIGHT):
        times = np.asarray(solution.ts)
        assert (times[0], times[-1]) == (0.0, 4.0)
        assert np.all(np.diff(times) > 0)
        assert len(times) == int(solution.stats["num_accepted_steps"]) + 1
        assert solution.ys["angle"].shape == (len(times), 1, 2)


def test_fixed_steps_are_the_same_steps():
    first, second = both(swing(), dt=0.125, solver="BS3", saveat="steps")
    np.testing.assert_array_equal(first.ts, second.ts)
    # The same tableau on the same steps: round-off over 32 steps.
    assert tree_allclose(second.ys, first.ys, rtol=1e-13, atol=1e-14)


def test_backward():
    times = [3.0, 1.0, 0.0]
    first, second = both(swing(4.0, 0.0), saveat=times, **TIGHT)
    assert tree_allclose(second.ys, first.ys, **CLOSE)
    first, second = both(swing(4.0, 0.0), dt=-0.125, solver="DP5")
    assert tree_allclose(second.ys, first.ys, rtol=1e-13, atol=1e-14)


def test_single_precision():
    first, second = both(swing(dtype=np.float32), saveat=[1.0, 4.0], solver="Tsit5")
    # Each within some ten steps of the default tolerance of float32, 1e-4.
    assert tree_allclose(second.ys, first.ys, rtol=2e-3, atol=1e-3)
    assert second.ys["angle"].dtype == np.float32


def angle(t, y, args):
    return y["angle"][0, 0]


EVENTS = {
    "both ways": Event(angle),
    "up": Event(angle, "up"),
    "down": Event(angle, "down"),
    "several": [Event(lambda t, y, a: t - 3.0), Event(angle), Event(angle, "up")],
    "never": Event(lambda t, y, a: y["angle"][0, 0] - 50.0),
}


@pytest.mark.parametrize("t1", [6.0, -6.0], ids=["forward", "backward"])
@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_events(event, t1):
    first, second = both(swing(t1=t1), event=event, **TIGHT)
    assert tree_allclose(np.asarray(second.ts), np.asarray(first.ts), **CLOSE)
    assert tree_allclose(second.ys, first.ys, **CLOSE)


def fall(t, y, args):
    return jnp.stack([y[1], -jnp.ones(())])


@pytest.mark.parametrize("direction", [None, "down"])
def test_zero_at_the_start_is_no_event(direction):
    problem = ODEProblem(fall, np.array([0.0, 1.0]), 0.0, 5.0)
    event = Event(lambda t, y, a: y[0], direction)
    for solution in both(problem, event=event, dt=0.01, solver="Tsit5"):
        np.testing.assert_allclose(solution.end_time, 2.0, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_the_earliest_event_of_one_step_wins(order):
    events = [
        Event(lambda t, y, a: 1e6 * (y[0] + 5.0)),
        Event(lambda t, y, a: y[0] - 0.5, "down"),
        Event(lambda t, y, a: 1e-6 * (t - 9.0), "up"),
    ]
    problem = ODEProblem(fall, np.array([10.0, 0.0]), 0.0, 10.0)
    for solution in both(problem, event=[events[i] for i in order], solver="Tsit5"):
        assert order[int(solution.event_index)] == 1
        np.testing.assert_allclose(solution.end_time, np.sqrt(19.0), rtol=1e-9)


@pytest.mark.slow
def test_times_after_an_event_are_left_out():
    problem = ODEProblem(fall, np.array([2.0, 0.0]), 0.0, 5.0)
    event = Event(lambda t, y, a: y[0])
    for solution in both(problem, event=event, saveat=[0.5, 1.5, 3.0]):
        assert np.asarray(solution.ts).tolist() == [0.5, 1.5]
        np.testing.assert_allclose(solution.end_time, 2.0, rtol=1e-6)


def test_a_steady_state():
    field = lambda t, y, a: a * y * (1 - y)
    problem = ODEProblem(field, 0.1, 0.0, np.inf, 1.5)
    event = SteadyState(rtol=1e-4, atol=1e-6)
    for solution in both(problem, event=event, solver="Tsit5"):
        state = float(solution.end_state)
        assert abs(1.5 * state * (1 - state)) <= 1e-4 * state + 1e-6


@pytest.mark.slow
def test_running_out_of_steps():
    for solution in both(swing(), max_steps=5, throw=False, saveat=[0.01, 4.0]):
        assert solution.outcome_name == "max_steps_reached"
        assert np.asarray(solution.ts).tolist() == [0.01]
        assert 0.01 <= float(solution.end_time) < 4.0
    for backend in ("diffrax", "julia"):
        with pytest.raises(SolveError, match=r"max_steps_reached"):
            solve(swing(), backend, max_steps=5)


def test_a_required_event_that_never_fires():
    event = Event(lambda t, y, a: y["angle"][0, 0] - 50.0, required=True)
    for backend in ("diffrax", "julia"):
        with pytest.raises(SolveError, match=r"`event` is required"):
            solve(swing(), backend, event=event)


def test_a_blow_up_fails():
    problem = ODEProblem(lambda t, y, a: y**2, 1.0, 0.0, 3.0)
    for backend in ("diffrax", "julia"):
        solution = solve(problem, backend, solver="Tsit5", throw=False, max_steps=2000)
        assert not solution.succeeded
        # The blow-up of the numerical solution, at tolerances of 1e-6 a step.
        assert float(solution.end_time) <= 1.0 + 1e-5
    for solution in both(problem, dt=0.1, solver="BS3", throw=False):
        assert solution.outcome_name == "unstable"


def test_julia_refuses_what_only_diffrax_can():
    problem = swing()
    with pytest.raises(ValueError, match=r"only on the diffrax backend"):
        solve(problem, "julia", solver="ReversibleHeun")
    with pytest.raises(ValueError, match=r"`adjoint` is for the Diffrax backend"):
        solve(problem, "julia", adjoint="direct")
    event = to_diffrax(problem, event=Event(angle))["event"]
    with pytest.raises(TypeError, match=r"diffrax.Event runs on the Diffrax backend"):
        solve(problem, "julia", event=event)
