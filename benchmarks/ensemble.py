"""Throughput and memory of ensembles of SDE trajectories, on one core.

    python benchmarks/ensemble.py [--quick] [--torch PYTHON] [--output FOLDER]

Needs Julia. Euler–Maruyama in double precision, 1000 steps. A figure is nanoseconds a
step of a trajectory, by the processor's clock (waiting for other jobs counts not): the
minimum over rounds in which all contenders take turns, all on the same core. Contenders
whose time for 10⁵ trajectories would be minutes, or whose noise would not fit in
memory, run fewer and are compared by the step. `--torch` names a Python that has torch
and torchsde. The memory is that of 10⁶ trajectories with streaming moments: by how much
the peak of a warm process grows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

STEPS, ROUNDS, QUICK_ROUNDS = 1000, 3, 2
FULL, QUICK = 100_000, 2_000
# Batches of the others: noise drawn before takes 8 kB a trajectory and component.
BATCHES = {"GBM": 10_000, "neural SDE": 2_000}


def measure(quick: bool) -> dict[str, dict[str, dict]]:
    """Nanoseconds a step, by problem and contender."""
    import ensemble_contenders as ways

    rounds = QUICK_ROUNDS if quick else ROUNDS
    results: dict[str, dict[str, dict]] = {}
    for name, make in ways.PROBLEMS.items():
        full, batch = (QUICK, QUICK) if quick else (FULL, BATCHES[name])
        counts = {
            ways.KERNEL: full,
            ways.KERNEL_MOMENTS: batch,
            ways.HAND: batch,
            ways.SCAN: batch,
            ways.SCAN_INLINE: batch,
            ways.DIFFRAX_UNSAFE: batch,
            ways.DIFFRAX_TREE: max(batch // 10, 100),
        }
        calls = ways.contenders(name, make(), STEPS, counts)
        seconds: dict[str, list[float]] = {label: [] for label in calls}
        for call in calls.values():
            call()
        for _ in range(rounds):
            for label, call in calls.items():
                began = time.process_time()
                call()
                seconds[label].append(time.process_time() - began)
        results[name] = {
            label: summary([s / STEPS / counts[label] * 1e9 for s in taken])
            | {"trajectories": counts[label]}
            for label, taken in seconds.items()
        }
    return results


def summary(nanoseconds: list[float]) -> dict:
    """The least and the median."""
    ordered = sorted(nanoseconds)
    return {"ns": ordered[0], "median_ns": ordered[len(ordered) // 2]}


def torch_results(python: str, quick: bool, core: int) -> dict[str, dict]:
    """What `ensemble_torch.py` measures with another Python."""
    here = Path(__file__).with_name("ensemble_torch.py")
    trajectories, rounds = (QUICK, QUICK_ROUNDS) if quick else (10_000, ROUNDS)
    numbers = map(str, (STEPS, trajectories, rounds, core))
    done = subprocess.run(
        [python, str(here), *numbers], capture_output=True, text=True, check=True
    )
    return {
        name: summary(found) | {"trajectories": trajectories}
        for name, found in json.loads(done.stdout).items()
    }


def memory(quick: bool) -> dict:
    """Growth of the peak memory by 10⁶ trajectories with moments at ten times."""
    import ensemble_contenders as ways

    problem = ways.geometric()
    count = 20_000 if quick else 1_000_000
    ways.by_kernel(problem, 2_000, STEPS, True)
    # Linux forgets the peak so far: what starting up took does not hide the growth.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    began = time.perf_counter()
    ways.by_kernel(problem, count, STEPS, True)
    after = _peak()
    return {
        "trajectories": count,
        "seconds": time.perf_counter() - began,
        "growth_mb": after - before,
        "peak_mb": after,
    }


def _peak() -> float:
    """The peak of this process's resident memory, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM"))


def child(arguments: list[str]) -> dict:
    """This script in a process of its own, for a peak of memory of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    """Measure, then write numbers, table and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--torch", metavar="PYTHON")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results"
    )
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    import jax

    jax.config.update("jax_enable_x64", True)
    if options.memory:
        print(json.dumps(memory(options.quick)))
        return
    import ensemble_contenders as ways
    import ensemble_report as report

    load = [round(os.getloadavg()[0], 1)]
    results = measure(options.quick)
    if options.torch:
        for name, found in torch_results(options.torch, options.quick, core).items():
            results[name][ways.TORCHSDE] = found
    peak = child(["--memory", *(["--quick"] if options.quick else [])])
    load.append(round(os.getloadavg()[0], 1))
    everything = {"steps": STEPS, "load": load, "results": results, "memory": peak}
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(everything, indent=1) + "\n"
    (options.output / "ensemble.json").write_text(text)
    table = report.table(everything)
    (options.output / "ensemble.md").write_text(table)
    report.draw(everything, options.output / "ensemble.png")
    print(table)


if __name__ == "__main__":
    main()
