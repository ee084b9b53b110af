"""Throughput of training: `fit` against loops written by hand, and against torch.

    python benchmarks/training.py [--quick] [--torch PYTHON] [--output FOLDER]

One step of training in single precision on one core, by the processor's clock (waiting
for other jobs counts not): the minimum over rounds in which the contenders take turns.
The loop by hand is that of Diffrax's own example of a neural ODE. All start from the
same weights, and `--torch` names a Python that has torch, torchdiffeq and torchsde.

- neural ODE: softplus, 2-64-64-2; batches of 32 of 256 trajectories with 100 points;
  Dopri5 at rtol 1e-3 and atol 1e-6; Adam.
- neural SDE: drift softplus, 2-32-32-2, additive diagonal noise; 128 trajectories,
  Euler–Maruyama with 100 steps; mean and variance at the end; Adam.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax
import numpy as np
import optax

from hybrid_nds.training import fit

FIT, HAND = "hybrid_nds.training.fit", "loop by hand, Diffrax"
ODE, SDE = "neural ODE", "neural SDE"
TUNED = "loop by hand, batches drawn in the compiled step"
BATCH, TRAJECTORIES, STEPS = 32, 128, 100
TIMES = np.linspace(0.0, 10.0, 100, dtype=np.float32)
COUNTS = {ODE: 100, SDE: 20}
# Steps a round of those that take most of a second for one.
SLOW = 3
ROUNDS, QUICK_ROUNDS, QUICK_COUNT = 10, 2, 10


class Field(eqx.Module):
    """The neural ODE."""

    network: eqx.nn.MLP

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.network(y)


class Stochastic(eqx.Module):
    """The neural SDE."""

    network: eqx.nn.MLP
    spread: jax.Array


def trajectory_loss(model: Field, batch: Any, key: Any) -> Any:
    """Mean squares along the trajectories."""

    def solve(y0: Any) -> Any:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(model),
            diffrax.Dopri5(),
            TIMES[0],
            TIMES[-1],
            TIMES[1] - TIMES[0],
            y0,
            saveat=diffrax.SaveAt(ts=jnp.asarray(TIMES)),
            stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6),
        ).ys

    return jnp.mean((jax.vmap(solve)(batch[:, 0]) - batch) ** 2)


def moment_loss(model: Stochastic, batch: Any, key: Any) -> Any:
    """Mean and variance at the end against 1 and 1/4."""

    def solve(y0: Any, key: Any) -> Any:
        path = diffrax.VirtualBrownianTree(0.0, 1.0, 0.5 / STEPS, (2,), key)

        def diffusion(t: Any, y: Any, args: Any) -> Any:
            return lineax.DiagonalLinearOperator(jax.nn.softplus(model.spread))

        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, args: model.network(y)),
            diffrax.ControlTerm(diffusion, path),
        )
        return diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, 1.0, 1 / STEPS, y0, max_steps=STEPS + 1
        ).ys[0]

    end = jax.vmap(solve)(batch, jr.split(key, len(batch)))
    mean, variance = end.mean(0), end.var(0, ddof=1)
    return jnp.sum((mean - 1) ** 2) + jnp.sum((variance - 0.25) ** 2)


def spiral() -> jax.Array:
    """256 trajectories of a damped rotation, in closed form, shape (256, 100, 2)."""
    starts = jr.uniform(jr.key(1), (256, 2), minval=-0.6, maxval=1.0)
    angle, radius = 2 * TIMES, np.exp(-0.1 * TIMES)
    turn = radius * np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    return jnp.einsum("ijt,nj->nti", turn, starts)


def problems() -> dict[str, tuple[Any, Any, Any, int]]:
    """By name: model, data, loss and size of a batch."""
    softplus = jax.nn.softplus
    field = eqx.nn.MLP(2, 2, 64, 2, activation=softplus, key=jr.key(0))
    drift = eqx.nn.MLP(2, 2, 32, 2, activation=softplus, key=jr.key(2))
    starts = jnp.zeros((TRAJECTORIES, 2))
    return {
        ODE: (Field(field), spiral(), trajectory_loss, BATCH),
        SDE: (
            Stochastic(drift, jnp.zeros(2)),
            starts,
            moment_loss,
            TRAJECTORIES,
        ),
    }


def by_hand(
    model: Any, data: jax.Array, loss: Any, size: int, tuned: bool
) -> Callable[[int], None]:
    """The loop of Diffrax's example, a call for so many steps of it.

    `tuned`, with what makes it quick: the batch is drawn and the key is made in the
    compiled step, and no step waits for the one before.
    """
    optimizer = optax.adam(3e-3)
    whole = size == len(data)

    def orders(key: Any) -> Iterator[tuple[jax.Array, int, Any]]:
        indices = jnp.arange(len(data))
        while True:
            key, order_key, loss_key = jr.split(key, 3)
            order = jr.permutation(order_key, indices)
            for start in range(0, len(data) - size + 1, size):
                yield order, start, loss_key

    def move(model: Any, state: Any, batch: Any, key: Any) -> Any:
        value, gradient = eqx.filter_value_and_grad(loss)(model, batch, key)
        updates, state = optimizer.update(gradient, state)
        return value, eqx.apply_updates(model, updates), state

    make_step = eqx.filter_jit(move)
    parameters, static = eqx.partition(model, eqx.is_array)

    @jax.jit
    def make_tuned_step(
        parameters: Any, state: Any, data: Any, order: Any, start: Any, key: Any
    ) -> Any:
        chosen = jax.lax.dynamic_slice_in_dim(order, start, size)
        batch = data if whole else data[chosen]
        model = eqx.combine(parameters, static)
        value, model, state = move(model, state, batch, jr.fold_in(key, start))
        return value, eqx.filter(model, eqx.is_array), state

    source = orders(jr.key(3))
    now = [model, optimizer.init(eqx.filter(model, eqx.is_inexact_array))]
    if tuned:
        now[0] = parameters

    def run(count: int) -> None:
        for _, (order, start, key) in zip(range(count), source, strict=False):
            if tuned:
                value, *now[:] = make_tuned_step(*now, data, order, start, key)
                continue
            batch = data if whole else data[order[start : start + size]]
            value, *now[:] = make_step(*now, batch, jr.fold_in(key, start))
        value.block_until_ready()

    return run


@dataclasses.dataclass(frozen=True)
class Turns:
    """A loss that lets the other contenders take their turns every so many steps.

    `fit` asks for the loss of each step before it takes it; with a validation every
    `count` steps, stretches of compiled steps end there.
    """

    loss: Any
    others: dict[str, Callable[[int], None]]
    count: int
    seconds: dict[str, list[float]]
    began: dict[str, float] = dataclasses.field(default_factory=dict)
    seen: set[int] = dataclasses.field(default_factory=set)

    def at(self, step: int) -> Any:
        if step % self.count == 0 and step not in self.seen:
            self.seen.add(step)
            now = time.process_time()
            # The first turn compiles.
            if step > self.count:
                self.seconds[FIT].append((now - self.began["fit"]) / self.count)
            for label, run in self.others.items():
                now = time.process_time()
                run(self.count)
                if step > 0:
                    taken = time.process_time() - now
                    self.seconds[label].append(taken / self.count)
            self.began["fit"] = time.process_time()
        return self.loss


def measure(rounds: int, counts: dict[str, int]) -> dict[str, dict[str, list[float]]]:
    """Seconds a step in each round, by problem and contender."""
    found = {}
    for name, (model, data, loss, size) in problems().items():
        others = {
            HAND: by_hand(model, data, loss, size, False),
            TUNED: by_hand(model, data, loss, size, True),
        }
        seconds: dict[str, list[float]] = {label: [] for label in (FIT, *others)}
        turns = Turns(loss, others, counts[name], seconds)
        fit(
            model,
            data,
            turns,  # pyright: ignore
            optax.adam(3e-3),
            steps=(rounds + 1) * counts[name] + 1,
            batch_size=size,
            key=jr.key(3),
            validation=data[:1],
            validation_loss=lambda model, batch, key: jnp.zeros(()),
            validate_every=counts[name],
        )
        found[name] = seconds
    return found


def torch_results(python: str, rounds: int, counts: dict[str, int], core: int) -> Any:
    """What `training_torch.py` measures with another Python."""
    arrays = {"times": TIMES, "paths": np.asarray(spiral()), "spread": np.zeros(2)}
    arrays |= {"batch": BATCH, "trajectories": TRAJECTORIES, "steps": STEPS}
    given = problems()
    for prefix, model in (
        ("ode/", given[ODE][0]),
        ("drift/", given[SDE][0]),
    ):
        for k, layer in enumerate(model.network.layers):
            arrays[f"{prefix}weight{k}"] = np.asarray(layer.weight)
            arrays[f"{prefix}bias{k}"] = np.asarray(layer.bias)
    arrays["spread"] = arrays["spread"].astype(np.float32)
    here = Path(__file__).with_name("training_torch.py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        np.savez(path, **arrays)
        done = subprocess.run(
            [
                python,
                str(here),
                str(path),
                *map(str, (counts[ODE], SLOW, rounds, core)),
            ],
            stdout=subprocess.PIPE,
            check=True,
        )
    return json.loads(done.stdout)


def table(everything: dict[str, Any]) -> str:
    """The record as markdown."""
    load = everything["load"]
    lines = [
        "# Throughput of training",
        "",
        "Milliseconds of processor time a step, single precision, one core of a shared "
        f"machine (load average {min(load)} to {max(load)}); minima and medians of "
        f"{everything['rounds']} rounds.",
        "",
    ]
    for name, contenders in everything["results"].items():
        ours = contenders[FIT]
        lines += [
            f"## {name}, {everything['counts'][name]} steps a round",
            "",
            "| | least | median | ratio of the least to `fit` |",
            "|---|---|---|---|",
        ]
        for label, found in sorted(contenders.items(), key=lambda x: x[1]["ms"]):
            ratio = found["ms"] / ours["ms"]
            lines.append(
                f"| {label} | {found['ms']:.3g} | {found['median_ms']:.3g} "
                f"| {ratio:.3g} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure, then write numbers and table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--torch", metavar="PYTHON")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results"
    )
    options = parser.parse_args()
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    counts = {n: QUICK_COUNT if options.quick else COUNTS[n] for n in COUNTS}
    load = [round(os.getloadavg()[0], 1)]
    seconds = measure(rounds, counts)
    if options.torch:
        for name, found in torch_results(options.torch, rounds, counts, core).items():
            seconds[name] |= found
    load.append(round(os.getloadavg()[0], 1))
    results = {
        name: {
            label: {"ms": min(x) * 1e3, "median_ms": float(np.median(x)) * 1e3}
            for label, x in contenders.items()
        }
        for name, contenders in seconds.items()
    }
    everything = {"rounds": rounds, "counts": counts, "load": load, "results": results}
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(everything, indent=1) + "\n"
    (options.output / "training.json").write_text(text)
    (options.output / "training.md").write_text(table(everything))
    print(table(everything))


if __name__ == "__main__":
    main()
