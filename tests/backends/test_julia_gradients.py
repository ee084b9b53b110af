"""Derivatives of solves in Julia: closed forms, frozen steps, Diffrax, and refusals."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.test_util import check_grads

from hybrid_nds import Event, ODEProblem, SteadyState, solve

pytestmark = pytest.mark.julia

TIMES = np.linspace(0.25, 1.0, 4)
START = jnp.array([1.0, 0.0])
# One field for most tests, so that Julia compiles it once: y'' = -rate y.
FIELD = lambda t, y, rate: jnp.stack([y[1], -rate * y[0]])

REACTION_RATES = jnp.array([0.04, 100.0, 10.0, 0.1])
REACTION_START = jnp.array([1.0, 0.1, 0.0])


def reaction(t, y, rates):
    """Robertson's reaction, milder, and driven, so that the field depends on time."""
    slow, fast, back = rates[0] * y[0], rates[1] * y[1] ** 2, rates[2] * y[1] * y[2]
    driven = rates[3] * jnp.sin(t)
    return jnp.stack([back - slow + driven, slow - fast - back, fast])


def _solve(y0, rate, *, t0: Any = 0.0, t1: Any = 1.0, solver="Rodas5P", **options):
    options = {"rtol": 1e-9, "atol": 1e-9, **options}
    problem = ODEProblem(FIELD, y0, t0, t1, args=rate)
    return solve(problem, "julia", solver=solver, **options)


def _exact(y0, rate, t):
    """The solution of the oscillator, t after its start."""
    w = jnp.sqrt(rate)
    cos, sin = jnp.cos(w * t), jnp.sin(w * t)
    return jnp.stack(
        [y0[0] * cos + y0[1] / w * sin, -w * y0[0] * sin + y0[1] * cos], axis=-1
    )


def _weighed(ys):
    return jnp.sum(ys * jnp.array([1.0, 2.0]) * jnp.arange(1.0, 1 + len(ys))[:, None])


@pytest.mark.parametrize("solver", ["Rodas5P", "Tsit5"])
def test_gradients_are_those_of_the_closed_form(julia, solver):
    def loss(y0, rate, t0, t1, saveat):
        return _weighed(_solve(y0, rate, t0=t0, t1=t1, saveat=saveat, solver=solver).ys)

    def exact(y0, rate, t0, t1, saveat):
        del t1
        return _weighed(_exact(y0, rate, jnp.asarray(saveat) - t0))

    at = (START, jnp.array(2.0), jnp.array(0.0), jnp.array(1.0), jnp.asarray(TIMES))
    every = (0, 1, 2, 3, 4)
    expected = jax.grad(exact, every)(*at)
    # A few times the tolerance over some thirty steps; weights add up to thirty.
    for found in (jax.grad(loss, every)(*at), jax.jit(jax.jacfwd(loss, every))(*at)):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_end_has_the_derivatives_of_its_time(julia):
    end = lambda t0, t1: _solve(START, jnp.array(2.0), t0=t0, t1=t1).ys[0]
    exact = lambda t0, t1: _exact(START, jnp.array(2.0), t1 - t0)
    for mode in (jax.jacfwd, jax.jacrev):
        found = mode(end, (0, 1))(jnp.array(0.25), jnp.array(1.0))
        expected = mode(exact, (0, 1))(jnp.array(0.25), jnp.array(1.0))
        np.testing.assert_allclose(found, expected, atol=1e-7)


def test_backward_solves_have_derivatives(julia):
    found = jax.grad(lambda y0: _weighed(_solve(y0, jnp.array(2.0), t1=-1.0).ys))(START)
    expected = jax.grad(
        lambda y0: _weighed(_exact(y0, jnp.array(2.0), jnp.array([-1.0])))
    )(START)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def _frozen(solver, span, y0, rates):
    """The steps of a solve taken one by one, each as a solve in one step of its own."""
    y = y0
    for start, stop in itertools.pairwise(span):
        problem = ODEProblem(reaction, y, float(start), float(stop), args=rates)
        y = solve(problem, "julia", solver=solver, dt=float(stop - start)).ys[0]
    return np.asarray(y)


EXPLICIT = "Euler Heun Midpoint Ralston BS3 RK4 DP5 DP8 Vern6 Vern7 Vern8 Vern9".split()
DIAGONAL = (
    "ImplicitEuler ImplicitMidpoint Trapezoid TRBDF2 KenCarp3 KenCarp4 KenCarp5 "
    "Kvaerno3 Kvaerno4 Kvaerno5"
).split()
COUPLED = ["RadauIIA3", "RadauIIA5"]
OTHERS = [*EXPLICIT, "Rosenbrock23", "Rodas4", *DIAGONAL, *COUPLED]


@pytest.mark.parametrize(
    "solver",
    ["Rodas5P", "Tsit5", *(pytest.param(x, marks=pytest.mark.slow) for x in OTHERS)],
)
def test_derivatives_are_those_of_the_steps_with_their_lengths_held(julia, solver):
    fixed = solver in ("Euler", "ImplicitMidpoint")
    how: Any = {"dt": 0.05} if fixed else {"rtol": 1e-5, "atol": 1e-7}

    def end(y0, rates):
        problem = ODEProblem(reaction, y0, 0.0, 1.0, args=rates)
        return solve(problem, "julia", solver=solver, **how).ys[0]

    problem = ODEProblem(reaction, REACTION_START, 0.0, 1.0, args=REACTION_RATES)
    span = solve(problem, "julia", solver=solver, saveat="steps", **how).ts
    at = (REACTION_START, REACTION_RATES)
    forward = jax.jacfwd(end, (0, 1))(*at)
    reverse = jax.jacrev(end, (0, 1))(*at)
    # Round-off: stages of implicit methods are solved to it in both.
    for one, other in zip(forward, reverse, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)
    # Central differences of fourth order: h⁴ = 1e-12 of fifth derivatives, and
    # round-off of some 1e-14 over h. Newton's iteration of the solves that they are
    # taken of ends at κ = 1e-6 of 64 √ε, in every step.
    h = 1e-3
    newton = 64e-6 * np.sqrt(np.finfo(float).eps) * (len(span) - 1)
    newton *= solver in (*DIAGONAL, *COUPLED)
    for position, values in enumerate(at):
        for k in range(3):
            size = h * max(float(abs(values[k])), 0.1)

            def moved(share, k=k, position=position, size=size):
                points = list(at)
                points[position] = points[position].at[k].add(share * size)
                return _frozen(solver, span, *points)

            difference = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (
                12 * size
            )
            found = forward[position][:, k]
            limit = 1e-9 * np.max(np.abs(found)) + 1e-9 + 18 / 12 * newton / size
            np.testing.assert_allclose(found, difference, rtol=0, atol=limit)


def test_both_backends_have_one_gradient(julia):
    def loss(y0, rates, backend, solver):
        problem = ODEProblem(reaction, y0, 0.0, 2.0, args=rates)
        ys = solve(
            problem, backend, solver=solver, rtol=1e-9, atol=1e-11, saveat=2 * TIMES
        ).ys
        return jnp.sum(jnp.sin(10 * ys))

    gradient = jax.grad(loss, (0, 1))
    here = gradient(REACTION_START, REACTION_RATES, "julia", "Rodas5P")
    there = gradient(REACTION_START, REACTION_RATES, "diffrax", "Kvaerno5")
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_a_batch_has_the_gradients_of_its_members(julia):
    def loss(y0, rate):
        return _weighed(_solve(y0, rate, saveat=TIMES).ys)

    starts = jnp.array([[1.0, 0.0], [0.5, 1.0], [0.0, 2.0]])
    rate = jnp.array(2.0)
    single = [jax.grad(loss, (0, 1))(y0, rate) for y0 in starts]
    for mapped in (jax.vmap(jax.grad(loss, (0, 1)), (0, None)),):
        y_bars, rate_bars = jax.jit(mapped)(starts, rate)
        np.testing.assert_array_equal(y_bars, jnp.stack([one[0] for one in single]))
        np.testing.assert_array_equal(rate_bars, jnp.stack([one[1] for one in single]))
    # A parameter that all share.
    total = lambda rate: jnp.sum(jax.vmap(loss, (0, None))(starts, rate))
    expected = sum(one[1] for one in single)
    np.testing.assert_allclose(jax.grad(total)(rate), expected, rtol=1e-13)
    np.testing.assert_allclose(jax.jacfwd(total)(rate), expected, rtol=1e-11)
    # Jacobians within a batch: directions within trajectories.
    jacobian = jax.vmap(jax.jacrev(lambda y0: _solve(y0, rate).ys[0]))(starts)
    for y0, found in zip(starts, jacobian, strict=True):
        expected = jax.jacfwd(lambda y0: _solve(y0, rate).ys[0])(y0)
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


def test_derivatives_go_through_loops_and_checkpoints(julia):
    step = lambda y, rate: _solve(y, rate, t1=0.25).ys[0]

    def scanned(y, rate):
        return jax.lax.scan(lambda y, _: (step(y, rate), None), y, None, length=4)[0]

    def remembered(y, rate):
        twice = lambda y: step(step(y, rate), rate)
        return jax.checkpoint(lambda y: twice(twice(y)))(y)

    expected = jax.jacrev(_exact, 1)(START, jnp.array(2.0), jnp.array(1.0))
    for run in (scanned, remembered):
        found = jax.jit(jax.jacrev(run, 1))(START, jnp.array(2.0))
        np.testing.assert_allclose(found, expected, atol=1e-7)
    check_grads(
        lambda y: step(y, jnp.array(2.0)), (START,), order=1, atol=1e-4, rtol=1e-4
    )


def test_values_beside_a_gradient_are_those_of_the_plain_solve(julia):
    end = lambda y0: jnp.sum(_solve(y0, jnp.array(2.0)).ys)
    value, _ = jax.value_and_grad(end)(START)
    np.testing.assert_array_equal(value, end(START))
    # At saved times steps end, where plain solves interpolate: by less than the
    # tolerance over each of some twenty steps.
    saved = lambda y0: _weighed(_solve(y0, jnp.array(2.0), saveat=TIMES).ys)
    value, _ = jax.value_and_grad(saved)(START)
    np.testing.assert_allclose(value, saved(START), atol=1e-6)


def test_weights_of_modules_have_gradients_in_their_structure(julia):
    class Spring(eqx.Module):
        rate: jax.Array
        name: str
        order: jax.Array

        def __call__(self, t, y, args):
            return jnp.stack([y["x"][self.order[1]], args * -self.rate * y["x"][0]])

    class Wrapped(eqx.Module):
        spring: Spring

        def __call__(self, t, y, args):
            return {"x": self.spring(t, y, args)}

    field = Wrapped(Spring(jnp.array(2.0, jnp.float32), "s", np.array([0, 1])))

    @eqx.filter_grad
    def gradient(field):
        problem = ODEProblem(field, {"x": START}, 0.0, 1.0, args=jnp.array(1.0))
        ys = solve(problem, "julia", solver="Rodas5P", rtol=1e-9, atol=1e-9).ys
        return _weighed(ys["x"])

    exact = lambda rate: _weighed(_exact(START, rate, jnp.array([1.0])))
    expected = jax.grad(exact)(2.0)
    found = gradient(field).spring.rate
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_tolerances_have_no_derivative(julia):
    end = lambda rtol: jnp.sum(_solve(START, jnp.array(2.0), rtol=rtol).ys)
    assert jax.grad(end)(jnp.array(1e-6)) == 0


def test_mass_matrices_of_index_one_have_derivatives(julia):
    # y₀' = -rate y₀ y₁, y₁ = 1 + y₀: logistic, y₀' = -rate y₀ (1 + y₀).
    def field(t, y, rate):
        return jnp.stack([-rate * y[0] * y[1], y[1] - 1 - y[0]])

    def end(start, rate):
        y0 = jnp.stack([start, 1 + start])
        problem = ODEProblem(
            field, y0, 0.0, 1.0, args=rate, mass_matrix=np.diag([1.0, 0.0])
        )
        return solve(problem, "julia", solver="Rodas5P", rtol=1e-9, atol=1e-9).ys[0]

    def exact(start, rate):
        left = start * jnp.exp(-rate)
        y = left / (1 + start - left)
        return jnp.stack([y, 1 + y])

    at = jnp.array(0.5), jnp.array(2.0)
    expected = jax.jacfwd(exact, (0, 1))(*at)
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(mode(end, (0, 1))(*at), expected, atol=1e-7)


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(
    width=st.integers(1, 9),
    depth=st.integers(1, 2),
    states=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_random_networks_have_one_derivative_in_both_modes(
    julia, width, depth, states, seed
):
    keys = jax.random.split(jax.random.key(seed), 4)
    network = eqx.nn.MLP(states, states, width, depth, jnp.tanh, key=keys[0])
    y0 = jax.random.normal(keys[1], (states,))
    weights, rest = eqx.partition(network, eqx.is_inexact_array)

    def end(y0, weights, backend="julia", solver: Any = "Rodas5P"):
        field = lambda t, y, net: net(y) * (1 + 0.1 * jnp.sin(t))
        args = eqx.combine(weights, rest)
        problem = ODEProblem(field, y0, 0.0, 1.0, args=args)
        return solve(problem, backend, solver=solver, rtol=1e-8, atol=1e-9).ys[0]

    tangent = jax.tree.map(lambda x: jax.random.normal(keys[2], x.shape), (y0, weights))
    cotangent = jax.random.normal(keys[3], (states,))
    _, pushed = jax.jvp(end, (y0, weights), tangent)
    _, pull = jax.vjp(end, y0, weights)
    products = jax.tree.map(jnp.vdot, pull(cotangent), tangent)
    total = sum(jax.tree.leaves(products))
    size = sum(abs(one) for one in jax.tree.leaves(products))
    np.testing.assert_allclose(jnp.vdot(cotangent, pushed), total, atol=1e-12 * size)
    _, there = jax.vjp(lambda y, w: end(y, w, "diffrax", "Tsit5"), y0, weights)
    for one, other in zip(
        jax.tree.leaves(pull(cotangent)), jax.tree.leaves(there(cotangent)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6 * size)


def _gradient(**options):
    return jax.grad(lambda y0: jnp.sum(_solve(y0, jnp.array(2.0), **options).ys))(START)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"solver": "FBDF"}, TypeError, "by FBDF have no .*Rodas5P"),
        ({"solver": None}, TypeError, "by default have no .*Rodas5P"),
        ({"event": SteadyState()}, TypeError, "to a SteadyState have no"),
        ({"saveat": "steps"}, ValueError, 'saveat="steps"'),
        ({"recorded_steps": 3}, RuntimeError, "all .* steps .* set `recorded_steps`"),
        ({"recorded_steps": 0}, ValueError, "at least 1"),
        ({"recorded_steps": 2.5}, TypeError, "must be an integer"),
        ({"adjoint": "backsolve"}, ValueError, "leave it out"),
    ],
)
def test_what_has_no_derivative_says_so(julia, options, error, message):
    with pytest.raises(error, match=message):
        _gradient(**options)


DECAY = lambda t, y, args: -args[0] * y
LEVEL = Event(lambda t, y, args: y[0] - args[1] - args[2] * t)


def _to_level(start, rate, level, drift, **options):
    """The exponential's decay to a level, which moves with time."""
    options = {"solver": "Rodas5P", "rtol": 1e-9, "atol": 1e-11, **options}
    problem = ODEProblem(DECAY, start[None], 0.0, 10.0, args=(rate, level, drift))
    return solve(problem, options.pop("backend", "julia"), event=LEVEL, **options)


@pytest.mark.parametrize("backend", ["julia", "diffrax"])
def test_the_time_of_an_event_has_derivatives(julia, backend):
    solver = {"julia": "Rodas5P", "diffrax": "Tsit5"}[backend]

    def found(*at):
        solution = _to_level(*at, backend=backend, solver=solver)
        return jnp.stack([solution.end_time, solution.end_state[0]])

    # y = s exp(-r T) = l + d T at the event, so that ẏ - d = -(r y + d) there.
    start, rate, level, drift = 2.0, 0.7, 0.5, 0.1
    at = tuple(map(jnp.array, (start, rate, level, drift)))
    time = float(_to_level(*at).end_time)
    state = start * np.exp(-rate * time)
    speed = -rate * state - drift
    by_time = -np.array([state / start, -time * state, -1.0, -time]) / speed
    by_state = drift * by_time + np.array([0.0, 0.0, 1.0, time])
    modes = (jax.jacrev,) if backend == "diffrax" else (jax.jacrev, jax.jacfwd)
    for mode in modes:
        times, states = np.stack(mode(found, (0, 1, 2, 3))(*at), axis=1)
        np.testing.assert_allclose(times, by_time, rtol=1e-6)
        np.testing.assert_allclose(states, by_state, rtol=1e-6, atol=1e-7)


def test_a_field_that_switches_at_an_event_has_derivatives(julia):
    def after(start):
        first = _to_level(start, *map(jnp.array, (0.7, 0.5, 0.0)))
        problem = ODEProblem(
            lambda t, y, a: jnp.ones_like(y), first.end_state, first.end_time, 5.0
        )
        return solve(problem, "julia", solver="Tsit5").ys[0, 0]

    # 0.5 + 5 - T with T = log(start / 0.5) / 0.7.
    for mode in (jax.grad, jax.jacfwd):
        found = mode(after)(jnp.array(2.0))
        np.testing.assert_allclose(found, -1 / (0.7 * 2.0), rtol=1e-6)


def test_an_event_that_does_not_fire_leaves_the_derivatives_of_the_end(julia):
    end = lambda start: _to_level(start, *map(jnp.array, (0.1, 0.5, 0.0)))
    solution, tangent = jax.jvp(
        lambda start: (end(start).end_state[0], end(start).end_time),
        (jnp.array(2.0),),
        (jnp.array(1.0),),
    )
    np.testing.assert_allclose(solution[1], 10.0)
    np.testing.assert_allclose(tangent[0], np.exp(-1.0), rtol=1e-6)
    assert tangent[1] == 0


def test_an_event_that_grazes_has_no_derivative(julia):
    # exp(-t) less its parabola at t = 1: a zero of third order, with no slope.
    grazing = Event(lambda t, y, a: y[0] - a * (1 - (t - 1) + (t - 1) ** 2 / 2))

    def time(y0):
        problem = ODEProblem(
            lambda t, y, a: -y, y0, 0.0, 3.0, args=jnp.exp(jnp.array(-1.0))
        )
        how: dict[str, Any] = {"solver": "Vern9", "rtol": 1e-13, "atol": 1e-13}
        return solve(problem, "julia", event=grazing, **how).end_time

    with pytest.raises(Exception, match="no slope in time"):
        jax.block_until_ready(jax.grad(time)(jnp.ones(1)))


def test_second_derivatives_are_refused(julia):
    loss = lambda y0: jnp.sum(_solve(y0, jnp.array(2.0)).ys)
    for second in (jax.hessian(loss), jax.grad(lambda y: jnp.sum(jax.grad(loss)(y)))):
        with pytest.raises(TypeError, match="no second derivatives"):
            second(START)


def test_a_loss_without_a_derivative_is_named(julia):
    # The slope of the square root at zero is infinite.
    loss = lambda y0: jnp.sqrt(jnp.sum(0 * _solve(y0, jnp.array(2.0)).ys))
    with pytest.raises(Exception, match="NaN or infinite"):
        jax.block_until_ready(jax.grad(loss)(START))


def test_times_of_algebraic_equations_are_held_fixed(julia):
    def end(t1):
        field = lambda t, y, a: jnp.stack([-y[0], y[1] - y[0]])
        mass = np.diag([1.0, 0.0])
        problem = ODEProblem(field, jnp.ones(2), 0.0, t1, mass_matrix=mass)
        return jnp.sum(solve(problem, "julia", solver="Rodas5P").ys)

    with pytest.raises(TypeError, match="singular `mass_matrix`"):
        jax.grad(end)(jnp.array(1.0))
