"""Processes that start without the program's main module."""

from __future__ import annotations

import sys
import threading
import types
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

_HIDING = threading.Lock()


class _Process(SpawnProcess):
    """A spawned process in which the main module is not imported again."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _HIDING:
            main = sys.modules["__main__"]
            # The standard library asks this module alone for what to import.
            sys.modules["__main__"] = types.ModuleType("__main__")
            try:
                return SpawnProcess._Popen(process_obj)  # pyright: ignore
            finally:
                sys.modules["__main__"] = main


class FreshContext(SpawnContext):
    """Starts processes that know nothing of this program but what they are sent.

    For `mp_context` of a `concurrent.futures.ProcessPoolExecutor`. Other spawned
    processes import the program's main module again. That module may import what
    Julia must not meet, PyTorch first of all, and a script without a guard would
    start itself over and over. Functions that it defines can still be sent: by value,
    with cloudpickle.
    """

    Process = _Process
