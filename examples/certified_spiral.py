"""A neural ODE trained on noisy data, and its stability certified on both backends.

    python examples/certified_spiral.py

Data of a damped oscillator; the model is trained to follow it and, by a price on the
logarithmic norm of its Jacobian, to contract. Then: do both backends agree on it, where
does it rest, how fast do neighbours come together?
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from command import backends, run
from matplotlib.figure import Figure

from hybrid_nds import ODEProblem, solve
from hybrid_nds.models import NeuralODE
from hybrid_nds.reconcile import reconcile
from hybrid_nds.stability import equilibria, lyapunov_spectrum
from hybrid_nds.training import ContractionPenalty, TrajectoryLoss, fit

TIMES = np.linspace(0.0, 4.0, 25)
TRUE = np.array([[-0.4, 2.0], [-2.0, -0.4]])


def oscillator(t, y, args):
    return jnp.asarray(TRUE) @ y - 0.2 * y**3


def example(quick: bool):
    first, second = jr.split(jr.key(0))
    starts = jr.uniform(first, (32, 2), minval=-1.5, maxval=1.5)

    def truth(start):
        problem = ODEProblem(oscillator, start, 0.0, TIMES[-1])
        return solve(problem, saveat=TIMES).ys

    clean = jax.vmap(truth)(starts)
    noise = 0.03 * jr.normal(second, clean.shape)
    # The starts are known.
    data = clean + noise.at[:, 0].set(0.0)
    error = TrajectoryLoss(TIMES, rtol=1e-4, atol=1e-6)
    expansion = ContractionPenalty((-2 * jnp.ones(2), 2 * jnp.ones(2)), rate=0.1)
    steps = 30 if quick else 700
    trained = fit(
        NeuralODE(2, 24, 2, key=jr.key(1)),
        data,
        error + 0.1 * expansion,
        optax.adam(optax.cosine_decay_schedule(1e-2, steps)),
        steps=steps,
        batch_size=16,
        key=jr.key(2),
    )
    model = trained.model
    problem = model.problem(jnp.array([1.5, 0.0]), 0.0, 20.0)
    findings = {"mean squared error": float(trained.history.parts["trajectory"][-1])}
    if "julia" in backends() and not quick:
        report = reconcile(problem, rungs=["L0", "L1", "L2"])
        print(report)
        findings["rungs that hold"] = float(
            sum(r.verdict == "passed" for r in report.rungs)
        )
    rest = equilibria(problem, region=(-2.0, 2.0), key=jr.key(3))
    print(rest)
    findings["spectral abscissa at rest"] = float(rest.eigenvalues[0].real.max())
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for backend in backends():
        spectrum = lyapunov_spectrum(
            problem, backend=backend, transient=20.0, time=40.0 if quick else 100.0
        )
        print(spectrum)
        times, trace = spectrum.trace_times, spectrum.trace
        right.plot(times, trace[:, 0], label=f"top exponent, {backend}")
        findings[f"top Lyapunov exponent, {backend}"] = float(spectrum.exponents[0])
    abscissa = findings["spectral abscissa at rest"]
    right.axhline(abscissa, color="black", linestyle="--", label="spectral abscissa")
    right.set(xlabel="time", ylabel="rate", title="Neighbours come together")
    right.legend()
    side = np.linspace(-2.0, 2.0, 25)
    grid = jnp.asarray(np.stack(np.meshgrid(side, side), axis=-1))
    arrows = np.asarray(jax.vmap(jax.vmap(lambda y: model(0.0, y)))(grid))
    left.streamplot(side, side, arrows[..., 0], arrows[..., 1], color="0.8")
    for series in np.asarray(data[:6]):
        left.plot(*series.T, ".", markersize=4)
    left.set_prop_cycle(None)
    fine = np.linspace(0.0, TIMES[-1], 200)
    for start in starts[:6]:
        follow = model.problem(start, 0.0, TIMES[-1])
        left.plot(*np.asarray(solve(follow, saveat=fine).ys).T, linewidth=1)
    left.plot(*rest.points.T, "k*", markersize=12)
    left.set(title="Trained, with six of the series", xlim=(-2, 2), ylim=(-2, 2))
    return figure, findings


if __name__ == "__main__":
    run("certified_spiral", example)
