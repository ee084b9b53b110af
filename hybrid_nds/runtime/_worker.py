"""Julia in processes of its own, behind the interface of `concurrent.futures`."""

from __future__ import annotations

import _thread
import contextlib
import itertools
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ParamSpec, TypeVar

from .._core import delivered, unwrap, wrap
from ._errors import WorkerDiedError
from ._fresh import FreshContext
from ._worker_process import Arguments, Board, initialize, run_task

_P = ParamSpec("_P")
_T = TypeVar("_T")


class JuliaWorker(Executor):
    """Processes that own Julia, each in its main thread.

    For programs whose own process cannot hold Julia: beside PyTorch or another library
    that embeds it. Any thread can use it, and functions that JAX compiles. Pass it to
    [`solve`][hybrid_nds.solve], which sends the lowered problem and brings back the
    solution:

    ```python
    with hybrid_nds.JuliaWorker() as worker:
        hybrid_nds.solve(problem, "julia", worker=worker)

        @jax.jit
        def end(y0):
            problem = hybrid_nds.ODEProblem(field, y0, 0.0, 1.0)
            return hybrid_nds.solve(problem, "julia", worker=worker).ys
    ```

    It is an executor of the standard library, too: `submit` and `map` run any
    function in a process where Julia has been started. Functions of scripts and
    notebooks travel as they are; the program's main module is not run again there.

    Processes start with the first task, which takes as long as starting Julia, and
    end with the `with` block, with `shutdown`, or with the program, whatever ends it.
    JAX runs on the CPU in them, in the precision it has here. Ctrl-C stops the tasks
    that run and leaves the processes alive. Where a process dies, its tasks raise
    [`WorkerDiedError`][hybrid_nds.runtime.WorkerDiedError], and the next task starts
    a new one.

    **Arguments:**

    - `processes`: how many processes there are; each holds a whole Julia.
    - `exe`, `project`, `threads`: which Julia to start, as for
        [`session`][hybrid_nds.runtime.session].

    **Raises:** `ValueError` for `processes` below 1. A task raises
    `JuliaNotFoundError` where there is no usable Julia.
    """

    def __init__(
        self,
        processes: int = 1,
        *,
        exe: str | None = None,
        project: str | None = None,
        threads: int | None = None,
    ):
        if not isinstance(processes, int) or processes < 1:
            raise ValueError(
                "JuliaWorker: `processes` must be an integer of at least 1, got "
                f"{processes!r}."
            )
        self._processes = processes
        self._arguments = Arguments(exe, project, threads)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._pool: ProcessPoolExecutor | None = None
        self._board: Board | None = None
        self._closed = False

    def submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_T]:
        """Run a function in a process that has Julia.

        **Arguments:** the function and what it takes; what it returns must not be, or
        hold, a Julia value.

        **Returns:** a future of its result.

        **Raises:** `TypeError` for what cannot travel to another process;
        `RuntimeError` after `shutdown`.
        """
        task = _wrapped(fn, args, kwargs)
        return self._enter(next(self._numbers), task, _environment())

    def call(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a function as `submit` does, and wait; Ctrl-C here stops it there.

        **Returns:** what it returns.

        **Raises:** what it raises.
        """
        number, task = next(self._numbers), _wrapped(fn, args, kwargs)
        environment = _environment()
        entered: list[Future[_T]] = []
        ready: queue.SimpleQueue[Future[_T] | BaseException] = queue.SimpleQueue()
        abandoned = threading.Event()

        def submit() -> None:
            try:
                future = self._enter(number, task, environment)
            except BaseException as error:
                ready.put(error)
                return
            entered.append(future)
            if abandoned.is_set():
                self._stop(number, future)
            future.add_done_callback(ready.put)

        # Ctrl-C is raised between any two instructions of the main thread: half way
        # through handing a task over the pool would be left torn, or the task run on
        # with nobody to stop it; and a lock that was just taken would stay so, with
        # other threads waiting for it. In another thread the task is handed over whole,
        # either of the two sees what the other did, and what is waited for here is one
        # call into C.
        try:
            _thread.start_new_thread(submit, ())
            done = ready.get()
        except KeyboardInterrupt:
            abandoned.set()
            if entered:
                self._stop(number, entered[0])
            raise
        if isinstance(done, BaseException):
            raise done
        return done.result()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes once their tasks are done.

        **Arguments:** `wait`, whether to return only then; `cancel_futures`, whether
        to drop tasks that have not begun.
        """
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait, cancel_futures=cancel_futures)

    def _enter(
        self, number: int, task: bytes, environment: dict[str, str]
    ) -> Future[Any]:
        with self._lock:
            if self._closed:
                raise RuntimeError(
                    "JuliaWorker: this worker was shut down; make a new one, or "
                    "submit within its `with` block."
                )
            inner = self._hand_over(number, task, environment)
        outer: Future[Any] = Future()
        outer.add_done_callback(lambda f: f.cancelled() and inner.cancel())
        inner.add_done_callback(lambda f: _pass_on(f, outer))
        return outer

    def _hand_over(
        self, number: int, task: bytes, environment: dict[str, str]
    ) -> Future[bytes]:
        if self._pool is not None:
            with contextlib.suppress(BrokenProcessPool):
                return self._pool.submit(run_task, number, self._arguments, task)
            self._pool.shutdown(wait=False)
        context = FreshContext()
        self._board = Board(context, self._processes)
        self._pool = ProcessPoolExecutor(
            self._processes, context, initialize, (self._board, environment)
        )
        return self._pool.submit(run_task, number, self._arguments, task)

    def _stop(self, number: int, future: Future[Any]) -> None:
        """Drop a task, and send Ctrl-C to the process that runs it, if one does."""
        future.cancel()
        process = self._board.interrupt(number) if self._board else None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGINT)


def _wrapped(fn: Callable[..., Any], args: Any, kwargs: Any) -> bytes:
    try:
        return wrap((fn, args, kwargs))
    except Exception as error:
        raise TypeError(
            f"JuliaWorker: {fn!r} and its arguments cannot travel to another "
            f"process: {type(error).__name__}: {error}. Keep open files, locks, "
            "threads and Julia values out of them."
        ) from error


def _pass_on(inner: Future[bytes], outer: Future[Any]) -> None:
    """Hand the outcome of the pool's future to the user's."""
    if inner.cancelled():
        outer.cancel()
    if not outer.set_running_or_notify_cancel():
        return
    error = inner.exception()
    if isinstance(error, BrokenProcessPool):
        outer.set_exception(WorkerDiedError())
        return
    if error is not None:
        outer.set_exception(delivered(error))
        return
    try:
        result = unwrap(inner.result())
    except Exception as broken:
        outer.set_exception(broken)
    else:
        outer.set_result(result)


def _environment() -> dict[str, str]:
    """What JAX is told in the processes: no device but the CPU, the precision here."""
    environment = {"JAX_PLATFORMS": "cpu"}
    if "jax" in sys.modules:
        double = sys.modules["jax"].config.jax_enable_x64
        environment["JAX_ENABLE_X64"] = "1" if double else "0"
    return environment
