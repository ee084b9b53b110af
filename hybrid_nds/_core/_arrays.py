"""Checks of single numbers and arrays, concrete or traced."""

from __future__ import annotations

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def is_concrete(x: Any) -> bool:
    """Whether a value is known now, not only when a traced function runs."""
    return not isinstance(x, jax.core.Tracer)


def require_precision(name: str, leaf: Any) -> None:
    """Refuse float64 arrays that JAX would silently cut to float32.

    NumPy scalars pass, as Python floats do: they are numbers that nobody declared
    to be of double precision.
    """
    if not isinstance(leaf, np.ndarray | jax.Array):
        return
    if leaf.dtype == np.float64 and jnp.result_type(float) != np.float64:
        raise ValueError(
            f"{name} is float64, but JAX runs in 32 bits and would cut it to "
            'float32. Call jax.config.update("jax_enable_x64", True) at the start of '
            "the program, work within hybrid_nds.double_precision(), or pass float32 "
            "data."
        )


def require_real_scalar(name: str, value: Any) -> None:
    """Refuse anything but one real number, traced or not."""
    try:
        # NumPy alone: JAX's own functions would take a text for a dtype.
        dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
        shape = np.shape(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a real number, got {value!r}.") from error
    real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    if shape != () or not real:
        raise TypeError(
            f"{name} must be a real number, got {value!r} of shape {shape} and dtype "
            f"{dtype}."
        )


def concrete_array(value: Any, dtype: Any = None) -> Array:
    """A JAX array; what is concrete stays so where the caller is traced."""
    if not is_concrete(value):
        return jnp.asarray(value, dtype)
    with jax.ensure_compile_time_eval():
        if isinstance(value, jax.Array) or dtype is None:
            return jnp.asarray(value, dtype)
        # Converted by NumPy: JAX compiles a program for each shape and dtype.
        with np.errstate(over="ignore"):
            return jax.device_put(np.asarray(value).astype(dtype))
