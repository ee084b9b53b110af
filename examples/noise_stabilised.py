"""A network that is stable only because of noise, on both backends.

    python examples/noise_stabilised.py

The network at rest is unstable. Noise common to all its neurons, in proportion to
their state, makes it stable almost surely: every Lyapunov exponent falls by σ²/2. Its
second moment grows all the faster, so both are shown: almost sure and mean-square
stability are different things.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from command import backends, run
from matplotlib.figure import Figure

from hybrid_nds import solve
from hybrid_nds.models import CommonNoiseSDE
from hybrid_nds.stability import lyapunov_spectrum, moment_exponent

SIZE = 4


def example(quick: bool):
    model = CommonNoiseSDE(SIZE, 16, 1, key=jr.key(3))
    A = jax.jacfwd(lambda y: model.drift(0.0, y))(jnp.zeros(SIZE))
    top = float(np.max(np.linalg.eigvals(np.asarray(A)).real))
    strengths = np.linspace(0.0, 1.5, 4 if quick else 7)[1:]
    time = 40.0 if quick else 400.0
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    findings = {"exponent without noise": top}
    marks = {"diffrax": "o", "julia": "x"}
    for backend in backends():
        found = []
        for strength in strengths:
            noisy = eqx.tree_at(lambda m: m.strength, model, jnp.asarray(strength))
            spectrum = lyapunov_spectrum(
                noisy.problem(jnp.zeros(SIZE), 0.0, time),
                exponents=1,
                backend=backend,
                solver="Euler",
                dt=1 / 256,
                time=time,
                chains=8,
                key=jr.key(1),
            )
            found.append((spectrum.exponents[0], spectrum.standard_errors[0]))
        values, errors = np.array(found).T
        right.errorbar(
            strengths,
            values,
            2 * errors,
            fmt=marks[backend],
            mfc="none",
            capsize=3,
            label=f"top exponent, {backend}",
        )
        findings[f"largest error over its standard error, {backend}"] = float(
            np.max(np.abs(values - (top - strengths**2 / 2)) / errors)
        )
        findings[f"exponent at σ = {strengths[-1]:g}, {backend}"] = float(values[-1])
    fine = np.linspace(0.0, 1.5, 100)
    right.plot(
        fine,
        top - fine**2 / 2,
        color="black",
        linewidth=0.8,
        label="without noise, −σ²/2",
    )
    second = []
    for strength in strengths:
        noisy = eqx.tree_at(lambda m: m.strength, model, jnp.asarray(strength))
        linear = Linearized(A, noisy.strength)
        problem = noisy.problem(jnp.zeros(SIZE), 0.0, 1.0)
        problem = eqx.tree_at(lambda p: p.drift, problem, linear)
        second.append(moment_exponent(problem, 2, method="exact").value / 2)
    right.plot(strengths, second, "s-", color="tab:red", label="second moment, half")
    right.axhline(0.0, color="grey", linewidth=0.5)
    right.set(xlabel="strength σ of the noise", ylabel="rate", title="At rest")
    right.legend()
    start = 0.1 * jnp.ones(SIZE)
    for strength, color in ((0.0, "tab:blue"), (1.5, "tab:orange")):
        noisy = eqx.tree_at(lambda m: m.strength, model, jnp.asarray(strength))
        solution = solve(
            noisy.problem(start, 0.0, 20.0),
            solver="Euler",
            dt=1 / 256,
            key=jr.key(2),
            saveat="steps",
        )
        size = np.linalg.norm(np.asarray(solution.ys), axis=1)
        left.semilogy(solution.ts, size, color=color, label=f"σ = {strength:g}")
    left.set(xlabel="time", ylabel="norm of the state", title="The whole network")
    left.legend()
    return figure, findings


class Linearized(eqx.Module):
    """The network at rest, to first order."""

    matrix: jax.Array
    strength: jax.Array

    def __call__(self, t, y, args):
        return self.matrix @ y


if __name__ == "__main__":
    run("noise_stabilised", example)
