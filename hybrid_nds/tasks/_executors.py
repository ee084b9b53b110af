"""Many tasks on any `concurrent.futures.Executor`, through deaths of workers."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
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
from typing import Any, TypeVar

from .._core import delivered, portable
from ..runtime import FreshContext, JuliaWorker, WorkerDiedError

Task = TypeVar("Task")
Result = TypeVar("Result")

# A task that kills its worker this often in a row, with nothing finished between,
# would do so for ever.
_ATTEMPTS = 3


def check_executor(caller: str, executor: Any, backend: str) -> None:
    """Refuse executors that cannot run tasks of JAX and Julia.

    **Arguments:** who asks, for messages; the executor, or a number of worker
    processes, or `None` for none; the backend of the tasks.

    **Raises:** `TypeError` or `ValueError`.
    """
    if executor is None:
        return
    if isinstance(executor, int) and not isinstance(executor, bool):
        if executor < 1:
            raise ValueError(
                f"{caller}: `executor` must be at least 1 worker process, got "
                f"{executor}."
            )
        return
    if not isinstance(executor, Executor):
        hint = ""
        if hasattr(executor, "get_executor"):
            hint = " Pass client.get_executor() for a Dask client."
        raise TypeError(
            f"{caller}: `executor` must be None, a number of worker processes or a "
            f"concurrent.futures.Executor, got {type(executor).__name__}.{hint}"
        )
    if isinstance(executor, ThreadPoolExecutor) and backend == "julia":
        raise ValueError(
            f"{caller}: Julia runs in the main thread of a process, so `executor` must "
            "not be a ThreadPoolExecutor. Leave it out, or pass a number of worker "
            "processes."
        )
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            f"{caller}: the processes of `executor` are forked, which neither JAX nor "
            "Julia survives. Make it with "
            'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")).'
        )


def workers_of(executor: Any) -> int:
    """How many tasks an executor runs at a time, as far as it tells."""
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


def run_tasks(
    caller: str,
    executor: Executor | int,
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    dying: Callable[[Task], str],
) -> Generator[tuple[Task, Result]]:
    """Run a function of one task on an executor, for many tasks.

    Tasks lost with their workers are run again: on what a broken process pool is
    replaced with, or by the executor itself, as Dask does.

    **Arguments:** who asks, for messages; the executor, or a number of worker
    processes to start for the run; the function, which travels to the workers; the
    tasks; what to say when workers keep dying, given the task that is next.

    **Returns:** an iterator over tasks with their results as they come in, in any
    order. Abandoning it cancels what has not begun.

    **Raises:** what a task raises; `RuntimeError` when workers keep dying.
    """
    workers = workers_of(executor)
    own = _pool(workers) if isinstance(executor, int) else None
    guarded = functools.partial(run_guarded, function)
    used: Any = executor if own is None else own
    waiting = list(reversed(range(len(tasks))))
    running: dict[Future, int] = {}
    deaths = 0
    done = False
    try:
        while waiting or running:
            try:
                # Enough to keep all busy, and no more in memory.
                while waiting and len(running) < 2 * workers:
                    future = used.submit(guarded, tasks[waiting[-1]])
                    running[future] = waiting.pop()
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    result = guarded_result(future)
                    number = running.pop(future)
                    deaths = 0
                    yield tasks[number], result
            except (BrokenExecutor, WorkerDiedError) as error:
                deaths += 1
                waiting.extend(sorted(running.values(), reverse=True))
                running.clear()
                if deaths == _ATTEMPTS:
                    raise RuntimeError(
                        f"{caller}: {_ATTEMPTS} times in a row worker processes died "
                        f"before {dying(tasks[waiting[-1]])}"
                    ) from error
                if isinstance(error, WorkerDiedError):
                    # A JuliaWorker starts another process by itself.
                    continue
                if own is None:
                    warnings.warn(
                        f"{caller}: a worker of `executor` died and broke it; what was "
                        f"lost is run again by {workers} processes of their own.",
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


def run_guarded(function: Callable[[Task], Result], task: Task) -> Result:
    """Run a task in a worker; an exception of any class reaches the caller as itself.

    One that cannot be unpickled would break the whole pool instead.
    """
    try:
        return function(task)
    except Exception as error:
        raise portable(error) from error.__cause__


def guarded_result(future: Future[Result]) -> Result:
    error = future.exception()
    if error is not None:
        raise delivered(error)
    return future.result()


def julia_beside(caller: str, threads: int | None) -> JuliaWorker:
    """A process for Julia beside a worker that runs its tasks in other threads.

    **Raises:** `RuntimeError` in a process that may not start one.
    """
    if multiprocessing.current_process().daemon:
        raise RuntimeError(
            f"{caller}: Julia needs a process of its own beside this worker's threads, "
            "which a daemonic process may not start. Configure Dask's workers with "
            'dask.config.set({"distributed.worker.daemon": False}) before the cluster '
            "starts."
        )
    return _julia_worker(threads)


@functools.cache
def _julia_worker(threads: int | None) -> JuliaWorker:
    # One for all who ask in this process.
    return JuliaWorker(threads=threads)


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
