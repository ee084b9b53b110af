"""Calls of Julia that any thread can make: through C functions, without Python's lock.

juliacall keeps the global interpreter lock while Julia runs, and runs Python within
Julia; two threads that do so can wait for each other for ever, one for the lock, the
other for the garbage collector. Here Python's lock is let go, and no Python runs there.
"""

from __future__ import annotations

import collections
import ctypes
import struct
from typing import Any

from ._errors import JuliaExecutionError

_TYPES = (
    "float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool"
).split()
_ROOM = 8192


class _Argument(ctypes.Structure):
    """What Julia knows as `HostArgument`."""

    _fields_ = (
        ("kind", ctypes.c_int64),
        ("integer", ctypes.c_int64),
        ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("dims", ctypes.c_int64 * 4),
    )


_NOTHING, _INTEGER, _BOOL, _FLOAT, _STRING, _REFERENCE, _ARRAY = range(7)


class Reference:
    """A value in Julia, kept there for as long as this object lives."""

    __slots__ = ("__weakref__", "_released", "number")

    def __init__(self, number: int, released: collections.deque[int]):
        self.number = number
        self._released = released

    def __del__(self):
        # Only noted: a finalizer may run anywhere, in the middle of anything.
        self._released.append(self.number)


class Bridge:
    """The C functions of a running Julia, for any thread.

    **Arguments:** their addresses: to call a function by name, and to solve; and that
    of the byte that says whether this process was forked.
    """

    def __init__(self, call: int, solve: int, forked: int):
        self._forked = forked
        integer, pointer = ctypes.c_int64, ctypes.c_void_p
        self._call = ctypes.CFUNCTYPE(
            integer, ctypes.c_char_p, pointer, integer, pointer, pointer, integer
        )(call)
        self._released: collections.deque[int] = collections.deque()
        self.solve = ctypes.CFUNCTYPE(
            integer, integer, pointer, integer, pointer, integer
        )(solve)
        """Solve: the number of a solve, and descriptions of operands and results."""

    def mark_forked(self) -> None:
        """Tell compiled programs that Julia is not there: in a forked process."""
        ctypes.c_bool.from_address(self._forked).value = True

    def make(self, name: str, *arguments: Any) -> Reference:
        """Call a Julia function of `HOST_FUNCTIONS` that makes something.

        **Arguments:** its name, and numbers, strings, NumPy arrays, references and
        `None`. Arrays are copied; their axes are reversed in Julia.

        **Returns:** a reference to what it returns.

        **Raises:** `JuliaExecutionError`.
        """
        return Reference(self._run(name, arguments)[0], self._released)

    def adopt(self, number: int) -> Reference:
        """A reference to what Julia refers to by a number, which nobody else holds."""
        return Reference(number, self._released)

    def number(self, name: str, *arguments: Any) -> int:
        """Call a Julia function as `make` does, which returns an integer or nothing."""
        return self._run(name, arguments)[0]

    def text(self, name: str, *arguments: Any) -> str:
        """Call a Julia function as `make` does, which returns a string."""
        length, buffer = self._run(name, arguments)
        return buffer.raw[:length].decode(errors="replace")

    def _run(self, name: str, arguments: tuple[Any, ...]) -> tuple[int, Any]:
        while self._released:
            number = self._released.popleft()
            self._enter("forget!", (number,))
        return self._enter(name, arguments)

    def _enter(self, name: str, arguments: tuple[Any, ...]) -> tuple[int, Any]:
        kept: list[Any] = []
        given = (_Argument * len(arguments))(*(_argument(a, kept) for a in arguments))
        result = ctypes.c_int64()
        buffer = ctypes.create_string_buffer(_ROOM)
        failed = self._call(
            name.encode(),
            ctypes.addressof(given),
            len(arguments),
            ctypes.addressof(result),
            ctypes.addressof(buffer),
            _ROOM,
        )
        if failed:
            text = buffer.raw[: result.value].decode(errors="replace")
            raise execution_error(text)
        return result.value, buffer


def execution_error(text: str) -> JuliaExecutionError:
    """The exception that Julia reports as its kind, a line break, and its message."""
    kind, message = text.split("\n", 1)
    # Julia's longest messages list every candidate method: the first lines say it.
    return JuliaExecutionError(kind, "\n".join(message.splitlines()[:6]))


def _argument(value: Any, kept: list[Any]) -> _Argument:
    """A value as Julia reads it; `kept` holds what must live until it has."""
    if value is None:
        return _Argument(_NOTHING)
    if isinstance(value, bool):
        return _Argument(_BOOL, int(value))
    if isinstance(value, int):
        return _Argument(_INTEGER, value)
    if isinstance(value, float):
        return _Argument(_FLOAT, struct.unpack("q", struct.pack("d", value))[0])
    if isinstance(value, str):
        data = value.encode()
        kept.append(data)
        address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p)
        return _Argument(_STRING, len(data), address)
    if isinstance(value, Reference):
        kept.append(value)
        return _Argument(_REFERENCE, value.number)
    # Here, so that the command line starts without it.
    import numpy as np

    array = np.ascontiguousarray(value)
    kept.append(array)
    dims = (ctypes.c_int64 * 4)(*reversed(array.shape))
    code = _TYPES.index(array.dtype.name) + 1
    return _Argument(_ARRAY, code, array.ctypes.data, array.ndim, dims)
