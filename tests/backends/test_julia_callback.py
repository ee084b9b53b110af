"""The callback path: Julia calls back into JAX, with JAX's exact Jacobian."""

import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import Event, ODEProblem, solve

pytestmark = pytest.mark.julia


def _robertson(k2=3e7):
    def field(t, y, k):
        forward, back = k[0] * y[0], k[2] * y[1] * y[2]
        pair = k[1] * y[1] ** 2
        return jnp.stack([back - forward, forward - back - pair, pair])

    k = np.array([0.04, k2, 1e4])
    return ODEProblem(field, np.array([1.0, 0.0, 0.0]), 0.0, 40.0, k)


@pytest.mark.parametrize("solver", ["Rodas5P", "FBDF", "Kvaerno5"])
def test_robertson_with_the_exact_jacobian(solver, julia):
    solution = solve(
        _robertson(), "julia", solver=solver, rtol=1e-8, atol=1e-12, rhs="callback"
    )
    # Hairer and Wanner, Solving ODEs II, section IV.1: the solution at t = 40.
    published = [0.7158270688, 9.185534765e-6, 0.2841637457]
    np.testing.assert_allclose(solution.ys[0], published, rtol=2e-6)
    assert solution.stats["num_jacobian_evaluations"] > 0
    assert solution.provenance.field == "callback"


def test_callback_and_lowered_take_the_same_steps(julia):
    problem = _robertson()
    options = {"solver": "Rodas5P", "rtol": 1e-6, "atol": 1e-10, "saveat": "steps"}
    lowered = solve(problem, "julia", **options)
    callback = solve(problem, "julia", rhs="callback", **options)
    assert lowered.stats["num_steps"] == callback.stats["num_steps"]
    # Both follow the same steps; round-off is amplified by the condition of the steps.
    np.testing.assert_allclose(lowered.ys, callback.ys, rtol=1e-6, atol=1e-12)


def test_new_weights_reach_the_callback(julia):
    for rate in (1.0, 2.0):
        problem = ODEProblem(
            lambda t, y, args: -args * y, np.array([1.0]), 0.0, 1.0, np.array(rate)
        )
        solution = solve(problem, "julia", rhs="callback", rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(solution.ys[0, 0], np.exp(-rate), atol=1e-8)


def _decay(t, y, args):
    return -args * y


@pytest.mark.slow
def test_lazy_dense_output_keeps_its_weights(julia):
    def problem(rate):
        return ODEProblem(_decay, np.array([1.0]), 0.0, 1.0, np.array(rate))

    options = {"rhs": "callback", "solver": "Vern9", "saveat": "dense"}
    first = solve(problem(1.0), "julia", rtol=1e-9, atol=1e-9, **options)
    solve(problem(5.0), "julia", rtol=1e-9, atol=1e-9, **options)
    np.testing.assert_allclose(first.evaluate(0.37), [np.exp(-0.37)], atol=1e-8)


def test_event_on_the_callback_path(julia):
    problem = ODEProblem(_decay, np.array([1.0]), 0.0, 5.0, np.array(2.0))
    event = Event(lambda t, y, args: y[0] - 0.5)
    solution = solve(
        problem, "julia", rhs="callback", event=event, rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(solution.end_time, np.log(2.0) / 2, atol=1e-8)


@pytest.mark.slow
def test_single_precision_callback(julia):
    problem = ODEProblem(
        _decay, np.ones(1, np.float32), 0.0, 1.0, np.array(2.0, np.float32)
    )
    solution = solve(problem, "julia", rhs="callback")
    assert solution.ys.dtype == np.float32
    bound = 1e-4 * solution.stats["num_steps"]
    np.testing.assert_allclose(solution.ys[0, 0], np.exp(-2.0), atol=bound)


def test_exception_in_the_field_comes_back_as_itself(julia):
    import jax

    class Mine(Exception):
        pass

    def check(y):
        if y[0] < 0.9:
            raise Mine("below")
        return y

    def field(t, y, args):
        # Fails when the program runs, not when it is traced.
        return -jax.pure_callback(check, jax.ShapeDtypeStruct((1,), y.dtype), y)

    problem = ODEProblem(field, np.array([1.0]), 0.0, 5.0)
    with pytest.raises(Exception, match="below"):
        solve(problem, "julia", solver="Tsit5", rhs="callback")
    healthy = ODEProblem(_decay, np.array([1.0]), 0.0, 1.0, np.array(2.0))
    assert solve(healthy, "julia", rhs="callback").succeeded
