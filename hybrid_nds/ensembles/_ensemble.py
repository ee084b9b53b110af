"""Ensembles: many trajectories of one problem, kept or reduced."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Literal

import jax
import jax.random as jr
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray, PyTree

from .._core import check_choice, check_key, check_whole
from ..analysis import progress_bar
from ..problems import Problem
from ..solving import get_backend
from ..tasks import check_executor, run_tasks, workers_of
from ._checkpoint import Checkpoint
from ._checks import check_initial, check_mesh, check_problem, check_reduce, check_solve
from ._collect import Collector
from ._fingerprint import fingerprint
from ._julia_blocks import why_not_batched
from ._plan import Plan, block_size
from ._reduction import Reduction
from ._result import Ensemble, EnsembleError
from ._tasks import (
    Batch,
    BatchResult,
    cut,
    make_blocks,
    run_batch,
    run_payload,
    serialized,
)

# Blocks in a batch by default: seconds of work, and files of moderate size.
_BATCH = 8
_SHOWN = 3


def ensemble(
    problem: Problem,
    n: int,
    *,
    key: PRNGKeyArray,
    backend: str = "diffrax",
    solver: Any = None,
    dt: Any = None,
    rtol: Any = None,
    atol: Any = None,
    saveat: Any = None,
    initial: Callable[[PRNGKeyArray], PyTree] | PyTree = None,
    reduce: Reduction | Mapping[str, Reduction] | None = None,
    save: str | os.PathLike[str] | None = None,
    executor: Executor | int | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    mesh: Mesh | None = None,
    paths: Literal["shared", "native"] | None = None,
    max_steps: int | None = None,
    progress: bool = False,
    throw: bool = False,
    **extra: Any,
) -> Ensemble:
    """Solve a problem many times, along Brownian paths or from initial states of
    their own.

    Trajectory `i` is driven by the path of the key `jax.random.fold_in(key, i)`, as
    `solve(problem, key=jax.random.fold_in(key, i), …)` would be. Results depend on
    `key` and `n`, and not in one bit on the size of batches or the number of
    threads, workers or devices of one kind.

    **Arguments:**

    - `problem`: an [`SDEProblem`][hybrid_nds.SDEProblem] or an
        [`ODEProblem`][hybrid_nds.ODEProblem].
    - `n`: how many trajectories.
    - `key`: a JAX random key.
    - `backend`, `solver`, `dt`, `rtol`, `atol`, `max_steps`, `extra`: as for
        [`solve`][hybrid_nds.solve].
    - `saveat`: `None` saves the final time, an array these times.
    - `initial`: initial states: a callable `key -> y0`, evaluated in JAX with a key of
        each trajectory's own; or arrays like `y0` with a leading axis of `n`. By
        default all start at `problem.y0`, which suits stochastic problems alone.
    - `reduce`: `None` keeps all saved states; one of [`Moments`][hybrid_nds.Moments],
        [`Histogram`][hybrid_nds.Histogram], [`Quantiles`][hybrid_nds.Quantiles],
        [`ExitFlags`][hybrid_nds.ExitFlags] or a dict of several keeps only these, in
        memory that does not grow with `n`. In Julia, moments of the state along native
        paths are taken within the loops of lean kernels, and no state is kept.
    - `save`: a folder for finished batches. A run that was cut short goes on from
        there when it is called again, to the same result; the folder of another
        ensemble is refused.
    - `executor`: `None` works in this process; a number, in so many processes that
        are started for the run; or any `concurrent.futures.Executor`, such as a
        `ProcessPoolExecutor` (not a forking one), or Dask's `client.get_executor()`.
        Batches that are lost with a worker are run again.
    - `batch_size`: how many trajectories make a batch: one task, and one file of
        `save`; rounded up to whole blocks.
    - `threads`: how many Julia threads to use; all of the session's by default.
    - `mesh`: devices to share the work among, on Diffrax; by default one.
    - `paths`: `"shared"`, the Brownian paths of `solve` on both backends; or
        `"native"`, others that each backend draws in its own way from the key and the
        index, in fixed steps, faster: on Diffrax those of
        `solve(…, paths="native")`, in Julia by counters within the loops. By default
        native in Julia with fixed steps `dt` and no options of `solve` but these, and
        shared otherwise.
    - `progress`: whether to show a progress bar.
    - `throw`: whether failed trajectories raise. Otherwise they are reported with
        their index, outcome and time, and reductions leave them out.

    **Returns:** an [`Ensemble`][hybrid_nds.Ensemble].

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`EnsembleError`][hybrid_nds.EnsembleError] where `throw` asks for it.

    **Warns:** where trajectories failed.
    """
    check_problem(problem)
    n, key = check_whole("ensemble", "n", n), check_key("ensemble", key)
    check_choice("ensemble", "backend", get_backend(backend).name, ("diffrax", "julia"))
    for name, flag in (("progress", progress), ("throw", throw)):
        check_choice("ensemble", name, flag, (True, False))
    check_executor("ensemble", executor, backend)
    check_mesh(mesh, backend, executor)
    if threads is not None:
        check_whole("ensemble", "threads", threads)
    if threads is not None and backend != "julia":
        raise ValueError(
            "ensemble: `threads` are Julia's; on Diffrax pass an `executor`."
        )
    given = {"solver": solver, "rtol": rtol, "atol": atol, "dt": dt, **extra}
    options, times = check_solve(
        problem, backend, key, saveat, given | {"max_steps": max_steps}
    )
    initial = check_initial(initial, problem, n, key)
    accelerated = backend == "diffrax" and jax.default_backend() != "cpu"
    plan = Plan(
        problem=problem,
        n=n,
        key_data=np.asarray(jr.key_data(key)),
        key_kind=str(jr.key_impl(key)),
        backend=backend,
        options=options,
        saveat=times,
        initial=initial if callable(initial) else None,
        reductions=check_reduce(reduce),
        block=block_size(n, accelerated),
        paths=_choose_paths(paths, problem, backend, options),
    )
    arrays = None if callable(initial) else initial
    if batch_size is not None:
        batch_size = check_whole("ensemble", "batch_size", batch_size)
    found = _run(
        plan,
        arrays,
        save=save,
        executor=executor,
        batch_size=batch_size,
        threads=threads,
        mesh=mesh,
        progress=progress,
    )
    return _report(found, throw)


def _choose_paths(paths: Any, problem: Problem, backend: str, options: Mapping) -> str:
    check_choice("ensemble", "paths", paths, (None, "shared", "native"))
    if not problem.kind.follows_path:
        if paths is not None:
            raise ValueError("ensemble: an ODEProblem has no Brownian `paths`.")
        return ""
    adaptive = any(options[name] is not None for name in ("rtol", "atol"))
    if backend == "diffrax" and paths == "native" and adaptive:
        raise ValueError(
            'ensemble: `paths="native"` are of fixed steps; pass `dt` alone, or '
            'paths="shared".'
        )
    if paths == "shared" or backend == "diffrax":
        return paths or "shared"
    reason = why_not_batched(options)
    if paths == "native" and reason is not None:
        raise ValueError(
            f'ensemble: `paths="native"` are of a batch in one call of Julia, but '
            f'{reason}; pass paths="shared".'
        )
    return "native" if reason is None else "shared"


def _run(
    plan: Plan,
    given: PyTree,
    *,
    save: Any,
    executor: Any,
    batch_size: int | None,
    threads: int | None,
    mesh: Any,
    progress: bool,
) -> Ensemble:
    collector = Collector(plan)
    checkpoint = None
    runners: dict[str, None] = {}
    provenance = None
    if save is not None:
        about = {"trajectories": plan.n, "block_size": plan.block}
        checkpoint = Checkpoint(save, fingerprint(plan, given), about)
    with (
        progress_bar(progress, "Trajectories", plan.n) as report,
        contextlib.ExitStack() as stack,
    ):
        for batch in checkpoint.read() if checkpoint is not None else ():
            runners[batch.runner] = None
            provenance = batch.provenance or provenance
            for one in batch.results:
                collector.add(one)
                report(one.outcomes.size)
        missing = collector.missing
        if missing:
            if checkpoint is not None:
                checkpoint.check_writable()
            if executor is None:
                local = make_blocks(plan, mesh, threads)
                size = _blocks_in_batch(
                    plan, batch_size, local.blocks_per_call, executor
                )
                batches = _batches(plan, given, missing, size)
                incoming = (run_batch(local, batch) for batch in batches)
            else:
                size = _blocks_in_batch(plan, batch_size, 1, executor)
                batches = _batches(plan, given, missing, size)
                task = functools.partial(run_payload, serialized(plan, threads))
                pairs = run_tasks("ensemble", executor, task, batches, _dying)
                stack.enter_context(contextlib.closing(pairs))
                incoming = (result for _, result in pairs)
            stack.enter_context(contextlib.closing(incoming))
            for batch in _noting(incoming, checkpoint):
                if checkpoint is not None:
                    checkpoint.write(batch)
                runners[batch.runner] = None
                provenance = batch.provenance or provenance
                for one in batch.results:
                    collector.add(one)
                    report(one.outcomes.size)
    results = collector.results()
    return Ensemble(
        ts=plan.layout.times,
        ys=collector.states(),
        reduced=results[""]
        if results is not None and set(results) == {""}
        else results,
        n=plan.n,
        outcomes=collector.outcomes,
        failures=tuple(sorted(collector.failures, key=lambda one: one.index)),
        provenance=provenance,
        runner=", ".join(runners),
        paths=plan.paths,
    )


def _dying(batch: Batch) -> str:
    """What is said when workers keep dying, with a batch next."""
    return (
        f"one batch was finished, the last time with blocks {batch.first} to "
        f"{batch.stop - 1} next. They may lack memory: take a smaller `batch_size`, or "
        "fewer processes."
    )


def _noting(
    incoming: Iterator[BatchResult], checkpoint: Checkpoint | None
) -> Iterator[BatchResult]:
    """Tell one who stops a saved run how it goes on."""
    try:
        yield from incoming
    except KeyboardInterrupt as stop:
        if checkpoint is not None:
            stop.add_note(
                "ensemble: stopped; the same call goes on from the batches in "
                f"{checkpoint.folder}."
            )
        raise


def _blocks_in_batch(
    plan: Plan, batch_size: int | None, per_call: int, executor: Any
) -> int:
    if batch_size is not None:
        size = -(-batch_size // plan.block)
    elif executor is None:
        size = _BATCH
    else:
        # Some batches for every worker, so that all end at about the same time.
        size = min(_BATCH, max(1, plan.blocks // (4 * workers_of(executor))))
    return -(-size // per_call) * per_call


def _batches(
    plan: Plan, given: PyTree, missing: Sequence[int], size: int
) -> list[Batch]:
    """Runs of missing blocks, at most `size` together."""
    found: list[Batch] = []
    start = 0
    for position in range(1, len(missing) + 1):
        follows = (
            position < len(missing) and missing[position] == missing[position - 1] + 1
        )
        if follows and position - start < size:
            continue
        first, stop = missing[start], missing[position - 1] + 1
        found.append(Batch(first, stop, cut(given, plan, range(first, stop))))
        start = position
    return found


def _report(found: Ensemble, throw: bool) -> Ensemble:
    if not found.failures:
        return found
    some = "; ".join(str(one) for one in found.failures[:_SHOWN])
    more = len(found.failures) - _SHOWN
    text = (
        f"ensemble: {len(found.failures)} of {found.n} trajectories failed: {some}"
        + (f"; and {more} more." if more > 0 else ".")
    )
    if throw:
        raise EnsembleError(text, found)
    warnings.warn(
        f"{text} Reductions leave them out, which biases what they estimate unless "
        "failing has nothing to do with it.",
        RuntimeWarning,
        stacklevel=3,
    )
    return found
