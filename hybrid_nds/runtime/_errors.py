"""Julia's exceptions as Python's."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

from .._core import PortableError

_HINTS = {
    "DomainError": "the field left its domain; a smaller first step may keep it inside",
    "SingularException": (
        "a linear system of the solver is singular; check the mass matrix and the "
        "Jacobian, or take another solver"
    ),
    "MethodError": (
        "versions may not fit together; `hybrid-nds doctor` lists those in use"
    ),
    "OutOfMemoryError": "save fewer times, or use a smaller problem",
    "UndefVarError": "versions may not fit together; see `hybrid-nds doctor`",
    "BoundsError": "this is a bug in hybrid_nds: please report it with the problem",
    "InterruptException": "the solve was interrupted",
}


class JuliaExecutionError(PortableError, RuntimeError):
    """An exception raised by Julia.

    **Fields:** `kind`, the name of the Julia exception's type; the Julia exception
    itself is the cause.
    """

    def __init__(self, kind: str, message: str):
        hint = _HINTS.get(kind)
        super().__init__(f"{message.strip()}" + (f" ({hint})" if hint else ""))
        self.kind = kind


class WorkerDiedError(PortableError, RuntimeError):
    """A worker process that ended before a task given to it was done."""

    def __init__(self):
        super().__init__(
            "A Julia worker process died while this task was running or waiting: it "
            "was killed, ran out of memory, or crashed; what it wrote last is on the "
            "standard error. The worker can be used again: the next task starts a new "
            "process. If it dies again, give it less at once (fewer processes or saved "
            "times), and let `hybrid-nds doctor` test Julia."
        )


@contextlib.contextmanager
def julia_errors() -> Iterator[None]:
    """Turn Julia's exceptions into `JuliaExecutionError`; Python's pass as they are."""
    juliacall = importlib.import_module("juliacall")

    try:
        yield
    except juliacall.JuliaError as error:
        base = juliacall.Base
        kind = str(base.nameof(base.typeof(error.exception)))
        message = str(base.sprint(base.showerror, error.exception))
        # Julia's longest messages list every candidate method: the first lines say it.
        short = "\n".join(message.splitlines()[:6])
        raise JuliaExecutionError(kind, short) from error
