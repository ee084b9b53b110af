"""The options both backends share, checked once, before either sees them.

Only concrete values are looked at: traced ones pass, so that a solve can be
transformed by JAX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax.tree_util as jtu
import numpy as np

from .._core import is_concrete, require_precision, require_real_scalar
from ..methods import Stack
from ..problems import Kind, Problem
from ._events import check_event
from ._path import Path, path_of
from ._saved_times import check_saveat, check_saveat_along
from ._solver import check_adapts, check_solver
from ._tolerances import (
    absolute_tolerance,
    check_tolerance,
    default_absolute,
    default_tolerances,
    in_dtype,
    is_zero,
)

DEFAULT_MAX_STEPS = 100_000
# The times of a grid are kept: 0.8 GB of them.
MOST_FIXED_STEPS = 100_000_000


@dataclasses.dataclass(frozen=True)
class Options:
    """How to solve, checked and in normal form: what a backend gets from `solve`.

    **Fields:**

    - `solver`: a name, `None` for the default, or the backend's own object. Of a
        stochastic problem a name of the table, written as there, which this backend has
        and which suits the problem; or, on Diffrax alone, a Diffrax solver.
    - `rtol`, `atol`: given by the user, or both `None` for a solve in fixed steps;
        otherwise filled with the defaults of the problem's precision.
    - `dt`: the step, or the first step of an adaptive solve.
    - `path`: the Brownian path, over the span of a stochastic problem, of as many
        Brownian motions as its noise has, with the Lévy area that the solver needs.
    - `saveat`: `None` (the final time), an array of times in the problem's dtype
        that runs from `t0` to `t1`, `"steps"` (the start and every accepted step),
        `"dense"` (the final time, and an interpolation), or a `diffrax.SaveAt`,
        which reaches no backend but Diffrax.
    - `adjoint`: a name or a Diffrax object.
    - `event`: `None`, a tuple of `Event` and `SteadyState`, or a `diffrax.Event`,
        which reaches no backend but Diffrax.
    - `max_steps`: the most steps to try; `None` leaves it to the backend.
    - `progress`: whether to show progress.
    - `extra`: the options only this backend knows.
    - `throw`: whether a failure is raised; a backend may do that itself in compiled
        programs.
    """

    solver: Any = None
    rtol: Any = None
    atol: Any = None
    dt: Any = None
    path: Path | None = None
    saveat: Any = None
    adjoint: Any = None
    event: Any = None
    max_steps: int | None = None
    progress: Any = False
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    throw: bool = True

    @property
    def fixed_steps(self) -> bool:
        """Whether the solve takes steps of length `dt`, along a path those of its
        grid, without error control."""
        return self.rtol is None and self.atol is None

    @property
    def along(self) -> Path:
        """The path of a stochastic problem."""
        assert self.path is not None
        return self.path


# By kind of equation: an option that it has no use for, the error, and what to do.
_REFUSED: tuple[tuple[Callable[[Kind], bool], tuple[str, ...], type, str], ...] = (
    (
        lambda kind: not kind.follows_path,
        ("key", "path", "paths"),
        TypeError,
        "solve: `key`, `path` and `paths` are for an SDEProblem; an ODEProblem has no "
        "noise.",
    ),
    (
        lambda kind: kind.follows_path,
        ("event",),
        ValueError,
        "solve: a stochastic problem takes no `event`; save its steps and look for "
        "the first one past the condition.",
    ),
)


def check_options(
    problem: Problem,
    stack: Stack,
    *,
    solver: Any = None,
    rtol: Any = None,
    atol: Any = None,
    dt: Any = None,
    key: Any = None,
    path: Any = None,
    paths: Any = None,
    saveat: Any = None,
    adjoint: Any = None,
    event: Any = None,
    max_steps: int | None = None,
    progress: Any = False,
    extra: Mapping[str, Any] = MappingProxyType({}),
    throw: bool = True,
) -> Options:
    """Check the options of one solve and bring them to normal form.

    **Arguments:** those of [`solve`][hybrid_nds.solve].

    **Returns:** the options in normal form, as a backend takes them, with the path
    that a key stands for.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    kind, dtype = problem.kind, problem.dtype
    for leaf in jtu.tree_leaves(problem.y0):
        require_precision("solve: the state of `problem`", leaf)
    given = {"key": key, "path": path, "paths": paths, "event": event}
    for applies, names, error, message in _REFUSED:
        if applies(kind) and any(given[name] is not None for name in names):
            raise error(message)
    controlled = extra.get("stepsize_controller") is not None
    check_tolerance("rtol", rtol, dtype)
    if kind.follows_path:
        check_tolerance("atol", atol, dtype)
    else:
        atol = absolute_tolerance(atol, problem)
    named = rtol is not None or atol is not None
    if controlled and named:
        raise ValueError(
            "solve: pass `rtol` and `atol`, or a `stepsize_controller` that holds "
            "them, not both."
        )
    # Without a word on steps an ordinary equation is solved to the default tolerances.
    unsaid = dt is None and not kind.follows_path
    adaptive = not controlled and (named or unsaid)
    if adaptive:
        rtol, atol = _filled(problem, rtol, atol)
    if kind.follows_path:
        solver, area = check_solver(solver, kind, stack, adaptive)
        if dt is not None:
            _check_forward_step(dt, problem)
        fixed = not adaptive and not controlled
        path = path_of(problem, key, path, dt, area, fixed, paths)
        if fixed:
            dt = path.dt if is_concrete(path.t1) else dt
        saveat = check_saveat_along(saveat, problem, stack, path, fixed)
    else:
        if adaptive:
            check_adapts(solver, stack, kind)
        if dt is not None:
            _check_signed_step(dt, problem)
        saveat = check_saveat(saveat, problem, stack)
        event = check_event(event, problem, stack)
    return Options(
        solver=solver,
        rtol=in_dtype(rtol, dtype),
        atol=in_dtype(atol, dtype),
        dt=in_dtype(dt, dtype),
        path=path,
        saveat=saveat,
        adjoint=adjoint,
        event=event,
        max_steps=_check_max_steps(max_steps),
        progress=progress,
        extra=dict(extra),
        throw=throw,
    )


def _filled(problem: Problem, rtol: Any, atol: Any) -> tuple[Any, Any]:
    """The tolerances, the defaults where one is not named."""
    if rtol is None:
        rtol, _ = default_tolerances(problem.dtype)
    if atol is None:
        atol = default_absolute(problem, rtol)
    if is_zero(rtol) and is_zero(atol):
        raise ValueError(
            "solve: `rtol` and `atol` must not both be zero; no step would be "
            "accurate enough."
        )
    return rtol, atol


def _check_signed_step(dt: Any, problem: Problem) -> None:
    require_real_scalar("solve: `dt`", dt)
    if not is_concrete(dt):
        return
    step = float(np.asarray(dt, problem.dtype))
    if not np.isfinite(step) or step == 0:
        raise ValueError(f"solve: `dt` must be finite and not zero, got {dt}.")
    if not (is_concrete(problem.t0) and is_concrete(problem.t1)):
        return
    t0, t1 = float(problem.t0), float(problem.t1)
    if (t1 - t0) * step < 0:
        raise ValueError(
            "solve: `dt` must have the sign of t1 - t0 (negative for a backward "
            f"solve), got dt={dt} for a solve from {t0} to {t1}."
        )
    start = np.asarray(t0, problem.dtype)
    if start + np.asarray(step, problem.dtype) == start:
        raise ValueError(
            f"solve: `dt` is too small to advance time in {problem.dtype}: {t0} + "
            f"{step} is {t0} again."
        )


def _check_forward_step(dt: Any, problem: Problem) -> None:
    require_real_scalar("solve: `dt`", dt)
    if not is_concrete(dt):
        raise TypeError(
            "solve: `dt` must be a concrete number for a stochastic problem: the grid "
            "of the Brownian path follows from it."
        )
    step = float(dt)
    if not (np.isfinite(step) and step > 0):
        raise ValueError(
            "solve: `dt` must be positive and finite, since noise has no backward "
            f"direction; got {dt}."
        )
    if is_concrete(problem.t0) and is_concrete(problem.t1):
        far = np.max(np.abs([np.asarray(problem.t0), np.asarray(problem.t1)]))
        if far + np.asarray(step, problem.dtype) == far:
            raise ValueError(
                f"solve: `dt` is too small to advance time in {problem.dtype}: {far} + "
                f"{step} is {far} again."
            )


def _check_max_steps(max_steps: Any) -> int | None:
    """Refuse a `max_steps` that is no integer of at least 1, nor `None`."""
    if max_steps is None:
        return None
    if isinstance(max_steps, bool) or not isinstance(max_steps, int | np.integer):
        raise TypeError(
            f"solve: `max_steps` must be an integer or None, got {max_steps!r}."
        )
    if max_steps < 1:
        raise ValueError(f"solve: `max_steps` must be at least 1, got {max_steps}.")
    return int(max_steps)
