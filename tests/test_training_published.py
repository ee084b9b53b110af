"""The losses of published examples are reached."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

from hybrid_nds.training import fit

TIMES = np.linspace(0, 10, 100, dtype=np.float32)


class Field(eqx.Module):
    network: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.network(y)


def oscillators(starts):
    """Deformed sines and cosines, solved by SciPy, shape (256, 100, 2)."""

    def field(t, y):
        x = y / (1 + y)
        return [x[1], -x[0]]

    paths = [
        solve_ivp(field, (0, 10), y0, t_eval=TIMES, rtol=1e-6, atol=1e-9).y.T
        for y0 in starts
    ]
    return np.array(paths, np.float32)


def loss(model, batch, key):
    times = jnp.asarray(TIMES[: batch.shape[1]])

    def solve(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(model),
            diffrax.Tsit5(),
            times[0],
            times[-1],
            times[1] - times[0],
            y0,
            stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6),
            saveat=diffrax.SaveAt(ts=times),
        ).ys

    return jnp.mean((jax.vmap(solve)(batch[:, 0]) - batch) ** 2)


def batches(paths, key):
    """In the order of the example, which leaves out the last batch of each epoch."""
    paths = jnp.asarray(paths)
    while True:
        order = jr.permutation(key, jnp.arange(256))
        (key,) = jr.split(key, 1)
        for start in range(0, 224, 32):
            yield paths[order[start : start + 32]]


@pytest.mark.slow
def test_the_neural_ode_of_diffrax():
    """Its documentation prints 0.00115 after 1000 steps: the loss of one batch, so the
    weights, data and batches here are drawn from the same keys."""
    with jax.enable_x64(False):
        data_key, model_key, key = jr.split(jr.PRNGKey(5678), 3)
        starts = jax.vmap(lambda k: jr.uniform(k, (2,), minval=-0.6, maxval=1.0))(
            jr.split(data_key, 256)
        )
        paths = oscillators(np.asarray(starts, float))
        softplus = jax.nn.softplus
        model = Field(eqx.nn.MLP(2, 2, 64, 2, activation=softplus, key=model_key))
        # First on a tenth of each path.
        for points in (10, 100):
            data = batches(paths[:, :points], key)
            done = fit(model, data, loss, optax.adabelief(3e-3), steps=500, key=key)
            model = done.model
        assert done.history.loss[-1] <= 0.00115
