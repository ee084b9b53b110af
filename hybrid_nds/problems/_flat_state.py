"""The flat state: a state as one vector."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree


class FlatState:
    """The layout of a state as one vector, in the order of `ravel_pytree`.

    **Arguments:** a state: a pytree of arrays, or of their shapes and dtypes.
    """

    def __init__(self, state: PyTree):
        leaves, self._treedef = jtu.tree_flatten(state)
        self._leaves = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves]
        self._ends = [int(end) for end in np.cumsum([x.size for x in leaves])]

    @classmethod
    def below(cls, states: PyTree, axes: int) -> FlatState:
        """The layout of one of many states, which have so many leading axes."""
        return cls(
            jtu.tree_map(
                lambda x: jax.ShapeDtypeStruct(x.shape[axes:], x.dtype), states
            )
        )

    @property
    def structure(self) -> PyTree:
        """The shapes and dtypes of a state, as a pytree of `jax.ShapeDtypeStruct`."""
        return jtu.tree_unflatten(self._treedef, self._leaves)

    @property
    def dimension(self) -> int:
        """The number of scalars in a state."""
        return self._ends[-1] if self._ends else 0

    def flatten(self, states: PyTree) -> Any:
        """States with any leading axes, shape `(*leading, n)`: in NumPy where all
        their arrays are NumPy's, else in JAX."""
        leaves = jtu.tree_leaves(states)
        space = jnp if any(isinstance(leaf, jax.Array) for leaf in leaves) else np
        arrays = [space.asarray(leaf) for leaf in leaves]
        lead = arrays[0].shape[: arrays[0].ndim - len(self._leaves[0].shape)]
        parts = [
            array.reshape((*lead, leaf.size))
            for array, leaf in zip(arrays, self._leaves, strict=True)
        ]
        return space.concatenate(parts, axis=-1)

    def unflatten(self, values: Any) -> PyTree:
        """The pytree of an array of shape `(*leading, n)`, NumPy's or JAX's: the
        structure of the state, each leaf of shape `(*leading, *leaf.shape)`."""
        starts = [0, *self._ends[:-1]]
        parts = [
            values[..., start:end].reshape((*values.shape[:-1], *leaf.shape))
            for start, end, leaf in zip(starts, self._ends, self._leaves, strict=True)
        ]
        return jtu.tree_unflatten(self._treedef, parts)
