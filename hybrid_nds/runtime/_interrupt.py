"""Ctrl-C while Julia runs.

Python's own handler runs only between bytecodes, so not before Julia returns. But the
C handler runs at once and writes the signal's number to the wakeup descriptor: here the
writing end of a pipe, whose reading end Julia polls between the steps of a solve
(`INTERRUPT_DESCRIPTOR` of HybridNDS). Julia then ends the solve, and Python's handler
raises `KeyboardInterrupt` as soon as Julia has returned.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any


class InterruptPipe:
    """The pipe between the signal and Julia, made once a session."""

    def __init__(self, module: Any):
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        module.watch_interrupts(self._reading)
        self._take = getattr(module, "take_signals!")

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Let an interrupt stop Julia; restores the wakeup descriptor exactly."""
        previous = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        if previous >= 0:
            # What Julia read before was for nobody.
            self._take()
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            left = self._empty()
            if previous >= 0:
                _write(previous, bytes(self._take()) + left)

    def _empty(self) -> bytes:
        """What Julia did not read: it must not stop the next solve."""
        try:
            return os.read(self._reading, 4096)
        except BlockingIOError:
            return b""


def _write(descriptor: int, signals: bytes) -> None:
    """Pass on to whoever listened before what came meanwhile."""
    if signals:
        with contextlib.suppress(BlockingIOError):
            os.write(descriptor, signals)
