"""Every tool where JAX refuses to promote dtypes and ranks by itself."""

import jax.numpy as jnp
import numpy as np
import pytest
import rescaled_tools

from hybrid_nds import ODEProblem, measures, stability

ONE = rescaled_tools.ONE


def leaves_of_a_field(dtype):
    field = lambda t, y, a: jnp.stack([y[1], -jnp.sin(y[0]) - y[1] / 8])
    return ODEProblem(field, jnp.asarray([0.5, 0.0], dtype), 0.0, 4.0)


def spectrum(dtype):
    found = stability.jacobian_spectrum(leaves_of_a_field(dtype), jnp.zeros(2, dtype))
    # λ² + λ/8 + 1 = 0.
    exact = np.roots([1, 1 / 8, 1])
    np.testing.assert_allclose(
        np.sort_complex(found.eigenvalues),
        np.sort_complex(exact),
        rtol=8 * float(jnp.finfo(dtype).eps),
    )


def contraction(dtype):
    problem = leaves_of_a_field(dtype)
    found = stability.contraction_rate(problem, (-1.0, 1.0), samples=4, refine=1)
    # The symmetric part is [[0, (1 − cos)/2], [·, −1/8]], largest where cos is least.
    off = (1 - np.cos(1)) / 2
    largest = np.linalg.eigvalsh([[0, off], [off, -1 / 8]])[-1]
    assert 0 <= found.rate <= largest + 8 * float(jnp.finfo(dtype).eps)


def stiff(dtype):
    rates = jnp.asarray([-1.0, -64.0], dtype)
    problem = ODEProblem(lambda t, y, a: rates * y, jnp.ones(2, dtype), 0.0, 1.0)
    assert stability.stiffness(problem).ratio == pytest.approx(64)


def branch(dtype):
    def of(p):
        return ODEProblem(lambda t, y, a: a - y, jnp.ones(1, dtype), 0.0, 1.0, p)

    found = stability.continue_equilibria(of, 1.0, (0.5, 1.5))
    off = found.points[:, 0] - found.parameters
    assert np.max(np.abs(off)) <= 64 * float(jnp.finfo(dtype).eps)


def density(dtype):
    problem = rescaled_tools.stochastic(
        rescaled_tools.unit_noise, [0.0], 1.0, ONE, dtype
    )
    found = stability.fokker_planck(problem, (-4.0, 4.0), cells=200)
    # The rate of Ornstein and Uhlenbeck's process; boundaries at 4 take e⁻¹⁶ of it, and
    # cells of 1/25 their square.
    assert found.gap == pytest.approx(1, abs=2 / 25**2)


def distances(dtype):
    x = jnp.asarray(np.linspace(0, 1, 32)[:, None], dtype)
    found = measures.wasserstein(x, x + jnp.asarray(0.5, dtype))
    assert float(found.value) == pytest.approx(0.5)
    assert measures.compare_laws(x, x).same


OTHERS = (spectrum, contraction, stiff, branch, density, distances)
# What takes little to compile.
QUICK = {"spectrum", "branch", "contraction", "distances", "sampled_growth"}
CASES = [
    pytest.param(
        tool,
        np.dtype(name),
        marks=[] if tool.__name__ in QUICK else [pytest.mark.slow],
        id=f"{tool.__name__}-{name}",
    )
    for tool in (*OTHERS, *rescaled_tools.TOOLS)
    for name in ("float64", "float32")
]


@pytest.mark.parametrize(("tool", "dtype"), CASES)
@pytest.mark.usefixtures("strict_promotion")
def test_nothing_is_promoted_by_itself(tool, dtype):
    """The tools of the units, `fit`, `reconcile` and what has no place there; that
    their numbers are right is asked there, or here."""
    if tool in OTHERS:
        tool(dtype)
        return
    numbers = [np.asarray(x) for x in rescaled_tools.leaves(tool(ONE, dtype))]
    assert numbers
    assert all(np.all(np.isfinite(x)) for x in numbers)
