"""Training, ensembles and memory on a GPU, beside one core of the CPU; five minutes.

    python benchmarks/gpu.py [--quick] [--output FILE]

Needs no Julia. On a machine without a GPU it runs on the CPU alone, which shows that it
works. Single precision, by the wall clock, medians of rounds after one that compiles:

- training: value and gradient of a neural SDE, perceptron 2-64-64-2, additive noise, in
  100 Euler–Maruyama steps, against a `lax.scan` over drawn increments;
- ensembles: geometric Brownian motion, 1000 steps, shared and native paths, moments;
- memory: the peak on the device of 2^20 trajectories with moments, and what gradients
  through 4096 steps take by `adjoint="recursive_checkpoint"` and `"direct"`.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from hybrid_nds import Moments, SDEProblem, ensemble, solve

STEPS, LONG = 100, 4096
PATHS = (128, 4096, 65536)
ROUNDS = 5


def drift_network() -> eqx.nn.MLP:
    """The drift."""
    return eqx.nn.MLP(2, 2, 64, 2, activation=jnp.tanh, key=jr.key(0))


def neural(net: Any) -> SDEProblem:
    """A neural SDE with additive noise."""
    return SDEProblem(
        lambda t, y, net: net(y),
        lambda t, y, net: jnp.array([0.3, 0.2], y.dtype),
        jnp.array([1.0, 0.5]),
        0.0,
        1.0,
        net,
        noise="additive",
    )


def by_solve(net: Any, keys: Any, steps: int, **options: Any) -> Any:
    """The mean square at the end."""

    def end(key: Any) -> Any:
        made = neural(net)
        return solve(made, solver="Euler", key=key, dt=1 / steps, **options).ys[-1]

    return jnp.mean(jax.vmap(end)(keys) ** 2)


def by_hand(net: Any, keys: Any, steps: int) -> Any:
    """The same by a scan over drawn increments."""
    h = 1 / steps

    def end(key: Any) -> Any:
        dw = h**0.5 * jr.normal(key, (steps, 2))

        def step(y: Any, w: Any) -> tuple[Any, None]:
            return y + h * net(y) + jnp.array([0.3, 0.2]) * w, None

        return jax.lax.scan(step, jnp.array([1.0, 0.5]), dw)[0]

    return jnp.mean(jax.vmap(end)(keys) ** 2)


@functools.cache
def geometric() -> SDEProblem:
    """Geometric Brownian motion."""
    return SDEProblem(
        lambda t, y, a: 0.05 * y,
        lambda t, y, a: 0.2 * y,
        jnp.ones(1),
        0.0,
        1.0,
        noise="diagonal",
    )


def trajectories(n: int, paths: str) -> Any:
    """An ensemble of which moments are kept at the end."""
    return ensemble(
        geometric(),
        n,
        key=jr.key(1),
        solver="Euler",
        dt=1e-3,
        reduce=Moments(),
        paths=paths,  # pyright: ignore[reportArgumentType]
    ).reduced


def seconds(call: Callable[[], Any], rounds: int) -> float:
    """The median time of a call that has been compiled."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def peak(device: Any) -> float | None:
    """The peak of memory on a device so far, in MB, where it counts that."""
    statistics = device.memory_stats()
    if not statistics or "peak_bytes_in_use" not in statistics:
        return None
    return statistics["peak_bytes_in_use"] / 2**20


def temporary(function: Any, *arguments: Any) -> float | None:
    """The memory that a compiled program takes beside its arguments, in MB."""
    lowered = jax.jit(function).lower(*arguments)
    analysis: Any = lowered.compile().memory_analysis()
    return None if analysis is None else analysis.temp_size_in_bytes / 2**20


def training_rows(device: Any, paths: tuple[int, ...], rounds: int) -> list[str]:
    """Milliseconds a gradient, by the number of paths."""
    rows = []
    dynamic, static = eqx.partition(drift_network(), eqx.is_array)
    for count in paths:
        keys = jax.device_put(jr.split(jr.key(1), count), device)
        weights = jax.device_put(dynamic, device)
        cells = []
        for name in ("hand", "shared", "native"):

            def loss(weights: Any, keys: Any, name: str = name) -> Any:
                net = eqx.combine(weights, static)
                if name == "hand":
                    return by_hand(net, keys, STEPS)
                return by_solve(net, keys, STEPS, paths=name)

            compiled = jax.jit(jax.value_and_grad(loss))
            call = lambda f=compiled, w=weights, k=keys: f(w, k)
            cells.append(1e3 * seconds(call, rounds))
        shown = " | ".join(f"{cell:.3g}" for cell in cells)
        rows.append(f"| {device.platform} | {count} | {shown} |")
    return rows


def ensemble_rows(device: Any, n: int, rounds: int) -> list[str]:
    """Nanoseconds a step of a trajectory."""
    rows = []
    with jax.default_device(device):
        for paths in ("shared", "native"):
            taken = seconds(lambda paths=paths: trajectories(n, paths), rounds)
            ns = taken / n / 1000 * 1e9
            rows.append(f"| {device.platform} | {paths} | {n} | {ns:.3g} |")
    return rows


def memory_rows(device: Any, n: int, paths: int) -> list[str]:
    """Megabytes."""
    rows = []
    with jax.default_device(device):
        trajectories(n, "native")
        if (found := peak(device)) is not None:
            rows.append(
                f"| {n} trajectories, moments, peak on the device | {found:.0f} |"
            )
        dynamic, static = eqx.partition(drift_network(), eqx.is_array)
        keys = jr.split(jr.key(1), paths)
        for adjoint in ("recursive_checkpoint", "direct"):

            def loss(weights: Any, keys: Any, adjoint: str = adjoint) -> Any:
                net = eqx.combine(weights, static)
                return by_solve(net, keys, LONG, adjoint=adjoint, paths="native")

            found = temporary(jax.value_and_grad(loss), dynamic, keys)
            if found is not None:
                label = f"gradient of {paths} paths through {LONG} steps, `{adjoint}`"
                rows.append(f"| {label} | {found:.0f} |")
    return rows


def main() -> None:
    """Measure, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    here = Path(__file__).parent / "results" / "gpu.md"
    parser.add_argument("--output", type=Path, default=here)
    options = parser.parse_args()
    rounds = 2 if options.quick else ROUNDS
    devices = {device.platform: device for device in jax.devices("cpu")[:1]}
    devices |= {device.platform: device for device in jax.devices()[:1]}
    gpu = devices.get("gpu")
    names = ", ".join(device.device_kind for device in devices.values())
    training, ensembles = [], []
    for device in devices.values():
        large = device is gpu and not options.quick
        training += training_rows(device, PATHS if large else PATHS[:1], rounds)
        ensembles += ensemble_rows(device, 2**20 if large else 2**11, rounds)
    where = gpu or devices["cpu"]
    small = options.quick or gpu is None
    memory = memory_rows(where, 2**13 if small else 2**20, 64 if small else 1024)
    lines = [
        "# On a GPU",
        "",
        f"{names}; JAX {jax.__version__}, single precision, medians of {rounds} rounds "
        "by the wall clock.",
        "",
        "## Value and gradient, perceptron 2-64-64-2, 100 steps, milliseconds",
        "",
        "| device | paths | scan by hand | `solve` | `solve`, native |",
        "|---|---|---|---|---|",
        *training,
        "",
        "## Ensembles, geometric Brownian motion, 1000 steps, ns a step",
        "",
        "| device | paths | trajectories | ns a step |",
        "|---|---|---|---|",
        *ensembles,
        "",
        "## Memory, MB",
        "",
        "| | |",
        "|---|---|",
        *memory,
        "",
    ]
    text = "\n".join(lines)
    options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
