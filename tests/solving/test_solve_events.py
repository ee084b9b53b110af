"""Terminal events and steady states with Diffrax, against closed forms."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

from hybrid_nds import Event, ODEProblem, Outcome, SolveError, SteadyState, solve

pytestmark = pytest.mark.usefixtures("strict_promotion")

GRAVITY = 9.81


def falling(t, y, gravity):
    return jnp.stack([y[1], -gravity])


def height(t, y, args):
    return y[0]


def ball(t1=10.0, height=10.0, speed=0.0):
    return ODEProblem(falling, np.array([height, speed]), 0.0, t1, np.array(GRAVITY))


def oscillator(t, y, args):
    return jnp.stack([y[1], -y[0]])


# Tsit5 integrates a parabola exactly and interpolates it exactly, so that only
# round-off and the bracket of two units in the last place remain.
ROUND_OFF = 1e-13


@pytest.mark.parametrize("t1", [10.0, np.inf])
@pytest.mark.parametrize("saveat", [None, "steps", "dense"])
def test_a_falling_ball_lands(t1, saveat):
    solution = solve(ball(t1), event=Event(height), saveat=saveat)
    landing = np.sqrt(2 * 10 / GRAVITY)
    assert solution.outcome == Outcome.event
    assert solution.succeeded
    assert int(solution.event_index) == 0
    np.testing.assert_allclose(solution.ts[-1], landing, rtol=ROUND_OFF)
    np.testing.assert_allclose(solution.end_time, landing, rtol=ROUND_OFF)
    np.testing.assert_allclose(solution.ys[-1, 1], -GRAVITY * landing, rtol=ROUND_OFF)
    assert abs(float(solution.ys[-1, 0])) < 10 * ROUND_OFF
    if saveat == "steps":
        assert np.all(np.diff(solution.ts) > 0)
    if saveat == "dense":
        np.testing.assert_allclose(
            solution.evaluate(1.0), [10 - GRAVITY / 2, -GRAVITY], rtol=ROUND_OFF
        )
        with pytest.raises(ValueError, match=r"within the solved span from 0.0 to 1.4"):
            solution.evaluate(1.5)


def test_times_after_the_event_are_left_out():
    solution = solve(ball(), event=Event(height), saveat=[0.5, 1.0, 2.0, 9.0])
    assert solution.ts.tolist() == [0.5, 1.0]
    assert solution.ys.shape == (2, 2)
    np.testing.assert_allclose(solution.end_time, np.sqrt(20 / GRAVITY), rtol=ROUND_OFF)


@pytest.mark.slow
def test_the_direction_of_a_crossing():
    # Thrown up from the ground's level at 1: passes 2 on the way up, then down.
    problem = ball(height=1.0, speed=10.0)
    above = lambda t, y, a: y[0] - 2.0
    root = np.sqrt(100 - 2 * GRAVITY)
    expected = {"up": (10 - root) / GRAVITY, "down": (10 + root) / GRAVITY}
    expected[None] = expected["up"]
    for direction, time in expected.items():
        solution = solve(problem, event=Event(above, direction), dt=0.01, rtol=1e-6)
        np.testing.assert_allclose(solution.end_time, time, rtol=ROUND_OFF)


@pytest.mark.parametrize("direction", [None, "down"])
def test_zero_at_the_start_is_no_event(direction):
    # Thrown up from zero: the event is the return, not the start. Small first steps
    # keep the throw and the return from falling in one step.
    problem = ball(height=0.0, speed=10.0)
    options = {"event": Event(height, direction), "dt": 0.05, "solver": "Tsit5"}
    solution = solve(problem, **options)
    np.testing.assert_allclose(solution.end_time, 20 / GRAVITY, rtol=ROUND_OFF)


def test_the_first_of_several_events_is_told():
    events = [
        Event(lambda t, y, a: y[0] + 5.0),
        Event(lambda t, y, a: y[0] - 5.0),
        Event(lambda t, y, a: t - 9.0),
    ]
    solution = solve(ball(), event=events)
    assert int(solution.event_index) == 1
    np.testing.assert_allclose(solution.end_time, np.sqrt(10 / GRAVITY), rtol=ROUND_OFF)


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_the_earliest_event_of_one_step_wins(order):
    # Tsit5 falls to the end of the span in one last step, in which all three fire.
    events = [
        Event(lambda t, y, a: 1e6 * (y[0] + 5.0)),
        Event(lambda t, y, a: y[0] - 0.5, "down"),
        Event(lambda t, y, a: 1e-6 * (t - 9.0), "up"),
    ]
    start = np.array([10.0, 0.0])

    def run(gravity):
        problem = ODEProblem(falling, start, 0.0, 10.0, gravity)
        solution = solve(problem, event=[events[i] for i in order])
        return solution.end_time, solution

    (time, solution), slope = jax.value_and_grad(run, has_aux=True)(jnp.array(GRAVITY))
    assert order[int(solution.event_index)] == 1
    # 10 - g t^2 / 2 = 1/2 at t = sqrt(19 / g).
    np.testing.assert_allclose(time, np.sqrt(19 / GRAVITY), rtol=ROUND_OFF)
    np.testing.assert_allclose(slope, -np.sqrt(19) / 2 * GRAVITY**-1.5, rtol=1e-12)


def test_an_event_that_never_fires_is_told():
    solution = solve(ball(1.0), event=Event(lambda t, y, a: y[0] - 100.0))
    assert solution.outcome == Outcome.success
    assert int(solution.event_index) == -1
    # The end of the span exactly, not a root finder's idea of it.
    assert float(solution.ts[-1]) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("event", [Event(lambda t, y, a: y[0] - 100.0, required=True)])
def test_a_required_event_that_never_fires_fails(event):
    with pytest.raises(SolveError, match=r"`event` is required, but none fired"):
        solve(ball(1.0), event=[Event(height), event])
    with pytest.raises(RuntimeError, match=r"`event` is required, but none fired"):
        eqx.filter_jit(lambda p: solve(p, event=event).ys)(ball(1.0))
    assert solve(ball(1.0), event=event, throw=False).succeeded
    assert solve(ball(), event=[Event(height), event]).succeeded


def test_an_event_that_never_fires_on_an_infinite_span_is_named():
    event = Event(lambda t, y, a: y[0] - 100.0)
    with pytest.raises(SolveError, match=r"`event` never fired: check that its cond"):
        solve(ball(np.inf), event=event, max_steps=20)
    problem = ODEProblem(oscillator, np.array([1.0, 0.0]), 0.0, np.inf)
    with pytest.raises(SolveError, match=r"loosen the tolerances of SteadyState"):
        solve(problem, event=SteadyState(), max_steps=50)


@pytest.mark.slow
def test_conditions_see_the_users_time_in_a_backward_solve():
    problem = ODEProblem(oscillator, np.array([1.0, 0.0]), 0.0, -10.0)
    solution = solve(problem, event=Event(lambda t, y, a: t + 3.0), rtol=1e-9)
    np.testing.assert_allclose(solution.end_time, -3.0, rtol=ROUND_OFF)
    np.testing.assert_allclose(solution.ys[-1], [np.cos(3), np.sin(3)], rtol=1e-7)
    # cos falls through zero at -pi/2 along a backward solve.
    for direction, time in (("down", -np.pi / 2), ("up", -1.5 * np.pi)):
        event = Event(height, direction)
        solution = solve(problem, event=event, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(solution.end_time, time, rtol=1e-7)


def agm(a, b):
    while abs(a - b) > 1e-16 * a:
        a, b = (a + b) / 2, np.sqrt(a * b)
    return a


@pytest.mark.slow
def test_the_period_of_a_pendulum():
    # A quarter period from rest at angle 2 is K(sin 1) = pi / (2 agm(1, cos 1)).
    field = lambda t, y, a: jnp.stack([y[1], -jnp.sin(y[0])])
    problem = ODEProblem(field, np.array([2.0, 0.0]), 0.0, np.inf)
    quarter = np.pi / (2 * agm(1.0, np.cos(1.0)))
    for solver, rtol in {"Tsit5": 1e-9, "Kvaerno3": 1e-7}.items():
        solution = solve(
            problem, event=Event(height), rtol=rtol, atol=rtol, solver=solver
        )
        # A few hundred steps at most, each within the tolerance.
        np.testing.assert_allclose(solution.end_time, quarter, rtol=100 * rtol)


@pytest.mark.slow
def test_a_trained_condition_and_its_gradient():
    # Landing at sqrt(2 h / g): its derivative by h is 1 / sqrt(2 g h), by g is
    # -sqrt(h / 2) g^-1.5.
    def landing(start, gravity):
        y0 = jnp.stack([start, jnp.zeros_like(start)])
        problem = ODEProblem(falling, y0, 0.0, 10.0, gravity)
        return solve(problem, event=Event(height)).end_time

    start, gravity = jnp.array(10.0), jnp.array(GRAVITY)
    by_start, by_gravity = jax.jit(jax.grad(landing, (0, 1)))(start, gravity)
    np.testing.assert_allclose(by_start, 1 / np.sqrt(2 * GRAVITY * 10), rtol=1e-12)
    np.testing.assert_allclose(by_gravity, -np.sqrt(5) * GRAVITY**-1.5, rtol=1e-12)


@pytest.mark.slow
def test_gradients_reach_what_functions_close_over():
    def landing(level, gravity):
        field = lambda t, y, a: jnp.stack([y[1], -gravity])
        problem = ODEProblem(field, np.array([10.0, 0.0]), 0.0, 10.0)
        return solve(problem, event=Event(lambda t, y, a: y[0] - level)).end_time

    gradient = jax.grad(landing, (0, 1))
    by_level, by_gravity = gradient(jnp.array(2.0), jnp.array(GRAVITY))
    # sqrt(2 (10 - level) / g) with level 2.
    np.testing.assert_allclose(by_level, -1 / np.sqrt(16 * GRAVITY), rtol=1e-12)
    np.testing.assert_allclose(by_gravity, -2 * GRAVITY**-1.5, rtol=1e-12)


def test_events_under_vmap():
    def run(start):
        y0 = jnp.stack([start, jnp.zeros_like(start)])
        problem = ODEProblem(falling, y0, 0.0, 1.0, jnp.array(GRAVITY))
        solution = solve(problem, event=Event(height))
        return solution.end_time, solution.event_index

    times, index = jax.vmap(run)(jnp.array([1.0, 2.0, 10.0]))
    landings = np.minimum(np.sqrt(2 * np.array([1.0, 2.0, 10.0]) / GRAVITY), 1.0)
    np.testing.assert_allclose(times, landings, rtol=ROUND_OFF)
    assert index.tolist() == [0, 0, -1]


def test_events_in_single_precision():
    y0 = np.array([10.0, 0.0], np.float32)
    problem = ODEProblem(falling, y0, 0.0, 10.0, np.float32(GRAVITY))
    # Diffrax's own search for events promotes where JAX runs in 64 bits.
    with jax.numpy_dtype_promotion("standard"):
        solution = solve(problem, event=Event(height))
    assert solution.ts.dtype == np.float32
    np.testing.assert_allclose(solution.end_time, np.sqrt(20 / GRAVITY), rtol=1e-5)


@pytest.mark.slow
def test_events_where_jax_runs_in_32_bits():
    with jax.enable_x64(False):
        y0 = np.array([10.0, 0.0], np.float32)
        problem = ODEProblem(falling, y0, 0.0, 10.0, np.float32(GRAVITY))
        # As many events as are allowed, the last of which is the earliest.
        events = [Event(lambda t, y, a, k=k: y[0] + 10 - k) for k in range(11)]
        solution = solve(problem, event=events)
        assert int(solution.event_index) == 10
        np.testing.assert_allclose(solution.end_time, np.sqrt(20 / GRAVITY), rtol=1e-5)
        with pytest.raises(ValueError, match=r"at most 11 events, got 12 in `event`"):
            solve(problem, event=[*events, events[0]])


@pytest.mark.slow
def test_a_diffrax_event_passes():
    event = diffrax.Event(
        {"low": lambda t, y, args, **kwargs: y[0], "late": lambda t, *_, **kw: t > 99},
        root_finder=optimistix.Newton(1e-10, 1e-10),
    )
    solution = solve(ball(), event=event)
    # Leaves of a dictionary come in the order of their keys: "late", "low".
    assert int(solution.event_index) == 1
    np.testing.assert_allclose(solution.end_time, np.sqrt(20 / GRAVITY), rtol=1e-9)


def logistic(t, y, rate):
    return rate * y * (1 - y)


@pytest.mark.parametrize("solver", ["Tsit5", "Kvaerno5"])
def test_logistic_growth_comes_to_rest(solver):
    problem = ODEProblem(logistic, 0.1, 0.0, np.inf, 1.5)
    event = SteadyState(rtol=1e-4, atol=1e-6)
    solution = solve(problem, event=event, solver=solver)
    assert solution.outcome == Outcome.event
    state = float(solution.end_state)
    # By the criterion: |f| <= 1e-4 |y| + 1e-6 there ...
    assert abs(1.5 * state * (1 - state)) <= 1e-4 * state + 1e-6
    # ... which for y near 1 is a distance of 1e-4 / 1.5 from rest.
    assert abs(1 - state) < 1.02e-4 / 1.5
    steps = solve(problem, event=event, solver=solver, saveat="steps")
    before = float(steps.ys[-2])
    assert abs(1.5 * before * (1 - before)) > 1e-4 * before + 1e-6


def test_rest_takes_every_component():
    rates = np.array([5.0, 0.5])
    problem = ODEProblem(lambda t, y, a: -a * y, np.ones(2), 0.0, np.inf, rates)
    solution = solve(problem, event=SteadyState(rtol=0.0, atol=1e-3))
    # 0.5 exp(-t/2) = 1e-3 at t = 12.43; the fast component alone rests at 1.7. The
    # end of a step comes after it.
    assert float(solution.end_time) > 2 * np.log(500)


def test_rest_takes_the_tolerances_of_the_solve():
    problem = ODEProblem(lambda t, y, a: -y, 1.0, 0.0, np.inf)
    loose = solve(problem, event=SteadyState(), rtol=1e-3, atol=1e-3)
    # (1 - 1e-3) exp(-t) = 1e-3 at t = 6.9.
    assert 6.9 < float(loose.end_time) < 12.0


def test_rest_at_the_start_stops_there():
    problem = ODEProblem(logistic, 1.0, 0.5, np.inf, 1.5)
    solution = solve(problem, event=SteadyState())
    assert float(solution.end_time) == 0.5
    assert solution.outcome == Outcome.event


@pytest.mark.slow
def test_rest_and_a_crossing_together():
    problem = ODEProblem(logistic, 0.1, 0.0, np.inf, 1.5)
    half = Event(lambda t, y, a: y - 0.5)
    options = {"rtol": 1e-9, "atol": 1e-9}
    solution = solve(problem, event=[SteadyState(), half], **options)
    assert int(solution.event_index) == 1
    # y = 1/2 at t = log(9) / 1.5.
    np.testing.assert_allclose(solution.end_time, np.log(9) / 1.5, rtol=1e-7)
    over = Event(lambda t, y, a: y - 1.5)
    assert int(solve(problem, event=[SteadyState(), over], **options).event_index) == 0


@pytest.mark.slow
def test_the_gradient_of_a_steady_state():
    # Rest at y = rate of y' = rate - y, whatever the way: derivative one.
    def rest(rate):
        problem = ODEProblem(lambda t, y, a: a - y, 0.0, 0.0, np.inf, rate)
        event = SteadyState(rtol=1e-8, atol=1e-8)
        # Tighter than the criterion, or an explicit solver never meets it.
        options = {"rtol": 1e-10, "atol": 1e-10, "adjoint": "implicit"}
        return solve(problem, event=event, **options).end_state

    # Diffrax's implicit adjoint evaluates the field at the integer time 0.
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(jax.grad(rest)(jnp.array(2.0)), 1.0, rtol=1e-10)


def test_events_hold_parameters():
    class Level(eqx.Module):
        level: jax.Array

        def __call__(self, t, y, args):
            return y[0] - self.level

    ends = [
        float(solve(ball(), event=Event(Level(jnp.array(level)))).end_time)
        for level in (5.0, 8.0)
    ]
    expected = np.sqrt(2 * np.array([5.0, 2.0]) / GRAVITY)
    np.testing.assert_allclose(ends, expected, rtol=ROUND_OFF)
