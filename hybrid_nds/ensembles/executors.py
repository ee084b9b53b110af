"""Running batches here, or as tasks of any `concurrent.futures.Executor`."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from typing import Any

from ..runtime import FreshContext, WorkerDiedError
from .tasks import Batch, BatchResult, Parcel, run_parcel

# A batch that kills its worker this often in a row, with nothing finished between,
# would do so for ever.
_ATTEMPTS = 3


def check_executor(executor: Any, backend: str) -> None:
    """Refuse executors that cannot run an ensemble.

    **Raises:** `TypeError` or `ValueError`.
    """
    if executor is None:
        return
    if isinstance(executor, int) and not isinstance(executor, bool):
        if executor < 1:
            raise ValueError(
                "ensemble: `executor` must be at least 1 worker process, got "
                f"{executor}."
            )
        return
    if not isinstance(executor, Executor):
        hint = ""
        if hasattr(executor, "get_executor"):
            hint = " Pass client.get_executor() for a Dask client."
        raise TypeError(
            "ensemble: `executor` must be None, a number of worker processes or a "
            f"concurrent.futures.Executor, got {type(executor).__name__}.{hint}"
        )
    if isinstance(executor, ThreadPoolExecutor) and backend == "julia":
        raise ValueError(
            "ensemble: Julia runs in the main thread of a process, so `executor` must "
            "not be a ThreadPoolExecutor. Leave it out and pass `threads`, or pass a "
            "number of worker processes."
        )
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            "ensemble: the processes of `executor` are forked, which neither JAX nor "
            "Julia survives. Make it with "
            'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")).'
        )


def workers_of(executor: Any) -> int:
    """How many batches an executor runs at a time, as far as it tells."""
    if executor is None:
        return 1
    if isinstance(executor, int):
        return executor
    client = getattr(executor, "_client", None)
    with contextlib.suppress(Exception):
        if client is not None:
            return max(1, sum(client.nthreads().values()))
    known = getattr(executor, "_max_workers", None)
    return known if isinstance(known, int) and known > 0 else os.cpu_count() or 1


def run_on(
    executor: Executor | int, parcel: Parcel, batches: Sequence[Batch]
) -> Generator[BatchResult]:
    """Run batches on an executor.

    Batches lost with their workers are run again: on what a broken process pool is
    replaced with, or by the executor itself, as Dask does.

    **Arguments:** the executor, or a number of worker processes to start for the run;
    the plan, packed; the batches.

    **Returns:** an iterator over results as they come in, in any order. Abandoning it
    cancels what has not begun.

    **Raises:** what a batch raises; `RuntimeError` when workers keep dying.
    """
    workers = workers_of(executor)
    own = _pool(workers) if isinstance(executor, int) else None
    used: Any = executor if own is None else own
    waiting = list(reversed(batches))
    running: dict[Future, Batch] = {}
    deaths = 0
    done = False
    try:
        while waiting or running:
            try:
                # Enough to keep all busy, and no more in memory.
                while waiting and len(running) < 2 * workers:
                    future = used.submit(run_parcel, parcel, waiting[-1])
                    running[future] = waiting.pop()
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    result = future.result()
                    del running[future]
                    deaths = 0
                    yield result
            except (BrokenExecutor, WorkerDiedError) as error:
                deaths += 1
                lost = sorted(running.values(), key=lambda batch: -batch.first)
                waiting.extend(lost)
                running.clear()
                if deaths == _ATTEMPTS:
                    raise RuntimeError(_dying(waiting)) from error
                if isinstance(error, WorkerDiedError):
                    # A JuliaWorker starts another process by itself.
                    continue
                if own is None:
                    warnings.warn(
                        "ensemble: a worker of `executor` died and broke it; the lost "
                        f"batches are run again by {workers} processes of their own.",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                else:
                    _end(own)
                used = own = _pool(workers)
        done = True
    finally:
        for future in running:
            future.cancel()
        if own is not None:
            if done:
                own.shutdown()
            else:
                _end(own)


def _dying(waiting: Sequence[Batch]) -> str:
    batch = waiting[-1]
    return (
        f"ensemble: {_ATTEMPTS} times in a row worker processes died before one batch "
        f"was finished, the last time with blocks {batch.first} to {batch.stop - 1} "
        "next. They may lack memory: take a smaller `batch_size`, or fewer "
        "processes."
    )


def _pool(workers: int) -> ProcessPoolExecutor:
    # Its processes do not run the program's main module again.
    return ProcessPoolExecutor(workers, FreshContext(), initializer=_ignore_stop)


def _ignore_stop() -> None:
    """Ctrl-C reaches every process of a terminal; the first one answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(pool: ProcessPoolExecutor) -> None:
    """Stop a pool without waiting for what it is at."""
    processes: dict[int, Any] = getattr(pool, "_processes", None) or {}
    ending: list[Callable[[], None]] = [p.terminate for p in processes.values()]
    pool.shutdown(wait=False, cancel_futures=True)
    for terminate in ending:
        with contextlib.suppress(Exception):
            terminate()
