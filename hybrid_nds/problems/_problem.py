"""What all problems share."""

from __future__ import annotations

import abc

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

from ._kind import Kind, Term


class Problem(eqx.Module):
    """An initial value problem: a state, a span, and the terms of an equation."""

    y0: eqx.AbstractVar[PyTree[Array]]
    t0: eqx.AbstractVar[Float[Array, ""]]
    t1: eqx.AbstractVar[Float[Array, ""]]
    args: eqx.AbstractVar[PyTree]

    @property
    @abc.abstractmethod
    def kind(self) -> Kind:
        """The kind of its equation."""

    @property
    @abc.abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """The functions of its equation."""

    @property
    def dimension(self) -> int:
        """The number of scalars in the state."""
        return sum(leaf.size for leaf in jtu.tree_leaves(self.y0))

    @property
    def dtype(self) -> np.dtype:
        """The floating-point type of the state."""
        return np.dtype(jtu.tree_leaves(self.y0)[0].dtype)
