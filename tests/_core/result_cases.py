"""A solution and an ensemble that several modules look at."""

import functools

import jax.numpy as jnp
import jax.random as jr

from hybrid_nds import ODEProblem, SDEProblem, ensemble, solve


@functools.cache
def a_solution():
    problem = ODEProblem(
        lambda t, y, args: {"x": y["v"][0], "v": -y["x"] * jnp.ones(2)},
        {"x": jnp.ones(()), "v": jnp.zeros(2)},
        0.0,
        1.0,
    )
    return solve(problem, saveat=jnp.linspace(0, 1, 7))


@functools.cache
def an_ensemble(**options):
    problem = SDEProblem(
        lambda t, y, args: -y,
        lambda t, y, args: 0.3 * jnp.ones(2),
        jnp.array([1.0, -1.0]),
        0.0,
        1.0,
        noise="additive",
    )
    chosen = {"key": jr.key(0), "dt": 0.25, "solver": "Euler"}
    return ensemble(problem, 40, saveat=jnp.linspace(0, 1, 5), **chosen, **options)
