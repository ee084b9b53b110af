"""Losses against closed forms and NumPy, their gradients against differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg
from linear_model import MATRIX, TIGHT, linear

from hybrid_nds import models
from hybrid_nds.training import TrajectoryLoss, WeightedSum

KEY = jr.key(11)
TIMES = np.array([0.0, 0.3, 0.5, 1.2])


def exact(matrix, times, starts):
    turns = np.stack([scipy.linalg.expm(matrix * (t - times[0])) for t in times])
    return np.einsum("tij,nj->nti", turns, starts)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def slope_along(loss, model, batch, step=1e-5):
    """The derivative of a loss in one direction of all parameters, by JAX and by
    central differences."""
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(arrays)
    way = jax.tree.unflatten(
        tree, [jnp.asarray(random(*x.shape, seed=k)) for k, x in enumerate(leaves)]
    )

    @jax.jit
    def value(arrays):
        return loss(eqx.combine(arrays, static), batch, KEY)[0]

    slopes = jax.tree.map(jnp.vdot, jax.grad(value)(arrays), way)
    ours = sum(jax.tree.leaves(slopes))

    def moved(step):
        return value(jax.tree.map(lambda x, w: x + step * w, arrays, way))

    there, back = moved(step), moved(-step)
    return float(ours), float(there - back) / (2 * step)


@pytest.mark.slow
def test_the_error_of_a_linear_equation_in_closed_form():
    data = random(5, 4, 2)
    loss = TrajectoryLoss(TIMES, **TIGHT)
    expected = np.mean((exact(MATRIX, TIMES, data[:, 0]) - data)[:, 1:] ** 2)
    value, parts = loss(linear(), jnp.asarray(data), KEY)
    assert parts == {}
    # The solver's global error, a few of its tolerances over a unit of time.
    np.testing.assert_allclose(value, expected, rtol=1e-8)
    # Data that the model makes are met.
    met = loss(linear(), exact(MATRIX, TIMES, data[:, 0]), KEY)[0]
    np.testing.assert_allclose(met, 0, atol=1e-18)


@pytest.mark.parametrize(
    "adjoint", [None, pytest.param("backsolve", marks=pytest.mark.slow)]
)
def test_the_gradient_is_that_of_differences(adjoint):
    loss = TrajectoryLoss(TIMES, adjoint=adjoint, **TIGHT)
    ours, differences = slope_along(loss, linear(), jnp.asarray(random(3, 4, 2)))
    # Rounding of the solves over twice the step, and the step squared.
    np.testing.assert_allclose(ours, differences, rtol=1e-6)


def test_options_reach_the_solver():
    data = jnp.asarray(random(2, 3, 2))
    loss = TrajectoryLoss([0.0, 0.5, 1.0], solver="Euler", dt=0.5)
    step = np.eye(2) + 0.5 * MATRIX
    first = np.asarray(data[:, 0]) @ step.T
    expected = np.mean((np.stack([first, first @ step.T], 1) - data[:, 1:]) ** 2)
    # Rounding alone.
    np.testing.assert_allclose(loss(linear(), data, KEY)[0], expected, rtol=1e-13)


def test_times_of_each_trajectory():
    times = np.sort(random(3, 4), axis=1)
    data = random(3, 4, 2)
    value = TrajectoryLoss(**TIGHT)(linear(), (times, jnp.asarray(data)), KEY)[0]
    found = [exact(MATRIX, t, x[:1])[0] for t, x in zip(times, data, strict=True)]
    expected = np.mean((np.stack(found) - data)[:, 1:] ** 2)
    np.testing.assert_allclose(value, expected, rtol=1e-8)


def test_a_state_that_is_more_than_the_data():
    model = models.AugmentedNeuralODE(2, 1, 4, key=KEY)
    data = jnp.asarray(random(2, 3, 2))
    times = [0.0, 0.5, 1.0]
    short = {"solver": "Euler", "dt": 0.5}
    with pytest.raises(ValueError, match=r"`y`|shape|structure"):
        TrajectoryLoss(times, **short)(model, data, KEY)
    loss = TrajectoryLoss(
        times,
        initial=lambda model, x: model.lift(x),
        observe=lambda model, y: model.project(y),
        **short,
    )
    ys = [np.concatenate([data[:, 0], np.zeros((2, 1))], axis=1)]
    for _ in range(2):
        ys.append(ys[-1] + 0.5 * np.asarray(jax.vmap(lambda y: model(0, y))(ys[-1])))
    expected = np.mean((np.stack(ys[1:], 1)[..., :2] - data[:, 1:]) ** 2)
    np.testing.assert_allclose(loss(model, data, KEY)[0], expected, rtol=1e-13)


def test_a_state_of_two_arrays_and_single_precision():
    data = {
        "a": jnp.asarray(random(2, 3), jnp.float32),
        "b": jnp.asarray(random(2, 3, 2), jnp.float32),
    }

    def field(t, y, args):
        return jax.tree.map(lambda x: args * x, y)

    loss = TrajectoryLoss([0.0, 1.0, 2.0], args=jnp.float32(-0.5))
    value = loss(field, data, KEY)[0]
    assert value.dtype == jnp.float32
    fall = np.exp([-0.5, -1.0])
    misses = [
        data["a"][:, 1:] - data["a"][:, :1] * fall,
        data["b"][:, 1:] - data["b"][:, :1] * fall[:, None],
    ]
    expected = np.mean(np.concatenate([np.ravel(x) for x in misses]) ** 2)
    # The tolerance of solves in single precision, 1e-4.
    np.testing.assert_allclose(value, expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("times", "batch", "match"),
    [
        ([0.0, 1.0], np.zeros((2, 3, 2)), r"of shape \(samples, 2, …\)"),
        ([0.0, 1.0], np.zeros(2), r"of shape \(samples, 2, …\).*\(2,\)"),
        ([0.0, 1.0], (np.zeros((2, 2, 1)), np.zeros((3, 2, 1))), r"\(3, 2, 1\)"),
        (None, np.zeros((2, 3, 2)), r"a pair \(times, trajectories\)"),
        (None, (np.zeros(3), np.zeros((2, 3, 2))), r"shape \(samples, times\).*\(3,\)"),
        (None, (np.zeros((3, 3)), np.zeros((2, 3, 2))), "3 samples, but.*of 2"),
    ],
)
def test_a_batch_of_the_wrong_shape(times, batch, match):
    with pytest.raises(ValueError, match=match):
        TrajectoryLoss(times)(linear(), batch, KEY)


@pytest.mark.parametrize("times", [[0.0], [0.0, 0.0, 1.0], [0.0, np.nan], ["a"], 3.0])
def test_times_out_of_order(times):
    with pytest.raises(ValueError, match="TrajectoryLoss: `times` must be"):
        TrajectoryLoss(times)


def test_models_that_it_is_not_for():
    loss, data = TrajectoryLoss([0.0, 1.0]), jnp.zeros((1, 2, 2))
    with pytest.raises(TypeError, match="take LawLoss"):
        loss(models.DoubleWell(), data, KEY)
    with pytest.raises(TypeError, match="`model` must be a model with a method"):
        loss(3, data, KEY)
    with pytest.raises(TypeError, match="`observe` must be a function"):
        TrajectoryLoss([0.0, 1.0], observe=3)


def half(model, batch, key):
    return model / 2


def noise(model, batch, key):
    return jr.normal(key), {"own": jnp.asarray(7.0)}


def test_a_sum_of_losses_by_hand():
    three = WeightedSum((half, noise), (2.0, 0.5), ("a", "b"))
    value, parts = three(jnp.asarray(3.0), None, KEY)
    drawn = jr.normal(jr.fold_in(KEY, 1))
    np.testing.assert_allclose(value, 2.0 * 1.5 + 0.5 * drawn, rtol=1e-15)
    assert parts == {"a": 1.5, "b": drawn, "b/own": 7.0}


def test_losses_are_added_and_weighted():
    loss, data = TrajectoryLoss([0.0, 1.0], **TIGHT), jnp.asarray(random(2, 2, 2))
    error = loss(linear(), data, KEY)[0]

    def size(model, batch, key):
        return jnp.sum(model.matrix**2)

    def twice(model, batch, key):
        return jnp.asarray(2.0)

    squares = np.sum(MATRIX**2)
    total = 2 * (0.5 * (loss + 3 * WeightedSum([size])) + twice + size + loss)
    assert total.names == ("trajectory", "size", "twice", "size 2", "trajectory 2")
    value, parts = total(linear(), data, KEY)
    np.testing.assert_allclose(value, 3 * error + 5 * squares + 4, rtol=1e-14)
    np.testing.assert_allclose(parts["size 2"], squares, rtol=1e-14)
    assert sum([loss, loss]).weights == (1.0, 1.0)
    assert (size + loss).names == ("size", "trajectory")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: WeightedSum(()), "`terms` must be"),
        (lambda: WeightedSum((half,), (1.0, 2.0)), "`weights` must be 1"),
        (lambda: WeightedSum((half,), ("a",)), "`weights` must be finite"),
        (lambda: WeightedSum((half,), (jnp.inf,)), "`weights` must be finite"),
        (lambda: WeightedSum((half, half), None, ("a", "a")), "`names` must differ"),
        (lambda: WeightedSum((half, half), None, ("a",)), "`names` must be 2"),
        (lambda: TrajectoryLoss([0.0, 1.0]) + 3, "can be added, got 3"),
    ],
)
def test_sums_that_make_no_sense(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()
