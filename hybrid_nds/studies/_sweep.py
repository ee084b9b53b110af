"""Sweeps: one function at many points, on any executor, each point kept once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from .._core import double_precision
from ..analysis import SavedProgress, progress_bar
from ..runtime import julia_source
from ..tasks import check_executor, julia_beside, run_tasks

Numbers = Mapping[str, Any]
_ONE = "value"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Runs a function of one point at many points; studies are handed one.

    **Arguments:**

    - `study`: its name, for messages and file names.
    - `backend`: the backend that its points use.
    - `executor`: any `concurrent.futures.Executor`, a number of worker processes, or
        `None` to run in this process.
    - `folder`: where finished points are kept, `None` for nowhere. Points found there
        are not run again.
    - `progress`: whether to show a bar.

    **Raises:** `TypeError` or `ValueError` for an executor that cannot run them.
    """

    study: str
    backend: str
    executor: Executor | int | None = None
    folder: str | os.PathLike[str] | None = None
    progress: bool = False

    def __post_init__(self):
        check_executor(f"study {self.study!r}", self.executor, self.backend)

    def __call__(
        self, function: Callable[[Any], Any], points: Sequence[Any]
    ) -> list[Any]:
        """The function's values at the points, in their order.

        Each point runs in double precision, wherever it runs, and its value is written
        to a file of its own as soon as it is there: a sweep that was cut off goes on
        with the points that are missing.

        **Arguments:**

        - `function`: of one point; gives an array or a number, or a dictionary of them.
            It travels to worker processes: a function of a module, as a rule.
        - `points`: numbers, texts and tuples of them; each all that the function needs.

        **Returns:** a list of its values: NumPy arrays (of shape `()` for numbers), or
        dictionaries of them.

        **Raises:** what the function raises; `TypeError` for a value that is neither,
        or a function that cannot travel; `RuntimeError` when workers keep dying.
        """
        points = list(points)
        files = [self._file(function, point) for point in points]
        found: dict[int, Numbers] = {}
        for number, file in enumerate(files):
            if (kept := file.read()) is not None:
                found[number] = kept
        missing = [number for number in range(len(points)) if number not in found]
        title = f"{self.study}, {self.backend}"
        bar = progress_bar(self.progress, title, len(points), len(found))
        with (
            bar as advance,
            contextlib.closing(self._run(function, points, missing)) as incoming,
        ):
            for number, values in incoming:
                files[number].write(values)
                found[number] = values
                advance(1)
        return [_given(found[number]) for number in range(len(points))]

    def _run(
        self, function: Callable, points: Sequence[Any], missing: Sequence[int]
    ) -> Generator[tuple[int, Numbers]]:
        if self.executor is None:
            for number in missing:
                yield number, run_point(function, self.study, points[number])
            return
        try:
            packed = cloudpickle.dumps(function)
        except Exception as error:
            raise TypeError(
                f"study {self.study!r}: the function of its sweep cannot travel to the "
                f"workers of `executor`: {type(error).__name__}: {error}. Make it a "
                "function of a module, and put what it needs into the points."
            ) from error
        task = functools.partial(
            run_packed, packed, self.study, self.backend == "julia"
        )
        tasks = [(number, points[number]) for number in missing]
        for (number, _), values in run_tasks(
            f"study {self.study!r}", self.executor, task, tasks, _dying
        ):
            yield number, values

    def _file(self, function: Callable, point: Any) -> SavedProgress:
        """Where the value at one point is kept: the point and the code name it."""
        fingerprint = {
            "function": f"{function.__module__}.{function.__qualname__}",
            "backend": self.backend,
            "point": repr(point),
            **code_fingerprint(function.__module__),
        }
        path = None
        if self.folder is not None:
            key = hashlib.sha256("\n".join(fingerprint.values()).encode()).hexdigest()
            path = Path(self.folder) / f"{self.study}-{self.backend}-{key[:20]}.npz"
        return SavedProgress(f"study {self.study!r}", path, fingerprint)


def code_fingerprint(module: str) -> dict[str, str]:
    """What a value depends on: versions, and digests of this package and a module."""
    found = {name: importlib.metadata.version(name) for name in ("hybrid_nds", "jax")}
    found["package"] = _package_digest()
    source = getattr(sys.modules.get(module), "__file__", None)
    if source is not None and Path(source).is_file():
        found["source"] = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return found


@functools.cache
def _package_digest() -> str:
    """Of all sources of this package: studies share parts, and use its solvers."""
    digest = hashlib.sha256()
    for folder, kind in ((Path(__file__).parents[1], "*.py"), (julia_source(), "*.jl")):
        for path in sorted(folder.rglob(kind)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def run_point(function: Callable, study: str, point: Any) -> Numbers:
    """The value at one point as a dictionary of arrays, in double precision."""
    with double_precision():
        value = function(point)
    given = value if isinstance(value, Mapping) else {_ONE: value}
    arrays = {name: np.asarray(array) for name, array in given.items()}
    for name, array in arrays.items():
        if not isinstance(name, str) or array.dtype == object:
            raise TypeError(
                f"study {study!r}: the function of its sweep must give an array, a "
                f"number or a dictionary of them, got {name!r} = {given[name]!r} at "
                f"the point {point!r}."
            )
    return arrays


def run_packed(
    packed: bytes, study: str, julia: bool, task: tuple[int, Any]
) -> Numbers:
    """The value at one point in a worker process, beside which Julia may run."""
    main = threading.current_thread() is threading.main_thread()
    if julia and not main:
        worker = julia_beside(f"study {study!r}", None)
        return worker.call(run_packed, packed, study, julia, task)
    return run_point(cloudpickle.loads(packed), study, task[1])


def _dying(task: tuple[int, Any]) -> str:
    return (
        f"one point was finished, the last time with {task[1]!r} next. They may lack "
        "memory: take fewer processes."
    )


def _given(values: Numbers) -> Any:
    """The value as the function gave it."""
    return values[_ONE] if set(values) == {_ONE} else dict(values)
