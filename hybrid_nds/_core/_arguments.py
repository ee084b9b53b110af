"""Checks of arguments that mean the same everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np


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
