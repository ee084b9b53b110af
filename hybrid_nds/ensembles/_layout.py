"""What the states of an ensemble look like: times, and states laid out flat."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import PyTree

from ..problems import FlatState

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
        return FlatState(self.structure).dimension

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
        return FlatState(self.structure).unflatten(values)
