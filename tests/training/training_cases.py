"""A training small enough for tests that still has everything that must be resumed."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from hybrid_nds.training import fit

TIMES = np.linspace(0.0, 1.0, 5)
STARTS = np.random.default_rng(0).normal(size=(40, 2))
# Rotation and decay, in closed form.
TURN = np.stack(
    [
        np.exp(-0.3 * t) * np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
        for t in TIMES
    ]
)
PATHS = np.einsum("tij,nj->nti", TURN, STARTS)


class Field(eqx.Module):
    network: eqx.nn.MLP
    calls: jax.Array

    def __init__(self, key, width=8):
        self.network = eqx.nn.MLP(2, 2, width, 1, activation=jnp.tanh, key=key)
        self.calls = jnp.arange(3)

    def __call__(self, t, y, args):
        return self.network(y)


def noisy_loss(model, batch, key):
    """Mean squares along a solve that starts beside the data, by chance."""
    start = batch[:, 0] + 0.01 * jr.normal(key, batch[:, 0].shape)

    def step(y, t):
        slope = model(t, y, None)
        new = y + 0.125 * (slope + model(t, y + 0.25 * slope, None))
        return new, new

    def solve(y0):
        return jnp.stack([y0, *jax.lax.scan(step, y0, TIMES[1:])[1]])

    return _measured(jax.vmap(solve)(start) - batch)


def diffrax_loss(model, batch, key):
    """The same, solved by Diffrax with adaptive steps."""
    start = batch[:, 0] + 0.01 * jr.normal(key, batch[:, 0].shape)

    def solve(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(model),
            diffrax.Tsit5(),
            0.0,
            1.0,
            0.25,
            y0,
            saveat=diffrax.SaveAt(ts=jnp.asarray(TIMES)),
            stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-6),
        ).ys

    return _measured(jax.vmap(solve)(start) - batch)


def _measured(error):
    return jnp.mean(error**2), {"worst": jnp.abs(error).max()}


def optimizer(rate=1e-2):
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(optax.cosine_decay_schedule(rate, 5000)),
    )


def train(checkpoint=None, **changes):
    """The training, or one like it."""
    given = {
        "model": Field(jr.key(1)),
        "data": PATHS[:30],
        "loss": noisy_loss,
        "optimizer": optimizer(),
        "steps": 100,
        "batch_size": 7,
        "key": jr.key(2),
        "validation": PATHS[30:],
        "validate_every": 15,
        "checkpoint_every": 10,
    } | changes
    return fit(checkpoint=checkpoint, **given)


def bits(done):
    """All that a training gives, as bytes by name."""
    history = done.history
    arrays = {
        "loss": history.loss,
        "worst": history.parts["worst"],
        "validation": history.validation_loss,
        "validated": history.validation_steps,
    }
    trees = (done.model, done.best_model, done.optimizer_state)
    leaves = jax.tree_util.tree_leaves(eqx.filter(trees, eqx.is_array))
    found = {name: np.asarray(x).tobytes() for name, x in arrays.items()}
    found |= {str(k): np.asarray(x).tobytes() for k, x in enumerate(leaves)}
    return found | {"steps": (done.steps, done.best_step, done.stopped_early)}
