"""The Brownian path of a solve: that of a key, or one that was given."""

from __future__ import annotations

from typing import Any, Literal, get_args

import equinox as eqx
import jax.random as jr
import numpy as np

from .._core import check_key, is_concrete
from ..noise import BrownianPath, LevyArea, NativePath, StoredPath, grid_steps
from ..problems import Problem

# How finely an adaptive solve that names no path resolves it.
_ADAPTIVE_STEPS = 2**16
_OTHER_SPAN = (
    "solve: `path` must have the span of `problem`, from its t0 to its t1. Make it "
    "over that span, or cut a StoredPath out of its increments."
)
_AREAS: tuple[LevyArea, ...] = get_args(LevyArea)

Path = BrownianPath | StoredPath | NativePath
Paths = Literal["shared", "native"]
"""How the increments of a key come about: by the tree of a
[`BrownianPath`][hybrid_nds.BrownianPath], the same on every grid, or by those of a
[`NativePath`][hybrid_nds.NativePath]."""


def path_of(
    problem: Problem,
    key: Any,
    path: Any,
    dt: Any,
    area: LevyArea,
    fixed: bool,
    paths: Any,
) -> Path:
    """The path that a solve follows.

    **Arguments:** the problem; a key or a path, one of them `None`; the step; the Lévy
    area that the solver needs; whether steps are fixed; `"shared"`, `"native"` or
    `None`, which means shared.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    if (key is None) == (path is None):
        given = "neither" if key is None else "both"
        raise ValueError(
            "solve: a stochastic problem needs `key`, a random key, or `path`, a "
            f"BrownianPath; got {given}."
        )
    if paths not in (None, *get_args(Paths)):
        raise ValueError(f'solve: `paths` must be "shared" or "native", got {paths!r}.')
    if path is None:
        return _path_of_key(key, problem, dt, area, fixed, paths == "native")
    if paths is not None:
        raise ValueError(
            f"solve: `paths` says how to draw the path of a `key`; leave {paths!r} out "
            "where a `path` is passed."
        )
    _check_path(path, problem, area, dt, fixed)
    return _over_its_span(path, problem)


def _path_of_key(
    key: Any, problem: Problem, dt: Any, area: LevyArea, fixed: bool, native: bool
) -> BrownianPath | NativePath:
    key = check_key("solve", key, traced=True)
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
    if native and not fixed:
        raise ValueError(
            'solve: `paths="native"` are known on their grid alone, where an adaptive '
            'solve steps elsewhere; pass `dt` alone, or paths="shared".'
        )
    if fixed:
        steps = grid_steps("solve", t0, t1, float(dt))
        if native:
            motions, dtype = problem.noise_dimension, problem.dtype
            return NativePath(key, motions, t0, t1, steps, area, dtype=dtype)
        step = float(dt)
    else:
        step = (t1 - t0) / _ADAPTIVE_STEPS
    return BrownianPath(
        key, problem.noise_dimension, t0, t1, step, area, dtype=problem.dtype
    )


def _over_its_span(path: Path, problem: Problem) -> Path:
    """The path, if it has the span of the problem; where times are traced, with an
    error of the compiled program if not."""
    times = (path.t0, path.t1, problem.t0, problem.t1)
    if path.t0 is problem.t0 and path.t1 is problem.t1:
        return path
    if all(is_concrete(time) for time in times):
        spans = [float(np.asarray(time)) for time in times]
        if spans[:2] != spans[2:]:
            raise ValueError(
                f"solve: `path` must have the span of `problem`, from {spans[2]} to "
                f"{spans[3]}, got from {spans[0]} to {spans[1]}."
            )
        return path
    other = (path.t0 != problem.t0) | (path.t1 != problem.t1)
    # Its grid may need its times as numbers: what its noise is made of is checked.
    if isinstance(path, StoredPath):
        checked = eqx.error_if(path.dW, other, _OTHER_SPAN)
        return eqx.tree_at(lambda p: p.dW, path, checked)
    bits = eqx.error_if(jr.key_data(path.key), other, _OTHER_SPAN)
    key = jr.wrap_key_data(bits, impl=jr.key_impl(path.key))
    if isinstance(path, NativePath):
        return eqx.tree_at(lambda p: p.key, path, key)
    return eqx.tree_at(lambda p: (p.key, p.tree.key), path, (key, key))


def _check_path(
    path: Any, problem: Problem, area: LevyArea, dt: Any, fixed: bool
) -> None:
    if not isinstance(path, Path):
        raise TypeError(
            "solve: `path` must be a BrownianPath, a NativePath or a StoredPath, got "
            f"{type(path).__name__}."
        )
    if path.dimension != problem.noise_dimension:
        raise ValueError(
            f"solve: `path` must hold {problem.noise_dimension} Brownian motions, as "
            f"the {problem.kind.noise!r} noise of `problem` has, got {path.dimension}."
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
    if not fixed:
        if not isinstance(path, BrownianPath):
            raise ValueError(
                f"solve: a {type(path).__name__} is known on its grid alone, where an "
                "adaptive solve steps elsewhere; pass `dt` alone, or a BrownianPath."
            )
        return
    if dt is None or not (is_concrete(path.t0) and is_concrete(path.t1)):
        return
    if abs(float(dt) - path.dt) > 1e-6 * path.dt:
        steps = max(1, round(path.steps * path.dt / float(dt)))
        other = (
            f"make the path of {steps} steps"
            if isinstance(path, NativePath)
            else f"pass path.with_steps({steps})"
        )
        raise ValueError(
            f"solve: `dt` must be the step of the grid of `path`, {path.dt:.9g}, got "
            f"{float(dt):.9g}; leave it out, or {other}."
        )
