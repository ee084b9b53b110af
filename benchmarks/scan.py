"""Fixed steps on JAX against a `lax.scan` written by hand, on one core.

    python benchmarks/scan.py [--quick] [--torch PYTHON] [--output FILE]

Needs no Julia. Every ratio is a median over rounds in which both contenders take turns,
by the processor's clock (waiting for other jobs counts not).

- schemes: a perceptron 2-32-32-2 as drift, 100 steps, 128 paths under `vmap`, double
  precision, noise additive, or diagonal where a scheme is of use for that; `solve` by a
  solver's name, against the scheme written out in a scan over increments drawn in one
  call. Forward, value and gradient in the weights, and the first call, which traces and
  compiles. Along one stored path both must give the same states.
- `fit` against a loop by hand over the same loss.
- `ensemble`: geometric Brownian motion, 1000 steps, against a scan that draws noise.
- memory: by how much 10⁶ trajectories with moments raise the peak of a process.

`--torch` names a Python that has torch and torchsde, for the step of training of
`training.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
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
import training

from hybrid_nds import Moments, SDEProblem, StoredPath, ensemble, solve
from hybrid_nds.training import fit

STEPS, PATHS = 100, 128
ROUNDS, QUICK_ROUNDS = 25, 7
FIRST, QUICK_FIRST = 5, 1
H = 1 / STEPS
TRAJECTORIES, LONG, MILLION = 10_000, 1000, 1_000_000
SPREAD = jnp.array([0.3, 0.2], jnp.float32)

Step = Callable[[Any, Any, Any, Any, Any], Any]


def euler(f: Any, g: Any, y: Any, w: Any, a: Any) -> Any:
    """Euler–Maruyama."""
    return y + H * f(y) + g(y) * w


def heun(f: Any, g: Any, y: Any, w: Any, a: Any) -> Any:
    """Heun, in drift and diffusion."""
    f0, g0 = f(y), g(y)
    end = y + H * f0 + g0 * w
    return y + 0.5 * H * (f0 + f(end)) + 0.5 * (g0 + g(end)) * w


def euler_heun(f: Any, g: Any, y: Any, w: Any, a: Any) -> Any:
    """Euler in the drift, Heun in the diffusion."""
    g0 = g(y)
    return y + H * f(y) + 0.5 * (g0 + g(y + g0 * w)) * w


def milstein(f: Any, g: Any, y: Any, w: Any, a: Any) -> Any:
    """Milstein for diagonal noise, by a derivative along the diffusion."""
    g0, slope = jax.jvp(g, (y,), (jnp.ones_like(y),))
    return y + H * f(y) + g0 * w + 0.5 * g0 * slope * (w**2 - H)


def sra1(f: Any, g: Any, y: Any, w: Any, a: Any) -> Any:
    """Rößler's SRA1 for additive noise, `a` the space-time Lévy area."""
    f0, noise = f(y), g(y) * w
    stage = y + 0.75 * H * f0 + 0.75 * noise + 1.5 * g(y) * a
    return y + H * (f0 + 2 * f(stage)) / 3 + noise


def shark(f: Any, g: Any, y: Any, w: Any, a: Any) -> Any:
    """ShARK of Foster, dos Reis & Strange."""
    noise, area = g(y) * w, g(y) * a
    f0 = f(y + area)
    stage = y + 5 / 6 * (H * f0 + noise) + area
    return y + H * (0.4 * f0 + 0.6 * f(stage)) + noise


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A scheme by its name here, written out, and the noise it is for."""

    solver: str
    step: Step
    noise: str
    interpretation: str
    areas: bool = False


SCHEMES = (
    Scheme("Euler", euler, "additive", "ito"),
    Scheme("Heun", heun, "diagonal", "stratonovich"),
    Scheme("EulerHeun", euler_heun, "diagonal", "stratonovich"),
    Scheme("ItoMilstein", milstein, "diagonal", "ito"),
    Scheme("SRA1", sra1, "additive", "ito", areas=True),
    Scheme("ShARK", shark, "additive", "ito", areas=True),
)


def network() -> eqx.nn.MLP:
    """The drift."""
    return eqx.nn.MLP(2, 2, 32, 2, activation=jnp.tanh, key=jr.key(0))


START = jnp.array([1.0, 0.5], jnp.float32)


def diffusion(noise: str) -> Callable[[Any], Any]:
    """Of the state, constant for additive noise."""
    if noise == "additive":
        return lambda y: SPREAD.astype(y.dtype)
    return lambda y: 0.3 * jnp.sin(y)


def problem_of(scheme: Scheme, net: Any) -> SDEProblem:
    """The problem of a scheme."""
    g = diffusion(scheme.noise)
    return SDEProblem(
        lambda t, y, net: net(y),
        lambda t, y, net: g(y),
        START.astype(float),
        0.0,
        1.0,
        net,
        noise=scheme.noise,  # pyright: ignore[reportArgumentType]
        interpretation=scheme.interpretation,  # pyright: ignore[reportArgumentType]
    )


def by_solve(scheme: Scheme, paths: str) -> Callable[[Any, Any], Any]:
    """The mean square at the end, by this package."""

    def loss(net: Any, keys: Any) -> Any:
        def end(key: Any) -> Any:
            found: Any = solve(
                problem_of(scheme, net),
                solver=scheme.solver,
                key=key,
                dt=H,
                paths=paths,  # pyright: ignore[reportArgumentType]
            )
            return found.ys[-1]

        return jnp.mean(jax.vmap(end)(keys) ** 2)

    return loss


def along(scheme: Scheme, net: Any, dw: Any, areas: Any) -> Any:
    """The end of a scheme written out, along given increments."""
    g = diffusion(scheme.noise)

    def one(y: Any, noise: Any) -> tuple[Any, None]:
        return scheme.step(net, g, y, *noise), None

    return jax.lax.scan(one, START.astype(float), (dw, areas))[0]


def by_hand(scheme: Scheme) -> Callable[[Any, Any], Any]:
    """The same by a scan, of which each path draws its increments in one call."""

    def loss(net: Any, keys: Any) -> Any:
        def end(key: Any) -> Any:
            one, other = jr.split(key)
            dw = H**0.5 * jr.normal(one, (STEPS, 2))
            areas = (H / 12) ** 0.5 * jr.normal(other, (STEPS, 2))
            return along(scheme, net, dw, areas if scheme.areas else dw)

        return jnp.mean(jax.vmap(end)(keys) ** 2)

    return loss


def by_diffrax(net: Any, keys: Any) -> Any:
    """Euler–Maruyama by `diffeqsolve` along virtual Brownian trees."""

    def end(key: Any) -> Any:
        path = diffrax.VirtualBrownianTree(0.0, 1.0, H / 2, (2,), key)
        spread = lineax.DiagonalLinearOperator(SPREAD.astype(float))
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, net: net(y)),
            diffrax.ControlTerm(lambda t, y, net: spread, path),
        )
        return diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            0.0,
            1.0,
            H,
            START.astype(float),
            net,
            max_steps=STEPS + 1,
        ).ys[-1]

    return jnp.mean(jax.vmap(end)(keys) ** 2)


def check(scheme: Scheme) -> None:
    """Both take the same step: along one path they end within round-off."""
    net = network()
    dw, areas = 0.1 * jr.normal(jr.key(5), (2, STEPS, 2))
    path = StoredPath(dw, areas if scheme.areas else None, t0=0.0, t1=1.0)
    ys: Any = solve(problem_of(scheme, net), solver=scheme.solver, path=path).ys
    ours = ys[-1]
    hand = along(scheme, net, dw, areas)
    np.testing.assert_allclose(ours, hand, rtol=1e-11, err_msg=scheme.solver)


def turns(
    calls: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each call in each round; the order turns about."""
    seconds: dict[str, list[float]] = {label: [] for label in calls}
    for number in range(rounds):
        order = list(calls)
        for label in order if number % 2 else reversed(order):
            began = clock()
            jax.block_until_ready(calls[label]())
            seconds[label].append(clock() - began)
    return seconds


def ratios(seconds: dict[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """Median milliseconds, and the median of the ratios to one of them."""
    return {
        label: {
            "ms": float(np.median(taken)) * 1e3,
            "ratio": float(np.median(np.divide(taken, seconds[base]))),
        }
        for label, taken in seconds.items()
    }


HAND, SOLVE, NATIVE, DIFFRAX = "scan by hand", "solve", "solve, native", "Diffrax"
LOOP = "loop by hand, the same loss"


def contenders(scheme: Scheme) -> dict[str, Callable[[Any, Any], Any]]:
    """The losses that are compared."""
    found = {
        HAND: by_hand(scheme),
        SOLVE: by_solve(scheme, "shared"),
        NATIVE: by_solve(scheme, "native"),
    }
    if scheme.solver == "Euler":
        found[DIFFRAX] = by_diffrax
    return found


def schemes(rounds: int, first: int) -> dict[str, Any]:
    """Ratios by scheme and by what is timed."""
    net, keys = network(), jr.split(jr.key(1), PATHS)
    found: dict[str, Any] = {}
    for scheme in SCHEMES:
        check(scheme)
        losses = contenders(scheme)
        modes = {
            "forward": losses,
            "value and gradient": {
                label: eqx.filter_value_and_grad(loss) for label, loss in losses.items()
            },
        }
        rows = {}
        for mode, functions in modes.items():
            compiled = {label: eqx.filter_jit(f) for label, f in functions.items()}
            calls = {
                label: lambda f=f: f(net, keys)  # pyright: ignore
                for label, f in compiled.items()
            }
            turns(calls, 2, time.process_time)
            rows[mode] = ratios(turns(calls, rounds, time.process_time), HAND)

            def afresh(f: Any) -> Any:
                jax.clear_caches()
                return eqx.filter_jit(lambda net, keys: f(net, keys))(net, keys)

            calls = {label: lambda f=f: afresh(f) for label, f in functions.items()}
            seconds = turns(calls, first, time.process_time)
            rows[f"first call, {mode}"] = ratios(seconds, HAND)
        found[scheme.solver] = rows
        print(
            scheme.solver, {k: v[SOLVE]["ratio"] for k, v in rows.items()}, flush=True
        )
    return found


def moment_loss(model: training.Stochastic, batch: Any, key: Any) -> Any:
    """The loss of `training.py` by this package: mean and variance at the end."""

    def end(y0: Any, key: Any) -> Any:
        problem = SDEProblem(
            lambda t, y, model: model.network(y),
            lambda t, y, model: jax.nn.softplus(model.spread),
            y0,
            0.0,
            1.0,
            model,
            noise="additive",
        )
        return solve(problem, solver="Euler", key=key, dt=H).ys[-1]

    ends = jax.vmap(end)(batch, jr.split(key, len(batch)))
    mean, variance = ends.mean(0), ends.var(0, ddof=1)
    return jnp.sum((mean - 1) ** 2) + jnp.sum((variance - 0.25) ** 2)


def training_steps(rounds: int, count: int) -> dict[str, list[float]]:
    """Seconds a step of `fit`, and of a loop by hand over the same loss."""
    model, data, _, size = training.problems()[training.SDE]
    hand = training.by_hand(model, data, moment_loss, size, True)
    seconds: dict[str, list[float]] = {training.FIT: [], LOOP: []}
    loss = training.Turns(moment_loss, {LOOP: hand}, count, seconds)
    fit(
        model,
        data,
        loss,  # pyright: ignore
        optax.adam(3e-3),
        steps=(rounds + 1) * count + 1,
        batch_size=size,
        key=jr.key(3),
        validation=data[:1],
        validation_loss=lambda model, batch, key: jnp.zeros(()),
        validate_every=count,
    )
    least = min(map(len, seconds.values()))
    return {label: taken[:least] for label, taken in seconds.items()}


@functools.cache
def geometric() -> SDEProblem:
    """Geometric Brownian motion."""
    return SDEProblem(
        lambda t, y, a: a[0] * y,
        lambda t, y, a: a[1] * y,
        jnp.ones(1),
        0.0,
        1.0,
        jnp.array([0.05, 0.2]),
        noise="diagonal",
    )


def trajectories(n: int, paths: str) -> Any:
    """An ensemble, of which moments are kept at ten times."""
    return ensemble(
        geometric(),
        n,
        key=jr.key(1),
        solver="Euler",
        dt=1 / LONG,
        saveat=np.linspace(0.0, 1.0, 11)[1:],
        reduce=Moments(),
        paths=paths,  # pyright: ignore[reportArgumentType]
    ).reduced


@eqx.filter_jit
def scan_drawing(key: Any, n: int, h: float) -> Any:
    """Geometric Brownian motion by a scan that draws its noise as it goes."""

    def step(y: Any, key: Any) -> tuple[Any, None]:
        dw = h**0.5 * jr.normal(key, (n,))
        return y + 0.05 * h * y + 0.2 * y * dw, None

    return jax.lax.scan(step, jnp.ones(n), jr.split(key, LONG))[0]


def ensembles(rounds: int, n: int) -> dict[str, dict[str, float]]:
    """Nanoseconds a step, and ratios to a scan that draws its noise."""
    calls = {
        "scan by hand that draws its noise": lambda: scan_drawing(
            jr.key(2), n, 1 / LONG
        ),
        "ensemble, native": lambda: trajectories(n, "native"),
        "ensemble, shared": lambda: trajectories(n, "shared"),
    }
    turns(calls, 1, time.process_time)
    seconds = turns(calls, rounds, time.process_time)
    found = ratios(seconds, next(iter(calls)))
    return {
        label: {"ns": row["ms"] * 1e6 / n / LONG, "ratio": row["ratio"]}
        for label, row in found.items()
    }


def memory(n: int) -> dict[str, float]:
    """Growth of the peak memory by many trajectories with moments."""
    trajectories(2048, "native")
    # Linux forgets the peak so far.
    Path("/proc/self/clear_refs").write_text("5")
    before, began = _peak(), time.perf_counter()
    trajectories(n, "native")
    return {
        "trajectories": n,
        "seconds": time.perf_counter() - began,
        "growth_mb": _peak() - before,
        "peak_mb": _peak(),
    }


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM"))


def table(everything: dict[str, Any]) -> str:
    """The record as markdown."""
    load = everything["load"]
    lines = [
        "# Fixed steps at the speed of a scan",
        "",
        f"One core of a shared machine (load average {min(load)} to {max(load)}); "
        "processor time; medians, and medians of the ratios of "
        f"{everything['rounds']} pairs ({everything['first']} of first calls).",
        "",
        "## 100 steps, 128 paths, perceptron 2-32-32-2, double precision",
        "",
        "| scheme | | scan by hand, ms | `solve`, times that | native | Diffrax |",
        "|---|---|---|---|---|---|",
    ]
    for solver, rows in everything["schemes"].items():
        for mode, row in rows.items():
            other = f"{row[DIFFRAX]['ratio']:.3g}" if DIFFRAX in row else ""
            lines.append(
                f"| {solver} | {mode} | {row[HAND]['ms']:.3g} | "
                f"{row[SOLVE]['ratio']:.3g} | {row[NATIVE]['ratio']:.3g} | {other} |"
            )
    lines += [
        "",
        "## Training, single precision",
        "",
        "| | ms a step | ratio |",
        "|---|---|---|",
    ]
    for label, row in everything["training"].items():
        lines.append(f"| {label} | {row['ms']:.3g} | {row['ratio']:.3g} |")
    lines += [
        "",
        "## Ensembles: geometric Brownian motion, 1000 steps, moments at ten times",
        "",
        "| | ns a step | ratio |",
        "|---|---|---|",
    ]
    for label, row in everything["ensembles"].items():
        lines.append(f"| {label} | {row['ns']:.3g} | {row['ratio']:.3g} |")
    peak = everything["memory"]
    lines += [
        "",
        f"{peak['trajectories']:,} trajectories raise the peak of memory by "
        f"{peak['growth_mb']:.0f} MB to {peak['peak_mb']:.0f} MB, in "
        f"{peak['seconds']:.0f} s.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, then write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--torch", metavar="PYTHON")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    here = Path(__file__).parent / "results" / "scan.md"
    parser.add_argument("--output", type=Path, default=here)
    options = parser.parse_args()
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    quick = options.quick
    n = 2048 if quick else TRAJECTORIES
    if options.memory:
        jax.config.update("jax_enable_x64", True)
        print(json.dumps(memory(20_480 if quick else MILLION)))
        return
    rounds, first = (QUICK_ROUNDS, QUICK_FIRST) if quick else (ROUNDS, FIRST)
    load = [round(os.getloadavg()[0], 1)]
    count = 5 if quick else 20
    steps = training_steps(rounds, count)
    trained = ratios(steps, LOOP)
    if options.torch:
        counts = {training.ODE: 1, training.SDE: 1}
        timed = training.torch_results(options.torch, rounds, counts, core)
        for label, taken in timed[training.SDE].items():
            both = {label: taken, training.FIT: steps[training.FIT][: len(taken)]}
            trained[label] = ratios(both, training.FIT)[label]
    jax.config.update("jax_enable_x64", True)
    everything = {
        "schemes": schemes(rounds, first),
        "training": trained,
        "ensembles": ensembles(max(3, rounds // 5), n),
    }
    arguments = ["--memory", *(["--quick"] if quick else [])]
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True
    )
    load.append(round(os.getloadavg()[0], 1))
    everything |= {"memory": json.loads(done.stdout), "load": load}
    everything |= {"rounds": rounds, "first": first}
    text = table(everything)
    options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
