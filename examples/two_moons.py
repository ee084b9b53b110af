"""A continuous normalizing flow on two moons.

    python examples/two_moons.py

The flow carries the standard normal distribution to that of the data. It is trained by
maximum likelihood with Hutchinson's trace, and judged with the exact one, by an
integral of its density that must be one, and by whether its samples can be told from
data that it has not seen.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from command import run
from matplotlib.figure import Figure

from hybrid_nds import compare_laws
from hybrid_nds.models import ContinuousNormalizingFlow
from hybrid_nds.training import NegativeLogLikelihood, fit

SOLVER = {"solver": "Tsit5", "rtol": 1e-3, "atol": 1e-4}
JUDGE = {"solver": "Tsit5", "rtol": 1e-5, "atol": 1e-7}


def moons(key, count):
    """Two interleaved half circles with noise, standardized as a distribution."""
    angle, side, noise = jr.split(key, 3)
    turned = jnp.pi * jr.uniform(angle, (count,))
    upper = jr.bernoulli(side, shape=(count,))
    x = jnp.where(upper, jnp.cos(turned), 1 - jnp.cos(turned))
    y = jnp.where(upper, jnp.sin(turned), 0.5 - jnp.sin(turned))
    points = jnp.stack([x - 0.5, y - 0.25], axis=-1)
    return 1.5 * points + 0.1 * jr.normal(noise, (count, 2))


def example(quick: bool):
    data, unseen = moons(jr.key(0), 4096), moons(jr.key(1), 500)
    steps = 60 if quick else 1500
    trained = fit(
        ContinuousNormalizingFlow(2, 32, 2, key=jr.key(2), dtype=jnp.float64),
        data,
        NegativeLogLikelihood(hutchinson=True, **SOLVER),
        optax.adam(optax.cosine_decay_schedule(3e-3, steps)),
        steps=steps,
        batch_size=128,
        key=jr.key(3),
        validation=unseen,
        validation_loss=NegativeLogLikelihood(**JUDGE),
        validate_every=max(steps // 5, 1),
    )
    flow = trained.model
    samples = np.asarray(flow.sample(jr.key(4), 500, **JUDGE))
    side = np.linspace(-3.5, 3.5, 60 if quick else 120)
    grid = jnp.asarray(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2))
    log_density = jax.jit(jax.vmap(lambda x: flow.log_prob(x, **JUDGE)))(grid)
    density = np.exp(np.asarray(log_density)).reshape(side.size, side.size)
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot(*np.asarray(unseen).T, ".", markersize=3, label="data")
    left.plot(*samples.T, ".", markersize=3, label="samples of the flow")
    left.legend(loc="lower left")
    image = middle.pcolormesh(side, side, density, rasterized=True)
    figure.colorbar(image, ax=middle, label="density")
    for axes in (left, middle):
        axes.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
    history = trained.history
    right.plot(history.steps, history.loss, linewidth=0.5, label="batches, Hutchinson")
    right.plot(history.validation_steps, history.validation_loss, "o-", label="unseen")
    right.set(xlabel="step", ylabel="minus mean log-density, nats")
    right.legend()
    told = compare_laws(samples, np.asarray(unseen))
    return figure, {
        "minus mean log-density of unseen data": float(history.validation_loss[-1]),
        "integral of the density": float(density.sum() * (side[1] - side[0]) ** 2),
        "least p-value of samples against data": told.worst.adjusted,
    }


if __name__ == "__main__":
    run("two_moons", example)
