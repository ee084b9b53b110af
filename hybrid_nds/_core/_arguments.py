"""Checks of arguments that mean the same everywhere."""

from __future__ import annotations

import math
import os
from typing import Any, cast

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ._arrays import is_concrete


def check_whole(
    caller: str, name: str, value: Any, least: int = 1, most: int | None = None
) -> int:
    """A whole number of at least `least`, and at most `most`.

    **Raises:** `ValueError` for anything else, in the name of `caller`.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upto = "" if most is None else f" and at most {most}"
        raise ValueError(
            f"{caller}: `{name}` must be a whole number of at least {least}{upto}, got "
            f"{value!r}."
        )
    return int(value)


def check_number(
    caller: str, name: str, value: Any, low: float = -math.inf, high: float = math.inf
) -> float:
    """A finite number above `low` and below `high`.

    **Raises:** `ValueError` for anything else.
    """
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low < value < high:
        bounds = [f"above {low:g}"] if low > -math.inf else []
        bounds += [f"below {high:g}"] if high < math.inf else []
        expected = " ".join(["a finite number", " and ".join(bounds)]).strip()
        raise ValueError(f"{caller}: `{name}` must be {expected}, got {value!r}.")
    return float(value)


def check_choice(caller: str, name: str, value: Any, known: tuple[Any, ...]) -> Any:
    """One of the values that are known.

    **Raises:** `ValueError` for anything else.
    """
    if not any(value is one or value == one for one in known):
        listed = ", ".join(map(str, known))
        raise ValueError(f"{caller}: `{name}` must be one of {listed}, got {value!r}.")
    return value


def check_positive(caller: str, name: str, value: Any, *, zero: bool = False) -> float:
    """A positive finite number, or where `zero` one that is not negative.

    **Raises:** `ValueError` for anything else.
    """
    number = isinstance(value, int | float | np.number) or np.shape(value) == ()
    try:
        found = float(value) if number else math.nan
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or found < 0 or (found == 0 and not zero):
        expected = "nonnegative" if zero else "positive"
        raise ValueError(
            f"{caller}: `{name}` must be a {expected} finite number, got {value!r}."
        )
    return found


def check_level(caller: str, level: Any) -> float:
    """A level of confidence or significance: a number between 0 and 1.

    **Raises:** `ValueError` for anything else.
    """
    return check_number(caller, "level", level, 0.0, 1.0)


def check_key(caller: str, key: Any, *, traced: bool = False) -> PRNGKeyArray:
    """One random key, in the new style; where `traced` it need not be concrete.

    **Raises:** `TypeError` for anything else.
    """
    known = traced or is_concrete(key)
    if not isinstance(key, jax.Array | np.ndarray) or not known:
        given = type(key).__name__
    elif jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ():
        return cast(PRNGKeyArray, key)
    elif key.dtype == np.uint32 and key.shape == (2,):
        return jr.wrap_key_data(jnp.asarray(key))
    else:
        given = f"dtype {key.dtype}, shape {key.shape}"
    raise TypeError(
        f"{caller}: `key` must be one random key, such as jax.random.key(0), got "
        f"{given}."
    )


def check_component(caller: str, component: Any) -> None:
    """Tell a component of the state from the path of a figure, which comes first in
    the `plot` of other results.

    **Raises:** `TypeError` for a path.
    """
    if isinstance(component, str | os.PathLike):
        given = os.fspath(component)
        raise TypeError(
            f"{caller}.plot: `component` must count components of the state, got "
            f"{given!r}; to write the figure there, call plot(path={given!r})."
        )
