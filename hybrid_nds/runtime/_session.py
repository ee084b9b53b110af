"""The Julia session: started once, by the first call that needs it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ._discovery import Discovery, JuliaNotFoundError, discover, julia_source
from ._errors import julia_errors
from ._interrupt import InterruptPipe

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Session:
    """A running Julia.

    **Fields:** `main`, Julia's `Main` module; `module`, the Julia module HybridNDS;
    `versions`, pairs of a name and a version for Julia and the packages that take
    part; `threads`, how many Julia threads there are; `discovery`, where this Julia
    was found.
    """

    main: Any
    module: Any
    versions: tuple[tuple[str, str], ...]
    threads: int
    discovery: Discovery
    interrupts: InterruptPipe
    _contexts: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False)

    def context(self, kind: type[T]) -> T:
        """What is kept with this Julia: the one object of a class, made without
        arguments on the first call."""
        if kind not in self._contexts:
            self._contexts[kind] = kind()
        return self._contexts[kind]

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a Julia function that may run long: Ctrl-C stops it.

        **Arguments:** a Julia function, and what it takes.

        **Returns:** what it returns.

        **Raises:** `JuliaExecutionError` for a Julia exception, `RuntimeError` from
        any thread but the main one; a Python exception raised in a callback passes.
        """
        require_main_thread()
        with self.interrupts.armed(), julia_errors():
            return function(*arguments)


_SESSION: Session | None = None


def require_main_thread() -> None:
    """Refuse to call Julia from any thread but the main one."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "Julia must be called from the main thread, got "
            f"{threading.current_thread().name}. Collect the problems and solve them "
            "in the main thread, or give Julia a process of its own, which any thread "
            'can use: solve(problem, "julia", worker=hybrid_nds.JuliaWorker()).'
        )


def running() -> bool:
    """Whether Julia has been started by `session`."""
    return _SESSION is not None


def session(
    exe: str | None = None, project: str | None = None, threads: int | None = None
) -> Session:
    """The Julia session, started now if it is not running.

    With several threads Julia handles signals itself, and Ctrl-C ends the process;
    with one, it stops the solve.

    **Arguments:** `exe`, `project` and `threads` say which Julia to start; without
    them it is discovered. They matter for the first call only.

    **Returns:** the one `Session` of this process.

    **Raises:** `JuliaNotFoundError` without a usable Julia; `RuntimeError` from any
    thread but the main one.
    """
    require_main_thread()
    global _SESSION
    if _SESSION is None:
        _SESSION = _start(discover(exe, project, threads))
    return _SESSION


def _start(found: Discovery) -> Session:
    if "juliacall" in sys.modules:
        warnings.warn(
            "juliacall was imported before hybrid_nds could configure it: the Julia "
            "that runs is the one juliacall found, with its own settings. Call "
            "hybrid_nds.runtime.session() first, or solve with a "
            "hybrid_nds.JuliaWorker, which has a Julia of its own.",
            RuntimeWarning,
            stacklevel=3,
        )
    try:
        with _defaults(found):
            # Julia adds `Main` and more to this module when it starts.
            juliacall = importlib.import_module("juliacall")
    except Exception as error:
        raise JuliaNotFoundError(
            f"Julia, found through {found.source}, did not start: {error}. "
            "`hybrid-nds doctor` says more."
        ) from error
    main = juliacall.Main
    try:
        main.seval(_IMPORT)
    except juliacall.JuliaError as error:
        project = os.path.dirname(str(main.seval("Base.active_project()")))
        raise JuliaNotFoundError(
            f"The Julia project {project} has no usable package HybridNDS. Add it "
            f"with: julia --project={project} -e 'using Pkg; "
            f'Pkg.develop(path="{julia_source()}")\'. Julia said: '
            f"{str(error).splitlines()[0]}"
        ) from error
    module = main.HybridNDS
    with julia_errors():
        lines = str(module.versions()).splitlines()
        found_versions = dict(line.split("=", 1) for line in lines)
        found_versions["juliacall"] = juliacall.__version__
        versions = tuple(sorted(found_versions.items()))
        threads = int(main.seval("Threads.nthreads()"))
    return Session(main, module, versions, threads, found, InterruptPipe(module))


# What is loaded stays: collecting garbage meanwhile finds none, in a fifth of its time.
_IMPORT = "GC.enable(false); try; import HybridNDS; finally; GC.enable(true); end"


@contextlib.contextmanager
def _defaults(found: Discovery) -> Iterator[None]:
    """Configure juliacall where the user has not.

    For the time of its import alone: another process, started later with another
    number of threads, must not take these settings for the user's.
    """
    settings = {"PYTHON_JULIACALL_THREADS": found.threads}
    if found.exe is not None and found.project is not None:
        settings["PYTHON_JULIACALL_EXE"] = found.exe
        settings["PYTHON_JULIACALL_PROJECT"] = found.project
        # The environment is complete: nothing is to look for a Python in it.
        os.environ.setdefault("JULIA_CONDAPKG_BACKEND", "Null")
    if "PYTHON_JULIACALL_HANDLE_SIGNALS" not in os.environ:
        # Several threads need Julia's own signal handling (its garbage collector
        # stops threads by signals); with one thread Python keeps Ctrl-C.
        several = found.threads != "1"
        settings["PYTHON_JULIACALL_HANDLE_SIGNALS"] = "yes" if several else "no"
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
