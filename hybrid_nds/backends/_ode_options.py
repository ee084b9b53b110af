"""The options both backends share, checked once, before either sees them.

Only concrete values are looked at: traced ones pass, so that a solve can be
transformed by JAX.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._core import is_concrete, require_precision, require_real_scalar
from ..methods import Stack, find_solver
from ..problems import Event, ODEProblem, SDEProblem, as_events
from ._protocol import SolveOptions
from ._tolerances import (
    absolute_tolerance,
    check_tolerance,
    default_absolute,
    default_tolerances,
    in_dtype,
    is_zero,
)


def check_options(
    problem: ODEProblem,
    stack: Stack,
    *,
    solver: Any,
    rtol: Any,
    atol: Any,
    dt: Any,
    saveat: Any,
    adjoint: Any,
    event: Any,
    max_steps: int | None,
    progress: Any,
    extra: Mapping[str, Any],
) -> SolveOptions:
    """Check the options of one solve and bring them to normal form.

    **Arguments:** those of [`solve`][hybrid_nds.solve].

    **Returns:** the options in normal form, as a backend takes them.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    for leaf in jtu.tree_leaves(problem.y0):
        require_precision("solve: the state of `problem`", leaf)
    controlled = extra.get("stepsize_controller") is not None
    check_tolerance("rtol", rtol, problem.dtype)
    atol = absolute_tolerance(atol, problem)
    if controlled and (rtol is not None or atol is not None):
        raise ValueError(
            "solve: pass `rtol` and `atol`, or a `stepsize_controller` that holds "
            "them, not both."
        )
    fixed = dt is not None and rtol is None and atol is None
    if not fixed and not controlled:
        if rtol is None:
            rtol, _ = default_tolerances(problem.dtype)
        if atol is None:
            atol = default_absolute(problem, rtol)
        if is_zero(rtol) and is_zero(atol):
            raise ValueError(
                "solve: `rtol` and `atol` must not both be zero; no step would be "
                "accurate enough."
            )
        _check_adaptive(solver, stack)
    _check_dt(dt, problem)
    return SolveOptions(
        solver=solver,
        rtol=in_dtype(rtol, problem.dtype),
        atol=in_dtype(atol, problem.dtype),
        dt=in_dtype(dt, problem.dtype),
        saveat=check_saveat(saveat, problem, stack),
        adjoint=adjoint,
        event=_check_event(event, problem, stack),
        max_steps=check_max_steps(max_steps),
        progress=progress,
        extra=dict(extra),
    )


def _check_adaptive(solver: Any, stack: Stack) -> None:
    if solver is not None and not isinstance(solver, str):
        return
    info = find_solver(solver, stack)
    if not info.adaptive:
        raise ValueError(
            f"solve: {info.name} has no error estimate and cannot hold `rtol` and "
            "`atol`; pass `dt` alone for fixed steps, or take another solver."
        )


def _check_dt(dt: Any, problem: ODEProblem) -> None:
    if dt is None:
        return
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


def check_max_steps(max_steps: Any) -> int | None:
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


def check_saveat(saveat: Any, problem: ODEProblem | SDEProblem, stack: Stack) -> Any:
    """`saveat` in normal form: times in the problem's dtype, within its span."""
    if isinstance(saveat, diffrax.SaveAt):
        if stack == "diffrax":
            return saveat
        saveat = _plain_saveat(saveat)
    if saveat is None or (isinstance(saveat, str) and saveat in ("steps", "dense")):
        return saveat
    wanted = '`saveat` must be None, an array of times, "steps", "dense"'
    if isinstance(saveat, str):
        raise ValueError(f"solve: {wanted} or a diffrax.SaveAt, got {saveat!r}.")
    traced = not all(is_concrete(leaf) for leaf in jtu.tree_leaves(saveat))
    try:
        given = jnp.asarray(saveat) if traced else np.asarray(saveat)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"solve: {wanted} or a diffrax.SaveAt, got {saveat!r}."
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


def _check_event(event: Any, problem: ODEProblem, stack: Stack) -> Any:
    if isinstance(event, diffrax.Event):
        if stack != "diffrax":
            raise TypeError(
                "solve: a diffrax.Event runs on the Diffrax backend only; pass a "
                "hybrid_nds.Event, which runs on both."
            )
        return event
    events = as_events(event)
    for index, one in enumerate(events):
        if isinstance(one, Event):
            _check_condition(one, index, problem)
    if is_concrete(problem.t1) and np.isinf(float(problem.t1)) and not events:
        raise ValueError(
            "solve: `t1` is infinite, so `event` must end the solve; pass an Event "
            "or a SteadyState."
        )
    return events or None


def _check_condition(event: Event, index: int, problem: ODEProblem) -> None:
    try:
        value = eqx.filter_eval_shape(
            event.condition, problem.t0, problem.y0, problem.args
        )
    except Exception as error:
        raise ValueError(
            f"solve: the condition of `event` {index} could not be evaluated as "
            f"condition(t, y, args) at the initial state: {type(error).__name__}: "
            f"{error}"
        ) from error
    dtype = getattr(value, "dtype", None)
    if dtype == np.bool_:
        raise ValueError(
            f"solve: the condition of `event` {index} must return a real scalar that "
            "crosses zero, got a boolean; return the difference of the two sides of "
            "the comparison."
        )
    if (
        getattr(value, "shape", None) != ()
        or dtype is None
        or not jnp.issubdtype(dtype, jnp.floating)
    ):
        raise ValueError(
            f"solve: the condition of `event` {index} must return a real scalar, got "
            f"{value}."
        )
