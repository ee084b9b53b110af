"""A stiff chemical network learned from data: rates by the law of mass action.

    python examples/stiff_kinetics.py

Robertson's kinetics over eight decades of time. The surrogate is a reaction network
(Ji & Deng 2021): the rate of each reaction is exp(w · log y + b), with known
stoichiometry and all exponents and rate constants to be learned. It is trained through
a stiff solver, Julia's Rodas5P where there is a Julia and Diffrax's Kvaerno5 elsewhere,
and then put to both and to the analysis of stiffness.
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
from hybrid_nds.models import ContinuousModel, Robertson
from hybrid_nds.stability import stiffness
from hybrid_nds.training import fit

# Each column a reaction: A -> B, B + B -> C + B, B + C -> A + C.
STOICHIOMETRY = np.array([[-1.0, 0.0, 1.0], [1.0, -1.0, -1.0], [0.0, 1.0, 0.0]])
ORDERS = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
START = np.array([1.0, 0.0, 0.0])
SOLVERS = {"diffrax": "Kvaerno5", "julia": "Rodas5P"}
TOLERANCES = {"rtol": 1e-6, "atol": 1e-10}
SCALE = np.array([1.0, 3e-5, 1.0])


class ReactionNetwork(ContinuousModel):
    """Reactions whose rates are powers of the concentrations."""

    orders: jax.Array
    log_rates: jax.Array

    def __call__(self, t, y, args):
        logs = jnp.log(jnp.maximum(y, 1e-12))
        return jnp.asarray(STOICHIOMETRY) @ jnp.exp(self.orders @ logs + self.log_rates)


class MeanSquare(eqx.Module):
    """Mean squared error of concentrations, each in its own unit."""

    backend: str = eqx.field(static=True)

    def __call__(self, model, batch, key):
        times, expected = batch
        problem = model.problem(jnp.asarray(START), 0.0, times[0, -1])
        found = solve(
            problem,
            self.backend,
            solver=SOLVERS[self.backend],
            saveat=times[0],
            throw=False,
            **TOLERANCES,
        ).ys
        return jnp.mean(((found - expected[0]) / SCALE) ** 2)


def example(quick: bool):
    truth = Robertson()
    times = jnp.asarray(np.geomspace(1e-5, 1e5, 40))
    problem = truth.problem(START, 0.0, 1e5)
    tight = {"solver": "Kvaerno5", "rtol": 1e-10, "atol": 1e-14}
    data = solve(problem, saveat=times, **tight).ys
    first, second = jr.split(jr.key(0))
    model = ReactionNetwork(
        jnp.asarray(ORDERS) + 0.1 * jr.normal(first, (3, 3)),
        jnp.log(jnp.array([0.04, 3e7, 1e4])) + 0.5 * jr.normal(second, (3,)),
    )
    steps = 5 if quick else 800
    trained = fit(
        model,
        (times[None], data[None]),
        MeanSquare(backends()[-1]),
        optax.chain(
            optax.clip_by_global_norm(10.0),
            optax.adam(optax.cosine_decay_schedule(2e-2, steps)),
        ),
        steps=steps,
        key=jr.key(1),
    )
    surrogate = trained.model
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    learned = surrogate.problem(START, 0.0, 1e5)
    findings = {
        "loss": float(trained.history.loss[-1]),
        "largest error of an order": float(np.max(np.abs(surrogate.orders - ORDERS))),
    }
    shown = np.geomspace(1e-5, 1e5, 200)
    ends = {}
    for backend in backends():
        solver = SOLVERS[backend]
        options = {"solver": solver, "rtol": 1e-8, "atol": 1e-12, "saveat": shown}
        ys = np.asarray(solve(learned, backend, **options).ys)
        ends[backend] = ys[-1]
        first = backend == "diffrax"
        for index, name in enumerate("ABC"):
            left.semilogx(
                shown,
                ys[:, index] / (3e-5 if name == "B" else 1.0),
                "-" if first else ":",
                color=f"C{index}" if first else "black",
                label=name if first else f"{solver}, Julia" if name == "A" else None,
            )
    for index in range(3):
        unit = 3e-5 if index == 1 else 1.0
        left.semilogx(times, data[:, index] / unit, "o", mfc="none", color=f"C{index}")
    left.set(xlabel="time, s", ylabel="A, B/3e-5, C", title="Learned, and the data (o)")
    left.legend(fontsize=8, loc="center right", bbox_to_anchor=(1.0, 0.6))
    if len(ends) == 2:
        gaps = np.abs(ends["diffrax"] - ends["julia"]) / SCALE
        findings["ends on both backends, largest difference"] = float(np.max(gaps))
    for name, kind, color in (("learned", learned, "C3"), ("true", problem, "black")):
        found = stiffness(
            eqx.tree_at(lambda p: p.t1, kind, jnp.asarray(40.0)),
            backend="diffrax",
            rtol=1e-6,
            atol=1e-10,
        )
        right.loglog(found.times[1:], found.radii[1:], color=color, label=name)
        findings[f"implicit steps to 40 s, {name}"] = float(found.implicit_steps)
        findings[f"explicit steps to 40 s, {name}"] = float(found.explicit_steps)
    right.set(
        xlim=(1e-3, 40.0),
        ylim=(1e3, 1e4),
        xlabel="time, s",
        ylabel="fastest rate, 1/s",
        title="Stiffness",
    )
    right.legend()
    return figure, findings


if __name__ == "__main__":
    run("stiff_kinetics", example)
