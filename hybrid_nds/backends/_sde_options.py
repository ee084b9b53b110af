"""The options of a stochastic solve, checked once, before a backend sees them.

As in [`hybrid_nds.options`][], only concrete values are looked at: traced ones pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import diffrax
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._core import is_concrete, require_precision, require_real_scalar
from ..methods import (
    Method,
    Stack,
    check_suits,
    default_method,
    find_solver,
    suitable,
)
from ..noise import BrownianPath, LevyArea, StoredPath, grid_steps
from ..problems import SDEProblem
from ._ode_options import check_max_steps, check_saveat
from ._protocol import StochasticOptions
from ._tolerances import (
    check_tolerance,
    default_absolute,
    default_tolerances,
    in_dtype,
    is_zero,
)

# How finely an adaptive solve that names no path resolves it.
_ADAPTIVE_STEPS = 2**16
_AREAS: tuple[LevyArea, ...] = get_args(LevyArea)


def check_stochastic_options(
    problem: SDEProblem,
    stack: Stack,
    *,
    solver: Any,
    rtol: Any,
    atol: Any,
    dt: Any,
    key: Any,
    path: Any,
    saveat: Any,
    adjoint: Any,
    event: Any,
    max_steps: int | None,
    progress: Any,
    extra: Mapping[str, Any],
) -> StochasticOptions:
    """Check the options of one stochastic solve and bring them to normal form.

    **Arguments:** those of [`solve`][hybrid_nds.solve].

    **Returns:** the options in normal form, as a backend takes them, with the path
    that a key stands for.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    for leaf in jtu.tree_leaves(problem.y0):
        require_precision("solve: the state of `problem`", leaf)
    if event is not None:
        raise ValueError(
            "solve: a stochastic problem takes no `event`; save its steps and look for "
            "the first one past the condition."
        )
    controlled = extra.get("stepsize_controller") is not None
    check_tolerance("rtol", rtol, problem.dtype)
    check_tolerance("atol", atol, problem.dtype)
    if controlled and (rtol is not None or atol is not None):
        raise ValueError(
            "solve: pass `rtol` and `atol`, or a `stepsize_controller` that holds "
            "them, not both."
        )
    adaptive = rtol is not None or atol is not None
    if adaptive:
        if rtol is None:
            rtol, _ = default_tolerances(problem.dtype)
        if atol is None:
            atol = default_absolute(problem, rtol)
        if is_zero(rtol) and is_zero(atol):
            raise ValueError(
                "solve: `rtol` and `atol` must not both be zero; no step would be "
                "accurate enough."
            )
    chosen, area = _check_solver(solver, problem, stack, adaptive)
    fixed = not adaptive and not controlled
    if dt is not None:
        _check_dt(dt, problem)
    if (key is None) == (path is None):
        given = "neither" if key is None else "both"
        raise ValueError(
            "solve: a stochastic problem needs `key`, a random key, or `path`, a "
            f"BrownianPath; got {given}."
        )
    if path is None:
        path = _path_of_key(key, problem, dt, area, fixed)
    else:
        _check_path(path, problem, area, dt, fixed)
    if fixed:
        dt = path.dt if is_concrete(path.t1) else dt
    return StochasticOptions(
        solver=chosen,
        path=path,
        rtol=in_dtype(rtol, problem.dtype),
        atol=in_dtype(atol, problem.dtype),
        dt=in_dtype(dt, problem.dtype),
        saveat=_check_saved(saveat, problem, stack, path, fixed),
        adjoint=adjoint,
        max_steps=check_max_steps(max_steps),
        progress=progress,
        extra=dict(extra),
    )


def _check_solver(
    solver: Any, problem: SDEProblem, stack: Stack, adaptive: bool
) -> tuple[Any, LevyArea]:
    """The method in the table's spelling, or a Diffrax solver; its Lévy area."""
    if solver is None:
        info = default_method(problem.kind, stack, adaptive=adaptive)
        return info.name, info.levy_area
    if isinstance(solver, str):
        info = find_solver(solver, stack, "sde")
        check_suits(info, problem.kind, stack)
        if adaptive and stack not in info.adaptive:
            able = suitable(problem.kind, stack, adaptive=True)
            listing = ", ".join(one.name for one in able) or "none for this problem"
            raise ValueError(
                f"solve: {info.name} has no error estimate on the {stack} backend and "
                "cannot hold `rtol` and `atol`; pass `dt` alone for fixed steps, or "
                f"take one of {listing}."
            )
        return info.name, info.levy_area
    if stack == "diffrax" and isinstance(solver, diffrax.AbstractSolver):
        return solver, _check_diffrax_solver(solver, problem, adaptive)
    kinds = "a name or a Diffrax solver" if stack == "diffrax" else "a name"
    raise TypeError(
        f"solve: `solver` must be {kinds} for a stochastic problem, got "
        f"{type(solver).__name__}."
    )


def _check_diffrax_solver(
    solver: diffrax.AbstractSolver, problem: SDEProblem, adaptive: bool
) -> LevyArea:
    inner = solver
    while isinstance(inner, diffrax.HalfSolver):
        inner = inner.solver
    info = _row(inner)
    if info is not None:
        check_suits(info, problem.kind, "diffrax")
        if adaptive and inner is solver and "diffrax" not in info.adaptive:
            raise ValueError(
                f"solve: {info.name} has no error estimate and cannot hold `rtol` and "
                "`atol`; pass `dt` alone for fixed steps, or wrap it in "
                "diffrax.HalfSolver."
            )
        return info.levy_area
    marked = {
        "ito": diffrax.AbstractItoSolver,
        "stratonovich": diffrax.AbstractStratonovichSolver,
    }
    other = "stratonovich" if problem.interpretation == "ito" else "ito"
    wrong = isinstance(inner, marked[other])
    if wrong and problem.noise != "additive":
        raise ValueError(
            f"solve: {type(inner).__name__} converges to the solution in the {other!r} "
            "interpretation, and `problem` has "
            f"interpretation={problem.interpretation!r}. Solve "
            f"hybrid_nds.to_{other}(problem), which has the same solution."
        )
    # Diffrax itself warns of solvers that it marks as neither.
    known: dict[Any, LevyArea] = {
        diffrax.AbstractSpaceTimeLevyArea: "space-time",
        diffrax.AbstractSpaceTimeTimeLevyArea: "space-time-time",
    }
    return known.get(getattr(inner, "minimal_levy_area", None), "none")


def _row(solver: diffrax.AbstractSolver) -> Method | None:
    name = type(solver).__name__
    try:
        info = find_solver(name, "diffrax", "sde")
    except ValueError:
        return None
    return info if info.diffrax == name else None


def _check_dt(dt: Any, problem: SDEProblem) -> None:
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


def _path_of_key(
    key: Any, problem: SDEProblem, dt: Any, area: LevyArea, fixed: bool
) -> BrownianPath:
    _check_key(key)
    if not (is_concrete(problem.t0) and is_concrete(problem.t1)):
        raise TypeError(
            "solve: a `key` needs a problem whose t0 and t1 are concrete, since the "
            "grid of the path follows from them. Inside jax.jit make the problem "
            "there, close over it, or pass `path`."
        )
    t0, t1 = float(problem.t0), float(problem.t1)
    if fixed and dt is None:
        raise ValueError(
            "solve: a stochastic problem with a `key` needs `dt`, the length of its "
            "steps, or `rtol` and `atol` for error control."
        )
    if fixed:
        grid_steps("solve", t0, t1, float(dt))
        step = float(dt)
    else:
        step = (t1 - t0) / _ADAPTIVE_STEPS
    return BrownianPath(
        key, problem.noise_dimension, t0, t1, step, area, dtype=problem.dtype
    )


def _check_key(key: Any) -> None:
    typed = isinstance(key, jax.Array) and jnp.issubdtype(
        key.dtype, jax.dtypes.prng_key
    )
    raw = getattr(key, "dtype", None) == np.uint32 and np.shape(key) == (2,)
    if not (raw or (typed and key.shape == ())):
        raise TypeError(
            "solve: `key` must be one random key, such as jax.random.key(0), got "
            f"{key!r}."
        )


def _check_path(
    path: Any, problem: SDEProblem, area: LevyArea, dt: Any, fixed: bool
) -> None:
    if not isinstance(path, BrownianPath | StoredPath):
        raise TypeError(
            "solve: `path` must be a BrownianPath or a StoredPath, got "
            f"{type(path).__name__}."
        )
    if path.dimension != problem.noise_dimension:
        raise ValueError(
            f"solve: `path` must hold {problem.noise_dimension} Brownian motions, as "
            f"the {problem.noise!r} noise of `problem` has, got {path.dimension}."
        )
    if path.dtype != problem.dtype:
        raise TypeError(
            f"solve: `path` must have the dtype of the state, {problem.dtype}, got "
            f"{path.dtype}."
        )
    if _AREAS.index(path.area) < _AREAS.index(area):
        raise ValueError(
            f"solve: this solver needs a path with levy_area={area!r}, but `path` has "
            f"{path.area!r}. Make it with BrownianPath(..., levy_area={area!r}); the "
            "same key then gives another path."
        )
    times = (path.t0, path.t1, problem.t0, problem.t1)
    if all(is_concrete(time) for time in times):
        spans = [float(np.asarray(time)) for time in times]
        if spans[:2] != spans[2:]:
            raise ValueError(
                f"solve: `path` must have the span of `problem`, from {spans[2]} to "
                f"{spans[3]}, got from {spans[0]} to {spans[1]}."
            )
    if not fixed:
        if isinstance(path, StoredPath):
            raise ValueError(
                "solve: a StoredPath is known on its grid alone, where an adaptive "
                "solve steps elsewhere; pass `dt` alone, or a BrownianPath."
            )
        return
    if dt is None or not (is_concrete(path.t0) and is_concrete(path.t1)):
        return
    if abs(float(dt) - path.dt) > 1e-6 * path.dt:
        steps = max(1, round(path.steps * path.dt / float(dt)))
        raise ValueError(
            f"solve: `dt` must be the step of the grid of `path`, {path.dt:.9g}, got "
            f"{float(dt):.9g}; leave it out, or pass path.with_steps({steps})."
        )


def _check_saved(
    saveat: Any, problem: SDEProblem, stack: Stack, path: Any, fixed: bool
) -> Any:
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
