"""Solves under jit, vmap and grad, and how often they compile."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import Event, ODEProblem, Outcome, SolveError, solve, solver_names

pytestmark = pytest.mark.usefixtures("strict_promotion")

TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def decay(t, y, rate):
    return -rate * y


def end(rate, y0=1.0, **options):
    problem = ODEProblem(decay, y0, 0.0, 2.0, rate)
    return solve(problem, **TIGHT, **options).ys[-1]


def test_jit():
    value = jax.jit(end)(jnp.array(0.7), jnp.array(3.0))
    np.testing.assert_allclose(value, 3 * np.exp(-1.4), rtol=1e-8)


def test_a_solution_passes_out_of_jit():
    @eqx.filter_jit
    def run(problem, rtol, times):
        return solve(problem, rtol=rtol, saveat=times)

    times = jnp.linspace(0.0, 2.0, 5)
    solution = run(ODEProblem(decay, 1.0, 0.0, 2.0, jnp.array(0.7)), 1e-9, times)
    assert solution.outcome == Outcome.success
    assert solution.outcome_name == "success"
    np.testing.assert_allclose(solution.ys, np.exp(-0.7 * times), rtol=1e-7)
    assert solution.provenance.backend == "diffrax"


def test_steps_inside_jit_keep_their_padding():
    problem = ODEProblem(decay, 1.0, 0.0, 2.0, jnp.array(0.7))
    run = eqx.filter_jit(lambda p: solve(p, saveat="steps", max_steps=64))
    padded, trimmed = run(problem), solve(problem, saveat="steps", max_steps=64)
    count = len(trimmed.ts)
    assert padded.ts.shape == (65,)
    np.testing.assert_array_equal(padded.ts[:count], trimmed.ts)
    assert np.all(np.isinf(padded.ts[count:]))


def test_vmap():
    rates = jnp.array([0.1, 1.0, 2.5])
    values = jax.vmap(end)(rates)
    np.testing.assert_allclose(values, np.exp(-2 * rates), rtol=1e-8)
    starts = jnp.array([1.0, 2.0, 3.0])
    both = jax.vmap(jax.vmap(end, (None, 0)), (0, None))(rates, starts)
    exact = jnp.outer(jnp.exp(-2 * rates), starts)
    np.testing.assert_allclose(both, exact, rtol=1e-8)


REVERSE = ["recursive_checkpoint", "direct", "backsolve"]


@pytest.mark.parametrize("adjoint", REVERSE)
def test_reverse_gradient_in_closed_form(adjoint):
    rate, y0 = jnp.array(0.7), jnp.array(3.0)
    run = lambda rate, y0: end(rate, y0, adjoint=adjoint)
    by_rate, by_y0 = jax.jit(jax.grad(run, (0, 1)))(rate, y0)
    # y = y0 exp(-2 rate): exact up to the tolerance, over about 60 steps.
    np.testing.assert_allclose(by_rate, -2 * 3 * np.exp(-1.4), rtol=1e-8)
    np.testing.assert_allclose(by_y0, np.exp(-1.4), rtol=1e-8)


@pytest.mark.parametrize("adjoint", ["forward", "direct"])
def test_forward_gradient_in_closed_form(adjoint):
    run = lambda rate: end(rate, jnp.array(3.0), adjoint=adjoint)
    _, tangent = jax.jvp(run, (jnp.array(0.7),), (jnp.array(1.0),))
    np.testing.assert_allclose(tangent, -2 * 3 * np.exp(-1.4), rtol=1e-8)


@pytest.mark.slow
def test_gradient_through_an_implicit_solver():
    run = lambda rate: end(rate, jnp.array(3.0), solver="Kvaerno5")
    gradient = jax.grad(run)(jnp.array(0.7))
    np.testing.assert_allclose(gradient, -6 * np.exp(-1.4), rtol=1e-7)


@pytest.mark.slow
def test_gradient_by_the_parameters_of_a_module(getkey):
    class Field(eqx.Module):
        weight: jax.Array

        def __call__(self, t, y, args):
            return jnp.matmul(self.weight, y)

    weight = jax.random.normal(getkey(), (2, 2))
    y0 = np.array([1.0, -0.5])

    def loss(field):
        return jnp.sum(solve(ODEProblem(field, y0, 0.0, 1.0), **TIGHT).ys[-1])

    gradient = eqx.filter_grad(loss)(Field(weight)).weight
    # The closed form is the sum of the matrix exponential's action, differentiated
    # by JAX through its own Pade approximation.
    closed = lambda weight: jnp.sum(jnp.matmul(jax.scipy.linalg.expm(weight), y0))
    with jax.numpy_dtype_promotion("standard"):
        expected = jax.grad(closed)(weight)
    np.testing.assert_allclose(gradient, expected, rtol=1e-7)


@pytest.mark.slow
def test_gradient_by_the_end_of_the_span():
    def run(t1):
        return solve(ODEProblem(decay, 3.0, 0.0, t1, 0.7), **TIGHT).ys[-1]

    gradient = jax.grad(run)(jnp.array(2.0))
    np.testing.assert_allclose(gradient, -0.7 * 3 * np.exp(-1.4), rtol=1e-6)


def test_a_failure_inside_jit_surfaces_when_it_runs():
    @jax.jit
    def run(y0):
        problem = ODEProblem(lambda t, y, a: -y, y0, 0.0, 100.0)
        return solve(problem, max_steps=3).ys

    with pytest.raises(RuntimeError, match=r"ran out of steps"):
        run(jnp.array(1.0)).block_until_ready()


def test_failures_inside_vmap_are_told_apart():
    def run(y0):
        problem = ODEProblem(lambda t, y, a: y**2, y0, 0.0, 2.0)
        solution = solve(problem, dt=0.01, throw=False)
        return solution.succeeded, solution.outcome == Outcome.unstable

    # 1 / (1/y0 - t) blows up at t = 1 / y0.
    succeeded, unstable = jax.vmap(run)(jnp.array([0.1, 1.0]))
    assert succeeded.tolist() == [True, False]
    assert unstable.tolist() == [False, True]


def test_a_failure_under_grad_alone_is_a_solve_error():
    def run(y0):
        return solve(ODEProblem(decay, y0, 0.0, 100.0, 1.0), max_steps=3).ys[-1]

    with pytest.raises((SolveError, RuntimeError), match=r"ran out of steps"):
        jax.grad(run)(1.0)


class Counter:
    """Counts traces of a decaying field. Compared by identity, as functions are."""

    def __init__(self):
        self.traces = 0

    def __call__(self, t, y, rate):
        self.traces += 1
        return -rate * y


@pytest.mark.slow
def test_one_compilation_serves_all_values():
    field = Counter()
    event = Event(lambda t, y, rate: y - 0.01)

    def run(y0, t1, rate, **options):
        problem = ODEProblem(field, y0, 0.0, t1, jnp.array(rate))
        if "steps" in options:
            # A scan is a program for its number of steps.
            options["dt"] = t1 / options.pop("steps")
        traced = field.traces
        solution = solve(problem, **options)
        return field.traces - traced, solution

    cases = [
        {"rtol": 1e-6},
        {"solver": "Kvaerno3", "saveat": [0.5, 1.0]},
        {"saveat": "steps", "event": event},
        {"solver": "Bosh3", "steps": 20},
    ]
    for options in cases:
        first, _ = run(1.0, 2.0, 0.5, **options)
        assert first > 0
        adaptive = "steps" not in options
        for change in ({"rtol": 1e-4}, {"atol": 1e-5}) if adaptive else ():
            again, _ = run(2.0, 3.0, 0.7, **(options | change))
            assert again == 0
        again, solution = run(3.0, 2.5, 0.9, **options)
        assert again == 0
        assert solution.succeeded


def test_diffrax_objects_do_not_recompile_either():
    field = Counter()
    problem = ODEProblem(field, 1.0, 0.0, 2.0, jnp.array(0.5))

    def run(dtmax):
        controller = diffrax.PIDController(
            rtol=np.float64(1e-6), atol=np.float64(1e-6), dtmax=np.float64(dtmax)
        )
        traced = field.traces
        solve(problem, solver=diffrax.Bosh3(), stepsize_controller=controller)
        return field.traces - traced

    assert run(0.1) > 0
    assert run(0.2) == 0


def test_the_backend_lists_its_solvers():
    names = solver_names("diffrax")
    assert "Tsit5" in names
    assert "Rodas5P" not in names
    assert list(names) == sorted(names, key=str.casefold)
