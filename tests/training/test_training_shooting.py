"""Long trajectories in pieces, against closed forms and whole trainings."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.linalg
from linear_model import MATRIX, TIGHT, Linear, linear

from hybrid_nds.training import (
    GrowingHorizon,
    MultipleShooting,
    ShootingModel,
    TrajectoryLoss,
    fit,
)

KEY = jr.key(8)
TIMES = np.array([0.0, 0.2, 0.5, 0.6, 1.0, 1.3, 1.5])


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def by_hand(starts, data, segments):
    """All misses and gaps, each solution in closed form."""
    length = (len(TIMES) - 1) // segments
    misses, gaps = [], []
    for sample, start in zip(data, starts, strict=True):
        for k in range(segments):
            first = k * length
            for j in range(length + 1):
                span = TIMES[first + j] - TIMES[first]
                y = scipy.linalg.expm(MATRIX * span) @ start[k]
                misses.append((j, y - sample[first + j]))
            if k + 1 < segments:
                gaps.append(y - start[k + 1])
    return misses, gaps


@pytest.mark.slow
@pytest.mark.parametrize("segments", [1, 3])
def test_segments_from_the_data_in_closed_form(segments):
    data = random(3, 7, 2)
    loss = MultipleShooting(TIMES, segments, continuity=0.7, **TIGHT)
    value, parts = loss(linear(), jnp.asarray(data), KEY)
    starts = data[:, : -1 : 6 // segments]
    misses, gaps = by_hand(starts, data, segments)
    miss = np.mean([m**2 for j, m in misses if j > 0])
    gap = np.mean([g**2 for g in gaps]) if gaps else 0.0
    np.testing.assert_allclose(parts["miss"], miss, rtol=1e-8)
    np.testing.assert_allclose(parts["gap"], gap, rtol=1e-8)
    np.testing.assert_allclose(value, miss + 0.7 * gap, rtol=1e-8)
    if segments == 1:
        whole = TrajectoryLoss(TIMES, **TIGHT)(linear(), jnp.asarray(data), KEY)[0]
        np.testing.assert_allclose(value, whole, rtol=1e-8)


def test_segments_from_parameters_in_closed_form():
    data, starts = random(4, 7, 2), random(5, 3, 2, seed=1)
    chosen = np.array([3, 0, 4, 4])
    loss = MultipleShooting(TIMES, 3, continuity=2.0, **TIGHT)
    model = ShootingModel(linear(), jnp.asarray(starts))
    value, parts = loss(model, (chosen, jnp.asarray(data)), KEY)
    misses, gaps = by_hand(starts[chosen], data, 3)
    miss, gap = np.mean([m**2 for _, m in misses]), np.mean([g**2 for g in gaps])
    np.testing.assert_allclose(parts["miss"], miss, rtol=1e-8)
    np.testing.assert_allclose(value, miss + 2 * gap, rtol=1e-8)
    made = loss.model(linear(), data)
    np.testing.assert_array_equal(made.starts, data[:, [0, 2, 4]])


@pytest.mark.slow
def test_training_finds_the_field_and_closes_the_gaps():
    exact = np.stack([scipy.linalg.expm(MATRIX * t) for t in TIMES])
    data = jnp.asarray(np.einsum("tij,nj->nti", exact, random(16, 2)))
    loss = MultipleShooting(TIMES, 3, continuity=1.0, solver="Bosh3", dt=0.1)
    begun = loss.model(Linear(jnp.zeros((2, 2))), data)
    # Starts that are off, as from noisy data.
    noise = jnp.asarray(0.1 * random(16, 3, 2, seed=3))
    begun = eqx.tree_at(lambda model: model.starts, begun, begun.starts + noise)
    trained = fit(
        begun,
        (jnp.arange(16), data),
        loss,
        optax.adam(optax.cosine_decay_schedule(5e-2, 1000)),
        steps=1000,
        key=KEY,
    )
    # The loss is zero at the truth alone; what is left is the descent's, whose steps
    # come to an end some percents of the first, 0.05, away.
    np.testing.assert_allclose(trained.model.model.matrix, MATRIX, atol=5e-3)
    gaps = trained.history.parts["gap"]
    assert np.mean(gaps[-20:]) < 1e-3 * np.mean(gaps[:5])


@pytest.mark.slow
def test_a_horizon_that_grows():
    data = jnp.asarray(random(2, 7, 2))
    whole = TrajectoryLoss(TIMES, **TIGHT)
    loss = GrowingHorizon(whole, {0: 0.5, 10: 1.1, 20: None})
    for step, count in ((9, 3), (10, 5), (99, 7)):
        short = TrajectoryLoss(TIMES[:count], **TIGHT)(linear(), data[:, :count], KEY)
        np.testing.assert_array_equal(loss.at(step)(linear(), data, KEY)[0], short[0])
    assert loss.at(3) is loss.at(9)
    assert loss.at(20) is whole
    total = loss + 0.5 * whole
    assert total.names == ("trajectory", "trajectory 2")
    assert total.at(12).at(0).terms[0] is loss.at(12)


@pytest.mark.slow
def test_a_horizon_grows_in_a_training():
    data = jnp.asarray(random(8, 7, 2))
    whole = TrajectoryLoss(TIMES, solver="Bosh3", dt=0.1)
    short = whole.within(0.2)
    loss = GrowingHorizon(whole, {0: 0.2, 1: None})
    trained = fit(linear(), data, loss, optax.sgd(0.1), steps=2, key=KEY)
    # The first step by hand, on the short horizon; the second loss on all of it.
    both = eqx.filter_jit(eqx.filter_value_and_grad(short, has_aux=True))
    (first, _), slope = both(linear(), data, KEY)
    moved = Linear(linear().matrix - 0.1 * slope.matrix)
    second = whole(moved, data, KEY)[0]
    np.testing.assert_allclose(trained.history.loss, [first, second], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: MultipleShooting(TIMES, 4), "`segments` must divide the 6 intervals"),
        (lambda: MultipleShooting(TIMES, 0), "`segments` must divide"),
        (lambda: MultipleShooting(TIMES, 2, continuity=-1.0), "`continuity` must be"),
        (lambda: GrowingHorizon(TrajectoryLoss(TIMES), {5: 1.0}), "step 0 among them"),
        (lambda: GrowingHorizon(TrajectoryLoss(TIMES), {0: 0.1}), "reaches no time"),
        (lambda: GrowingHorizon(TrajectoryLoss(), {0: 0.1}), "needs `times`"),
        (lambda: GrowingHorizon(3, {0: 0.1}), "must have a method `within`"),
    ],
)
def test_bad_input_is_named(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


@pytest.mark.parametrize(
    ("batch", "match"),
    [
        (np.zeros((2, 7, 2)), r"a pair \(indices, trajectories\)"),
        ((np.arange(3), np.zeros((2, 7, 2))), r"integers of shape \(2,\).*\(3,\)"),
        ((np.zeros(2), np.zeros((2, 7, 2))), "integers.*float64"),
        ((np.arange(2), np.zeros((2, 6, 2))), r"for 7 times, got \(2, 6, 2\)"),
    ],
)
def test_a_batch_of_the_wrong_shape(batch, match):
    model = ShootingModel(linear(), jnp.zeros((2, 3, 2)))
    with pytest.raises(ValueError, match=match):
        MultipleShooting(TIMES, 3)(model, batch, KEY)
