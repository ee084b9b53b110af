"""Large, sparse and stiff: the Brusselator on a grid, and many reactions at once.

    python benchmarks/large.py [--points 32 128] [--output FOLDER]
    python benchmarks/large.py --largest 256 [--output FOLDER]
    python benchmarks/large.py --gradient 32 [--output FOLDER]

Needs Julia. The Brusselator in two dimensions with diffusion, in the set-up of the
documentation of DifferentialEquations.jl (periodic, α = 10, to t = 11.5), at relative
tolerance 1e-4 and absolute 1e-6, on grids of several sizes; and Robertson's reactions,
ten thousand of them side by side. By hand are a field and an analytic sparse Jacobian
in Julia with the same solver; SciPy and CVODE (`pip install scikit-sundae`, if it is
there) have field and sparse Jacobian in NumPy; Diffrax, whose Jacobians are dense, is
there for the smallest grids alone. Errors are against a solve at relative tolerance
1e-8, beyond 64 × 64 against the first contender. Times are those of the processor
(waiting for other jobs of the machine counts not), minima over rounds in which all take
turns; grids beyond 32 × 32 are solved once, and ours is lowered and compiled in that
time. `--largest` solves one large grid by QNDF, ours and by hand, each in a process of
its own, whose memory is measured. `--gradient` differentiates a solve by Rodas5P by a
rate at each point.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse
from scipy.integrate import solve_ivp

from hybrid_nds import ODEProblem, runtime, solve
from hybrid_nds._core import save_figure, write_text
from hybrid_nds.lowering import sparsity

A, B, DIFFUSION, END = 3.4, 1.0, 10.0, 11.5
RTOL, ATOL = 1e-4, 1e-6
SOLVERS = ("FBDF", "QNDF")
# A grid that is warmed up on, and the largest for what is slow.
WARM, LARGEST_SCIPY, LARGEST_CVODE, LARGEST_DIFFRAX = 8, 64, 64, 8
COPIES = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """The Brusselator on a grid, in JAX and in NumPy.

    **Arguments:** the number of points along each axis.
    """

    points: int

    @property
    def start(self) -> np.ndarray:
        x = np.linspace(0, 1, self.points)
        x, y = np.meshgrid(x, x, indexing="ij")
        return np.stack([22 * (y * (1 - y)) ** 1.5, 27 * (x * (1 - x)) ** 1.5])

    @property
    def spot(self) -> np.ndarray:
        x = np.linspace(0, 1, self.points)
        x, y = np.meshgrid(x, x, indexing="ij")
        return ((x - 0.3) ** 2 + (y - 0.6) ** 2 <= 0.1**2).astype(float)

    @property
    def rate(self) -> float:
        return DIFFUSION * (self.points - 1) ** 2

    def problem(self) -> ODEProblem:
        """The problem in JAX."""
        spot = jnp.asarray(self.spot)

        def laplacian(w: Any) -> Any:
            around = jnp.roll(w, 1, 0) + jnp.roll(w, -1, 0)
            return around + jnp.roll(w, 1, 1) + jnp.roll(w, -1, 1) - 4 * w

        def field(t: Any, y: Any, rate: Any) -> Any:
            u, v = y
            force = 5.0 * spot * (t >= 1.1)
            du = rate * laplacian(u) + B + u * u * v - (A + 1) * u + force
            return jnp.stack([du, rate * laplacian(v) + A * u - u * u * v])

        return ODEProblem(field, self.start, 0.0, END, jnp.asarray(self.rate))

    def numpy_field(self, t: float, w: np.ndarray, out: np.ndarray) -> None:
        """The field in NumPy."""
        n, rate = self.points, self.rate
        u, v = w.reshape(2, n, n)
        du, dv = out.reshape(2, n, n)
        product = u * u * v
        du[:] = rate * _laplacian(u) + B + product - (A + 1) * u
        if t >= 1.1:
            du += 5.0 * self.spot
        dv[:] = rate * _laplacian(v) + A * u - product

    def numpy_jacobian(self) -> tuple[scipy.sparse.csc_matrix, Callable[..., None]]:
        """The pattern of the Jacobian, and what writes its entries."""
        n = self.points**2
        places = np.arange(n).reshape(self.points, self.points)
        others = [np.roll(places, s, axis).ravel() for axis in (0, 1) for s in (1, -1)]
        own = places.ravel()
        rows = np.concatenate([own + s * n for s in (0, 1) for _ in range(6)])
        columns = np.concatenate(
            [
                x
                for s in (0, 1)
                for x in (
                    *(other + s * n for other in (own, *others)),
                    own + (1 - s) * n,
                )
            ]
        )
        pattern = scipy.sparse.csc_matrix((np.ones(len(rows)), (rows, columns)))
        pattern.sort_indices()
        row = pattern.indices
        column = np.repeat(np.arange(2 * n), np.diff(pattern.indptr))
        cross = (row >= n) != (column >= n)
        second, place = column >= n, column % n
        fixed = np.where(row == column, -4 * self.rate, np.where(cross, 0, self.rate))
        which = [
            np.flatnonzero((cross if off else row == column) & (second == later))
            for off in (False, True)
            for later in (False, True)
        ]
        at = [place[one] for one in which]

        def entries(t: float, w: np.ndarray, out: np.ndarray) -> None:
            u, v = w[:n], w[n:]
            out[:] = fixed
            out[which[0]] += 2 * u[at[0]] * v[at[0]] - (A + 1)
            out[which[1]] -= u[at[1]] ** 2
            out[which[2]] = A - 2 * u[at[2]] * v[at[2]]
            out[which[3]] = u[at[3]] ** 2

        return pattern, entries


def _laplacian(w: np.ndarray) -> np.ndarray:
    result = -4 * w
    result[1:] += w[:-1]
    result[0] += w[-1]
    result[:-1] += w[1:]
    result[-1] += w[0]
    result[:, 1:] += w[:, :-1]
    result[:, 0] += w[:, -1]
    result[:, :-1] += w[:, 1:]
    result[:, -1] += w[:, 0]
    return result


Timed = tuple[float, np.ndarray]


def ours(grid: Grid, solver: str) -> Callable[[], Timed]:
    problem = grid.problem()
    options = {"solver": solver, "rtol": RTOL, "atol": ATOL, "jacobian": "sparse"}

    def run() -> Timed:
        began = time.process_time()
        solution = solve(problem, "julia", **options)
        seconds = time.process_time() - began
        return seconds, np.ravel(solution.ys[0])

    return run


def by_hand(grid: Grid, solver: str) -> Callable[[], Timed]:
    main = runtime.session().main
    if not hasattr(main, "LargeByHand"):
        main.include(str(Path(__file__).with_name("large_hand.jl")))
    module = main.LargeByHand
    problem = module.problem(grid.points, grid.start.ravel())

    def run() -> Timed:
        began = time.process_time()
        end = module.final_state(problem, solver, RTOL, ATOL)
        return time.process_time() - began, np.array(end)

    return run


def by_scipy(grid: Grid) -> Callable[[], Timed]:
    pattern, entries = grid.numpy_jacobian()

    def field(t: float, w: np.ndarray) -> np.ndarray:
        out = np.empty_like(w)
        grid.numpy_field(t, w, out)
        return out

    def jacobian(t: float, w: np.ndarray) -> Any:
        values = np.empty(pattern.nnz)
        entries(t, w, values)
        shape = pattern.shape
        return scipy.sparse.csc_matrix((values, pattern.indices, pattern.indptr), shape)

    def run() -> Timed:
        began = time.process_time()
        solution = solve_ivp(
            field,
            (0.0, END),
            grid.start.ravel(),
            method="BDF",
            rtol=RTOL,
            atol=ATOL,
            jac=jacobian,
            t_eval=[END],
        )
        return time.process_time() - began, solution.y[:, -1]

    return run


def by_cvode(grid: Grid) -> Callable[[], Timed]:
    from sksundae.cvode import CVODE

    pattern, entries = grid.numpy_jacobian()
    solver = CVODE(
        grid.numpy_field,
        jacfn=lambda t, y, yp, out: entries(t, y, out),
        sparsity=pattern,
        linsolver="sparse",
        rtol=RTOL,
        atol=ATOL,
        max_num_steps=1_000_000,
    )

    def run() -> Timed:
        began = time.process_time()
        solution = solver.solve(np.array([0.0, END]), grid.start.ravel())
        return time.process_time() - began, solution.y[-1]

    return run


def by_diffrax(grid: Grid) -> Callable[[], Timed]:
    problem = grid.problem()

    def run() -> Timed:
        began = time.process_time()
        solution = solve(problem, solver="Kvaerno5", rtol=RTOL, atol=ATOL)
        end = np.ravel(jax.block_until_ready(solution.ys)[0])
        return time.process_time() - began, end

    return run


def contenders(grid: Grid) -> Mapping[str, Callable[[], Timed]]:
    """What solves this grid, by name."""
    made = {f"hybrid_nds {solver}": ours(grid, solver) for solver in SOLVERS}
    made |= {f"Julia by hand {solver}": by_hand(grid, solver) for solver in SOLVERS}
    if grid.points <= LARGEST_SCIPY:
        made["SciPy BDF"] = by_scipy(grid)
    if grid.points <= LARGEST_CVODE:
        try:
            made["CVODE"] = by_cvode(grid)
        except ImportError:
            print("scikit-sundae is not installed: no CVODE")
    if grid.points <= LARGEST_DIFFRAX:
        made["Diffrax Kvaerno5"] = by_diffrax(grid)
    return made


def reference(grid: Grid) -> np.ndarray:
    """The end, at a tolerance ten thousand times as tight."""
    solution = solve(
        grid.problem(),
        "julia",
        solver="FBDF",
        rtol=1e-8,
        atol=1e-10,
        jacobian="sparse",
        max_steps=1_000_000,
    )
    return np.ravel(solution.ys[0])


def measure(points: int, rounds: int) -> dict[str, tuple[float, float]]:
    """By contender: seconds, and the largest relative error at the end."""
    grid = Grid(points)
    exact = reference(grid) if points <= LARGEST_SCIPY else None
    found: dict[str, tuple[float, float]] = {}
    made = contenders(grid)
    for _ in range(rounds):
        for name, run in made.items():
            seconds, end = run()
            if exact is None:
                exact = end
            error = float(np.max(np.abs(end - exact) / (1 + np.abs(exact))))
            before = found.get(name, (np.inf, error))
            found[name] = (min(seconds, before[0]), error)
            print(f"{points}² {name}: {seconds:.3g} s, error {error:.1e}", flush=True)
    return found


def robertson() -> list[tuple[str, float, float]]:
    """Ten thousand of Robertson's reactions at once, to t = 100 (30,000 equations)."""

    def field(t: Any, y: Any, args: Any) -> Any:
        a, b, c = y[:, 0], y[:, 1], y[:, 2]
        slow, back, fast = 0.04 * a, 1e4 * b * c, 3e7 * b * b
        return jnp.stack([back - slow, slow - back - fast, fast], 1)

    start = np.tile([1.0, 0.0, 0.0], (COPIES, 1))
    rows = []
    # From a table of references (Hairer & Wanner 1996 give the constants; the end is of
    # a solve at 1e-12 of one reaction).
    one = ODEProblem(field, start[:1], 0.0, 100.0)
    exact = np.asarray(
        solve(one, "julia", solver="Rodas5P", rtol=1e-11, atol=1e-14).ys[0, 0]
    )
    many = ODEProblem(field, start, 0.0, 100.0)
    for solver in ("FBDF", "QNDF", "Rodas5P"):
        options = {"solver": solver, "rtol": 1e-6, "atol": 1e-8, "jacobian": "sparse"}
        seconds = np.inf
        for _ in range(3):
            began = time.process_time()
            end = solve(many, "julia", **options).ys[0]
            seconds = min(seconds, time.process_time() - began)
        error = float(np.max(np.abs(np.asarray(end) - exact) / exact))
        rows.append((solver, seconds, error))
        print(f"Robertson × {COPIES} {solver}: {seconds:.3g} s, error {error:.1e}")
    return rows


def detection(sizes: list[int]) -> list[tuple[int, float, int, int]]:
    """Points, seconds to find and colour the pattern, entries and colours."""
    rows = []
    for points in sizes:
        problem = Grid(points).problem()
        began = time.process_time()
        found = sparsity(problem)
        seconds = time.process_time() - began
        rows.append((points, seconds, found.nonzeros, found.products))
    return rows


def report(
    found: Mapping[int, Mapping[str, tuple[float, float]]],
    reactions: list[tuple[str, float, float]],
    patterns: list[tuple[int, float, int, int]],
    load: list[float],
) -> str:
    lines = [
        "# Large systems",
        "",
        f"{os.cpu_count()} shared cores, load average {min(load):.1f} to "
        f"{max(load):.1f}; time of the processor, one thread. Grids beyond 32 × 32 are "
        "solved once: there ours has the time to find the pattern, to lower and to "
        "compile in it.",
    ]
    for points, rows in found.items():
        lines += [
            "",
            f"## Brusselator, {points} × {points} ({2 * points**2:,} equations)",
            "",
            "| | seconds | error |",
            "|---|---|---|",
        ]
        for name, (seconds, error) in sorted(rows.items(), key=lambda item: item[1]):
            shown = f"{error:.1e}" if error else "taken as reference"
            lines.append(f"| {name} | {seconds:.3g} | {shown} |")
    lines += [
        "",
        f"## Robertson × {COPIES:,}, to t = 100",
        "",
        "| hybrid_nds | seconds | largest relative error |",
        "|---|---|---|",
        *(f"| {name} | {s:.3g} | {error:.1e} |" for name, s, error in reactions),
        "",
        "## Finding the pattern",
        "",
        "| grid | seconds | entries | colours |",
        "|---|---|---|---|",
        *(f"| {n}² | {s:.2f} | {count:,} | {k} |" for n, s, count, k in patterns),
    ]
    return "\n".join(lines) + "\n"


def largest(points: int, name: str) -> tuple[float, float, float, np.ndarray]:
    """Seconds of the processor of a first solve and of a second one, and the most
    memory of the process in bytes, by QNDF, ours or by hand; and the end."""
    grid = Grid(points)
    make = by_hand if name == "Julia by hand" else ours
    make(Grid(WARM), "QNDF")()
    run = make(grid, "QNDF")
    (first, _), (again, end) = run(), run()
    # In kilobytes on Linux.
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return first, again, peak, end


def report_largest(points: int) -> str:
    lines = [
        f"# Brusselator, {points} × {points} ({2 * points**2:,} equations)",
        "",
        "By QNDF at relative tolerance 1e-4 and absolute 1e-6, to t = 11.5, each in a "
        "process of its own, one thread, time of the processor. The first solve has "
        "the time to find the pattern, to lower and to compile in it; memory is that "
        "of the whole process, Python, JAX and Julia included.",
        "",
        "| | first solve, s | second, s | memory, GiB |",
        "|---|---|---|---|",
    ]
    ends, load = [], [os.getloadavg()[0]]
    context = multiprocessing.get_context("spawn")
    for name in ("hybrid_nds", "Julia by hand"):
        with ProcessPoolExecutor(1, context, _double) as pool:
            first, again, peak, end = pool.submit(largest, points, name).result()
        ends.append(end)
        load.append(os.getloadavg()[0])
        shown = f"{first:.4g} | {again:.4g} | {peak / 2**30:.2f}"
        lines.append(f"| {name} | {shown} |")
    apart = np.max(np.abs(ends[0] - ends[1]) / (1 + np.abs(ends[1])))
    lines += [
        "",
        f"The two ends differ by {apart:.1e}, relative to one and their size. "
        f"{os.cpu_count()} shared cores, load average {min(load):.1f} to "
        f"{max(load):.1f}.",
    ]
    return "\n".join(lines) + "\n"


def report_gradient(points: int) -> str:
    grid = Grid(points)
    field = grid.problem().field
    weights = jnp.cos(jnp.arange(grid.start.size)).reshape(grid.start.shape)
    rates = jnp.full((points, points), A)

    def end(rates: Any) -> Any:
        def with_rates(t: Any, y: Any, args: Any) -> Any:
            # A at each point in the place of one for all.
            rate, own = args
            u = y[0]
            return field(t, y, rate) + (own - A) * jnp.stack([-u, u])

        args = jnp.asarray(grid.rate), rates
        problem = ODEProblem(with_rates, grid.start, 0.0, END, args)
        options = {"solver": "Rodas5P", "rtol": RTOL, "atol": ATOL}
        return solve(problem, "julia", jacobian="sparse", **options)

    loss = lambda rates: jnp.vdot(weights, end(rates).ys[0])
    forward, reverse = jax.jit(loss), jax.jit(jax.grad(loss))
    seconds, load = {}, [os.getloadavg()[0]]
    for name, run in {"solve": forward, "gradient": reverse}.items():
        jax.block_until_ready(run(rates))
        seconds[name] = np.inf
        for _ in range(5):
            began = time.process_time()
            jax.block_until_ready(run(rates))
            seconds[name] = min(seconds[name], time.process_time() - began)
    load.append(os.getloadavg()[0])
    ratio = seconds["gradient"] / seconds["solve"]
    return (
        f"# Gradient of the Brusselator, {points} × {points} ({2 * points**2:,} "
        f"equations), by {points**2:,} rates\n\n"
        f"By Rodas5P at relative tolerance 1e-4 and absolute 1e-6, in "
        f"{end(rates).stats['num_accepted_steps']} steps; time of the processor, one "
        f"thread, the least of five. {os.cpu_count()} shared cores, load average "
        f"{min(load):.1f} to {max(load):.1f}.\n\n"
        "| | seconds |\n|---|---|\n"
        f"| solve | {seconds['solve']:.3g} |\n"
        f"| its gradient, the solve included | {seconds['gradient']:.3g} |\n\n"
        f"The gradient takes {ratio:.2f} times as long as the solve.\n"
    )


def _double() -> None:
    jax.config.update("jax_enable_x64", True)


def draw(found: Mapping[int, Mapping[str, tuple[float, float]]], path: Path) -> None:
    """Seconds against equations, by contender."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    names = sorted({name for rows in found.values() for name in rows})
    for name in names:
        sizes = [points for points, rows in found.items() if name in rows]
        seconds = [found[points][name][0] for points in sizes]
        axes.loglog([2 * n**2 for n in sizes], seconds, "o-", label=name)
    axes.set(xlabel="equations", ylabel="seconds", title="Brusselator on a grid")
    axes.legend()
    save_figure(figure, path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parent / "results"
    parser.add_argument("--points", type=int, nargs="+", default=[8, 16, 32, 64, 128])
    parser.add_argument("--largest", type=int)
    parser.add_argument("--gradient", type=int)
    parser.add_argument("--output", type=Path, default=default)
    options = parser.parse_args()
    if options.largest is not None:
        text = report_largest(options.largest)
        print(text)
        write_text(options.output / "largest.md", text)
        return
    _double()
    if options.gradient is not None:
        text = report_gradient(options.gradient)
        print(text)
        write_text(options.output / "large_gradient.md", text)
        return
    load = [os.getloadavg()[0]]
    for run in contenders(Grid(WARM)).values():
        run()
    found: dict[int, dict[str, tuple[float, float]]] = {}
    for points in options.points:
        found[points] = measure(points, 3 if points <= 32 else 1)
        load.append(os.getloadavg()[0])
    reactions = robertson()
    load.append(os.getloadavg()[0])
    text = report(found, reactions, detection(options.points), load)
    print(text)
    write_text(options.output / "large.md", text)
    draw(found, options.output / "large.png")


if __name__ == "__main__":
    main()
