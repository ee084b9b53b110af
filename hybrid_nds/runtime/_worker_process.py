"""What runs in a worker process: one task at a time, in the main thread, with Julia."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from multiprocessing.context import BaseContext
from typing import Any

from .._core import portable, unwrap, wrap
from ._errors import julia_errors
from ._session import session


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Which Julia to start, as `session` takes it."""

    exe: str | None
    project: str | None
    threads: int | None


# Tasks that wait in the queue of the pool, where they can no longer be cancelled, are
# one more than its processes; of so many it is remembered that they were interrupted.
_REMEMBERED = 64


class Board:
    """Memory that the processes share: who runs which task, and what was interrupted.

    **Arguments:** the context that makes the processes, and how many there will be.
    """

    def __init__(self, context: BaseContext, processes: int):
        self._taken = context.Value("q", 0)
        self._processes = context.RawArray("q", processes)
        self._tasks = context.RawArray("q", processes)
        self._interrupted = context.RawArray("q", processes + _REMEMBERED)
        self._interrupts = 0

    def take_seat(self) -> int:
        """Enter this process."""
        with self._taken.get_lock():
            seat = self._taken.value
            self._taken.value += 1
        self._processes[seat] = os.getpid()
        return seat

    def write(self, seat: int, task: int) -> None:
        """Enter what is run in this seat; 0 for nothing."""
        self._tasks[seat] = task

    def was_interrupted(self, task: int) -> bool:
        """Whether a task was interrupted, be it before it was run."""
        return task in self._interrupted[:]

    def interrupt(self, task: int) -> int | None:
        """Enter that a task was interrupted.

        A process enters its task first and looks for an interrupt then; here it is the
        other way round. So one of the two sees the other.

        **Returns:** the process that runs it now, if any.
        """
        self._interrupted[self._interrupts % len(self._interrupted)] = task
        self._interrupts += 1
        for process, running in zip(self._processes, self._tasks, strict=True):
            if running == task:
                return process
        return None


_BOARD: tuple[Board, int] | None = None
# What an interrupt is to do: "nothing" between tasks, so that the process lives on;
# be kept for "later" while Julia starts, which must not be torn; or stop the task.
_ON_INTERRUPT = "nothing"
_INTERRUPTED = False


def initialize(board: Board, environment: Mapping[str, str]) -> None:
    """Prepare a process for its first task."""
    global _BOARD
    os.environ.update(environment)
    _BOARD = board, board.take_seat()
    signal.signal(signal.SIGINT, _handle_interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A program that is killed cannot tell its workers to end.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _handle_interrupt(number: int, frame: Any) -> None:
    global _ON_INTERRUPT, _INTERRUPTED
    if _ON_INTERRUPT == "later":
        _INTERRUPTED = True
    elif _ON_INTERRUPT == "stop":
        # Once: a second Ctrl-C must not hit what reports the first.
        _ON_INTERRUPT = "nothing"
        raise KeyboardInterrupt


def run_task(number: int, arguments: Arguments, task: bytes) -> bytes:
    """Run a task in a process that has Julia.

    **Arguments:** the task's number; which Julia to start, for the first task; the
    wrapped function and its arguments.

    **Returns:** its wrapped result.
    """
    global _ON_INTERRUPT, _INTERRUPTED
    assert _BOARD is not None
    board, seat = _BOARD
    _ON_INTERRUPT, _INTERRUPTED = "later", False
    board.write(seat, number)
    try:
        session(arguments.exe, arguments.project, arguments.threads)
        _ON_INTERRUPT = "stop"
        if _INTERRUPTED or board.was_interrupted(number):
            raise KeyboardInterrupt
        with julia_errors():
            function, positional, named = unwrap(task)
            result = function(*positional, **named)
        return wrap(result)
    except Exception as error:
        raise portable(error) from error.__cause__
    finally:
        _ON_INTERRUPT = "nothing"
        board.write(seat, 0)
