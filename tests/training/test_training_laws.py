"""Losses of laws, likelihoods and evidence: against NumPy and closed forms."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from hybrid_nds import measures, models
from hybrid_nds.measures._differentiable import (
    discrepancy_statistic,
    energy_statistic,
    sinkhorn_statistic,
)
from hybrid_nds.models import StochasticModel
from hybrid_nds.training import EvidenceLoss, LawLoss, NegativeLogLikelihood, fit

KEY = jr.key(2)
TIMES = [0.0, 0.5, 1.0]
TIMES_ARRAY = jnp.asarray(TIMES)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


class Drifting(StochasticModel):
    """Brownian motion with a drift: its law at any time is known."""

    rate: jax.Array
    strength: jax.Array
    noise: str = eqx.field(static=True)
    interpretation: str = eqx.field(static=True)

    def __init__(self, rate, strength):
        self.rate, self.strength = jnp.asarray(rate), jnp.asarray(strength)
        self.noise, self.interpretation = "additive", "ito"

    def drift(self, t, y, args):
        return jnp.broadcast_to(self.rate, y.shape)

    def diffusion(self, t, y, args):
        return jnp.broadcast_to(jnp.exp(self.strength), y.shape)


def drifting(rate=0.0, strength=0.0):
    return Drifting(rate, strength)


STATISTICS = {
    "energy": (energy_statistic, measures.energy_distance),
    "mmd": (
        lambda x, y: discrepancy_statistic(x, y, None),
        measures.maximum_mean_discrepancy,
    ),
    "mmd, of a width": (
        lambda x, y: discrepancy_statistic(x, y, 0.7),
        lambda x, y: measures.maximum_mean_discrepancy(x, y, bandwidth=0.7),
    ),
    "sinkhorn": (
        lambda x, y: sinkhorn_statistic(x, y, None),
        measures.sinkhorn_divergence,
    ),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_are_those_of_measures(name):
    traced, independent = STATISTICS[name]
    x, y = random(30, 2), 0.5 + random(25, 2, seed=1)
    found = jax.jit(traced)(jnp.asarray(x), jnp.asarray(y))
    # Sums of some thousand terms; Sinkhorn's iterations end at 1e-4 and 1e-6.
    rtol = 2e-3 if name == "sinkhorn" else 1e-11
    np.testing.assert_allclose(found, independent(x, y).value, rtol=rtol)


@pytest.mark.parametrize("name", ["energy", "mmd, of a width", "sinkhorn"])
def test_slopes_of_statistics(name):
    traced = jax.jit(STATISTICS[name][0])
    if name == "sinkhorn":
        traced = jax.jit(lambda x, y: sinkhorn_statistic(x, y, 0.5))
    x, y = jnp.asarray(random(12, 2)), jnp.asarray(0.5 + random(10, 2, seed=1))
    # Two points that are one: a distance of zero has no slope of its own.
    x = x.at[1].set(x[0])
    way = jnp.ones_like(x)
    slope = jnp.sum(jax.grad(traced)(x, y) * way)
    there, back = traced(x + 1e-4 * way, y), traced(x - 1e-4 * way, y)
    # Sinkhorn's slope is that of its limit, met to the threshold of 1e-4.
    rtol = 2e-3 if name == "sinkhorn" else 1e-6
    np.testing.assert_allclose(slope, (there - back) / 2e-4, rtol=rtol)


@pytest.mark.slow
def test_samples_that_are_all_alike():
    x = jnp.ones((4, 2))
    for statistic in (energy_statistic, lambda x, y: discrepancy_statistic(x, y, None)):
        value, slope = jax.value_and_grad(statistic)(x, x)
        np.testing.assert_allclose(value, 0, atol=1e-15)
        assert np.all(np.isfinite(slope))


@pytest.mark.slow
def test_simulations_are_compared_at_each_time():
    # Without noise the law of solutions is known: starts moved by the drift.
    model, data = drifting(0.8, -np.inf), random(20, 3, 2)
    moved = [data[:, 0] + 0.8 * t for t in TIMES[1:]]
    by_time = [
        measures.energy_distance(x, data[:, k + 1]).value for k, x in enumerate(moved)
    ]
    loss = eqx.filter_jit(LawLoss(TIMES, dt=0.5))
    value, parts = loss(model, jnp.asarray(data), KEY)
    assert parts == {}
    np.testing.assert_allclose(value, np.mean(by_time), rtol=1e-11)
    paths = np.stack(moved, axis=1).reshape(20, -1)
    whole = measures.energy_distance(paths, data[:, 1:].reshape(20, -1)).value
    joint = eqx.filter_jit(LawLoss(TIMES, joint=True, dt=0.5))(
        model, jnp.asarray(data), KEY
    )[0]
    np.testing.assert_allclose(joint, whole, rtol=1e-11)
    twice = [
        measures.energy_distance(np.repeat(x, 2, axis=0), data[:, k + 1]).value
        for k, x in enumerate(moved)
    ]
    repeated = eqx.filter_jit(LawLoss(TIMES, repeats=2, dt=0.5))(
        model, jnp.asarray(data), KEY
    )[0]
    np.testing.assert_allclose(repeated, np.mean(twice), rtol=1e-11)


@pytest.mark.slow
def test_noise_is_its_own_in_each_solution():
    model = drifting(0.0, 0.0)
    data = jnp.zeros((400, 2, 1)).at[:, 1, 0].set(jnp.asarray(random(400)))
    loss = eqx.filter_jit(LawLoss([0.0, 1.0], dt=1.0))
    # The energy distance of 400 normal numbers from 400 others under one law: mean 0,
    # deviation about 0.003; of 400 that are all one number, 0.4 or more.
    assert abs(loss(model, data, KEY)[0]) < 0.02
    assert loss(drifting(0.0, -np.inf), data, KEY)[0] > 0.4


@pytest.mark.parametrize(
    "distance",
    [
        pytest.param("energy", marks=pytest.mark.slow),
        pytest.param("mmd", marks=pytest.mark.slow),
        pytest.param("sinkhorn", marks=pytest.mark.slow),
    ],
)
def test_a_law_is_learned(distance):
    # From 0, at time 1 normal of mean 1.5 and deviation e^-0.7.
    ends = 1.5 + np.exp(-0.7) * random(256)
    data = jnp.zeros((256, 2, 1)).at[:, 1, 0].set(jnp.asarray(ends))
    loss = LawLoss([0.0, 1.0], distance, dt=1.0)
    rate = optax.adam(optax.cosine_decay_schedule(0.1, 150))
    trained = fit(drifting(), data, loss, rate, steps=150, key=KEY).model
    # The sample's own mean and deviation are off by 0.03 and 4 %; simulated samples of
    # 256, averaged by the descent, add as much again: four of these.
    np.testing.assert_allclose(trained.rate, 1.5, atol=0.15)
    np.testing.assert_allclose(trained.strength, -0.7, atol=0.2)


def test_an_ordinary_model_carries_a_law():
    data = jnp.asarray(random(6, 2, 2))
    model = models.NeuralODE(2, 4, 1, key=KEY)
    loss = LawLoss([0.0, 1.0], solver="Euler", dt=1.0)
    moved = np.stack([y + model(0.0, y) for y in data[:, 0]])
    expected = measures.energy_distance(moved, data[:, 1]).value
    np.testing.assert_allclose(loss(model, data, KEY)[0], expected, rtol=1e-11)


class Normal(eqx.Module):
    """A density that is known, and how its trace was asked for."""

    mean: jax.Array

    def log_prob(self, x, key=None, *, shift=0.0):
        away = x - self.mean
        found = -0.5 * jnp.sum(away**2) - 0.5 * x.size * np.log(2 * np.pi)
        return found + shift + (0.0 if key is None else jr.normal(key))


def test_the_likelihood_of_a_normal_law():
    x = random(7, 2)
    model = Normal(jnp.array([0.3, -0.2]))
    expected = np.mean(np.sum((x - [0.3, -0.2]) ** 2, axis=1)) / 2 + np.log(2 * np.pi)
    value = NegativeLogLikelihood()(model, x, KEY)[0]
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    shifted = NegativeLogLikelihood(shift=2.0)(model, x, KEY)[0]
    np.testing.assert_allclose(shifted, expected - 2, rtol=1e-13)
    # With keys of their own for the points.
    probed = NegativeLogLikelihood(hutchinson=True)(model, x, KEY)[0]
    drawn = np.mean(jax.vmap(jr.normal)(jr.split(KEY, 7)))
    np.testing.assert_allclose(probed, expected - drawn, rtol=1e-12)


class Bound(NamedTuple):
    log_likelihood: jax.Array
    initial: jax.Array
    path: jax.Array


class Series(eqx.Module):
    """A model whose evidence says what it was given."""

    scale: jax.Array

    def evidence(self, ts, xs, key, *, steps):
        return Bound(jnp.sum(xs) * self.scale, ts[-1], jr.normal(key) + steps)


def test_the_evidence_is_put_together():
    xs = random(3, 4, 2)
    ts = np.array([0.0, 0.5, 1.0, 2.0])
    loss = EvidenceLoss(ts, steps=8)
    value, parts = loss(Series(jnp.asarray(2.0)), jnp.asarray(xs), KEY)
    seen = np.mean(2 * np.sum(xs, axis=(1, 2)))
    path = np.mean(jax.vmap(jr.normal)(jr.split(KEY, 3))) + 8
    np.testing.assert_allclose(value, 2.0 + path - seen, rtol=1e-13)
    assert list(parts) == ["log_likelihood", "initial", "path"]
    np.testing.assert_allclose(list(parts.values()), [seen, 2.0, path], rtol=1e-13)
    own = np.tile(ts, (3, 1)) + np.arange(3)[:, None]
    pairs = EvidenceLoss(steps=8)(Series(jnp.asarray(2.0)), (own, xs), KEY)
    np.testing.assert_allclose(pairs[0], 3.0 + path - seen, rtol=1e-13)
    warm = EvidenceLoss(ts, warmup=10, steps=8)
    quarter = warm.at(5)(Series(jnp.asarray(2.0)), jnp.asarray(xs), KEY)[0]
    np.testing.assert_allclose(quarter, (2.0 + path) / 2 - seen, rtol=1e-13)
    assert warm.at(10) is warm


EULER = {"solver": "Euler", "dt": 0.5}
REAL = {
    "flow": (
        lambda: models.ContinuousNormalizingFlow(2, 4, 1, key=KEY),
        NegativeLogLikelihood(hutchinson=True, solver="Euler", dt=-0.5),
        lambda model, x, key: -model.log_prob(x[0], key, solver="Euler", dt=-0.5),
    ),
    "latent ODE": (
        lambda: models.LatentODE(2, 3, 4, 1, key=KEY),
        EvidenceLoss(TIMES, **EULER),
        lambda model, x, key: -model.evidence(TIMES_ARRAY, x, key, **EULER).bound,
    ),
    "latent SDE": (
        lambda: models.LatentSDE(2, 3, width=4, depth=1, key=KEY),
        EvidenceLoss(TIMES, steps=4),
        lambda model, x, key: -model.evidence(TIMES_ARRAY, x, key, steps=4).bound,
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "flow",
        pytest.param("latent ODE", marks=pytest.mark.slow),
        pytest.param("latent SDE", marks=pytest.mark.slow),
    ],
)
def test_models_of_laws_are_trained_by_them(name):
    make, loss, one = REAL[name]
    model, data = make(), jnp.asarray(random(3, 3, 2))
    batch = data[:, 0] if name == "flow" else data
    keys = jr.split(KEY, 3)
    expected = np.mean(
        [eqx.filter_jit(one)(model, x, k) for x, k in zip(data, keys, strict=True)]
    )
    step = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))
    (value, _), slope = step(model, batch, KEY)
    # Rounding of sums in another order.
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slope))
    rate = 1e-4 / sum(jnp.sum(x**2) for x in jax.tree.leaves(slope))
    lower = eqx.apply_updates(model, jax.tree.map(lambda g: -rate * g, slope))
    # So short a step that the first order decides: a fall of 1e-4.
    np.testing.assert_allclose(value - step(lower, batch, KEY)[0][0], 1e-4, rtol=0.2)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: LawLoss(TIMES, "w2"), "`distance` must be one of energy, mmd"),
        (lambda: LawLoss(TIMES, repeats=0), "`repeats` must be"),
        (lambda: LawLoss(TIMES, bandwidth=1.0), "`bandwidth` is for .*mmd"),
        (lambda: LawLoss(TIMES, "mmd", bandwidth=0.0), "`bandwidth` must be positive"),
        (lambda: LawLoss(TIMES)(drifting(), jnp.zeros((4, 2, 1)), KEY), r"for 3 times"),
        (lambda: LawLoss(TIMES)(drifting(), jnp.zeros((1, 3, 1)), KEY), "at least 2"),
        (lambda: LawLoss(TIMES)(jnp.tanh, jnp.zeros((2, 3, 1)), KEY), "`problem`"),
        (lambda: LawLoss(TIMES)(drifting(), jnp.zeros((2, 3, 1)), KEY), "needs `dt`"),
        (
            lambda: LawLoss(TIMES, dt=0.2)(drifting(), jnp.zeros((2, 3, 1)), KEY),
            "`saveat` must hold times of the steps",
        ),
        (
            lambda: NegativeLogLikelihood()(drifting(), jnp.zeros((2, 1)), KEY),
            "must have a method `log_prob`",
        ),
        (
            lambda: EvidenceLoss(TIMES)(drifting(), jnp.zeros((2, 3, 1)), KEY),
            "must have a method `evidence`",
        ),
        (lambda: EvidenceLoss(TIMES, warmup=-1), "`warmup` must be"),
    ],
)
def test_bad_input_is_named(call, match):
    with pytest.raises((TypeError, ValueError), match=match):
        call()
