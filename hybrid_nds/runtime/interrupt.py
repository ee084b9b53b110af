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

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Let an interrupt stop Julia; restores the wakeup descriptor exactly."""
        previous = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            self._forward(previous)

    def _forward(self, previous: int) -> None:
        """Empty the pipe; whoever listened before gets what came meanwhile."""
        try:
            signals = os.read(self._reading, 4096)
        except BlockingIOError:
            return
        if previous >= 0:
            with contextlib.suppress(BlockingIOError):
                os.write(previous, signals)
