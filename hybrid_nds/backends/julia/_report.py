"""What a solve in Julia tells its user: progress, and the versions that ran."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable, Iterator

import numpy as np

from ...problems import Problem
from .._options import Options

PYTHON_VERSIONS = tuple(
    (name, importlib.metadata.version(name))
    for name in ("hybrid_nds", "jax", "equinox")
)


@contextlib.contextmanager
def reporting(
    problem: Problem, options: Options
) -> Iterator[Callable[[float], None] | None]:
    """A progress bar for one solve: a callable to tell the time reached, or `None`."""
    if not options.progress:
        yield None
        return
    from rich.progress import Progress

    t0, t1 = float(problem.t0), float(problem.t1)
    total = abs(t1 - t0) if np.isfinite(t1) else None
    with Progress(transient=True) as bar:
        task = bar.add_task("Solving in Julia", total=total)
        yield lambda t: bar.update(task, completed=abs(t - t0))
