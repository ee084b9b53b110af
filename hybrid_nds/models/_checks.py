"""Checks of what models are made with; each names the argument and what was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._core import is_concrete


def check_function(caller: str, name: str, value: Any) -> Callable:
    """A callable.

    **Raises:** `TypeError` for anything else.
    """
    if not callable(value):
        raise TypeError(
            f"{caller}: `{name}` must be a callable, got {type(value).__name__}."
        )
    return value


def check_array(
    caller: str, name: str, value: Any, shape: tuple[int | None, ...]
) -> Array:
    """A real floating-point array of a shape, `None` where any length will do.

    **Raises:** `ValueError` for another shape or for numbers that are not finite.
    """
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = jnp.asarray(array, float)
    fits = array.ndim == len(shape) and all(
        expected is None or expected == found
        for expected, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(
            f"{caller}: `{name}` must have shape ({expected}), got {array.shape}."
        )
    if is_concrete(array) and not np.all(np.isfinite(np.asarray(array))):
        raise ValueError(
            f"{caller}: `{name}` must be finite, but contains NaN or infinity."
        )
    return array


def check_temperature(caller: str, value: Any) -> Array:
    """The strength of a noise, a number that is not negative.

    **Raises:** `ValueError` for another one.
    """
    found = check_array(caller, "temperature", value, ())
    if is_concrete(found) and found < 0:
        raise ValueError(
            f"{caller}: `temperature` must not be negative, got {float(found):g}."
        )
    return found
