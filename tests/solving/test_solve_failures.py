"""A solve that cannot go on says so within a few steps, says why, and says where."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem, SDEProblem, SolveError, solve

# Any solver and kind of steps; the julia backend where there is one.
SOLVERS = [("Tsit5", None), ("Kvaerno5", None), ("Dopri8", None), ("Tsit5", 1 / 64)]
BACKENDS = ["diffrax", pytest.param("julia", marks=pytest.mark.julia)]


def failure(problem, backend="diffrax", **options):
    with pytest.raises(SolveError) as caught:
        solve(problem, backend, **options)
    return caught.value, str(caught.value)


def options_of(solver, dt):
    return {"solver": solver} if dt is None else {"solver": solver, "dt": dt}


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "julia":
        request.getfixturevalue("julia")
    return request.param


@pytest.mark.parametrize(("solver", "dt"), SOLVERS[:2])
@pytest.mark.parametrize("tau", [1.0, 1e-9, 1e6])
def test_a_field_that_leaves_its_domain(backend, solver, dt, tau):
    # y' = −√y from 1 is (1 − t/2)², and there is no solution beyond t = 2.
    problem = ODEProblem(
        lambda t, y, a: -jnp.sqrt(y) / a, jnp.ones(1), 0.0, 3 * tau, jnp.array(tau)
    )
    if backend == "julia" and solver == "Kvaerno5":
        solver = "Rodas5P"
    error, text = failure(problem, backend, solver=solver)
    assert error.solution.outcome_name == "unstable"
    # Near rest, tolerances of 1e-6 leave √1e-6 of the time open.
    np.testing.assert_allclose(error.solution.end_time / tau, 2.0, atol=1e-2)
    assert int(error.solution.stats["num_steps"]) < 1000
    assert "field is not finite at t" in text
    assert "stiff" not in text


@pytest.mark.parametrize("solver", ["Tsit5", "Kvaerno5"])
@pytest.mark.parametrize("tau", [1.0, 1e-9])
def test_a_solution_that_blows_up(backend, solver, tau):
    # y' = y² from 1 is 1/(1 − t).
    problem = ODEProblem(
        lambda t, y, a: y**2 / a, jnp.ones(1), 0.0, 2 * tau, jnp.array(tau)
    )
    if backend == "julia" and solver == "Kvaerno5":
        solver = "Rodas5P"
    error, text = failure(problem, backend, solver=solver)
    assert error.solution.outcome_name == "unstable"
    np.testing.assert_allclose(error.solution.end_time / tau, 1.0, atol=1e-4)
    assert int(error.solution.stats["num_steps"]) < 1000
    assert "blows up" in text
    assert "stiff" not in text


@pytest.mark.parametrize("dt", [1 / 64, 1 / 8])
def test_implicit_fixed_steps_across_a_blow_up(backend, dt):
    """Of z = y + dt z² there is no solution where 4 y dt > 1: there the solve stops."""
    problem = ODEProblem(lambda t, y, a: y**2, jnp.ones(1), 0.0, 2.0)
    error, text = failure(problem, backend, solver="ImplicitEuler", dt=dt)
    assert error.solution.outcome_name == "nonlinear_solve_failed"
    states = [1.0]
    while 4 * states[-1] * dt <= 1:
        states.append((1 - np.sqrt(1 - 4 * states[-1] * dt)) / (2 * dt))
    # Near the end the two roots are close, and Newton's method is slow.
    steps = round(float(error.solution.end_time) / dt)
    assert steps in (len(states) - 1, len(states) - 2)
    y = states[steps]
    assert f"the largest component was {y:.3g}" in text
    # Of a step of Euler's, y (1 + y dt), whose speed is its square.
    assert f"its speed grows {(1 + y * dt) ** 2:.3g} times in a step" in text
    assert "blows up" in text
    assert "stiff" not in text


def test_a_stage_that_fails_elsewhere_is_not_called_a_blow_up():
    """z = 1 − dt·sign(z) has no solution at z = 0 either, and nothing grows."""
    problem = ODEProblem(lambda t, y, a: -jnp.sign(y), jnp.ones(1), 0.0, 2.0)
    error, text = failure(problem, solver="ImplicitEuler", dt=0.3)
    assert error.solution.outcome_name == "nonlinear_solve_failed"
    assert "blows up" not in text


def test_fixed_steps_name_the_time_of_the_first_bad_state():
    problem = ODEProblem(lambda t, y, a: y**2, jnp.ones(1), 0.0, 2.0)
    error, text = failure(problem, solver="Tsit5", dt=1 / 64)
    assert error.solution.outcome_name == "unstable"
    # Past t = 1 by the steps that overflow a double.
    assert 1.0 < float(error.solution.end_time) < 1.2
    assert f"at t = {float(error.solution.end_time):.9g}" in text


class Controlled(eqx.Module):
    """y' = c(t) − y with a control of some samples, one of which is missing."""

    samples: jax.Array

    def __call__(self, t, y, args):
        return jnp.interp(t, jnp.linspace(0, 1, 5), self.samples) - y


@pytest.mark.parametrize(("solver", "dt"), SOLVERS)
def test_missing_data_are_named(solver, dt):
    samples = jnp.array([0.0, 1.0, jnp.nan, 1.0, 0.0])
    problem = ODEProblem(Controlled(samples), jnp.zeros(1), 0.0, 1.0)
    error, text = failure(problem, **options_of(solver, dt))
    assert "`field.samples` holds 1 of 5 values that are not finite" in text
    assert "[2]" in text
    assert "data" in text
    assert error.solution.outcome_name == "unstable"


def test_missing_data_in_args_are_named():
    problem = ODEProblem(
        lambda t, y, a: a["gain"] * y, jnp.ones(1), 0.0, 1.0, {"gain": jnp.nan}
    )
    error, text = failure(problem)
    assert "`args['gain']` holds 1 of 1" in text
    assert int(error.solution.stats["num_steps"]) <= 30


def test_a_trial_step_into_infinity_is_taken_back():
    # A first step of the whole span overflows; Diffrax's own control ends there.
    problem = ODEProblem(lambda t, y, a: -(y**3), jnp.array([1e3]), 0.0, 1.0)
    found = float(solve(problem, solver="Tsit5", rtol=1e-8, dt=1.0).ys[-1, 0])
    np.testing.assert_allclose(found, 1e3 / np.sqrt(1 + 2e6), rtol=1e-6)


def test_outcomes_under_transformations():
    def outcome(start):
        problem = ODEProblem(lambda t, y, a: y**2, start, 0.0, 2.0)
        solution = solve(problem, throw=False)
        return solution.succeeded, solution.end_time

    succeeded, ends = jax.jit(jax.vmap(outcome))(jnp.array([[0.25], [1.0]]))
    assert succeeded.tolist() == [True, False]
    np.testing.assert_allclose(ends, [2.0, 1.0], atol=1e-4)


def test_fixed_steps_name_the_component_of_a_tree(backend):
    def field(t, y, args):
        return {"u": -y["u"], "v": jnp.where(t > 0.5, jnp.nan, 1.0) * y["v"]}

    y0 = {"u": jnp.ones(1), "v": jnp.ones(2)}
    problem = ODEProblem(field, y0, 0.0, 1.0)
    _, text = failure(problem, backend, solver="Tsit5", dt=0.01)
    assert "field is not finite at t" in text
    assert "component ['v'][0] is nan" in text
    assert "stiff" not in text
    assert "tolerances" not in text


def test_a_diffusion_that_leaves_its_domain_is_named():
    problem = SDEProblem(
        lambda t, y, a: -y, lambda t, y, a: jnp.sqrt(y), jnp.ones(1), 0.0, 20.0,
        noise="diagonal",
    )  # fmt: skip
    _, text = failure(problem, solver="Euler", dt=0.05, key=jax.random.key(0))
    assert "The diffusion is not finite at t" in text


@pytest.mark.parametrize("solver", ["Euler", "Heun", "Tsit5"])
@pytest.mark.parametrize("step", [0, 3, 7])
def test_the_last_fixed_step_is_checked_as_the_others_are(backend, solver, step):
    # Eight steps, beyond the start of one of which the field is NaN.
    first = step / 8
    field = lambda t, y, a: jnp.where(t > first + 0.05, jnp.nan, -1.0) * y
    problem = ODEProblem(field, jnp.ones(1), 0.0, 1.0)
    options = {"solver": solver, "dt": 1 / 8}
    if solver == "Euler" and step == 7:
        # The field at the end of the last step is not asked for.
        np.testing.assert_allclose(
            solve(problem, backend, **options).end_state, (7 / 8) ** 8, rtol=1e-14
        )
        return
    error, _ = failure(problem, backend, **options)
    assert error.solution.outcome_name == "unstable"
