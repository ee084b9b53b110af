"""The times to save, in normal form."""

from __future__ import annotations

from typing import Any

import diffrax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._core import is_concrete
from ..methods import Stack
from ..problems import Problem


def check_saveat(saveat: Any, problem: Problem, stack: Stack) -> Any:
    """`saveat` in normal form: times in the problem's dtype, within its span."""
    if saveat is None:
        return None
    if isinstance(saveat, diffrax.SaveAt):
        if stack == "diffrax":
            return saveat
        saveat = _plain_saveat(saveat)
    if saveat is None or (isinstance(saveat, str) and saveat in ("steps", "dense")):
        return saveat
    expected = '`saveat` must be None, an array of times, "steps", "dense"'
    if isinstance(saveat, str):
        raise ValueError(f"solve: {expected} or a diffrax.SaveAt, got {saveat!r}.")
    traced = not all(is_concrete(leaf) for leaf in jtu.tree_leaves(saveat))
    try:
        given = jnp.asarray(saveat) if traced else np.asarray(saveat)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"solve: {expected} or a diffrax.SaveAt, got {saveat!r}."
        ) from error
    if given.ndim != 1 or given.size == 0 or given.dtype.kind not in "fiu":
        raise ValueError(
            "solve: `saveat` must be a one-dimensional array of at least one real "
            f"time, got shape {given.shape} and dtype {given.dtype}."
        )
    times = given.astype(problem.dtype)
    if not isinstance(times, np.ndarray):
        return times
    if not np.all(np.isfinite(times)):
        raise ValueError(f"solve: `saveat` must be finite, got {times}.")
    if is_concrete(problem.t0) and is_concrete(problem.t1):
        t0, t1 = float(problem.t0), float(problem.t1)
        times = _within(times, t0, t1)
        _check_times(times, t0, t1)
    return times


def _within(times: np.ndarray, t0: float, t1: float) -> np.ndarray:
    """Times that rounding alone put beyond an end of the span, at that end."""
    finite = [abs(t) for t in (t0, t1) if np.isfinite(t)]
    # As sums of steps and `linspace` round.
    slack = 4 * np.spacing(np.asarray(max(finite), times.dtype))
    inside = np.clip(times, min(t0, t1), max(t0, t1)).astype(times.dtype)
    return np.where(np.abs(times - inside) <= slack, inside, times)


def _check_times(times: np.ndarray, t0: float, t1: float) -> None:
    direction = 1 if t1 > t0 else -1
    disordered = np.flatnonzero(direction * np.diff(times) <= 0)
    if disordered.size:
        i = int(disordered[0])
        order = "increase" if direction > 0 else "decrease"
        raise ValueError(
            f"solve: `saveat` must strictly {order} for a solve from {t0} to {t1}, "
            f"got {times[i]} before {times[i + 1]} at index {i}."
        )
    outside = np.flatnonzero(
        (direction * times < direction * t0) | (direction * times > direction * t1)
    )
    if outside.size:
        raise ValueError(
            f"solve: `saveat` must lie within the span from {t0} to {t1}, got "
            f"{times[outside[0]]} at index {int(outside[0])}."
        )


def _plain_saveat(saveat: diffrax.SaveAt) -> Any:
    """A Diffrax `SaveAt` in the terms every backend knows."""
    sub = saveat.subs
    state = saveat.solver_state or saveat.controller_state or saveat.made_jump
    default_fn = diffrax.SubSaveAt(t1=True).fn
    if not state and sub is None and saveat.dense:
        return "dense"
    if not state and isinstance(sub, diffrax.SubSaveAt) and sub.fn is default_fn:
        match (sub.t0, sub.t1, sub.ts, sub.steps, saveat.dense):
            case (False, True, None, 0, True):
                return "dense"
            case (False, True, None, 0, False):
                return None
            case (True, _, None, 1, False):
                return "steps"
            case (False, False, ts, 0, False):
                return ts
    raise ValueError(
        "solve: only the Diffrax backend takes every diffrax.SaveAt; for another, "
        "`saveat` must be one of SaveAt(t1=True), SaveAt(ts=times), SaveAt(t0=True, "
        f'steps=True), SaveAt(dense=True), or None, times, "steps", "dense"; got '
        f"{saveat}."
    )


def check_saveat_along(
    saveat: Any, problem: Problem, stack: Stack, path: Any, fixed: bool
) -> Any:
    """`saveat` of a solve along a path, in normal form: in fixed steps the times of its
    grid."""
    checked = check_saveat(saveat, problem, stack)
    if isinstance(checked, str) and checked == "dense":
        raise ValueError(
            'solve: a stochastic problem takes no `saveat="dense"`: between its steps '
            "a path is not smooth, and no interpolation follows it. Save at times, or "
            '"steps".'
        )
    times = (path.t0, path.t1)
    if not (fixed and isinstance(checked, np.ndarray) and all(map(is_concrete, times))):
        return checked
    grid = np.asarray(path.times)
    nearest = np.clip(np.rint((checked - grid[0]) / path.dt).astype(int), 0, path.steps)
    off = np.flatnonzero(
        np.abs(checked - grid[nearest])
        > 1e-6 * path.dt + 4 * np.spacing(np.abs(grid).max())
    )
    if off.size:
        time = checked[off[0]]
        raise ValueError(
            "solve: `saveat` must hold times of the steps, t0 plus a whole multiple of "
            f"{path.dt:.9g}, since a stochastic solution has no values between them; "
            f"got {time} at index {int(off[0])}, nearest to {grid[nearest[off[0]]]}."
        )
    return grid[nearest]
