"""A path has the span of its problem, where times are traced as well."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from hybrid_nds import BrownianPath, NativePath, SDEProblem, StoredPath, solve

STEPS = 32


def minus(t, y, args):
    return -y


def paths():
    tree = BrownianPath(jr.key(0), 1, 0.0, 1.0, 1 / STEPS)
    stored = StoredPath(tree.increments()[0], t0=0.0, t1=1.0)
    return {
        "tree": tree,
        "native": NativePath(jr.key(0), 1, 0.0, 1.0, STEPS),
        "stored": stored,
    }


@pytest.mark.parametrize("which", ["tree", "native", "stored"])
@pytest.mark.parametrize(
    "stack", ["diffrax", pytest.param("julia", marks=pytest.mark.julia)]
)
def test_a_path_of_another_span_is_refused(which, stack, request):
    if stack == "julia":
        request.getfixturevalue("julia")
    path = paths()[which]

    def end(t0, t1):
        problem = SDEProblem(minus, minus, jnp.ones(1), t0, t1, noise="diagonal")
        solver = "Euler" if stack == "diffrax" else "EM"
        return solve(problem, stack, solver=solver, path=path).ys[-1]

    traced = eqx.filter_jit(end)
    # Compiled together with what makes the noise: 32 steps' round-off.
    found = traced(jnp.array(0.0), jnp.array(1.0))
    np.testing.assert_allclose(found, end(0.0, 1.0), rtol=32 * 4e-16)
    for t0, t1 in ((0.0, 0.5), (0.5, 1.0), (0.0, 2.0)):
        with pytest.raises(ValueError, match="must have the span of `problem`"):
            end(t0, t1)
        with pytest.raises(Exception, match="must have the span of `problem`"):
            traced(jnp.array(t0), jnp.array(t1))
