"""The ways to run an ensemble that `ensemble.py` compares, and the two problems."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np

from hybrid_nds import Moments, SDEProblem, ensemble, runtime

KERNEL, KERNEL_MOMENTS = "lean kernel", "lean kernel, moments at 10 times"
HAND = "Julia by hand"
SCAN, SCAN_INLINE = "lax.scan, noise drawn before", "lax.scan, noise drawn inside"
DIFFRAX_UNSAFE = "Diffrax vmap, UnsafeBrownianPath"
DIFFRAX_TREE = "Diffrax vmap, VirtualBrownianTree"
TORCHSDE = "torchsde, batched"
MU, SIGMA = 0.05, 0.2


def _diffusion_network(y: Any, network: Any) -> Any:
    # Of its own component alone, as diagonal noise must be.
    return 0.3 * jax.nn.sigmoid(jax.vmap(network)(y))


def geometric() -> SDEProblem:
    """Geometric Brownian motion."""
    return SDEProblem(
        lambda t, y, a: a[0] * y,
        lambda t, y, a: a[1] * y,
        jnp.ones(1),
        0.0,
        1.0,
        jnp.array([MU, SIGMA]),
    )


def networks() -> tuple[eqx.nn.MLP, eqx.nn.MLP]:
    """Drift 2-16-16-2, and diffusion 1-8-8-1 of each component, tanh."""
    keys = jax.random.split(jax.random.key(0))
    drift = eqx.nn.MLP(2, 2, 16, 2, activation=jnp.tanh, key=keys[0])
    shape = "scalar"
    return drift, eqx.nn.MLP(shape, shape, 8, 2, activation=jnp.tanh, key=keys[1])


def neural() -> SDEProblem:
    """A neural SDE in two dimensions with diagonal noise."""
    return SDEProblem(
        lambda t, y, a: a[0](y),
        lambda t, y, a: _diffusion_network(y, a[1]),
        jnp.array([1.0, 0.5]),
        0.0,
        1.0,
        networks(),
    )


PROBLEMS = {"GBM": geometric, "neural SDE": neural}


def by_kernel(problem: SDEProblem, trajectories: int, steps: int, moments: bool) -> Any:
    """The lean kernel, on one thread."""
    return ensemble(
        problem,
        trajectories,
        key=jax.random.key(1),
        backend="julia",
        solver="Euler",
        dt=1 / steps,
        saveat=np.linspace(0.0, 1.0, 11)[1:] if moments else None,
        reduce=Moments() if moments else None,
        threads=1,
    )


def by_hand(name: str) -> Callable[[int, int], Any]:
    """The loops of ensemble_hand.jl."""
    session = runtime.session()
    main = session.main
    if not main.seval("isdefined(Main, :HandEnsembles)"):
        main.include(str(Path(__file__).with_name("ensemble_hand.jl")))
    module = main.HandEnsembles
    if name == "GBM":
        return lambda n, steps: module.geometric(n, steps, 1 / steps, MU, SIGMA, 1)
    nets = []
    for network in networks():
        arrays = main.seval("Any[]")
        for layer in network.layers:
            getattr(main, "push!")(arrays, np.asarray(layer.weight))
            getattr(main, "push!")(arrays, np.asarray(layer.bias))
        nets.append(module.network(arrays))
    return lambda n, steps: module.neural(n, steps, 1 / steps, *nets, 1)


def _advance(problem: SDEProblem, h: float, u: Any, t: Any, dw: Any) -> Any:
    args = problem.args
    return u + h * problem.drift(t, u, args) + problem.diffusion(t, u, args) * dw


@eqx.filter_jit
def _scan(problem: SDEProblem, steps: int, noise: Any) -> Any:
    """`noise`: shape (steps, trajectories, m)."""
    h = 1 / steps

    def step(u, dw):
        return jax.vmap(lambda u, w: _advance(problem, h, u, 0.0, w))(u, dw), None

    start = jnp.broadcast_to(problem.y0, noise.shape[1:])
    return jax.lax.scan(step, start, noise)[0]


@eqx.filter_jit
def _scan_inline(problem: SDEProblem, steps: int, trajectories: int, key: Any) -> Any:
    h = 1 / steps

    def step(carry, _):
        u, key = carry
        key, sub = jax.random.split(key)
        dw = jnp.sqrt(h) * jax.random.normal(sub, u.shape)
        u = jax.vmap(lambda u, w: _advance(problem, h, u, 0.0, w))(u, dw)
        return (u, key), None

    shape = (trajectories, problem.dimension)
    start = jnp.broadcast_to(problem.y0, shape)
    return jax.lax.scan(step, (start, key), None, length=steps)[0][0]


@eqx.filter_jit
def _diffrax(
    problem: SDEProblem, steps: int, trajectories: int, tree: bool, key: Any
) -> Any:
    shape = jax.ShapeDtypeStruct((problem.dimension,), jnp.float64)

    def run(key):
        if tree:
            path = diffrax.VirtualBrownianTree(0.0, 1.0, 1 / (2 * steps), shape, key)
        else:
            path = diffrax.UnsafeBrownianPath(shape, key)

        def diffusion(t, y, args):
            return lineax.DiagonalLinearOperator(problem.diffusion(t, y, args))

        terms = diffrax.MultiTerm(
            diffrax.ODETerm(problem.drift), diffrax.ControlTerm(diffusion, path)
        )
        return diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            0.0,
            1.0,
            1 / steps,
            problem.y0,
            problem.args,
            adjoint=diffrax.ForwardMode(),
            max_steps=steps + 1,
        ).ys

    return jax.vmap(run)(jax.random.split(key, trajectories))


def contenders(
    name: str, problem: SDEProblem, steps: int, counts: dict[str, int]
) -> dict[str, Callable[[], Any]]:
    """A call for each way, that runs `counts` of it trajectories to the end."""
    key = jax.random.key(2)
    shape = (steps, counts[SCAN], problem.dimension)
    noise = jax.random.normal(key, shape) / steps**0.5
    hand = by_hand(name)
    return {
        KERNEL: lambda: by_kernel(problem, counts[KERNEL], steps, False),
        KERNEL_MOMENTS: lambda: by_kernel(problem, counts[KERNEL_MOMENTS], steps, True),
        HAND: lambda: hand(counts[HAND], steps),
        SCAN: lambda: _scan(problem, steps, noise).block_until_ready(),
        SCAN_INLINE: lambda: _scan_inline(
            problem, steps, counts[SCAN_INLINE], key
        ).block_until_ready(),
        DIFFRAX_UNSAFE: lambda: _diffrax(
            problem, steps, counts[DIFFRAX_UNSAFE], False, key
        ).block_until_ready(),
        DIFFRAX_TREE: lambda: _diffrax(
            problem, steps, counts[DIFFRAX_TREE], True, key
        ).block_until_ready(),
    }
