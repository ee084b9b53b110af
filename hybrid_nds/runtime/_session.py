"""The Julia session: started once, by the first call that needs it, for all threads."""

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

from ._bridge import Bridge
from ._discovery import Discovery, JuliaNotFoundError, discover, julia_source
from ._errors import julia_errors
from ._image import find_image
from ._internals import (
    ffi_version,
    open_to_threads,
    register_handler,
    signals_restored,
)
from ._interrupt import InterruptPipe

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Session:
    """A running Julia.

    **Fields:** `main`, Julia's `Main` module; `module`, the Julia module HybridNDS;
    `versions`, pairs of a name and a version for Julia and the packages that take
    part; `threads`, how many Julia threads there are; `discovery`, where this Julia
    was found; `bridge`, for calls from any thread; `no_handler`, why compiled
    JAX programs must go through Python to reach this Julia, empty where they need not;
    `main_thread_only`, why no other thread can call it, empty where every one can.
    """

    _main: Any
    _module: Any
    versions: tuple[tuple[str, str], ...]
    threads: int
    discovery: Discovery
    interrupts: InterruptPipe
    bridge: Bridge
    no_handler: str = ""
    main_thread_only: str = ""
    _contexts: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def main(self) -> Any:
        """Julia's `Main` module, for the main thread."""
        require_main_thread()
        return self._main

    @property
    def module(self) -> Any:
        """The Julia module HybridNDS, for the main thread."""
        require_main_thread()
        return self._module

    def context(self, kind: type[T]) -> T:
        """What is kept with this Julia: the one object of a class, made without
        arguments on the first call."""
        if kind not in self._contexts:
            self._contexts[kind] = kind()
        return self._contexts[kind]

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a Julia function through juliacall, from the main thread: it may run
        long, and Ctrl-C stops it.

        **Arguments:** a Julia function, and what it takes.

        **Returns:** what it returns.

        **Raises:** `JuliaExecutionError` for a Julia exception; `RuntimeError` in a
        forked process, and in any thread but the main one; a Python exception raised in
        a callback passes.
        """
        self.check_callable()
        require_main_thread()
        with self.interrupts.armed(), julia_errors():
            return function(*arguments)

    def check_callable(self) -> None:
        """Refuse a call of Julia from where it would hang or crash.

        **Raises:** `RuntimeError` as `call` does.
        """
        if _FORKED:
            raise RuntimeError(_IN_FORK)
        if self.main_thread_only and not _in_main_thread():
            raise RuntimeError(
                "This Julia must be called from the main thread, got "
                f"{threading.current_thread().name}: {self.main_thread_only} "
                f"{_ANOTHER_PROCESS}"
            )


_SESSION: Session | None = None
_FORKED = False

_ANOTHER_PROCESS = (
    "Or give Julia a process of its own, which any thread can use: "
    'solve(problem, "julia", worker=hybrid_nds.JuliaWorker()).'
)
_IN_FORK = (
    "Julia was started before this process was forked from another, and its threads "
    "are missing here. Start processes afresh: "
    'multiprocessing.get_context("spawn"), or hybrid_nds.JuliaWorker().'
)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def require_main_thread() -> None:
    """Refuse what goes through juliacall in any thread but the main one."""
    if not _in_main_thread():
        raise RuntimeError(
            "This use of Julia must be in the main thread, got "
            f"{threading.current_thread().name}: in others there are solves, without "
            "callbacks into Python and without `progress`. "
            f"{_ANOTHER_PROCESS}"
        )


def _after_fork() -> None:
    global _FORKED
    if _SESSION is not None:
        _FORKED = True
        _SESSION.interrupts.leave()
        _SESSION.bridge.mark_forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def running() -> bool:
    """Whether Julia has been started by `session`."""
    return _SESSION is not None


def session(
    exe: str | None = None, project: str | None = None, threads: int | None = None
) -> Session:
    """The Julia session, started now if it is not running.

    Any thread can call Julia once it has started, with any number of Julia's own
    threads, and Ctrl-C stops what runs there and leaves the process alive. Only the
    start is for the main thread.

    **Arguments:** `exe`, `project` and `threads` say which Julia to start; without
    them it is discovered. They matter for the first call only.

    **Returns:** the one `Session` of this process.

    **Raises:** `JuliaNotFoundError` without a usable Julia; `RuntimeError` from where
    Julia cannot be started or called.
    """
    global _SESSION
    if _SESSION is None:
        if not _in_main_thread():
            raise RuntimeError(
                "Julia must be started in the main thread, got "
                f"{threading.current_thread().name}: call "
                "hybrid_nds.runtime.session() there first; then any thread can solve "
                f"with it. {_ANOTHER_PROCESS}"
            )
        _SESSION = _start(discover(exe, project, threads))
    _SESSION.check_callable()
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
        with _defaults(found), signals_restored():
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
    interrupts = InterruptPipe(module)
    with julia_errors():
        opened = main.seval(f"HybridNDS.opened({interrupts.descriptor:d})")
        lines = dict(line.split("=", 1) for line in str(opened).splitlines())
        names = ("threads", "call", "solve", "ffi", "forked", "enter", "leave")
        known = {name: int(lines.pop(name)) for name in names}
        versions = tuple(sorted({**lines, "juliacall": juliacall.__version__}.items()))
        no_handler = register_handler(known["ffi"], ffi_version())
        reason = open_to_threads(juliacall, known["enter"], known["leave"])
    interrupts.listen()
    return Session(
        main,
        module,
        versions,
        known["threads"],
        found,
        interrupts,
        Bridge(known["call"], known["solve"], known["forked"]),
        no_handler,
        reason,
    )


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
    image = find_image(found)
    if image.path is not None:
        settings["PYTHON_JULIACALL_SYSIMAGE"] = str(image.path)
    if "PYTHON_JULIACALL_HANDLE_SIGNALS" not in os.environ:
        # Julia's garbage collector stops threads by signals.
        settings["PYTHON_JULIACALL_HANDLE_SIGNALS"] = "yes"
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
