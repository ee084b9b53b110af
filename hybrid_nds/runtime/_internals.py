"""What this package asks of Julia, juliacall and JAX beyond their interfaces.

Each has a condition under which it is known to work, and a way to go on without: Julia
is then called from the main thread alone, as juliacall asks, or by a callback of JAX.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def signals_restored() -> Iterator[None]:
    """While Julia starts within: signals go on to reach Python's handlers.

    Julia blocks those that its own threads handle, Ctrl-C among them, and leaves them
    blocked; and it puts a handler of its own in the place of Python's.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        yield
    finally:
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler):
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked - {signal.SIGINT})


def open_to_threads(juliacall: Any, enter: int, leave: int) -> str:
    """Let every thread call Julia; for the main thread, once Julia has started.

    Outside Julia the main thread would still count as running its code, and the garbage
    collector would wait for it for ever when another thread started one.

    **Arguments:** juliacall; the addresses of the functions by which a thread enters
    and leaves the state, 0 where this Julia is not known to have them.

    **Returns:** why the main thread alone can call Julia, empty where every thread can.
    """
    if juliacall.CONFIG.get("opt_handle_signals") != "yes":
        return (
            "Julia was started without its signal handlers, by which its garbage "
            "collector stops threads. Set PYTHON_JULIACALL_HANDLE_SIGNALS=yes, or let "
            "hybrid_nds.runtime.session() start Julia before anything else imports "
            "juliacall."
        )
    if enter == 0 or leave == 0:
        return (
            "This version of Julia is not known to let other threads in; take Julia "
            "1.10, 1.11 or 1.12."
        )
    state = ctypes.CFUNCTYPE(ctypes.c_int8)(enter)()
    # What juliacall runs at exit counts on the state in which it left this thread.
    restore = ctypes.CFUNCTYPE(None, ctypes.c_int8)(leave)
    atexit.register(restore, state)
    return ""


def _jax() -> Any:
    """JAX, imported when it is needed: a worker process first sets its environment."""
    return importlib.import_module("jax")


# Versions of XLA's foreign function interface whose structures Julia's code knows.
_FFI_MAJOR, _FFI_MINORS = 0, range(1, 4)
_TARGET = "hybrid_nds_solve"


def ffi_version() -> tuple[int, int] | None:
    """The version of XLA's foreign function interface in this JAX, from its header;
    `None` where there is none to read."""
    header = Path(_jax().ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    try:
        text = header.read_text(encoding="utf-8")
    except OSError:
        return None
    found = [
        re.search(rf"^#define XLA_FFI_API_{part} (\d+)", text, re.MULTILINE)
        for part in ("MAJOR", "MINOR")
    ]
    if found[0] is None or found[1] is None:
        return None
    return int(found[0][1]), int(found[1][1])


def register_handler(address: int, version: tuple[int, int] | None) -> str:
    """Let compiled JAX programs call a C function of Julia.

    **Arguments:** its address; the version of the interface.

    **Returns:** why they cannot, empty where they can.
    """
    known = f"{_FFI_MAJOR}.{_FFI_MINORS[0]} to {_FFI_MAJOR}.{_FFI_MINORS[-1]}"
    if version is None or version[0] != _FFI_MAJOR or version[1] not in _FFI_MINORS:
        found = "none" if version is None else f"{version[0]}.{version[1]}"
        return (
            f"XLA's foreign function interface is of version {found} in this JAX, and "
            f"known are {known}"
        )
    if not address:
        return "this Julia has no handler for it"
    if sys.maxsize < 2**32:
        return "XLA's foreign function interface is known on 64-bit machines alone"
    ffi = _jax().ffi
    capsule = ffi.pycapsule(ctypes.c_void_p(address))
    ffi.register_ffi_target(_TARGET, capsule, platform="cpu")
    return ""


def handler_rule(number: int) -> Callable[..., Any]:
    """The lowering rule of a call of the handler with the number of a solve."""
    import numpy as np

    rule = _jax().ffi.ffi_lowering(_TARGET)
    return lambda context, *operands: rule(context, *operands, number=np.int64(number))


# What compiled programs refer to, where JAX does not keep it with them.
_KEPT: list[Any] = []


def keep_with_program(context: Any, value: Any) -> None:
    """Keep a value for as long as the program that is being lowered."""
    add = getattr(context.module_context, "add_keepalive", None)
    if add is None:
        _KEPT.append(value)
    else:
        add(value)


def varying_alike(arrays: list[Any]) -> list[Any]:
    """Arrays that vary over the same axes of a mesh, within `jax.shard_map`."""
    own = [_varying(array) for array in arrays]
    every = frozenset().union(*own)
    if not every:
        return arrays
    cast = _jax().lax.pcast
    return [
        cast(array, tuple(every - axes), to="varying") if every - axes else array
        for array, axes in zip(arrays, own, strict=True)
    ]


def _varying(array: Any) -> frozenset[Any]:
    aval = _jax().typeof(array)
    found = getattr(aval, "vma", None)
    if found is None:
        found = getattr(getattr(aval, "mat", None), "varying", None)
    return frozenset() if found is None else frozenset(found)
