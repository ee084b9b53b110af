"""Stochastic problems on Diffrax: schemes against plain loops, transformations by JAX,
error control, failures."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from sde_cases import (
    EPS,
    ROUND_OFF,
    STEPS,
    TREE,
    VECTOR,
    Decay,
    componentwise,
    constant,
    matrix,
    plain,
    stored,
)

import hybrid_nds
from hybrid_nds import BrownianPath, Outcome, SDEProblem, SolveError, StoredPath, solve


@pytest.mark.parametrize(
    ("solver", "noise", "diffusion", "y0"),
    [
        ("Euler", "diagonal", componentwise, TREE),
        ("Euler", "scalar", componentwise, TREE),
        ("euler", "general", matrix, VECTOR),
        ("EM", "general", matrix, TREE),
        ("Heun", "diagonal", componentwise, VECTOR),
        ("SRA1", "additive", constant, TREE),
    ],
)
def test_schemes(solver, noise, diffusion, y0):
    name = {"euler": "Euler", "EM": "Euler"}.get(solver, solver)
    problem = SDEProblem(
        Decay(),
        diffusion,
        y0,
        0.0,
        1.0,
        noise=noise,
        interpretation="stratonovich" if name == "Heun" else "ito",
    )
    path = stored(problem.noise_dimension)
    solution = solve(problem, solver=solver, path=path)
    expected = plain(problem, path, name)
    assert solution.outcome_name == "success"
    assert int(solution.stats["num_steps"]) == STEPS
    assert solution.provenance.solver == name
    assert solution.provenance.dt == 1 / STEPS
    assert jtu.tree_structure(solution.end_state) == jtu.tree_structure(problem.y0)
    found = ravel_pytree(solution.end_state)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUND_OFF)


@pytest.mark.slow
def test_path_of_a_key():
    """A key stands for its path, with the area that the solver needs; and every step
    of its grid is saved where asked for."""
    problem = SDEProblem(Decay(), constant, VECTOR, 0.0, 1.0, noise="additive")
    key = jax.random.key(3)
    solution = solve(problem, solver="SRA1", key=key, dt=1 / STEPS, saveat="steps")
    path = BrownianPath(key, 2, 0.0, 1.0, 1 / STEPS, "space-time")
    expected = plain(problem, path, "SRA1")
    np.testing.assert_allclose(solution.ys[-1], expected, rtol=0, atol=ROUND_OFF)
    np.testing.assert_array_equal(solution.ts, np.linspace(0, 1, STEPS + 1))
    np.testing.assert_array_equal(solution.ys[0], VECTOR)


RATE, VOLATILITY = 0.4, 0.6


def geometric():
    return SDEProblem(
        lambda t, y, a: RATE * y, lambda t, y, a: VOLATILITY * y, np.ones(1), 0.0, 1.0
    )


@pytest.mark.parametrize("adjoint", ["recursive_checkpoint", "forward"])
def test_gradient(adjoint):
    """Of Euler's product Π (1 + μ h + σ dW) to σ in closed form, forward and back."""
    path = stored(1)

    def end(volatility):
        problem = SDEProblem(
            lambda t, y, a: RATE * y,
            lambda t, y, a: a * y,
            jnp.ones(1),
            0.0,
            1.0,
            volatility,
        )
        return solve(problem, solver="Euler", path=path, adjoint=adjoint).ys[-1, 0]

    transform = jax.jacfwd if adjoint == "forward" else jax.grad
    slope = jax.jit(transform(end))(VOLATILITY)
    dw = np.asarray(path.dW)[:, 0]
    factors = 1 + RATE / STEPS + VOLATILITY * dw
    expected = np.prod(factors) * np.sum(dw / factors)
    np.testing.assert_allclose(slope, expected, rtol=12 * STEPS * EPS)


@pytest.mark.slow
def test_gradient_by_a_backward_solve():
    """Of exp(a (W/2 - 1)), which solves dy = -a y dt + (a/2) y ∘ dW, to a; the error
    of Heun's method is of order one, with a constant below one."""
    steps = 64
    path = BrownianPath(jax.random.key(0), 1, 0.0, 1.0, 1 / steps)

    def end(rate):
        problem = SDEProblem(
            lambda t, y, a: -a * y,
            lambda t, y, a: 0.5 * a * y,
            jnp.ones(1),
            0.0,
            1.0,
            rate,
            interpretation="stratonovich",
        )
        return solve(problem, solver="Heun", path=path, adjoint="backsolve").ys[-1, 0]

    exponent = float(path.evaluate(1.0)[0]) / 2 - 1
    expected = exponent * np.exp(0.7 * exponent)
    np.testing.assert_allclose(jax.grad(end)(0.7), expected, rtol=1 / steps)


@pytest.mark.slow
def test_key_inside_a_compiled_function():
    """The problem made inside, and the path from a traced key; saved on the grid."""
    times = np.array([0.25, 1.0])

    @jax.jit
    @jax.vmap
    def states(key):
        return solve(geometric(), solver="Euler", key=key, dt=0.125, saveat=times).ys

    keys = jax.random.split(jax.random.key(4), 2)
    found = states(keys)
    assert found.shape == (2, 2, 1)
    for i in range(2):
        path = BrownianPath(keys[i], 1, 0.0, 1.0, 0.125)
        dw = np.asarray(path.increments()[0])
        products = np.cumprod(1 + RATE * 0.125 + VOLATILITY * dw, axis=0)
        # Diffrax interpolates at the end of a step, which rounds once more.
        np.testing.assert_allclose(found[i], products[[1, 7]], rtol=32 * EPS)


def test_problem_as_an_argument():
    path = stored(1)
    compiled = eqx.filter_jit(lambda p, w: solve(p, solver="Euler", path=w).ys[-1])
    problem = geometric()
    expected = plain(problem, path, "Euler")
    np.testing.assert_allclose(compiled(problem, path), expected, rtol=32 * EPS)
    with pytest.raises(TypeError, match=r"`key` needs a problem .* concrete"):
        eqx.filter_jit(lambda p: solve(p, key=jax.random.key(0), dt=0.25))(problem)


def test_single_precision():
    problem = SDEProblem(
        Decay(), componentwise, VECTOR.astype(np.float32), 0.0, 1.0, noise="scalar"
    )
    path = stored(1, np.float32)
    solution = solve(problem, solver="Euler", path=path, dt=1 / STEPS)
    assert solution.ys.dtype == jnp.float32
    expected = plain(problem, path, "Euler")
    tolerance = 12 * STEPS * np.finfo(np.float32).eps
    np.testing.assert_allclose(solution.ys[-1], expected, rtol=0, atol=tolerance)


def exploding():
    return SDEProblem(
        lambda t, y, a: y**3, lambda t, y, a: 0.1 * y, np.full(2, 3.0), 0.0, 2.0
    )


@pytest.mark.slow
def test_states_that_are_not_finite():
    """With h = 1/4, y + h y³ + 0.1 y dW overflows after a handful of steps; a plain
    loop says after how many."""
    problem = exploding()
    dw = np.random.default_rng(0).normal(size=(8, 2)) / 2
    path = StoredPath(dw, t0=0.0, t1=2.0)
    states = [np.full(2, 3.0)]
    with np.errstate(over="ignore", invalid="ignore"):
        for step in dw:
            y = states[-1]
            states.append(y + 0.25 * y**3 + 0.1 * y * step)
    first = next(i for i, y in enumerate(states) if not np.all(np.isfinite(y)))
    assert 1 < first < 8
    solution = solve(problem, solver="Euler", path=path, saveat=path.times, throw=False)
    assert solution.outcome == Outcome.unstable
    assert float(solution.end_time) == 0.25 * first
    assert not np.all(np.isfinite(solution.end_state))
    assert f"after step {first}, at t = {0.25 * first}" in solution.message
    assert len(solution.ts) == first + 1
    np.testing.assert_allclose(solution.ys[1], states[1], rtol=32 * EPS)
    with pytest.raises(SolveError, match=f"after step {first}, .*shorter steps"):
        solve(problem, solver="Euler", path=path)


def test_too_few_steps():
    with pytest.raises(SolveError, match="max_steps_reached"):
        solve(geometric(), key=jax.random.key(0), dt=0.125, max_steps=4)


@pytest.mark.slow
def test_adaptive_steps():
    """With tolerances the steps follow the error, end at the saved times, and the
    error at the end falls with the tolerance."""
    problem = hybrid_nds.to_stratonovich(geometric())
    key = jax.random.key(11)
    path = BrownianPath(key, 1, 0.0, 1.0, 2.0**-14, "space-time")
    w = float(path.evaluate(1.0)[0])
    exact = np.exp(RATE - VOLATILITY**2 / 2 + VOLATILITY * w)
    times = np.array([0.3, 1.0])
    errors, steps = [], []
    for rtol in (1e-2, 1e-4):
        solution = solve(
            problem, solver="SPaRK", path=path, rtol=rtol, atol=rtol, saveat=times
        )
        assert solution.succeeded
        np.testing.assert_array_equal(solution.ts, times)
        errors.append(abs(float(solution.ys[-1, 0]) - exact))
        steps.append(int(solution.stats["num_steps"]))
    assert steps[1] > 2 * steps[0]
    # Ten errors of the tolerance's size.
    assert errors[0] < 1e-1
    assert errors[1] < 1e-3
