"""A latent SDE that learns stochastic Lorenz dynamics from noisy series.

    python examples/latent_lorenz.py

As in Li et al. 2020, Scalable gradients for stochastic differential equations, section
7.2, shorter: the model sees 40 noisy observations of each series, and is trained by a
lower bound of their likelihood, in which the divergence of paths is exact by Girsanov's
theorem.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from command import run
from matplotlib.figure import Figure

from hybrid_nds import SDEProblem, ensemble
from hybrid_nds.models import LatentSDE, Lorenz
from hybrid_nds.training import EvidenceLoss, fit

TIMES = np.linspace(0.0, 2.0, 41)
STEPS = 80
NOISE = 0.05


def series(count: int):
    """Standardized series of Lorenz's system with noise in proportion to the state."""
    lorenz = Lorenz()
    problem = SDEProblem(
        lorenz,
        lambda t, y, args: 0.15 * y,
        jnp.array([1.0, 1.0, 25.0]),
        0.0,
        4.0,
        noise="diagonal",
        interpretation="ito",
    )
    keys = jr.split(jr.key(0), 3)
    starts = problem.y0 + 2 * jr.normal(keys[0], (count, 3))
    # The first two units of time bring all near the attractor.
    saved = ensemble(
        problem,
        count,
        key=keys[1],
        dt=1 / 400,
        solver="Euler",
        initial=starts,
        saveat=2.0 + TIMES,
    ).ys
    flat = np.asarray(saved).reshape(-1, 3)
    scaled = (jnp.asarray(saved) - flat.mean(axis=0)) / flat.std(axis=0)
    return scaled + NOISE * jr.normal(keys[2], scaled.shape)


def example(quick: bool):
    data = series(64 if quick else 512)
    steps = 10 if quick else 700
    trained = fit(
        LatentSDE(3, 4, 48, 1, context=16, deviation=4 * NOISE, key=jr.key(1)),
        data,
        EvidenceLoss(TIMES, warmup=max(steps // 2, 1), steps=STEPS),
        optax.chain(optax.clip_by_global_norm(100.0), optax.adam(5e-3)),
        steps=steps,
        batch_size=32,
        key=jr.key(2),
    )
    model, times = trained.model, jnp.asarray(TIMES)
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    history = trained.history
    for name, values in history.parts.items():
        label = name if name == "log_likelihood" else f"divergence, {name}"
        left.plot(history.steps, values, linewidth=0.7, label=label.replace("_", "-"))
    left.set(xlabel="step", ylabel="nats a series")
    low = np.percentile(history.parts["log_likelihood"], 20)
    left.set_ylim(low, None)
    left.legend()
    drawn = jax.vmap(lambda k: model.generate(times, k, steps=STEPS))
    prior = np.asarray(drawn(jr.split(jr.key(4), 200)))
    for axes, title, shown in (
        (middle, "Data", np.asarray(data)),
        (right, "Drawn from the prior", prior),
    ):
        for curve in shown[:20]:
            axes.plot(curve[:, 0], curve[:, 2], linewidth=0.7)
        axes.set(title=title, xlabel="x", ylabel="z", xlim=(-3, 3), ylim=(-3, 3))
    final = {name: float(np.mean(x[-20:])) for name, x in history.parts.items()}
    return figure, {
        "log-likelihood, last 20 steps": final["log_likelihood"],
        "bound, last 20 steps": final["log_likelihood"]
        - final["initial"]
        - final["path"],
        "spread of x at t = 1, data": float(np.std(data[:, 20, 0])),
        "spread of x at t = 1, prior": float(np.std(prior[:, 20, 0])),
    }


if __name__ == "__main__":
    run("latent_lorenz", example)
