"""The tolerances of a solve: defaults, checks, and their normal form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from .._core import is_concrete, require_real_scalar
from ..problems import Problem, SteadyState

_DEFAULT_TOLERANCES = {"float64": (1e-6, 1e-9), "float32": (1e-4, 1e-6)}


def default_tolerances(dtype: Any) -> tuple[float, float]:
    """The tolerances of a solve that names none.

    **Arguments:** `dtype`, the floating-point type of the state.

    **Returns:** the relative and the absolute tolerance: 1e-6 and 1e-9 in float64,
    1e-4 and 1e-6 in float32.
    """
    return _DEFAULT_TOLERANCES[np.dtype(dtype).name]


def default_absolute(problem: Problem, rtol: Any) -> Any:
    """The absolute tolerance of a solve that names none.

    It is the default of the precision; or less in units in which states are small,
    `rtol` times the largest component of the start, or, where the problem starts at
    zero, of the change that its rates at the start make over the span; or more where
    it would lie below 4 ε of the largest component.

    **Arguments:** the problem, and the relative tolerance of its solve.

    **Returns:** a number of the problem's dtype.
    """
    _, usual = default_tolerances(problem.dtype)
    leaves = [lax.stop_gradient(leaf) for leaf in jtu.tree_leaves(problem.y0)]
    known = all(is_concrete(x) for x in (*leaves, problem.t0, problem.t1, rtol))
    if not known:
        sizes = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in leaves]
        size = jnp.max(jnp.stack(sizes))
        small = jnp.maximum(rtol * size, _least(problem.dtype))
        usual = jnp.maximum(usual, 4 * float(np.finfo(problem.dtype).eps) * size)
        here = (size > 0) & (jnp.asarray(rtol) > 0)
        return jnp.where(here, jnp.minimum(small, usual), usual).astype(problem.dtype)
    size = _largest(leaves)
    usual = max(usual, 4 * float(np.finfo(problem.dtype).eps) * size)
    if size == 0:
        size = _first_change(problem)
    if not 0 < size < np.inf or float(rtol) == 0:
        return usual
    return min(usual, max(float(rtol) * size, _least(problem.dtype)))


def state_size(problem: Problem) -> float:
    """The size of the states of a problem, which makes a relative tolerance an absolute
    one in any unit: the largest component of the start, or, where the problem starts
    at zero, of the change that its rates at the start make over the span; one where
    all these are zero."""
    leaves = jtu.tree_leaves(problem.y0)
    size = _largest(leaves) or _first_change(problem)
    return size if 0 < size < np.inf else 1.0


def _least(dtype: Any) -> float:
    return float(np.sqrt(np.finfo(dtype).tiny))


def _largest(leaves: Sequence[Any]) -> float:
    return max((float(np.max(np.abs(x), initial=0.0)) for x in leaves), default=0.0)


def _first_change(problem: Problem) -> float:
    """How far the rates at the initial state, at three times, lead over the span."""
    t0, t1 = float(problem.t0), float(problem.t1)
    if not np.isfinite(t1):
        return 0.0
    times = np.asarray([t0, t0 + 0.37 * (t1 - t0), t1], problem.dtype)
    rates = [np.asarray(x) for x in jtu.tree_leaves(_rates(problem, times))]
    length = abs(t1 - t0)
    if problem.kind.follows_path:
        length = max(length, length**0.5)
    sizes = [np.abs(x[np.isfinite(x)]) for x in rates]
    return length * max((float(np.max(x, initial=0.0)) for x in sizes), default=0.0)


@eqx.filter_jit
def _rates(problem: Problem, times: Any) -> Any:
    return [
        jax.vmap(lambda t, f=term.function: f(t, problem.y0, problem.args))(times)
        for term in problem.terms
    ]


def in_dtype(value: Any, dtype: np.dtype) -> Any:
    """Numbers as an array, so that other values make no other compilation."""
    if value is None:
        return None
    return np.asarray(value, dtype) if is_concrete(value) else value.astype(dtype)


def is_zero(value: Any) -> bool:
    """Whether a number, or each of several, is known to be zero."""
    return is_concrete(value) and not np.any(np.asarray(value))


def check_tolerance(name: str, value: Any, dtype: np.dtype) -> None:
    """Refuse a tolerance that is no real number, negative, or below round-off."""
    if value is None:
        return
    require_real_scalar(f"solve: `{name}`", value)
    if not is_concrete(value):
        return
    number = float(value)
    if not (np.isfinite(number) and number >= 0):
        raise ValueError(
            f"solve: `{name}` must be finite and not negative, got {number}."
        )
    # Below a few units in the last place, round-off alone rejects every step.
    limit = 4 * float(np.finfo(dtype).eps)
    if name == "rtol" and 0 < number < limit:
        advice = (
            "Solve in double precision (enable x64 and pass float64 data), or loosen "
            "it."
            if dtype == np.float32
            else "Loosen it."
        )
        raise ValueError(
            f"solve: `rtol` must be at least {limit:.1e} for a state of {dtype}, "
            f"which resolves no more; got {number:.1e}. {advice}"
        )


def absolute_tolerance(atol: Any, problem: Problem) -> Any:
    """One number as it is; one by component as a flat vector, in the state's order.

    **Arguments:** `atol`, a number, or numbers in the structure of `y0` and in shapes
    that broadcast to those of its leaves.

    **Returns:** `None`, a number, or shape `(n,)`.

    **Raises:** `ValueError` or `TypeError`, naming what is wrong.
    """
    whole = jtu.tree_structure(problem.y0)
    if isinstance(atol, list | tuple) and jtu.treedef_is_leaf(whole):
        atol = np.asarray(atol)
    leaves, structure = jtu.tree_flatten(atol)
    if atol is None or (jtu.treedef_is_leaf(structure) and np.ndim(atol) == 0):
        check_tolerance("atol", atol, problem.dtype)
        return atol
    if structure != whole:
        raise ValueError(
            "solve: `atol` must be a number, or have the structure of `y0`, expected "
            f"{whole}, got {structure}."
        )
    parts = [
        _component_tolerance(leaf, state.shape, problem.dtype)
        for state, leaf in zip(jtu.tree_leaves(problem.y0), leaves, strict=True)
    ]
    space = np if all(is_concrete(part) for part in parts) else jnp
    return space.concatenate(parts)


def _component_tolerance(leaf: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    kind = np.asarray(leaf).dtype if is_concrete(leaf) else leaf.dtype
    if not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
        raise TypeError(f"solve: `atol` must hold real numbers, got {leaf!r}.")
    try:
        fits = np.broadcast_shapes(np.shape(leaf), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            "solve: `atol` must have the shapes of `y0`, or shapes that broadcast to "
            f"them: expected {list(shape)}, got {list(np.shape(leaf))}."
        )
    if not is_concrete(leaf):
        return jnp.broadcast_to(leaf.astype(dtype), shape).reshape(-1)
    values = np.asarray(leaf, dtype)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if np.any(wrong):
        raise ValueError(
            f"solve: `atol` must be finite and not negative, got {values[wrong][0]}."
        )
    return np.broadcast_to(values, shape).reshape(-1)


def recorded_tolerance(atol: Any) -> float | tuple[float, ...] | None:
    """An absolute tolerance for the provenance; `None` for none, or a traced one."""
    if atol is None or not is_concrete(atol):
        return None
    values = np.asarray(atol).tolist()
    return tuple(values) if isinstance(values, list) else values


def steady_tolerances(
    event: SteadyState, rtol: Any, atol: Any, dtype: np.dtype
) -> tuple[Any, Any]:
    """The tolerances of a steady-state criterion.

    **Arguments:** the event, the tolerances of its solve, the dtype of the state.

    **Returns:** relative and absolute tolerance: the event's own, else those of the
    solve (the smallest of an `atol` by component), else the defaults of the dtype.
    """
    default_rtol, default_atol = default_tolerances(dtype)
    given = (event.rtol, rtol, default_rtol)
    rtol = next(value for value in given if value is not None)
    given = (event.atol, atol, default_atol)
    atol = next(value for value in given if value is not None)
    if np.ndim(atol) > 0:
        atol = atol.min()
    if event.time_scale is not None:
        rtol, atol = rtol / event.time_scale, atol / event.time_scale
    return in_dtype(rtol, dtype), in_dtype(atol, dtype)
