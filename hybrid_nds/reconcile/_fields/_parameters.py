"""Reading a field's parameters from a fixture's specification."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

Parameters = Mapping[str, Any]
"""A fixture's `[parameters]`: numbers and nested lists by name."""

_Field = TypeVar("_Field")


def of_numbers(
    kind: Callable[..., _Field], *names: str
) -> Callable[[Parameters], _Field]:
    """A builder of fields from the named scalar parameters, in this order."""
    return lambda parameters: kind(*(number(parameters, name) for name in names))


def number(parameters: Parameters, name: str) -> Array:
    """The named parameter as a scalar array in JAX's default precision.

    **Raises:** `KeyError` naming the parameter and those there are, `TypeError` for
    one that is no number.
    """
    value = array(parameters, name)
    if value.ndim:
        raise TypeError(f"[parameters]: `{name}` must be a number, got a list.")
    return value


def array(parameters: Parameters, name: str) -> Array:
    """The named parameter as an array in JAX's default precision.

    **Raises:** `KeyError` naming the parameter and those there are, `TypeError` for
    one that is no array of numbers.
    """
    if name not in parameters:
        raise KeyError(
            f"[parameters] must hold `{name}`; it holds {sorted(parameters)}."
        )
    try:
        values = np.asarray(parameters[name])
        if values.dtype.kind not in "fiu":
            raise TypeError(f"its dtype is {values.dtype}")
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"[parameters]: `{name}` must be a number or a list of numbers, all rows "
            f"as long, got {str(parameters[name])[:60]!r} ({error})."
        ) from error
    # Through NumPy: a Python float would make a weakly typed array.
    return jnp.asarray(values.astype(float))
