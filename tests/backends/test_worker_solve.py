"""Solves in a worker process: the same numbers, from threads and compiled functions."""

import concurrent.futures
import os
import signal
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tree_allclose

import hybrid_nds
from hybrid_nds import (
    BrownianPath,
    Event,
    JuliaWorker,
    ODEProblem,
    SDEProblem,
    SolveError,
    SteadyState,
    runtime,
    solve,
)

pytestmark = pytest.mark.julia

# Ten times the tolerance asked for: the problems here last some ten time constants.
TIGHT = {"rtol": 1e-9, "atol": 1e-9}
NEAR = {"rtol": 0.0, "atol": 1e-8}


@pytest.fixture(scope="module")
def worker():
    """One worker for all tests; its Julia takes seconds to start."""
    if not runtime.configured():
        pytest.skip("no Julia is configured (see `hybrid-nds julia configure`)")
    with JuliaWorker() as made:
        yield made


def _decay(rate=2.0, y0=1.0, t1=1.0):
    return ODEProblem(lambda t, y, args: -args * y, jnp.array([y0]), 0.0, t1, rate)


class _Linear(eqx.Module):
    """A rotation and a decay, in a state with structure; exact solutions below."""

    rate: jax.Array

    def __call__(self, t, y, args):
        x, v = y["turn"]
        return {"turn": (v, -x), "fade": -self.rate * y["fade"] * args["scale"]}


def _structured():
    field = _Linear(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    y0 = {"turn": (jnp.array(1.0), jnp.array(0.0)), "fade": jnp.ones((2, 2))}
    return ODEProblem(field, y0, 0.0, 2.0, {"scale": 0.5})


@pytest.mark.slow
def test_structured_states_at_the_times_asked_for(worker):
    times = np.array([0.0, 0.7, 2.0])
    solution = solve(_structured(), "julia", worker=worker, saveat=times, **TIGHT)
    rates = np.array([[1.0, 2.0], [3.0, 4.0]])
    expected = {
        "turn": (np.cos(times), -np.sin(times)),
        "fade": np.exp(-0.5 * rates * times[:, None, None]),
    }
    np.testing.assert_array_equal(solution.ts, times)
    assert tree_allclose(solution.ys, expected, **NEAR)
    assert solution.end_state["fade"].shape == (2, 2)
    assert solution.outcome_name == "success"
    assert solution.event_index is None
    assert solution.message == ""
    assert dict(solution.provenance.versions)["Julia"].startswith("1.")
    assert solution.provenance.field == "lowered"


def _native(**options):
    solution = hybrid_nds.solve(_decay(), "julia", **options)
    return solution.ts, solution.ys, dict(solution.stats), solution.provenance


@pytest.mark.parametrize(
    "options",
    [
        {"saveat": "steps", **TIGHT},
        {"solver": "Rodas5P", "rtol": 1e-7, "form": "scalar"},
        pytest.param(
            {"solver": "Kvaerno5", "dt": 0.125, "saveat": np.array([0.25, 0.5])},
            marks=pytest.mark.slow,
        ),
        {"solver": "Tsit5", "atol": np.array([1e-5])},
    ],
    ids=["steps", "scalar", "fixed_steps", "atol_by_component"],
)
def test_the_numbers_are_those_of_a_solve_without_a_worker(worker, options):
    solution = solve(_decay(), "julia", worker=worker, **options)
    ts, ys, stats, provenance = worker.call(_native, **options)
    # The same code on the same numbers: not one bit apart.
    np.testing.assert_array_equal(solution.ts, ts)
    np.testing.assert_array_equal(solution.ys, ys)
    assert solution.stats == stats
    assert solution.provenance == provenance


def test_beside_a_julia_of_this_process(worker, julia):
    here = solve(_decay(), "julia", saveat="steps")
    there = solve(_decay(), "julia", worker=worker, saveat="steps")
    np.testing.assert_array_equal(here.ys, there.ys)
    assert here.provenance == there.provenance
    assert worker.call(os.getpid) != os.getpid()


def test_new_weights_are_used(worker):
    rate = np.array([1.0])
    for value in (1.0, 3.0, 0.5):
        rate[0] = value
        solution = solve(_decay(rate), "julia", worker=worker, **TIGHT)
        np.testing.assert_allclose(solution.ys[0], np.exp(-rate), **NEAR)


@pytest.mark.slow
def test_single_precision_and_mass_matrix(worker):
    problem = ODEProblem(
        lambda t, y, args: -y, np.ones(2, np.float32), np.float32(0), np.float32(1)
    )
    solution = solve(problem, "julia", worker=worker, saveat="steps")
    assert solution.ys.dtype == solution.ts.dtype == np.float32
    # x' = -x, and z = x² algebraically.
    field = lambda t, y, args: jnp.stack([-y[0], y[1] - y[0] ** 2])
    problem = ODEProblem(
        field, jnp.ones(2), 0.0, 1.0, mass_matrix=jnp.diag(jnp.array([1.0, 0.0]))
    )
    solution = solve(problem, "julia", worker=worker, solver="Rodas5P", **TIGHT)
    np.testing.assert_allclose(solution.ys[0], np.exp([-1.0, -2.0]), **NEAR)


@pytest.mark.slow
def test_events(worker):
    level = jnp.array(0.5)
    events = [
        SteadyState(rtol=0.0, atol=1e-3),
        Event(lambda t, y, args: y[0] - level, "down"),
    ]
    solution = solve(_decay(), "julia", worker=worker, event=events, **TIGHT)
    assert solution.outcome_name == "event"
    assert solution.event_index == 1
    # y = exp(-2t) falls to 1/2 at t = ln(2)/2.
    np.testing.assert_allclose(solution.end_time, np.log(2.0) / 2, atol=1e-8)
    solution = solve(_decay(t1=np.inf), "julia", worker=worker, event=events[0])
    assert solution.event_index == 0
    assert 2 * float(solution.end_state[0]) <= 1e-3
    never = Event(lambda t, y, args: y[0] + 1.0, required=True)
    with pytest.raises(SolveError, match="none fired"):
        solve(_decay(), "julia", worker=worker, event=never)


def test_failures_are_raised_here(worker):
    blow_up = ODEProblem(lambda t, y, args: y**2, jnp.ones(1), 0.0, 2.0)
    with pytest.raises(SolveError, match="Julia says") as caught:
        solve(blow_up, "julia", worker=worker, solver="Tsit5")
    # The solution is 1/(1-t); a relative error of 1e-6 in a step moves its pole by
    # 1e-6/y, and y is at least one.
    found = caught.value.solution
    assert abs(float(found.end_time) - 1.0) <= 1e-6 * found.stats["num_steps"]


def test_any_thread_may_solve(worker):
    rates = np.linspace(0.5, 3.0, 8)
    run = lambda rate: solve(_decay(rate), "julia", worker=worker, **TIGHT).ys[0, 0]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(run, rates))
    np.testing.assert_allclose(found, np.exp(-rates), **NEAR)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"saveat": "dense"}, ValueError, "keeps its interpolation in the Julia"),
        ({"rhs": "callback"}, ValueError, "calls JAX in this process"),
        ({"adjoint": "direct"}, ValueError, "`adjoint` is for the Diffrax backend"),
        ({"worker": 2}, TypeError, "must be a hybrid_nds.JuliaWorker, got int"),
    ],
)
def test_what_a_worker_cannot_do_is_refused(worker, options, error, words):
    with pytest.raises(error, match=words):
        solve(_decay(), "julia", **({"worker": worker} | options))


def test_within_a_compiled_function(worker):
    times = np.array([0.5, 1.0])

    @jax.jit
    def states(y0, args):
        problem = ODEProblem(lambda t, y, a: -a["rate"] * y, y0, 0.0, 1.0, args)
        solution = solve(problem, "julia", worker=worker, saveat=times, **TIGHT)
        return solution.ts, 2.0 * solution.ys, solution.stats["num_steps"]

    for rate in (1.0, 2.0):
        args = {"rate": jnp.array([rate, 2 * rate])}
        ts, ys, steps = states(jnp.ones(2), args)
        expected = 2.0 * np.exp(-np.outer(times, args["rate"]))
        np.testing.assert_array_equal(ts, times)
        np.testing.assert_allclose(ys, expected, rtol=0.0, atol=2 * NEAR["atol"])
        assert steps > 1


def test_within_vmap(worker):
    def end(y0, rate):
        problem = ODEProblem(lambda t, y, a: -a * y, y0, 0.0, 1.0, rate)
        return solve(problem, "julia", worker=worker, **TIGHT).ys[0]

    y0, rates = jnp.arange(1.0, 4.0)[:, None], jnp.array([0.5, 1.0])
    both = jax.vmap(jax.vmap(end, (None, 0)), (0, None))
    expected = y0 * np.exp(-rates)
    for found in (both(y0, rates), jax.jit(both)(y0, rates)):
        np.testing.assert_allclose(found[..., 0], expected, rtol=0.0, atol=3e-8)


@pytest.mark.slow
def test_events_within_a_compiled_function(worker):
    @jax.jit
    def crossing(level):
        event = Event(eqx.Partial(lambda level, t, y, a: y[0] - level, level))
        solution = solve(
            _decay(),
            "julia",
            worker=worker,
            event=event,
            saveat=np.array([0.1, 0.9]),
            **TIGHT,
        )
        return solution.end_time, solution.event_index, solution.ts, solution.ys

    time, index, ts, ys = crossing(jnp.array(0.5))
    np.testing.assert_allclose(time, np.log(2.0) / 2, atol=1e-8)
    assert index == 0
    # The second time was not reached.
    np.testing.assert_array_equal(ts, [0.1, np.inf])
    np.testing.assert_allclose(ys[0], np.exp(-0.2), **NEAR)
    assert np.isinf(ys[1]).all()


class _Oscillator(eqx.Module):
    """A damped oscillator, kicked in its velocity alone."""

    damping: jax.Array

    def __call__(self, t, y, args):
        return {"x": y["v"], "v": -y["x"] - self.damping * y["v"]}


def _kicks(t, y, args):
    return {"x": jnp.zeros(1), "v": args}


def _noisy(damping=0.5, strength=0.3):
    return SDEProblem(
        _Oscillator(jnp.asarray(damping)),
        _kicks,
        {"x": 1.0, "v": 0.0},
        0.0,
        2.0,
        jnp.array([strength]),
        noise="additive",
    )


def _euler_maruyama(problem, dw, dt):
    """The recursion itself, written out by hand."""
    x, v, xs = 1.0, 0.0, []
    damping, strength = float(problem.drift.damping), float(problem.args[0])
    for kick in np.asarray(dw)[:, 0]:
        x, v = x + dt * v, v + dt * (-x - damping * v) + strength * kick
        xs.append(x)
    return np.array(xs)


@pytest.mark.slow
def test_stochastic_problems_along_their_path(worker, getkey):
    problem, key, dt = _noisy(), getkey(), 1 / 64
    path = BrownianPath(key, (1,), 0.0, 2.0, dt)
    times = np.array([0.5, 1.0, 2.0])
    options = {"solver": "Euler", "dt": dt, "saveat": times}
    expected = _euler_maruyama(problem, path.increments()[0], dt)[[31, 63, 127]]
    for given in ({"key": key}, {"path": path}):
        solution = solve(problem, "julia", worker=worker, **options, **given)
        # 128 steps, each of some ten roundings of numbers of size one.
        np.testing.assert_allclose(solution.ys["x"], expected, rtol=0, atol=3e-13)
    assert dict(solution.provenance.versions)["StochasticDiffEq"]

    @jax.jit
    def states(key, damping, strength):
        noisy = _noisy(damping, strength)
        return solve(noisy, "julia", worker=worker, key=key, **options).ys["x"]

    found = states(key, 0.5, 0.3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-13)
    other = _euler_maruyama(_noisy(0.2, 0.1), path.increments()[0], dt)[[31, 63, 127]]
    np.testing.assert_allclose(states(key, 0.2, 0.1), other, rtol=0, atol=3e-13)


@pytest.mark.slow
def test_matrix_noise(worker, getkey):
    mixing = jnp.array([[0.3, 0.1, 0.0], [0.0, 0.2, -0.4]])
    problem = SDEProblem(
        lambda t, y, args: -y,
        lambda t, y, args: args * y[:, None],
        jnp.array([1.0, 2.0]),
        0.0,
        1.0,
        mixing,
        noise="general",
    )
    path = BrownianPath(getkey(), (3,), 0.0, 1.0, 1 / 32)
    solution = solve(
        problem, "julia", worker=worker, solver="Euler", dt=1 / 32, path=path
    )
    y = np.array([1.0, 2.0])
    for dw in np.asarray(path.increments()[0]):
        y = y - y / 32 + (np.asarray(mixing) * y[:, None]) @ dw
    np.testing.assert_allclose(solution.ys[0], y, rtol=0, atol=1e-13)


def test_failures_within_a_compiled_function(worker):
    @eqx.filter_jit
    def end(y0):
        problem = ODEProblem(lambda t, y, args: y**2, y0, 0.0, 2.0)
        return solve(problem, "julia", worker=worker, solver="Tsit5").ys

    np.testing.assert_allclose(end(jnp.array([0.1])), [[0.125]], rtol=1e-5)
    with pytest.raises(RuntimeError, match="NaN, infinite or was declared unstable"):
        end(jnp.array([1.0]))


def test_what_cannot_be_compiled_is_refused(worker):
    def end(y0, rate, count, **options):
        closed = lambda t, y, args: -rate * y * args
        problem = ODEProblem(closed, y0, 0.0, 1.0, count)
        return solve(problem, "julia", worker=worker, **options).ys.sum()

    one, whole = jnp.ones(1), jnp.array(1)
    with pytest.raises(TypeError, match="not through a closure"):
        jax.jit(lambda rate: end(one, rate, whole))(one)
    with pytest.raises(TypeError, match="keep integers out"):
        jax.jit(lambda count: end(one, one, count))(whole)
    with pytest.raises(ValueError, match="as many times as there are steps"):
        jax.jit(lambda y0: end(y0, one, whole, saveat="steps"))(one)
    with pytest.raises(RuntimeError, match="in a `worker` has no derivatives"):
        jax.grad(lambda y0: end(y0, one, whole))(one)


# Days of oscillation: only a signal ends it in time.
_ENDLESS = ODEProblem(lambda t, y, a: jnp.stack([y[1], -y[0]]), jnp.ones(2), 0.0, 1e12)


def test_interrupts_stop_a_solve_and_leave_the_worker_alive(worker):
    process = worker.call(os.getpid)
    solve(_decay(), "julia", worker=worker, solver="Tsit5")
    interrupt = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        solve(_ENDLESS, "julia", worker=worker, solver="Tsit5", max_steps=2**40)
    interrupt.join()
    solution = solve(_decay(), "julia", worker=worker, **TIGHT)
    np.testing.assert_allclose(solution.ys, [[np.exp(-2.0)]], **NEAR)
    assert worker.call(os.getpid) == process


# The two below start another Julia; test_worker.py has them with a stand-in.
@pytest.mark.slow
def test_a_killed_worker_says_so_and_solves_again(worker):
    process = worker.call(os.getpid)
    kill = threading.Timer(1.0, os.kill, (process, signal.SIGKILL))
    kill.start()
    with pytest.raises(runtime.WorkerDiedError, match="starts a new process"):
        solve(_ENDLESS, "julia", worker=worker, solver="Tsit5", max_steps=2**40)
    solution = solve(_decay(), "julia", worker=worker, **TIGHT)
    np.testing.assert_allclose(solution.ys, [[np.exp(-2.0)]], **NEAR)


@pytest.mark.slow
def test_julia_starts_with_the_threads_asked_for(worker):
    with JuliaWorker(threads=2) as two:
        assert two.call(lambda: runtime.session().threads) == 2
