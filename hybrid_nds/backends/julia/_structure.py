"""What of a problem decides its lowered source, and what was lowered of it."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ..._core import LRU

LOWERED: LRU[Any] = LRU(128)
"""Lowered functions by the structure of what they came from; weights do not matter."""


def structure_key(tree: PyTree) -> Any:
    """What of a pytree decides its lowered source: all but the values of its arrays.

    **Returns:** a hashable key, or `None` where some static part cannot be hashed.
    """
    leaves, treedef = jtu.tree_flatten(tree)
    parts = []
    for leaf in leaves:
        if eqx.is_inexact_array(leaf):
            parts.append((leaf.shape, np.dtype(leaf.dtype).str))
        elif isinstance(leaf, np.ndarray | jax.Array):
            # Integer arrays are compiled in.
            array = np.asarray(leaf)
            parts.append((array.shape, array.dtype.str, array.tobytes()))
        elif isinstance(leaf, float):
            # By representation: 0.0 equals -0.0, and NaN does not equal itself.
            parts.append((float, leaf.hex()))
        else:
            parts.append((type(leaf), leaf))
    key = (treedef, tuple(parts))
    try:
        hash(key)
    except TypeError:
        return None
    return key
