"""What a solve in Julia tells its user: progress, and the versions that ran."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ...problems import Kind, Problem
from ...solution import STEP_TOO_SMALL, SUCCESSES, UNSTABLE
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


def failure_message(
    message: str, code: int, stats: Mapping[str, int], end_time: Any, kind: Kind
) -> str:
    """What a solution says of its failure, empty where it went well.

    **Arguments:** the solver's own message, the outcome's code, the counts, the time
    reached, and the kind of the equation.
    """
    if code in SUCCESSES:
        return ""
    said = f"Julia says: {message}."
    if kind.follows_path and code == UNSTABLE:
        return (
            "The state was no longer finite after step "
            f"{stats['num_accepted_steps']}, at t = {float(end_time):.9g}."
        )
    if kind.follows_path and code == STEP_TOO_SMALL:
        return (
            "The tolerances ask for steps below those of the path's grid, between "
            f"which nothing is known of it; pass a finer path. {said}"
        )
    return said
