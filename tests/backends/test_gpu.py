"""On a GPU: nothing leaves the device, and results are those of the CPU to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hybrid_nds import BrownianPath, Moments, NativePath, SDEProblem, ensemble, solve
from hybrid_nds.training import fit

pytestmark = pytest.mark.gpu

EPS = np.finfo(float).eps
STEPS = 200


def problem(y0=None):
    return SDEProblem(
        lambda t, y, a: -(y**3),
        lambda t, y, a: a * jnp.cos(y),
        jnp.ones(2) if y0 is None else y0,
        0.0,
        1.0,
        jnp.asarray(0.4),
        noise="diagonal",
    )


@pytest.mark.parametrize("kind", [BrownianPath, NativePath])
def test_increments_are_those_of_the_cpu(gpu, kind):
    step = 1 / STEPS if kind is BrownianPath else STEPS

    def drawn():
        return kind(jax.random.key(1), 2, 0.0, 1.0, step, "space-time").increments()

    with jax.default_device(jax.devices("cpu")[0]):
        expected = jax.jit(drawn)()
    for ours, theirs in zip(jax.jit(drawn)(), expected, strict=True):
        assert ours.devices() == {gpu}
        # The same bits; the inverse error function by another library, of numbers of
        # size four, at each of eight levels.
        np.testing.assert_allclose(ours, theirs, atol=8 * 16 * EPS)


@pytest.mark.parametrize("paths", ["shared", "native"])
def test_solves_and_their_gradients_stay_on_the_device(gpu, paths):
    def loss(y0, key):
        options = {"solver": "Euler", "dt": 1 / STEPS, "paths": paths}
        return jnp.sum(solve(problem(y0), key=key, **options).ys ** 2)

    both = jax.jit(jax.vmap(jax.value_and_grad(loss), in_axes=(None, 0)))
    y0, keys = jnp.ones(2), jax.random.split(jax.random.key(2), 16)
    # A first call compiles, and may put constants on the device.
    both(y0, keys)
    with jax.transfer_guard("disallow"):
        found = jax.block_until_ready(both(y0, keys))
    with jax.default_device(jax.devices("cpu")[0]):
        host = jax.device_put((y0, keys), jax.devices("cpu")[0])
        expected = both(*host)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.devices() == {gpu}
        # Two hundred steps of a contraction, a few roundings each.
        np.testing.assert_allclose(ours, theirs, rtol=STEPS * 32 * EPS)


def test_ensembles_are_those_of_the_cpu(gpu):
    options = {"solver": "Euler", "dt": 1 / STEPS, "reduce": Moments()}
    key = jax.random.key(3)
    found = ensemble(problem(), 512, key=key, paths="native", **options).reduced
    with jax.default_device(jax.devices("cpu")[0]):
        same = ensemble(problem(), 512, key=key, paths="native", **options).reduced
    np.testing.assert_allclose(found.mean, same.mean, rtol=STEPS * 32 * EPS)


def test_training_runs_there(gpu):
    def loss(model, batch, key):
        def end(y0, key):
            made = problem(model * y0)
            return solve(made, solver="Euler", key=key, dt=1 / STEPS).ys[-1]

        keys = jax.random.split(key, len(batch))
        return jnp.mean((jax.vmap(end)(batch, keys) - 0.5) ** 2)

    trained = fit(
        jnp.ones(2),
        jnp.ones((32, 2)),
        loss,
        optax.adam(1e-2),
        steps=30,
        key=jax.random.key(4),
    )
    losses = np.asarray(trained.history.loss)
    assert trained.model.devices() == {gpu}
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
