"""Checks of what problems are made of; each names the argument and what was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree

from .._core import (
    NoDerivativeError,
    concrete_array,
    is_concrete,
    require_precision,
    require_real_scalar,
)

VectorField = Callable[[Any, Any, Any], Any]
"""`field(t, y, args) -> dy/dt`, with `dy/dt` of the structure of `y`."""


def check_state(caller: str, y0: PyTree) -> PyTree:
    """The state as JAX arrays of one real floating-point dtype, finite throughout."""
    paths, treedef = jtu.tree_flatten_with_path(y0)
    if not paths:
        raise ValueError(f"{caller}: `y0` holds no arrays; give at least one scalar.")
    leaves, dtypes = [], {}
    for path, leaf in paths:
        where = f"{caller}: `y0{jtu.keystr(path)}`"
        require_precision(where, leaf)
        try:
            array = concrete_array(leaf)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{where} must be a floating-point array, got {leaf!r}."
            ) from error
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"{where} must be a real floating-point array, got dtype "
                f"{array.dtype}. Write numbers with a decimal point, or cast with "
                ".astype(float); split complex states into real and imaginary parts."
            )
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"{where} must be float32 or float64, got {array.dtype}; cast it, and "
                "let the field compute in float16 where it wants to (in bfloat16 on "
                "Diffrax alone)."
            )
        if is_concrete(leaf) and not np.all(np.isfinite(np.asarray(leaf))):
            raise ValueError(
                f"{where} must be finite, but contains NaN or infinity: {leaf}."
            )
        dtypes[jtu.keystr(path)] = array.dtype
        # Weak types would make another compilation of every solve.
        leaves.append(concrete_array(array, array.dtype))
    if len(set(dtypes.values())) > 1:
        listing = ", ".join(f"y0{path}: {dtype}" for path, dtype in dtypes.items())
        raise TypeError(
            f"{caller}: `y0` must have one dtype throughout, got {listing}. "
            "Cast the state to float32 or float64."
        )
    return jtu.tree_unflatten(treedef, leaves)


def check_parameters(caller: str, name: str, tree: PyTree) -> None:
    """Refuse float64 parameters that JAX would cut to float32."""
    for path, leaf in jtu.tree_flatten_with_path(tree)[0]:
        require_precision(f"{caller}: `{name}{jtu.keystr(path)}`", leaf)


def check_time(
    caller: str, name: str, t: ArrayLike, dtype: Any, *, finite: bool
) -> Array:
    """An end of the span, in the dtype of the state."""
    require_real_scalar(f"{caller}: `{name}`", t)
    if is_concrete(t):
        value = float(np.asarray(t))
        if np.isnan(value) or (finite and np.isinf(value)):
            raise ValueError(f"{caller}: `{name}` must be finite, got {value}.")
    return concrete_array(t, dtype)


def check_span(caller: str, t0: ArrayLike, t1: ArrayLike, dtype: Any) -> None:
    """Refuse a span that is empty in the dtype of the state."""
    if not (is_concrete(t0) and is_concrete(t1)):
        return
    if np.asarray(t0, dtype) == np.asarray(t1, dtype):
        raise ValueError(
            f"{caller}: `t1` must differ from `t0` in {np.dtype(dtype)}, got "
            f"t0={t0} and t1={t1}."
        )


def check_field(
    caller: str, name: str, field: VectorField, t0: Array, y0: PyTree, args: PyTree
) -> None:
    """Refuse a field that does not return the structure, shapes and dtype of `y0`."""
    try:
        dy = eqx.filter_eval_shape(field, t0, y0, args)
    except NoDerivativeError:
        raise
    except Exception as error:
        raise ValueError(
            f"{caller}: `{name}` could not be evaluated as {name}(t, y, args) at the "
            f"initial state: {type(error).__name__}: {error}"
        ) from error
    expected, given = jtu.tree_structure(y0), jtu.tree_structure(dy)
    if expected != given:
        raise ValueError(
            f"{caller}: `{name}` must return the structure of `y0`, expected "
            f"{expected}, got {given}."
        )
    for (path, y), f in zip(
        jtu.tree_flatten_with_path(y0)[0], jtu.tree_leaves(dy), strict=True
    ):
        shape, dtype = getattr(f, "shape", None), getattr(f, "dtype", None)
        if shape != y.shape or dtype != y.dtype:
            raise ValueError(
                f"{caller}: `{name}` must return the shapes and dtypes of `y0`; at "
                f"y0{jtu.keystr(path)} expected {y.dtype}{list(y.shape)}, got "
                f"{dtype}{list(shape) if shape is not None else ''}."
            )
