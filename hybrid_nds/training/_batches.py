"""What batches of trajectories must be like, for losses that read them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import PyTree


def check_times(caller: str, times: Any) -> tuple[float, ...]:
    """Times as plain numbers, in order, forward or backward.

    **Raises:** `ValueError` for anything else.
    """
    try:
        values = tuple(float(t) for t in times)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{caller}: `times` must be numbers, in order, got {times!r}."
        ) from error
    steps = [b - a for a, b in itertools.pairwise(values)]
    ordered = all(s > 0 for s in steps) or all(s < 0 for s in steps)
    if len(values) < 2 or not all(map(math.isfinite, values)) or not ordered:
        raise ValueError(
            f"{caller}: `times` must be at least 2 finite numbers, each later (or each "
            f"earlier) than the one before, got {_few(values)}."
        )
    return values


def check_trajectories(caller: str, ys: PyTree, times: int) -> int:
    """See that the leaves have axes of samples and of times; how many samples."""
    leaves = jtu.tree_leaves(ys)
    shapes = [jnp.shape(leaf) for leaf in leaves]
    if (
        not shapes
        or any(len(shape) < 2 or shape[1] != times for shape in shapes)
        or len({shape[0] for shape in shapes}) > 1
    ):
        raise ValueError(
            f"{caller}: `batch` must hold trajectories, arrays of shape (samples, "
            f"{times}, …) for {times} times, got "
            f"{_few(shapes) if shapes else 'no arrays'}."
        )
    return shapes[0][0]


def check_states(caller: str, batch: PyTree, use: str) -> tuple[int, int]:
    """See that a batch holds states over time, which serve a loss in place of its own.

    **Arguments:** `use`, what they serve for.

    **Returns:** how many samples and how many times there are.
    """
    shapes = [jnp.shape(leaf) for leaf in jtu.tree_leaves(batch)]
    if not shapes or any(len(shape) < 2 for shape in shapes):
        raise ValueError(
            f"{caller}: {use} of the batch, which must hold arrays of shape (samples, "
            f"times, …); got {_few(shapes) if shapes else 'no arrays'}."
        )
    return shapes[0][0], shapes[0][1]


def _few(values: Iterable[Any]) -> str:
    shown = [str(value) for value in values]
    return ", ".join(shown[:8]) + (", …" if len(shown) > 8 else "")
