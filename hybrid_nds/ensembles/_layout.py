"""What the states of an ensemble look like: times, and states laid out flat."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

State = dict[str, np.ndarray]
"""What a reduction keeps while it runs: arrays by name, ready for the disk."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How flat values of shape `(trajectories, times, scalars)` come from states.

    **Fields:** the saved times, shape `(times,)`; the structure of one state, a pytree
    of `jax.ShapeDtypeStruct`; how many trajectories the ensemble has.

    The scalars of a state are ordered as `jax.flatten_util.ravel_pytree` orders them.
    """

    times: np.ndarray
    structure: PyTree
    trajectories: int

    @property
    def dimension(self) -> int:
        """The number of scalars in a state."""
        return sum(leaf.size for leaf in jtu.tree_leaves(self.structure))

    @property
    def entries(self) -> tuple[int, int]:
        """The shape of one trajectory's flat values: times, scalars."""
        return self.times.size, self.dimension

    def unflatten(self, values: Any) -> PyTree:
        """The state's pytree from an array whose last axis is the flat state.

        **Arguments:** `values`, a NumPy or JAX array of shape `(..., scalars)`.

        **Returns:** the structure of the state, every leaf of shape
        `(..., *leaf.shape)`.
        """
        return unflatten(self.structure, values)


def unflatten(structure: PyTree, values: Any) -> PyTree:
    """A pytree of the given structure from an array whose last axis is flat."""
    leaves, treedef = jtu.tree_flatten(structure)
    parts, start = [], 0
    for leaf in leaves:
        part = values[..., start : start + leaf.size]
        parts.append(part.reshape(values.shape[:-1] + leaf.shape))
        start += leaf.size
    return jtu.tree_unflatten(treedef, parts)


def structure_of(state: PyTree) -> PyTree:
    """The shapes and dtypes of a state, without its values."""
    return jtu.tree_map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state
    )


def flatten_states(states: PyTree, axes: int) -> jax.Array:
    """States with `axes` leading axes as one array whose last axis is the flat state.

    **Arguments:** a pytree of arrays, all with the same leading axes; how many of
    these there are.

    **Returns:** shape `(*leading, scalars)`.
    """
    parts = [leaf.reshape(*leaf.shape[:axes], -1) for leaf in jtu.tree_leaves(states)]
    return jnp.concatenate(parts, axis=-1)
