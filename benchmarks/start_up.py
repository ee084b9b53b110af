"""What a fresh process spends until its first stiff solve in Julia, and a new model.

    python benchmarks/start_up.py [--repeats 3] [--trace]

Needs Julia. Each repeat is a process of its own; figures are minima over repeats, in
seconds of the wall clock and of the processor (on a busy machine the latter says more).
Where `hybrid-nds julia image` has built a system image, processes start from it, too.
`--trace` lists what Julia compiles in the first solve and in that of a new model.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

SOLVER = {"solver": "Rodas5P", "rtol": 1e-6, "atol": 1e-10}
FIRST, NEW = "first solve", "a new model: its first solve"
TOTAL = "fresh process, in all"
_MARK = "# hybrid_nds:"


class Phases:
    """Wall-clock and processor seconds between marks."""

    def __init__(self):
        self.spent: dict[str, tuple[float, float]] = {}
        self._last = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return time.perf_counter(), used.ru_utime + used.ru_stime

    def mark(self, name: str) -> None:
        """End a phase; what Julia traces from here on belongs to the next."""
        now = self._now()
        self.spent[name] = (now[0] - self._last[0], now[1] - self._last[1])
        print(f"{_MARK} after {name}", file=sys.stderr, flush=True)
        self._last = self._now()


def whole(phases: Phases) -> None:
    """A user's process: imports, a stiff problem, Julia, solves."""
    import jax

    jax.config.update("jax_enable_x64", True)
    phases.mark("import jax")
    import hybrid_nds
    from hybrid_nds import lowering, runtime
    from hybrid_nds.reconcile import load_fixture

    phases.mark("import hybrid_nds")
    problem = load_fixture("robertson").problem
    phases.mark("make the problem")
    runtime.session()
    phases.mark("start Julia")
    hybrid_nds.solve(problem, "julia", **SOLVER)
    phases.mark(FIRST)
    problem = load_fixture("hires").problem
    phases.mark("make another problem")
    hybrid_nds.solve(problem, "julia", **SOLVER)
    phases.mark(NEW)
    lowering.lower_problem(load_fixture("orego").problem)
    phases.mark("of which lowering in JAX, about")


def parts(phases: Phases) -> None:
    """Julia's start in pieces, without the package."""
    from hybrid_nds import runtime

    found = runtime.discover()
    if found.exe is not None and found.project is not None:
        os.environ["PYTHON_JULIACALL_EXE"] = found.exe
        os.environ["PYTHON_JULIACALL_PROJECT"] = found.project
        os.environ["JULIA_CONDAPKG_BACKEND"] = "Null"
    os.environ["PYTHON_JULIACALL_HANDLE_SIGNALS"] = "no"
    phases.mark("discovery")
    import juliacall

    phases.mark("import juliacall")
    main = juliacall.Main
    main.seval("nothing")
    phases.mark("first call into Julia")
    main.seval("import HybridNDS")
    phases.mark("using HybridNDS")


def spawn(
    kind: str, trace: bool = False, image: bool = False
) -> tuple[dict[str, tuple[float, float]], str]:
    """Run one child; its phases, and what it wrote to the error stream."""
    environment = os.environ | {"HYBRID_NDS_SYSTEM_IMAGE": "yes" if image else "no"}
    if trace:
        environment["PYTHON_JULIACALL_TRACE_COMPILE"] = "stderr"
    begin = time.perf_counter()
    child = subprocess.run(
        [sys.executable, __file__, "--child", kind],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise RuntimeError(f"the child process failed:\n{child.stderr[-3000:]}")
    spent = json.loads(child.stdout.splitlines()[-1])
    if kind == "whole":
        after = (FIRST, "make another problem", NEW, "of which lowering in JAX, about")
        later = sum(spent[name][0] for name in after[1:])
        processor = sum(s[1] for name, s in spent.items() if name not in after[1:])
        spent[TOTAL] = (time.perf_counter() - begin - later, processor)
    return spent, child.stderr


def compiled(errors: str, phase: str) -> list[str]:
    """The methods that Julia's trace lists within a phase."""
    lines, found = [], []
    for line in errors.splitlines():
        if line.startswith("precompile("):
            lines.append(line)
        elif line.startswith(_MARK):
            if line.endswith(f"after {phase}"):
                found = lines
            lines = []
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--child", choices=("whole", "parts"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("results")
    )
    options = parser.parse_args()
    if options.child:
        phases = Phases()
        {"whole": whole, "parts": parts}[options.child](phases)
        print(json.dumps(phases.spent))
        return
    if options.trace:
        _, errors = spawn("whole", trace=True)
        for phase in (FIRST, NEW):
            lines = compiled(errors, phase)
            print(f"{phase}: {len(lines)} methods compiled", *lines, sep="\n  ")
        return
    from hybrid_nds import runtime

    image = runtime.find_image(runtime.discover())
    runs = [("whole", False), ("parts", False)]
    runs += [("whole", True)] if image.status == "used" else []
    best: dict[tuple[str, bool], tuple[float, float]] = {}
    for _ in range(options.repeats):
        for kind, imaged in runs:
            for name, (wall, processor) in spawn(kind, image=imaged)[0].items():
                known = best.get((name, imaged), (float("inf"), float("inf")))
                least = min(wall, known[0]), min(processor, known[1])
                best[name, imaged] = least
    rows = [
        f"| {name} | {w:.2f} | {c:.2f} | {_from_image(best.get((name, True)))} |"
        for (name, imaged), (w, c) in best.items()
        if not imaged
    ]
    table = "\n".join(
        [
            "# Start-up",
            "",
            f"{os.cpu_count()} shared cores, load average {os.getloadavg()[0]:.1f}; "
            f"minima over {options.repeats} processes, in seconds.",
            "",
            "| phase | wall clock | processor | both, from a system image |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
    print(table)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "start_up.md").write_text(table, encoding="utf-8")


def _from_image(seconds: tuple[float, float] | None) -> str:
    return "" if seconds is None else f"{seconds[0]:.2f}, {seconds[1]:.2f}"


if __name__ == "__main__":
    main()
