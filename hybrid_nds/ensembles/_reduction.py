"""What every streaming reduction offers, and how one looks at a function of the state.

A reduction sees the trajectories block by block. Blocks are merged in the order of the
trajectories, whoever computed them, so that a result does not depend on scheduling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ..problems import FlatState
from ._layout import Layout, State

Observable = Callable[[PyTree], Any]
"""A function of one state, evaluated in JAX."""


@runtime_checkable
class Reduction(Protocol):
    """What an ensemble keeps of its trajectories.

    `of` is a function of one state, or `None` for the state itself. The arrays of a
    reduction's state have any shapes, which may grow.
    """

    @property
    def of(self) -> Observable | None: ...

    def init(self, layout: Layout) -> State:
        """The reduction of no trajectory."""
        ...

    def update(self, state: State, values: np.ndarray) -> State:
        """With more trajectories, `values` of shape `(trajectories, times, scalars)`.

        All values are finite: failed trajectories are left out before.
        """
        ...

    def merge(self, left: State, right: State) -> State:
        """Of the trajectories of both."""
        ...

    def result(self, state: State, layout: Layout) -> Any:
        """What the user gets."""
        ...

    def describe(self) -> dict[str, Any]:
        """Its parameters as plain data, which tell one reduction from another."""
        ...


def observed_layout(reduction: Reduction, layout: Layout) -> Layout:
    """The layout of what a reduction looks at.

    **Raises:** `ValueError` where `of` cannot be evaluated, or returns no real array.
    """
    if reduction.of is None:
        return layout
    caller = type(reduction).__name__
    try:
        shape = eqx.filter_eval_shape(reduction.of, layout.structure)
    except Exception as error:
        raise ValueError(
            f"{caller}: its function could not be evaluated for one state: "
            f"{type(error).__name__}: {error}"
        ) from error
    leaves = jtu.tree_leaves(shape)
    real = all(
        isinstance(leaf, jax.ShapeDtypeStruct)
        and (jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.dtype == np.bool_)
        for leaf in leaves
    )
    if not leaves or not real:
        raise ValueError(
            f"{caller}: `of` must return real floating-point arrays (or booleans) for "
            f"one state, got {shape}."
        )
    return Layout(layout.times, FlatState(shape).structure, layout.trajectories)


@eqx.filter_jit
def _observe(of: Observable, structure: PyTree, values: jax.Array) -> jax.Array:
    state = FlatState(structure)

    def one(flat: jax.Array) -> jax.Array:
        return ravel_pytree(of(state.unflatten(flat)))[0]

    return jax.vmap(jax.vmap(one))(values)


def observe(reduction: Reduction, layout: Layout, values: np.ndarray) -> np.ndarray:
    """What a reduction looks at: the flat states, or `of` of each.

    **Arguments:** the reduction; the layout of the states; the flat states, shape
    `(trajectories, times, scalars)`.

    **Returns:** shape `(trajectories, times, scalars of what it looks at)`, float64.
    """
    if reduction.of is not None:
        given = jnp.asarray(values)
        values = np.asarray(_observe(reduction.of, layout.structure, given))
    return np.asarray(values, np.float64)


def check_observable(caller: str, of: Any) -> None:
    """Refuse what is not a function of the state."""
    if of is not None and not callable(of):
        raise TypeError(
            f"{caller}: `of` must be None or a callable of one state, got "
            f"{type(of).__name__}."
        )
