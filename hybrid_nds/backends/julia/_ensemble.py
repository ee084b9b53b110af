"""Ensembles in Julia: lean kernels where they apply, else a solve a trajectory."""

from __future__ import annotations

import os
from collections.abc import Callable

import jax
import jax.tree_util as jtu
import numpy as np

from ... import runtime
from ..._core import is_concrete
from ...methods import find_solver
from ...problems import Problem
from ._ensemble_run import EnsembleRun
from ._ensemble_types import (
    BlockMoments as BlockMoments,
    KernelMoments as KernelMoments,
    KernelResult as KernelResult,
)
from ._kernels import KERNELS as KERNELS, kernel_applies as kernel_applies


def run_ensemble(
    problem: Problem,
    indices: np.ndarray,
    *,
    key: jax.Array | None,
    dt: float,
    solver: str = "Euler",
    saveat: np.ndarray | None = None,
    save: bool = True,
    reduce: KernelMoments | None = None,
    y0: np.ndarray | None = None,
    increments: tuple[np.ndarray, np.ndarray | None] | None = None,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> KernelResult:
    """Run trajectories in fixed steps: by a lean kernel, where there is one for the
    solver, or by a solve of StochasticDiffEq for each, on Julia's threads.

    The noise of a trajectory is a function of the key and its index alone
    (Philox4x32-10 and Box and Muller's transform), and so are its states: threads and
    the split of an ensemble into calls change nothing. Both ways see the same noise.

    **Arguments:**

    - `problem`: the problem; see `kernel_applies` for which take a kernel.
    - `indices`: which trajectories, shape `(trajectories,)`, not negative.
    - `key`: a JAX random key; may be `None` where `increments` are given.
    - `dt`: the step, which divides the span.
    - `solver`: one of `KERNELS`, or of the solvers that Julia has.
    - `saveat`: times of the grid, ascending; `None` for the end alone.
    - `save`: whether to return the states at these times.
    - `reduce`: the moments to reduce the trajectories to; only a kernel does.
    - `y0`: flat initial states, shape `(trajectories, n)`; by default the problem's.
    - `increments`: the increments of the Brownian motions, shape
        `(trajectories, steps, m)`, and their space-time Lévy areas H of the same
        shape, or `None`; in place of random numbers.
    - `threads`: how many Julia threads take part; `None` for all of them.
    - `progress`: called now and then with the number of trajectories done.

    **Returns:** a `KernelResult`.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    reason = kernel_applies(problem, solver, dt)
    if reason is not None and reduce is not None:
        raise ValueError(
            f"ensemble: {reason}; without a kernel, Julia reduces nothing: leave "
            "`reduce` out, and reduce the states."
        )
    leaves = jtu.tree_leaves((problem, key, dt, saveat))
    if not all(is_concrete(leaf) for leaf in leaves):
        raise TypeError(
            "ensemble: the Julia backend cannot be traced; call it outside jax.jit, "
            "jax.vmap and jax.grad."
        )
    session = runtime.session()
    count = _threads(session, threads)
    run = EnsembleRun(session, problem, np.asarray(indices), float(dt))
    run.set_key(key, increments)
    run.set_problem(y0)
    run.set_times(saveat)
    report = None if progress is None else lambda done: progress(int(done))
    if reason is None:
        run.set_noise(increments, needs_area=solver == "SRA1")
        run.set_outputs(save, reduce)
        interrupted = run.by_kernel(solver, count, report)
    else:
        area = find_solver(solver, "julia", "sde").levy_area != "none"
        run.set_noise(increments, needs_area=area)
        interrupted = run.by_solves(solver, area, count, report)
    return run.result(interrupted)


def _threads(session: runtime.Session, threads: int | None) -> int:
    if threads is None:
        return session.threads
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"ensemble: `threads` must be 1 or more, got {threads!r}.")
    if threads > session.threads:
        raise ValueError(
            f"ensemble: `threads` must be at most the {session.threads} that Julia "
            f"was started with, got {threads}; start it with "
            f"`hybrid_nds.runtime.session(threads={min(threads, os.cpu_count() or 1)})`"
            " or `hybrid-nds julia configure --threads`."
        )
    return threads
