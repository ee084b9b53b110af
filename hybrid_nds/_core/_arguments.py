"""Checks of arguments that mean the same everywhere."""

from __future__ import annotations

import math
from typing import Any, cast

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ._arrays import is_concrete


def check_whole(
    owner: str, name: str, value: Any, least: int = 1, most: int | None = None
) -> int:
    """A whole number of at least `least`, and at most `most`.

    **Raises:** `ValueError` for anything else, in the name of `owner`.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upto = "" if most is None else f" and at most {most}"
        raise ValueError(
            f"{owner}: `{name}` must be a whole number of at least {least}{upto}, got "
            f"{value!r}."
        )
    return int(value)


def check_number(
    owner: str, name: str, value: Any, low: float = -math.inf, high: float = math.inf
) -> float:
    """A finite number above `low` and below `high`.

    **Raises:** `ValueError` for anything else.
    """
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low < value < high:
        bounds = [f"above {low:g}"] if low > -math.inf else []
        bounds += [f"below {high:g}"] if high < math.inf else []
        wanted = " ".join(["a finite number", " and ".join(bounds)]).strip()
        raise ValueError(f"{owner}: `{name}` must be {wanted}, got {value!r}.")
    return float(value)


def check_choice(owner: str, name: str, value: Any, known: tuple[Any, ...]) -> Any:
    """One of the values that are known.

    **Raises:** `ValueError` for anything else.
    """
    if not any(value is one or value == one for one in known):
        listed = ", ".join(map(str, known))
        raise ValueError(f"{owner}: `{name}` must be one of {listed}, got {value!r}.")
    return value


def check_positive(owner: str, name: str, value: Any, *, zero: bool = False) -> float:
    """A positive finite number, or where `zero` one that is not negative.

    **Raises:** `ValueError` for anything else.
    """
    number = isinstance(value, int | float | np.number) or np.shape(value) == ()
    try:
        found = float(value) if number else math.nan
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or found < 0 or (found == 0 and not zero):
        wanted = "nonnegative" if zero else "positive"
        raise ValueError(
            f"{owner}: `{name}` must be a {wanted} finite number, got {value!r}."
        )
    return found


def check_level(owner: str, level: Any) -> float:
    """A level of confidence or significance: a number between 0 and 1.

    **Raises:** `ValueError` for anything else.
    """
    return check_number(owner, "level", level, 0.0, 1.0)


def check_key(owner: str, key: Any) -> PRNGKeyArray:
    """One random key, in the new style.

    **Raises:** `TypeError` for anything else.
    """
    if not isinstance(key, jax.Array | np.ndarray) or not is_concrete(key):
        given = type(key).__name__
    elif jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ():
        return cast(PRNGKeyArray, key)
    elif key.dtype == np.uint32 and key.shape == (2,):
        return jr.wrap_key_data(jnp.asarray(key))
    else:
        given = f"dtype {key.dtype}, shape {key.shape}"
    raise TypeError(
        f"{owner}: `key` must be one random key, such as jax.random.key(0), got "
        f"{given}."
    )
