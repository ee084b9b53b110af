"""Steps of schemes with tangent vectors, against Diffrax's of the tangent flow."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from hybrid_nds import SDEProblem, StoredPath, solve
from hybrid_nds.problems import SCHEMES, tangent_problem, tangent_step


class Drift(eqx.Module):
    mlp: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.mlp(y) * args["strength"] - y + jnp.sin(t)


class Diffusion(eqx.Module):
    noise: str = eqx.field(static=True)

    def __call__(self, t, y, args):
        if self.noise in ("general", "commutative"):
            return jnp.stack([0.3 * y, jnp.cos(y)], axis=-1)
        if self.noise == "additive":
            return 0.4 * jnp.ones_like(y) * (1 + t)
        return 0.3 * jnp.cos(y)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("noise", ["scalar", "diagonal", "additive", "general"])
def test_a_step_is_that_of_the_tangent_equation(scheme, noise):
    key = jr.key(3)
    drift = Drift(eqx.nn.MLP(3, 3, 8, 1, activation=jnp.tanh, key=key))
    problem = SDEProblem(
        drift,
        Diffusion(noise),
        jnp.array([0.5, -1.0, 0.2]),
        0.25,
        0.35,
        {"strength": jnp.array(1.5)},
        noise=noise,
        interpretation="ito" if scheme == "Euler" else "stratonovich",
    )
    directions = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 2)))[0]
    m = problem.noise_dimension
    w = 0.3 * jnp.arange(1.0, 1 + m)
    path = StoredPath(w[None], t0=0.25, t1=0.35)
    expected = solve(tangent_problem(problem, directions), solver=scheme, path=path).ys
    step, _, _ = tangent_step(problem, scheme, 2)
    given = jnp.concatenate([jnp.array([0.1]), w])
    found = step(problem.t0, (problem.y0, jnp.asarray(directions.T)), given)
    # Sums in another order.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b[-1], rtol=1e-13, atol=1e-14),
        found,
        tuple(expected),
    )
