"""From a trained residual network to its equation: what depth is worth.

    python examples/resnet_to_ode.py

A residual network of 16 blocks learns to tell two spirals apart. Its weights are then
read as a path over depth: networks of any depth along that path approach the solution
of one equation, the distance falling as the first power of the depth, as Euler's steps
do.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from command import backends, run
from matplotlib.figure import Figure

from hybrid_nds import solve
from hybrid_nds.discretization import depth_scaling
from hybrid_nds.models import ResNet
from hybrid_nds.training import fit

BLOCKS = 16


def spirals(key, count):
    """Two spirals in the plane, and which of them a point is on."""
    place, noise = jr.split(key)
    along = jr.uniform(place, (count,), minval=0.3, maxval=1.0)
    sign = jnp.where(jnp.arange(count) % 2 == 0, 1.0, -1.0)
    angle = 1.7 * jnp.pi * along
    points = (
        sign[:, None]
        * along[:, None]
        * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    )
    return points + 0.01 * jr.normal(noise, (count, 2)), sign


def lifted(points):
    """Two more dimensions, in which trajectories need not cross."""
    return jnp.concatenate([points, jnp.zeros_like(points)], axis=-1)


def loss(network, batch, key):
    """Logistic, of the third component, and a price on changes of weights in depth."""
    points, sign = batch
    margins = sign * jax.vmap(network)(lifted(points))[:, 2]
    arrays = jax.tree.leaves(network.networks)
    change = sum(
        jnp.sum((w[1:] - w[:-1]) ** 2) for w in arrays if isinstance(w, jax.Array)
    )
    return jnp.mean(jax.nn.softplus(-4 * margins)) + 1e-3 * BLOCKS * change, {
        "accuracy": jnp.mean(margins > 0)
    }


def example(quick: bool):
    data = spirals(jr.key(0), 512)
    steps = 150 if quick else 3000
    network = ResNet(4, BLOCKS, 16, 1, duration=2.0, key=jr.key(1))
    trained = fit(
        network,
        data,
        loss,
        optax.adam(optax.cosine_decay_schedule(1e-2, steps)),
        steps=steps,
        key=jr.key(2),
    ).model
    ode = trained.ode()
    unseen, sign = spirals(jr.key(3), 256)
    x = lifted(unseen)[:8]
    tight = {"solver": "Dopri8", "rtol": 1e-10, "atol": 1e-12}

    def end(start):
        return solve(ode.problem(start, 0.0, 2.0), **tight).ys[-1]

    limit = jax.vmap(end)(x)
    scaling = depth_scaling(
        lambda depth: jax.vmap(ode.resnet(depth, 2.0))(x),
        limit,
        depths=(32, 64, 128) if quick else (32, 64, 128, 256, 512, 1024),
    )
    findings = {
        "slope of the distance over depth": scaling.slope,
        "share of unseen points told right": float(
            jnp.mean(jnp.sign(jax.vmap(trained)(lifted(unseen))[:, 2]) == sign)
        ),
        "the same by the equation": float(
            jnp.mean(jnp.sign(jax.vmap(end)(lifted(unseen))[:, 2]) == sign)
        ),
    }
    if "julia" in backends():
        problem = ode.problem(x[0], 0.0, 2.0)
        julia = solve(problem, "julia", solver="Vern9", rtol=1e-10, atol=1e-12).ys[-1]
        findings["equation on both backends, largest difference"] = float(
            np.max(np.abs(np.asarray(julia) - np.asarray(limit[0])))
        )
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    side = jnp.linspace(-1.3, 1.3, 121)
    grid = jnp.stack(jnp.meshgrid(side, side), axis=-1).reshape(-1, 2)
    score = jax.vmap(trained)(lifted(grid))[:, 2].reshape(121, 121)
    shade = {"cmap": "coolwarm", "vmin": -2, "vmax": 2, "rasterized": True}
    left.pcolormesh(side, side, np.sign(score), **shade)
    left.scatter(*unseen.T, c=sign, s=8, cmap="coolwarm")
    left.set(title=f"Trained, {BLOCKS} blocks", aspect="equal")
    right.loglog(scaling.sizes, scaling.errors, "o-", label="distance to the equation")
    line = scaling.errors[0] * scaling.sizes[0] / scaling.sizes
    right.loglog(scaling.sizes, line, "--", color="grey", label="slope −1")
    right.set(xlabel="depth", ylabel="distance", title="Weights as a path over depth")
    right.legend()
    return figure, findings


if __name__ == "__main__":
    run("resnet_to_ode", example)
