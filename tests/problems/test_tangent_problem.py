"""The variational flow against differences of solutions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import hybrid_nds
from hybrid_nds import ODEProblem, SDEProblem, StoredPath
from hybrid_nds.problems import tangent_problem

_STATE = {"x": np.array([1.0, 2.0]), "y": np.array(0.5)}


def _drift(t, y, args):
    return {"x": -y["x"] * y["y"], "y": args * jnp.sin(y["x"][0]) - y["y"] ** 3}


_DIFFUSIONS = {
    "scalar": lambda t, y, a: {"x": jnp.sin(y["x"]), "y": y["y"] * y["x"][0]},
    "diagonal": lambda t, y, a: {"x": jnp.sin(y["x"]), "y": y["y"] ** 2},
    "additive": lambda t, y, a: {"x": jnp.array([0.3, 0.1]), "y": jnp.array(0.7)},
    "general": lambda t, y, a: {
        "x": jnp.stack([y["x"], jnp.sin(y["x"] * y["y"])], -1),
        "y": jnp.stack([y["x"][0], y["y"]]),
    },
}


def _differences(problem, directions, **options):
    """The derivative of the end state along directions, by central differences."""
    start, unravel = ravel_pytree(problem.y0)

    def end(u):
        moved = eqx.tree_at(lambda p: p.y0, problem, unravel(u))
        return np.asarray(ravel_pytree(hybrid_nds.solve(moved, **options).ys)[0])

    return np.stack(
        [(end(start + 1e-5 * v) - end(start - 1e-5 * v)) / 2e-5 for v in directions.T]
    )


@pytest.mark.parametrize("noise", _DIFFUSIONS)
def test_tangents_move_by_the_jacobians_of_drift_and_diffusion(noise):
    """dV = Df V dt + Σ_j Dg_j V dW_j, on flat states, with Jacobians by columns."""
    problem = SDEProblem(
        _drift, _DIFFUSIONS[noise], _STATE, 0.0, 1.0, np.array(0.8), noise=noise
    )
    directions = np.random.default_rng(0).standard_normal((3, 2))
    tangent = tangent_problem(problem, directions)
    expected_noise = {"diagonal": "commutative"}.get(noise, noise)
    assert (tangent.noise, tangent.interpretation) == (expected_noise, "ito")
    assert tangent.noise_dimension == problem.noise_dimension
    u = ravel_pytree(problem.y0)[0]
    y, v = tangent.drift(0.0, tangent.y0, tangent.args)
    np.testing.assert_allclose(ravel_pytree(y)[0], problem.flat_drift()(0.0, u))
    jacobian = jax.jacfwd(problem.flat_drift(), 1)(0.0, u)
    np.testing.assert_allclose(v, (jacobian @ directions).T, rtol=1e-13, atol=1e-14)
    # Each Brownian motion's column of the diffusion, and its Jacobian.
    g, dg = problem.flat_diffusion(), jax.jacfwd(problem.flat_diffusion(), 1)(0.0, u)
    columns = g(0.0, u)
    if noise in ("diagonal", "additive"):
        columns, dg = jnp.diag(columns), jax.vmap(jnp.diag, 1, 2)(dg)
    found = tangent.flat_diffusion()(0.0, ravel_pytree(tangent.y0)[0])
    moved = jnp.einsum("n...l,lk->kn...", dg, directions)
    np.testing.assert_allclose(found[:3], columns, rtol=1e-13)
    np.testing.assert_allclose(
        found[3:], moved.reshape(6, *moved.shape[2:]), rtol=1e-13, atol=1e-14
    )


def test_tangents_are_derivatives_of_the_solution():
    """On one path, step by step: the tangent of a one-step method is the method of the
    tangent."""
    problem = SDEProblem(
        _drift, _DIFFUSIONS["diagonal"], _STATE, 0.0, 1.0, np.array(0.8)
    )
    directions = np.random.default_rng(0).standard_normal((3, 2))
    tangent = tangent_problem(problem, directions)
    increments = np.random.default_rng(1).standard_normal((64, 3)) / 8
    path = StoredPath(increments, t0=0.0, t1=1.0)
    expected = _differences(problem, directions, path=path)
    found = np.asarray(hybrid_nds.solve(tangent, path=path).ys[1][0])
    # Differences are off by round-off, 1e-16/1e-5, and third derivatives times 1e-10.
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-8)


def test_tangents_of_an_ordinary_problem():
    problem = ODEProblem(_drift, _STATE, 0.0, 1.0, np.array(0.8))
    directions = np.random.default_rng(0).standard_normal((3, 2))
    tangent = tangent_problem(problem, directions)
    u, unravel = ravel_pytree(problem.y0)
    flat = lambda u: ravel_pytree(_drift(0.0, unravel(u), 0.8))[0]
    _, found = tangent.field(0.0, tangent.y0, tangent.args)
    expected = (jax.jacfwd(flat)(u) @ directions).T
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("directions", "match"),
    [
        (np.eye(2), r"must have shape \(3, k\)"),
        (np.ones((3, 0)), r"must have shape \(3, k\)"),
        (np.full((3, 1), np.nan), "must be finite"),
    ],
)
def test_directions_that_are_refused(directions, match):
    problem = ODEProblem(_drift, _STATE, 0.0, 1.0, np.array(0.8))
    with pytest.raises(ValueError, match=match):
        tangent_problem(problem, directions)
