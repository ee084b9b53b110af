"""The scale of each component of a state."""

from __future__ import annotations

from typing import Any

import numpy as np


def given_scale(scale: Any, n: int) -> np.ndarray:
    """The scale of each component as the caller gave it, shape `(n,)`.

    **Raises:** `ValueError` for one that is not positive, or of another shape.
    """
    values = np.asarray(scale, float)
    if values.shape not in ((), (1,), (n,)) or not np.all(
        np.isfinite(values) & (values > 0)
    ):
        raise ValueError(
            "reconcile: `scale` must be a positive number or positive numbers of shape "
            f"({n},), got {scale}."
        )
    return np.broadcast_to(values, (n,)).copy()


def first_scale(start: np.ndarray, change: np.ndarray) -> float:
    """A first idea of the size of a state: that of its start, or where it starts at
    zero of its first change; 1 where nothing moves."""
    for values in (start, change):
        size = float(np.max(np.abs(values), initial=0.0))
        if np.isfinite(size) and size > 0:
            return size
    return 1.0


def typical_scale(states: np.ndarray, rough: float) -> np.ndarray:
    """The largest size of each component, shape `(n,)`.

    **Arguments:** states, shape `(times, n)`, and a first idea of their size, which
    stands for components that are zero, or round-off of the others.
    """
    sizes = np.max(np.abs(states), axis=0)
    sizes = np.where(np.isfinite(sizes), sizes, rough)
    largest = float(np.max(sizes, initial=0.0)) or rough
    return np.where(sizes > 1e-12 * largest, sizes, largest)
