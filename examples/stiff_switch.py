"""A stiff neural SDE learned from snapshots: a genetic switch in noise.

    python examples/stiff_switch.py

A protein p activates its own production: dm = (h(p) - m)/ε dt for the messenger, which
is fast, and dp = (m - p) dt + σ dW. The law of p has two modes. A network stands for
the unknown h, and is trained on the energy distance of laws, by pathwise gradients
through drift-implicit steps of Julia, twelve times as long as ε; Euler's explicit steps
of that length diverge. Without a Julia, Diffrax takes sixteen explicit steps for each.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from command import backends, run
from matplotlib.figure import Figure

from hybrid_nds import solve
from hybrid_nds.measures import energy_distance
from hybrid_nds.models import StochasticModel
from hybrid_nds.training import LawLoss, fit

FAST = 1 / 200
TIMES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
STEP = 1 / 16
STEPS = {
    "julia": {"backend": "julia", "solver": "ImplicitEM", "dt": STEP},
    "diffrax": {"backend": "diffrax", "solver": "Euler", "dt": STEP / 16},
}


def production(p):
    """The true rate, of Hill's form."""
    return 0.25 + 2 * p**4 / (1 + p**4)


class Switch(StochasticModel):
    """A fast messenger and a slow protein."""

    rate: eqx.nn.MLP | None
    log_strength: jax.Array
    noise: str = eqx.field(static=True)
    interpretation: str = eqx.field(static=True)

    def __init__(self, rate, strength):
        self.rate, self.log_strength = rate, jnp.log(jnp.asarray(strength))
        self.noise, self.interpretation = "additive", "ito"

    def production(self, p):
        if self.rate is None:
            return production(p)
        return jax.nn.softplus(self.rate(p))

    def drift(self, t, y, args):
        m, p = y
        return jnp.stack([(self.production(p) - m) / FAST, m - p])

    def diffusion(self, t, y, args):
        return jnp.stack([0.0 * self.log_strength, jnp.exp(self.log_strength)])


def laws(model, starts, key, steps):
    """Solutions from all starts at `TIMES`, with noise of their own."""

    @eqx.filter_jit
    def solved(model, starts, keys):
        one = lambda y0, key: solve(
            model.problem(y0, 0.0, TIMES[-1]),
            saveat=np.array(TIMES),
            key=key,
            throw=False,
            **steps,
        )
        return jax.vmap(lambda *given: one(*given).ys)(starts, keys)

    return np.asarray(solved(model, starts, jr.split(key, len(starts))))


def example(quick: bool):
    samples, steps = (64, 3) if quick else (512, 600)
    keys = jr.split(jr.key(0), 5)
    truth = Switch(None, 0.35)
    p = jr.uniform(keys[0], (2 * samples,), minval=0.2, maxval=1.6)
    starts = jnp.stack([production(p), p], axis=1)
    data = laws(truth, starts, keys[1], STEPS["diffrax"])
    seen, unseen = data[:samples], data[samples:]
    network = eqx.nn.MLP("scalar", "scalar", 16, 2, jnp.tanh, key=keys[2])
    backend = backends()[-1]
    trained = fit(
        Switch(network, 0.7),
        jnp.asarray(seen),
        LawLoss(TIMES, "energy", **STEPS[backend]),
        optax.adam(optax.cosine_decay_schedule(2e-2, steps)),
        steps=steps,
        batch_size=min(256, samples),
        key=keys[3],
    )
    learned = trained.model
    found = laws(learned, starts[samples:], keys[4], STEPS[backend])
    explicit = {"backend": "diffrax", "solver": "Euler", "dt": STEP}
    lost = laws(learned, starts[samples:][:8], keys[4], explicit)
    shown = np.linspace(0.2, 2.4, 100)
    rates = np.asarray(jax.vmap(learned.production)(shown))
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    bins = np.linspace(-1.0, 4.0, 41)
    for color, index in enumerate((1, 5)):
        for label, sample, style in (
            ("data", unseen, {"alpha": 0.4}),
            ("learned", found, {"histtype": "step", "lw": 2}),
        ):
            left.hist(
                sample[:, index, 1],
                bins,
                density=True,
                color=f"C{color}",
                label=f"{label}, t = {TIMES[index]:g}",
                **style,
            )
    left.set(
        xlabel="protein p", ylabel="density", title="Distributions of unseen solutions"
    )
    left.legend(fontsize=8)
    right.plot(shown, production(shown), "k", label="true")
    right.plot(shown, rates, "C3--", label="learned")
    right.plot(shown, shown, ":", color="gray", label="decay")
    right.set(xlabel="protein p", ylabel="production h(p)", title="What was learned")
    right.legend(fontsize=8)
    distance = energy_distance(found[:, -1, 1], unseen[:, -1, 1]).value
    return figure, {
        "energy distance at the end, unseen": float(distance),
        "largest error of the rate": float(np.max(np.abs(rates - production(shown)))),
        "strength of the noise": float(jnp.exp(learned.log_strength)),
        "decades that Euler's explicit steps grow": float(
            np.log10(np.max(np.abs(lost)))
        ),
    }


if __name__ == "__main__":
    run("stiff_switch", example)
