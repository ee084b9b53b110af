"""Stochastic and latent models, and flows of laws, against closed forms."""

import itertools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given, settings, strategies as st

from hybrid_nds import models, solve
from hybrid_nds.stability import lyapunov_spectrum

seeds = st.integers(0, 2**31 - 1)
TIGHT = {"rtol": 1e-10, "atol": 1e-12, "solver": "Dopri8"}


def dense(layers, x):
    """A multilayer perceptron with tanh in NumPy."""
    for index, layer in enumerate(layers):
        x = np.asarray(layer.weight) @ x + np.asarray(layer.bias)
        x = np.tanh(x) if index < len(layers) - 1 else x
    return x


def single(networks, index):
    arrays = eqx.filter(networks, eqx.is_array)
    return jax.tree.map(lambda w: w[index], arrays).layers


@pytest.mark.parametrize("time", [False, True])
@pytest.mark.parametrize(
    "noise", ["additive", "scalar", "diagonal", "commutative", "general"]
)
def test_the_equation_of_a_neural_sde(noise, time):
    motions = {"motions": 4} if noise in ("commutative", "general") else {}
    model = models.NeuralSDE(
        3, 5, 1, noise=noise, time=time, scale=0.5, key=jr.key(0), **motions
    )
    y, t = np.array([0.3, -0.8, 1.1]), 0.7
    seen = np.append(y, t) if time else y
    found = model.drift(t, jnp.asarray(y))
    np.testing.assert_allclose(found, dense(model.network.layers, seen), rtol=1e-13)
    G = model.volatility
    if noise == "additive":
        expected = dense(G.layers, np.array([t])) if time else np.ones(3)
    elif noise == "scalar":
        expected = dense(G.layers, seen)
    elif noise == "general":
        expected = dense(G.layers, seen).reshape(3, 4)
    else:
        own = [np.append(y[i], t) if time else y[i : i + 1] for i in range(3)]
        expected = np.concatenate([dense(single(G, i), own[i]) for i in range(3)])
        if noise == "commutative":
            expected = expected[:, None] * np.asarray(model.mixing)
    found = model.diffusion(t, jnp.asarray(y))
    np.testing.assert_allclose(found, 0.5 * expected, rtol=1e-12)
    # The problem checks that the noise is of the kind it claims to be.
    problem = model.problem(jnp.asarray(y), 0.0, 1.0)
    assert problem.noise_dimension == {"scalar": 1}.get(noise, 4 if motions else 3)


@given(seeds)
@settings(max_examples=5, deadline=None)
def test_commutative_columns_commute(seed):
    model = models.NeuralSDE(3, 5, 1, noise="commutative", motions=2, key=jr.key(seed))
    y = jr.normal(jr.key(seed + 1), (3,))
    columns = [lambda u, j=j: model.diffusion(0.0, u)[:, j] for j in range(2)]
    one = jax.jvp(columns[0], (y,), (columns[1](y),))[1]
    other = jax.jvp(columns[1], (y,), (columns[0](y),))[1]
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_common_noise_shifts_every_exponent():
    model = models.CommonNoiseSDE(2, 8, 1, strength=1.4, key=jr.key(1))
    np.testing.assert_array_equal(model.drift(0.0, jnp.zeros(2)), np.zeros(2))
    y = np.array([0.4, -0.9])
    inner, outer = (np.asarray(layer.weight) for layer in model.network.layers)
    expected = outer @ np.tanh(inner @ y)
    np.testing.assert_allclose(model.drift(0.0, jnp.asarray(y)), expected, rtol=1e-12)
    np.testing.assert_allclose(model.diffusion(0.0, jnp.asarray(y)), 1.4 * y)
    # At rest the tangent equation is dv = A v dt + sigma v dW: the exponents are the
    # real parts of A's eigenvalues minus sigma^2/2 = 0.98, and those of Euler's steps
    # of 1/256 are within 0.01 of that; the interval has the level 0.999.
    A = np.asarray(jax.jacfwd(lambda u: model.drift(0.0, u))(jnp.zeros(2)))
    rates = np.sort(np.linalg.eigvals(A).real)[::-1]
    found = lyapunov_spectrum(
        model.problem(jnp.zeros(2), 0.0, 60.0),
        solver="Euler",
        dt=1 / 256,
        transient=4.0,
        time=60.0,
        chains=8,
        key=jr.key(5),
        level=0.999,
    )
    half = (found.high - found.low) / 2
    assert np.all(np.abs(found.exponents - (rates - 0.98)) < half + 0.01)
    # The shift is far outside of the interval.
    assert np.all(half < 0.4)


def affine_flow(seed=0):
    """A flow whose network is affine in the point: Gaussians stay Gaussian."""
    flow = models.ContinuousNormalizingFlow(2, 4, 0, key=jr.key(seed))
    layer = flow.network.layers[0]
    A, b = np.asarray(layer.weight)[:, :2], np.asarray(layer.bias)
    # The column of the time to zero, for a closed form by one exponential.
    weight = jnp.asarray(np.concatenate([A, np.zeros((2, 1))], axis=1))
    flow = eqx.tree_at(lambda f: f.network.layers[0].weight, flow, weight)
    E = scipy.linalg.expm(A)
    shift = np.linalg.solve(A, (E - np.eye(2)) @ b)
    return flow, scipy.stats.multivariate_normal(shift, E @ E.T)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_density_of_an_affine_flow(seed):
    flow, law = affine_flow(seed)
    points = jr.normal(jr.key(7), (4, 2))
    found = jax.vmap(lambda x: flow.log_prob(x, **TIGHT))(points)
    np.testing.assert_allclose(found, law.logpdf(points), atol=1e-8)
    # Fixed steps are lengths, though the solve goes backward: Heun's, of order two.
    rough = flow.log_prob(points[0], solver="Heun", dt=1 / 64)
    np.testing.assert_allclose(rough, found[0], atol=1e-2)
    samples = np.asarray(flow.sample(jr.key(8), 4000, **TIGHT))
    # Five standard errors of mean and covariance.
    deviations = np.sqrt(np.diag(law.cov))
    assert np.all(np.abs(samples.mean(axis=0) - law.mean) < 5 * deviations / 4000**0.5)
    spread = np.cov(samples.T)
    limit = 5 * np.outer(deviations, deviations) * (2 / 4000) ** 0.5
    assert np.all(np.abs(spread - law.cov) < limit)


def test_hutchinsons_estimate_is_unbiased():
    flow = models.ContinuousNormalizingFlow(3, 6, 1, key=jr.key(0))
    y = (jnp.array([0.2, -0.7, 1.0]), jnp.array(0.0))
    moved, trace = flow(0.3, y)
    # Over all eight vectors of signs the mean is exact.
    probes = jnp.array(list(itertools.product([-1.0, 1.0], repeat=3)))
    estimates = jax.vmap(lambda e: flow(0.3, y, e)[1])(probes)
    np.testing.assert_allclose(jnp.mean(estimates), trace, rtol=1e-12)
    J = jax.jacfwd(lambda x: flow.velocity(0.3, x))(y[0])
    np.testing.assert_allclose(trace, np.trace(J), rtol=1e-13)
    np.testing.assert_allclose(estimates[1], probes[1] @ J @ probes[1], rtol=1e-12)
    np.testing.assert_array_equal(moved, flow.velocity(0.3, y[0]))


@pytest.mark.slow
def test_densities_integrate_to_one():
    flow = models.ContinuousNormalizingFlow(1, 8, 1, key=jr.key(2))
    x = jnp.linspace(-12.0, 12.0, 801)[:, None]
    density = jnp.exp(jax.vmap(lambda p: flow.log_prob(p, rtol=1e-8, atol=1e-10))(x))
    np.testing.assert_allclose(jnp.sum(density) * 0.03, 1.0, atol=1e-6)
    with pytest.raises(ValueError, match=r"`x` must have shape \(1,\)"):
        flow.log_prob(x)


class Linear(eqx.Module):
    rate: float = eqx.field(static=True)
    shift: jax.Array

    def __call__(self, t, z, args):
        return -self.rate * z + self.shift


class Constant(eqx.Module):
    value: jax.Array

    def __call__(self, t, z, args):
        return self.value * jnp.ones_like(z)


def test_the_divergence_of_a_shifted_drift():
    # A shift of the drift by a constant: |shift/sigma|^2 T/2, on every path.
    shift, sigma = jnp.array([0.3, -0.4]), jnp.array([0.5, 0.8])
    model = models.PathDivergence(
        Linear(1.0, shift), Linear(1.0, jnp.zeros(2)), Constant(sigma)
    )
    start = (jnp.array([0.5, 1.0]), jnp.array(0.0))
    problem = model.problem(start, 0.0, 2.0)
    found = solve(problem, solver="Euler", dt=1 / 32, key=jr.key(0)).ys[1][-1]
    expected = np.sum((np.asarray(shift) / np.asarray(sigma)) ** 2)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.slow
def test_the_divergence_of_two_ornstein_uhlenbeck_processes():
    # Of dx = -a x dt + s dW from dx = s dW: a^2/(2 s^2) times the integral of E x^2,
    # which in Euler's steps is a sum of second moments.
    a, s, steps, paths = 0.8, 0.6, 64, 4000
    h = 1 / steps
    model = models.PathDivergence(
        Linear(a, jnp.zeros(1)), Constant(jnp.zeros(1)), Constant(jnp.array([s]))
    )
    problem = model.problem((jnp.array([1.0]), jnp.array(0.0)), 0.0, 1.0)

    def one(key):
        return solve(problem, solver="Euler", dt=h, key=key).ys[1][-1]

    found = np.asarray(jax.vmap(one)(jr.split(jr.key(3), paths)))
    second, expected = 1.0, 0.0
    for _ in range(steps):
        expected += h * a**2 * second / (2 * s**2)
        second = (1 - a * h) ** 2 * second + s**2 * h
    # Four standard errors.
    assert abs(found.mean() - expected) < 4 * found.std() / paths**0.5


def series(times=7, observed=2):
    ts = jnp.linspace(0.0, 1.5, times)
    return ts, jnp.stack([jnp.sin(2 * ts), jnp.cos(3 * ts)], axis=1)[:, :observed]


def gaussian_terms(model, means, xs, mean, deviation):
    """Log-likelihood and divergence once more, by SciPy and by hand."""
    s = np.exp(float(model.log_deviation))
    seen = scipy.stats.norm(np.asarray(means), s).logpdf(np.asarray(xs)).sum()
    m, d = np.asarray(mean), np.asarray(deviation)
    return seen, np.sum(0.5 * (m**2 + d**2 - 1) - np.log(d))


@pytest.mark.slow
def test_the_terms_of_a_latent_ode():
    model = models.LatentODE(2, 3, 6, 1, deviation=0.3, key=jr.key(0))
    ts, xs = series()
    key = jr.key(4)
    found = model.evidence(ts, xs, key, **TIGHT)
    mean, deviation = model.posterior(ts, xs)
    start = mean + deviation * jr.normal(key, (3,))
    zs = solve(model.problem(start, 0.0, 1.5), saveat=ts, **TIGHT).ys
    means = np.stack([dense(model.decoder.layers, np.asarray(z)) for z in zs])
    seen, initial = gaussian_terms(model, means, xs, mean, deviation)
    np.testing.assert_allclose(found.log_likelihood, seen, rtol=1e-7)
    np.testing.assert_allclose(found.initial, initial, rtol=1e-10)
    np.testing.assert_allclose(found.bound, seen - initial, rtol=1e-7)
    assert found.path == 0
    assert model.generate(ts, key).shape == (7, 2)


def test_the_encoder_reads_backward():
    model = models.LatentODE(2, 3, 6, 1, key=jr.key(0))
    ts, xs = series()
    hidden = np.asarray(model.encoder(ts, xs))
    changed = np.asarray(model.encoder(ts, xs.at[2].add(1.0)))
    # What was changed is seen at that time and before, not after.
    assert np.all(np.any(hidden[:3] != changed[:3], axis=1))
    np.testing.assert_array_equal(hidden[3:], changed[3:])


@pytest.mark.slow
def test_the_terms_of_a_latent_sde():
    model = models.LatentSDE(2, 3, 6, 1, context=2, deviation=0.3, key=jr.key(0))
    ts, xs = series()
    found = model.evidence(ts, xs, jr.key(4), steps=48)
    assert found.path > 0
    expected = found.log_likelihood - found.initial - found.path
    np.testing.assert_allclose(found.bound, expected, rtol=1e-14)
    mean, deviation, context = model.posterior(ts, xs)
    _, initial = gaussian_terms(model, xs, xs, mean, deviation)
    np.testing.assert_allclose(found.initial, initial, rtol=1e-10)
    z, t = jnp.array([0.2, -0.5, 0.9]), jnp.asarray(0.4)
    assert isinstance(context, diffrax.LinearInterpolation)
    prior = dense(model.prior.layers, np.append(z, 0.4))
    seen = np.concatenate([z, [0.4], context.evaluate(t)])
    posterior = dense(model.network.layers, seen)
    parts = [dense(single(model.volatility, i), z[i : i + 1]) for i in range(3)]
    g = np.log1p(np.exp(np.concatenate(parts))) + 1e-3
    moved, rate = model.drift(t, (z, jnp.array(0.0)), context)
    np.testing.assert_allclose(moved, posterior, rtol=1e-12)
    np.testing.assert_allclose(rate, 0.5 * np.sum(((posterior - prior) / g) ** 2))
    np.testing.assert_allclose(
        model.diffusion(t, (z, jnp.array(0.0)), context)[0], g, rtol=1e-12
    )
    assert model.generate(ts, jr.key(1), steps=12).shape == (7, 2)


def test_a_posterior_that_is_the_prior_costs_nothing():
    model = models.LatentSDE(2, 3, 6, 1, context=2, key=jr.key(0))
    ts, xs = series()
    # The context cut off, and the rest of the posterior's weights those of the prior.
    first = model.prior.layers[0].weight
    wide = jnp.concatenate([first, jnp.zeros((6, 2))], axis=1)
    layer = eqx.tree_at(
        lambda n: (n.weight, n.bias),
        model.network.layers[0],
        (wide, model.prior.layers[0].bias),
    )
    layers = (layer, *model.prior.layers[1:])
    model = eqx.tree_at(lambda m: m.network.layers, model, layers)
    found = model.evidence(ts, xs, jr.key(4), steps=12)
    np.testing.assert_allclose(found.path, 0.0, atol=1e-28)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ordinary", "stochastic"])
def test_bounds_are_jitted_and_differentiated(kind):
    if kind == "ordinary":
        model, options = models.LatentODE(2, 3, 6, 1, key=jr.key(0)), {}
    else:
        model = models.LatentSDE(2, 3, 6, 1, context=2, key=jr.key(0))
        options = {"steps": 12}
    ts, xs = series()

    def bound(model, ts, xs):
        return model.evidence(ts, xs, jr.key(4), **options).bound

    # Times too are traced, as in batches of a training.
    value, slope = eqx.filter_jit(eqx.filter_value_and_grad(bound))(model, ts, xs)
    # Every part of the model has its say.
    for leaf in jax.tree.leaves(eqx.filter(slope, eqx.is_inexact_array)):
        assert np.any(np.asarray(leaf) != 0)
    # Other orders of the same sums, and adaptive steps from them.
    np.testing.assert_allclose(value, bound(model, ts, xs), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: models.NeuralSDE(2, noise="red", key=k), "`noise` must be one of"),
        (lambda k: models.NeuralSDE(2, motions=3, key=k), "`motions` is of commut"),
        (
            lambda k: models.CommonNoiseSDE(2, activation=jnp.cos, key=k),
            "`activation` must be zero at zero",
        ),
        (lambda k: models.LatentODE(2, deviation=0.0, key=k), "`deviation` must be"),
        (
            lambda k: models.LatentODE(2, key=k).evidence(jnp.ones(3), jnp.ones(3), k),
            r"must have shapes \(times,\) and \(times, 2\)",
        ),
        (
            lambda k: models.LatentSDE(2, key=k).generate(jnp.arange(3.0), k, steps=3),
            r"`ts` must be whole steps .* but 1 is 1.5 of 3 steps",
        ),
        (lambda k: models.PathDivergence(1, 2, 3), "`drift_of` must be a callable"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(jr.key(0))
