"""Fields over space: heat kernels of grids, and the growth of waves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ive

from hybrid_nds import lowering, models, solve
from hybrid_nds.stability import jacobian_spectrum

DIFFUSION, SPACING, TIME = 0.7, 0.25, 0.3


def _still(u):
    return 0.0 * u


def _kernel(distances, period):
    """The heat kernel of the grid of all integers, e^{-2s} I_j(2s) with s = D t / h²
    (Feller 1971, section II.7: the symmetric random walk in continuous time), and its
    images."""
    s = DIFFUSION * TIME / SPACING**2
    images = np.arange(-6, 7) * period
    return ive(np.abs(np.asarray(distances)[..., None] + images), 2 * s).sum(-1)


@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
def test_diffusion_spreads_as_the_heat_kernel_of_the_grid(boundary):
    n, source = 9, 2
    model = models.ReactionDiffusion(_still, jnp.array([DIFFUSION]), SPACING, boundary)
    y0 = jnp.zeros((n, 1)).at[source, 0].set(1.0)
    end = solve(model.problem(y0, 0.0, TIME), solver="Tsit5", rtol=1e-9, atol=1e-12)
    place = np.arange(n)
    if boundary == "periodic":
        exact = _kernel(place - source, n)
    else:
        # A mirror at each edge, half a spacing outside.
        exact = _kernel(place - source, 2 * n) + _kernel(place + source + 1, 2 * n)
    np.testing.assert_allclose(end.ys[-1, :, 0], exact, atol=1e-7)
    assert float(jnp.sum(end.ys[-1])) == pytest.approx(1.0, abs=1e-12)


def test_two_axes_spread_as_a_product():
    n = 7
    model = models.ReactionDiffusion(_still, jnp.array([DIFFUSION]), SPACING)
    y0 = jnp.zeros((n, n, 1)).at[1, 3, 0].set(1.0)
    end = solve(model.problem(y0, 0.0, TIME), solver="Tsit5", rtol=1e-9, atol=1e-12)
    along = [_kernel(np.arange(n) - source, n) for source in (1, 3)]
    np.testing.assert_allclose(end.ys[-1, :, :, 0], np.outer(*along), atol=1e-7)


@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
def test_waves_grow_by_the_dispersion_relation(boundary):
    """Of the linearised equation each wave is on its own: the eigenvalues are those of
    A − q² D over the wave numbers of the grid (Turing 1952). This A is stable, and some
    waves are not."""
    n = 12
    reaction = np.array([[1.0, -2.0], [3.0, -4.0]])
    diffusion = np.array([0.05, 2.0])
    linear = lambda u: jnp.asarray(reaction) @ u + u**2
    model = models.ReactionDiffusion(linear, jnp.asarray(diffusion), 0.5, boundary)
    found = jacobian_spectrum(model.problem(jnp.zeros((n, 2)), 0.0, 1.0)).eigenvalues
    angles = np.pi * np.arange(n) / (n if boundary == "periodic" else 2 * n)
    squares = 4 / 0.5**2 * np.sin(angles) ** 2
    exact = np.concatenate(
        [np.linalg.eigvals(reaction - q * np.diag(diffusion)) for q in squares]
    )
    assert np.max(np.linalg.eigvals(reaction).real) < 0 < np.max(exact.real)
    gaps = np.min(np.abs(found[:, None] - exact), axis=1)
    assert np.all(gaps < 1e-11)
    np.testing.assert_allclose(np.sort(found.real), np.sort(exact.real), atol=1e-11)


def test_a_learned_reaction_is_the_same_at_each_point():
    network = eqx.nn.MLP(2, 2, 8, 1, activation=jnp.tanh, key=jax.random.key(0))
    model = models.ReactionDiffusion(network, jnp.zeros(2))
    y = jax.random.normal(jax.random.key(1), (3, 4, 2))
    expected = [[network(y[i, j]) for j in range(4)] for i in range(3)]
    np.testing.assert_allclose(model(0.0, y), np.array(expected), rtol=1e-12)
    # Its weights are what training moves.
    slopes = eqx.filter_grad(lambda model: jnp.sum(model(0.0, y) ** 2))(model)
    assert float(jnp.max(jnp.abs(slopes.reaction.layers[0].weight))) > 0
    # Each point reads itself and its neighbours alone.
    found = lowering.sparsity(model.problem(jnp.zeros((40, 40, 2)), 0.0, 1.0))
    assert found.nonzeros == 40 * 40 * 2 * (2 + 4)


def test_waves_of_a_neural_field_grow_by_its_dispersion_relation():
    points, spacing, tau, level = 16, 0.5, 2.0, 0.3
    distance = spacing * np.minimum(np.arange(points), points - np.arange(points))
    kernel = 1.5 * np.exp(-(distance**2)) - 0.6 * np.exp(-(distance**2) / 4)
    # The stimulus that makes the constant state an equilibrium.
    rate = np.tanh(level)
    stimulus = level - spacing * kernel.sum() * rate
    model = models.NeuralField(jnp.asarray(kernel), jnp.tanh, stimulus, spacing, tau)
    state = jnp.full(points, level)
    np.testing.assert_allclose(model(0.0, state), 0, atol=1e-15)
    found = jacobian_spectrum(model.problem(state, 0.0, 1.0)).eigenvalues
    waves = np.arange(points)
    transform = spacing * np.array(
        [np.sum(kernel * np.cos(2 * np.pi * k * waves / points)) for k in waves]
    )
    exact = (-1 + (1 - rate**2) * transform) / tau
    np.testing.assert_allclose(found.imag, 0, atol=1e-13)
    np.testing.assert_allclose(np.sort(found.real), np.sort(exact), atol=1e-13)


def test_a_kernel_has_a_direction():
    # What is felt at a place comes from the one before it.
    kernel = jnp.zeros(5).at[1].set(1.0)
    model = models.NeuralField(kernel, jnp.tanh, jnp.arange(5.0), 2.0)
    y = jnp.array([0.5, 0.0, 0.0, 0.0, -1.0])
    expected = 2 * np.roll(np.tanh(y), 1) + np.arange(5.0) - np.asarray(y)
    np.testing.assert_allclose(model(0.0, y), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("make", "kind", "match"),
    [
        (
            lambda: models.ReactionDiffusion(1.0, jnp.ones(2)),
            TypeError,
            "`reaction` must be a callable",
        ),
        (
            lambda: models.ReactionDiffusion(_still, 1.0),
            ValueError,
            r"`diffusion` must have shape \(any\)",
        ),
        (
            lambda: models.ReactionDiffusion(_still, jnp.ones(1), jnp.ones(2)),
            ValueError,
            "`spacing` must have shape",
        ),
        (
            lambda: models.ReactionDiffusion(_still, jnp.ones(1), 1.0, "dirichlet"),
            ValueError,
            "`boundary` must be one of periodic, neumann, got 'dirichlet'",
        ),
        (
            lambda: models.ReactionDiffusion(_still, jnp.ones(2))(0.0, jnp.ones(4)),
            ValueError,
            r"axis of 2 species .* got shape \(4,\)",
        ),
        (
            lambda: models.NeuralField(jnp.ones(3), 2.0),
            TypeError,
            "`rate` must be a callable",
        ),
        (
            lambda: models.NeuralField(jnp.ones(3), jnp.tanh, jnp.ones(4)),
            ValueError,
            r"`stimulus` must have shape \(3\), got \(4,\)",
        ),
    ],
)
def test_refused(make, kind, match):
    with pytest.raises(kind, match=match):
        make()
