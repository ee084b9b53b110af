"""Ctrl-C while Julia runs.

Python's own handler runs only between bytecodes, so not before Julia returns. But the
C handler runs at once and writes the signal's number to the wakeup descriptor: here the
writing end of a pipe, whose reading end Julia polls between the steps of a solve
(`INTERRUPT_DESCRIPTOR` of HybridNDS). Julia then ends the solve, and Python's handler
raises `KeyboardInterrupt` as soon as Julia has returned.

The pipe stays the wakeup descriptor, for compiled JAX programs enter Julia without
passing here. An event loop that takes the descriptor for itself keeps it; calls that
pass here then borrow it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any


class InterruptPipe:
    """The pipe between the signal and Julia, made once a session."""

    def __init__(self, module: Any):
        """Of the Julia module HybridNDS, which is to poll `descriptor`."""
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._module = module

    @property
    def descriptor(self) -> int:
        """The reading end, for Julia."""
        return self._reading

    def listen(self) -> None:
        """Let an interrupt stop Julia whatever called it, where nobody else listens.

        Python lets the main thread alone choose who listens; in others this does
        nothing.
        """
        if not _in_main_thread():
            return
        previous = self._put(self._writing)
        if previous not in (-1, self._writing):
            self._put(previous)

    def listening(self) -> bool:
        """Whether an interrupt stops Julia as it is: nobody else listens, or no
        interrupt comes to this thread."""
        if not _in_main_thread():
            return True
        previous = self._put(self._writing)
        if previous in (-1, self._writing):
            return True
        self._put(previous)
        return False

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Let an interrupt stop Julia, whoever listens; then that one listens again,
        and gets what came meanwhile."""
        if not _in_main_thread():
            yield
            return
        previous = self._put(self._writing)
        if previous in (-1, self._writing):
            yield
            return
        # What came before is for nobody.
        self._empty()
        self._taken()
        try:
            yield
        finally:
            self._put(previous)
            left = self._empty()
            _write(previous, self._taken() + left)

    def leave(self) -> None:
        """Stop listening: in a forked process the pipe is its parent's."""
        previous = self._put(-1)
        if previous not in (-1, self._writing):
            self._put(previous)

    def _taken(self) -> bytes:
        """What Julia has read of it since the last call."""
        return bytes(getattr(self._module, "take_signals!")())

    def _put(self, descriptor: int) -> int:
        return signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)

    def _empty(self) -> bytes:
        """What Julia did not read: it must not stop the next solve."""
        try:
            return os.read(self._reading, 4096)
        except BlockingIOError:
            return b""


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _write(descriptor: int, signals: bytes) -> None:
    """Pass on to whoever listened before what came meanwhile."""
    if signals:
        with contextlib.suppress(BlockingIOError):
            os.write(descriptor, signals)
