"""Depth, width and numbers of particles against limits known in closed form."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from hybrid_nds import ODEProblem, SDEProblem
from hybrid_nds.discretization import (
    depth_scaling,
    propagation_of_chaos,
    width_scaling,
)

WEIGHTS = np.random.default_rng(1).standard_normal((2, 8, 8)) / np.sqrt(8)
START = jnp.asarray(np.random.default_rng(2).standard_normal(8))


def layer(t, x):
    """Weights that are smooth in depth."""
    return (WEIGHTS[0] + jnp.sin(3 * t) * WEIGHTS[1]) @ jnp.tanh(x)


@jax.jit
def euler_step(t, h, x):
    return x + h * layer(t, x)


@jax.jit
def heun_step(t, h, x):
    first = layer(t, x)
    return x + h / 2 * (first + layer(t + h, x + h * first))


def residual(step):
    def network(depth):
        def body(i, x):
            return step(i / depth, 1 / depth, x)

        return jax.lax.fori_loop(0, depth, body, START)

    return network


@pytest.mark.parametrize(("step", "slope"), [(euler_step, -1), (heun_step, -2)])
def test_smooth_residual_networks_tend_to_their_equation(step, slope):
    problem = ODEProblem(lambda t, x, args: layer(t, x), START, 0.0, 1.0)
    found = depth_scaling(residual(step), problem)
    # Errors have an expansion in 1/L, whose next term is 1/8 of the first at most at
    # L = 8 and bends the slope by some hundredths.
    assert abs(found.slope - slope) < 0.05 * abs(slope)
    assert found.low <= found.slope <= found.high
    assert found.draws == 1


def random_network(depth, key):
    """Layers of independent weights of mean zero, at scale 1/L."""
    weights = jr.normal(key, (depth, 8, 8)) / np.sqrt(8)

    def body(x, w):
        return x + w @ jnp.tanh(x) / depth, None

    return jax.lax.scan(body, START, weights)[0]


@pytest.mark.slow
def test_independent_weights_at_this_scale_average_away():
    found = depth_scaling(
        random_network, START, depths=(8, 32, 128, 512), draws=64, key=jr.key(3)
    )
    # A sum of L independent terms of size 1/L: L^{−1/2}.
    assert found.low < -0.5 < found.high
    assert found.high - found.low < 0.1


@pytest.mark.slow
def test_norms_of_random_layers_grow_as_powers():
    # h ← h + L^{−1/2}Wh with W_ij ~ N(0, 1/d): E‖h_L‖² = (1 + 1/L)^L for ‖h₀‖ = 1, the
    # mean of the squared distance to zero.
    d = 8

    def network(depth, key):
        weights = jr.normal(key, (depth, d, d)) / np.sqrt(d)
        start = jnp.zeros(d).at[0].set(1.0)
        step = lambda h, w: (h + w @ h / np.sqrt(depth), None)
        return jax.lax.scan(step, start, weights)[0]

    found = depth_scaling(
        network, np.zeros(d), depths=(4, 8, 16), draws=4000, key=jr.key(4)
    )
    exact = np.sqrt((1 + 1 / found.sizes) ** found.sizes)
    assert np.all(np.abs(found.errors - exact) < 4 * found.standard_errors)


def test_the_mean_of_neurons_has_the_slope_of_the_law_of_large_numbers():
    # Mean of v tanh(vx) over v ~ N(0, 1), by Gauss–Hermite quadrature.
    x = 0.7
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    exact = weights @ (nodes * np.tanh(nodes * x)) / np.sqrt(2 * np.pi)

    def network(width, key):
        v = jr.normal(key, (width,))
        return jnp.mean(v * jnp.tanh(v * x))

    found = width_scaling(network, exact, draws=256, key=jr.key(5))
    assert found.low < -0.5 < found.high
    # Each error is the standard deviation of one neuron over √N.
    variance = weights @ (nodes * np.tanh(nodes * x)) ** 2 / np.sqrt(2 * np.pi)
    expected = np.sqrt((variance - exact**2) / found.sizes)
    assert np.all(np.abs(found.errors - expected) < 4 * found.standard_errors)


@pytest.mark.parametrize("hidden", [1, None])
def test_residual_networks_of_random_neurons(hidden):
    # x ← x + (LM)^{−1} Σ u tanh(vx), v ~ N(0,1), u = v + N(0,1): with one neuron a
    # layer the noise of the draws, L^{−1/2}; with all of them Euler's error, L^{−1}.
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    nodes, weights = jnp.asarray(nodes), jnp.asarray(weights / np.sqrt(2 * np.pi))

    def mean_field(x):
        return weights @ (nodes * jnp.tanh(nodes * x))

    problem = ODEProblem(lambda t, x, args: mean_field(x), jnp.array(1.0), 0.0, 1.0)

    def drawn(depth, key):
        v, extra = jr.normal(key, (2, depth))

        def body(x, pair):
            return x + (pair[0] + pair[1]) * jnp.tanh(pair[0] * x) / depth, None

        return jax.lax.scan(body, jnp.array(1.0), (v, extra))[0]

    def averaged(depth):
        return jax.lax.fori_loop(
            0, depth, lambda i, x: x + mean_field(x) / depth, jnp.array(1.0)
        )

    depths = (8, 32, 128, 512)
    if hidden is None:
        found = depth_scaling(averaged, problem, depths=depths)
        assert abs(found.slope + 1) < 0.05
    else:
        found = depth_scaling(drawn, problem, depths=depths, draws=128, key=jr.key(6))
        assert found.low < -0.5 < found.high


def attracted(count):
    """dX = −(X − mean) dt + σ dW: linear in the mean field."""
    return SDEProblem(
        lambda t, x, args: -(x - jnp.mean(x, axis=0)),
        lambda t, x, args: 0.5 * jnp.ones_like(x),
        jnp.ones((count, 1)),
        0.0,
        1.0,
        noise="additive",
        interpretation="ito",
    )


def independent(count):
    """The limit: the mean of the law stays one."""
    return SDEProblem(
        lambda t, x, args: -(x - 1.0),
        lambda t, x, args: 0.5 * jnp.ones_like(x),
        jnp.ones((count, 1)),
        0.0,
        1.0,
        noise="additive",
        interpretation="ito",
    )


@pytest.mark.slow
def test_chaos_propagates_with_the_root_of_the_particles():
    found = propagation_of_chaos(
        attracted,
        independent,
        solver="Euler",
        steps=32,
        key=jr.key(7),
        counts=(8, 16, 32),
        draws=256,
    )
    assert found.low < -0.5 < found.high
    # The difference δ of a particle and its copy obeys δ' = −δ + (mean − 1), with mean
    # − 1 = σB_t/√N: E δ² = σ²/N ∫(1 − e^{−(1−s)})² ds = σ²/N (1 − 2(1 − e⁻¹) +
    # (1 − e⁻²)/2); Euler's steps of 1/32 change it by some per cent.
    exact = 0.25 * (1 - 2 * (1 - np.exp(-1)) + (1 - np.exp(-2)) / 2) / found.sizes
    np.testing.assert_allclose(found.errors**2, exact, rtol=0.35)
    assert found.provenance.backend == "diffrax"


@pytest.mark.slow
def test_without_a_limit_the_largest_system_stands_for_it():
    found = propagation_of_chaos(
        attracted, solver="Euler", steps=16, key=jr.key(8), counts=(4, 8, 16), draws=128
    )
    # The stand-in of 128 particles is itself off by (16/128) of the last variance.
    assert abs(found.slope + 0.5) < 0.1
    assert "largest system" in found.reference


@pytest.mark.slow
@pytest.mark.julia
def test_chaos_in_julia(julia):
    given = {
        "solver": "Euler",
        "steps": 16,
        "key": jr.key(9),
        "counts": (2, 4, 8),
        "draws": 8,
    }
    here = propagation_of_chaos(attracted, independent, **given)
    there = propagation_of_chaos(attracted, independent, backend="julia", **given)
    # The same draws in the same scheme.
    np.testing.assert_allclose(there.errors, here.errors, rtol=1e-12)


def test_results_show_themselves(tmp_path):
    found = depth_scaling(lambda L: 1 + 1 / L, 1.0, depths=(2, 4, 8))
    assert "slope -1.000" in str(found)
    found.plot(tmp_path / "depth.png")
    assert found.to_xarray()["errors"].shape == (3,)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"depths": (8, 16)}, ValueError, "`depths` must be three or more"),
        ({"network": 3}, TypeError, "`network` must be a function"),
        ({"draws": 0}, ValueError, "`draws` must be"),
        ({"draws": 4}, ValueError, "need a JAX random `key`"),
        ({"limit": jnp.ones(3)}, ValueError, "as many numbers as `limit`, 3; got 1"),
        ({"limit": lambda key: 0.0}, ValueError, "needs more than one of `draws`"),
        ({"network": lambda L: np.nan}, ValueError, "not finite for a depth of 8"),
        ({"network": lambda L: "a"}, TypeError, "arrays of real numbers"),
    ],
)
def test_bad_input_is_named(change, error, match):
    given = {"network": lambda L: 1 / L, "limit": 0.0, **change}
    with pytest.raises(error, match=match):
        depth_scaling(given.pop("network"), given.pop("limit"), **given)


def test_systems_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"`particles\(16\)` must have a state"):
        propagation_of_chaos(
            lambda n: attracted(3),
            attracted,
            solver="Euler",
            steps=4,
            key=jr.key(0),
            counts=(4, 8, 16),
        )
