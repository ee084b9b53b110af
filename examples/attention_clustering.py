"""Tokens that attend to each other cluster, as the theory says.

    python examples/attention_clustering.py

Left: tokens on the circle under softmax attention at two temperatures; at the lower
one (β = 9) they linger in several clusters before these merge (Geshkovski, Letrouit,
Polyanskiy & Rigollet 2025). Right: from an orthonormal start all products of tokens are
equal, and follow one scalar equation, softmax or not.
"""

from __future__ import annotations

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from command import run
from matplotlib.figure import Figure

from hybrid_nds import ODEProblem, solve
from hybrid_nds.models import Attention

TOKENS = 8


def product(normalization: str, beta: float):
    """The derivative of the product of two tokens from an orthonormal start."""

    def field(t, gamma, args):
        raised = jnp.exp(beta * gamma)
        shared = (1 - gamma) * ((TOKENS - 1) * gamma + 1)
        if normalization == "softmax":
            return 2 * raised * shared / (jnp.exp(beta) + (TOKENS - 1) * raised)
        return 2 / TOKENS * raised * shared

    return field


def example(quick: bool):
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    tokens = 16 if quick else 32
    angles = jr.uniform(jr.key(4), (tokens,), maxval=2 * jnp.pi)
    circle = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    times = np.linspace(0.0, 16.0, 200)
    for beta, color in ((1.0, "tab:blue"), (9.0, "tab:orange")):
        problem = Attention(2, beta).problem(circle, 0.0, times[-1])
        ys = np.asarray(solve(problem, saveat=times).ys)
        turned = np.unwrap(np.arctan2(ys[..., 1], ys[..., 0]), axis=0)
        lines = left.plot(times, turned, color=color, linewidth=0.6)
        lines[0].set_label(f"β = {beta:g}")
    left.set(xlabel="time", ylabel="angle of a token", title="On the circle")
    left.legend()
    findings = {}
    fine = np.linspace(0.0, 6.0, 121)
    marks = fine[::10]
    for normalization, color in (("softmax", "tab:green"), ("mean", "tab:red")):
        beta = 2.0
        model = Attention(TOKENS, beta, normalization=normalization)
        problem = model.problem(jnp.eye(TOKENS), 0.0, marks[-1])
        tight = {"solver": "Dopri8", "rtol": 1e-10, "atol": 1e-12, "saveat": marks}
        ys = np.asarray(solve(problem, **tight).ys)
        products = np.einsum("tid,tjd->tij", ys, ys)[:, 0, 1]
        start = jnp.zeros(())
        scalar = ODEProblem(product(normalization, beta), start, 0.0, marks[-1])
        curve = np.asarray(solve(scalar, **(tight | {"saveat": fine})).ys)
        exact = curve[::10]
        right.plot(fine, curve, color=color, label=f"one equation, {normalization}")
        right.plot(marks, products, "o", color=color, mfc="none", label="all tokens")
        gap = np.max(np.abs(products - exact))
        findings[f"largest difference, {normalization}"] = float(gap)
    right.set(xlabel="time", ylabel="product of two tokens", title="Orthonormal start")
    right.legend()
    return figure, findings


if __name__ == "__main__":
    run("attention_clustering", example)
