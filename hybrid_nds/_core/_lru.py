"""A least-recently-used cache."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class LRU(Generic[V]):
    """A least-recently-used cache, for any thread.

    **Arguments:** `most`, how many values are kept; beyond them the one that was used
    longest ago is let go.
    """

    def __init__(self, most: int):
        self._most = most
        self._lock = threading.RLock()
        self._known: collections.OrderedDict[Any, V] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Hashable | None, make: Callable[[], V]) -> V:
        """The value of a key, made where it is not known.

        **Arguments:** the key, `None` for a value that is not to be kept; what makes
        the value.
        """
        if key is None:
            return make()
        with self._lock:
            if key not in self._known:
                self._known[key] = make()
                if len(self._known) > self._most:
                    self._known.popitem(last=False)
            self._known.move_to_end(key)
            return self._known[key]
