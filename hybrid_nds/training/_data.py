"""Batches: drawn from arrays, or taken from an iterable."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from .._core import is_concrete, require_precision


class ArrayBatches:
    """Batches drawn from arrays without replacement, in a new order each epoch.

    Which samples are in a batch depends on the key and the step alone: that is how a
    training that was cut off goes on with the same batches. The last samples of an
    epoch, too few for a batch, wait for the next epoch's order.

    **Fields:** `arrays`, a pytree whose leaves share their first axis of length
    `samples`; `size` of a batch; `epoch`, the number of batches in one.
    """

    def __init__(self, arrays: PyTree, size: int | None, key: PRNGKeyArray):
        self.arrays, self.samples = sample_arrays("data", arrays)
        if size is not None and not 1 <= size <= self.samples:
            raise ValueError(
                f"fit: `batch_size` must be from 1 to the {self.samples} samples of "
                f"`data`, got {size}."
            )
        self.size = self.samples if size is None else size
        self.epoch = self.samples // self.size
        self.whole = self.size == self.samples
        self._key = key
        self._kept: tuple[int, int, Any] | None = None

    def limit(self, step: int, steps: int) -> int:
        """How many of `steps` from `step` the orders of one call cover: long epochs
        are sorted one at a time."""
        left = self.epoch - step % self.epoch
        return min(left, steps) if self.epoch >= steps else steps

    def orders(self, step: int, steps: int) -> tuple[Int[Array, "epochs n"], int]:
        """The orders of samples in the epochs that some steps from `step` meet.

        **Returns:** the orders, and the number of the first one's epoch.
        """
        if self.whole:
            return jnp.zeros((1, 0), jnp.int32), 0
        first = step // self.epoch
        # One more, for segments that begin within an epoch: one shape for all.
        count = 1 if self.epoch >= steps else -(-steps // self.epoch) + 1
        if self._kept is None or self._kept[:2] != (first, count):
            orders = _orders(self._key, first, self.samples, count)
            self._kept = (first, count, orders)
        return self._kept[2], first

    def take(
        self, arrays: PyTree, orders: Array, first: Any, step: Any
    ) -> PyTree[Array]:
        """The batch of a step, traced or not; `orders` and `first` of its segment."""
        if self.whole:
            return arrays
        order = orders[step // self.epoch - first]
        chosen = jax.lax.dynamic_slice_in_dim(
            order, step % self.epoch * self.size, self.size
        )
        return jtu.tree_map(
            lambda leaf: leaf.at[chosen].get(mode="promise_in_bounds"), arrays
        )

    def indices(self, step: int) -> np.ndarray:
        """Which samples the batch of a step holds."""
        if self.whole:
            return np.arange(self.samples)
        order = _orders(self._key, step // self.epoch, self.samples, 1)[0]
        at = step % self.epoch * self.size
        return np.asarray(order[at : at + self.size])

    def example(self) -> PyTree[jax.ShapeDtypeStruct]:
        """The shapes and dtypes of a batch."""
        return jtu.tree_map(
            lambda leaf: jax.ShapeDtypeStruct((self.size, *leaf.shape[1:]), leaf.dtype),
            self.arrays,
        )


@functools.partial(jax.jit, static_argnums=(2, 3))
def _orders(key: PRNGKeyArray, first: Any, samples: int, epochs: int) -> Array:
    def one(epoch: Array) -> Array:
        return jr.permutation(jr.fold_in(key, epoch), samples)

    return jax.vmap(one)(first + jnp.arange(epochs)).astype(jnp.int32)


class StreamBatches:
    """Batches taken from an iterable, all of the shapes of the first.

    An iterable that can be iterated again, such as a data loader, begins again when
    it ends; an iterator that ends early is an error.

    **Arguments:** the iterable; how many batches the training takes.
    """

    def __init__(self, source: Iterable, steps: int):
        self._source, self._steps = source, steps
        self._iterator: Iterator = iter(source)
        self._once = self._iterator is source
        self._taken, self._first = 0, True
        self._peeked: tuple[PyTree] | None = None
        self._shapes: PyTree = None

    def example(self) -> PyTree[jax.ShapeDtypeStruct]:
        """The shapes and dtypes of a batch."""
        self._peeked = (self.next(),)
        return self._shapes

    def skip(self, count: int) -> None:
        """Pass over the batches that were taken before a training was cut off."""
        for _ in range(count):
            if self._peeked is None:
                self._next()
            self._peeked = None

    def next(self) -> PyTree[Array]:
        """The next batch, as JAX arrays."""
        if self._peeked is not None:
            (batch,), self._peeked = self._peeked, None
            return batch
        number = self._taken
        batch, _ = sample_arrays(f"batch {number} of `data`", self._next())
        shapes = jtu.tree_map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch
        )
        if self._shapes is None:
            self._shapes = shapes
        elif shapes != self._shapes:
            raise ValueError(
                f"fit: batch {number} of `data` is {described(shapes)}, but the ones "
                f"before it are {described(self._shapes)}. Batches must have one "
                "shape: drop or fill up the last one of an epoch."
            )
        return batch

    def _next(self) -> Any:
        try:
            batch = next(self._iterator)
        except StopIteration:
            if self._once or self._first:
                raise ValueError(
                    f"fit: `data` ended after {self._taken} batches, but a training of "
                    f"{self._steps} steps takes {self._steps}. Pass an iterator that "
                    "goes on, or an iterable that can begin again (a list within a "
                    "data loader, an object whose `__iter__` makes a new iterator)."
                ) from None
            self._iterator, self._first = iter(self._source), True
            return self._next()
        self._first = False
        self._taken += 1
        return batch


def batches(
    data: Any, size: int | None, key: PRNGKeyArray, steps: int
) -> ArrayBatches | StreamBatches:
    """The batches of `data`, whichever of the two it is."""
    # JAX warns of iterators among the leaves of a pytree.
    leaves = [] if isinstance(data, Iterator) else jtu.tree_leaves(data)
    arrays = bool(leaves) and all(isinstance(x, jax.Array | np.ndarray) for x in leaves)
    if arrays and isinstance(data, list):
        raise TypeError(
            "fit: `data` is a list of arrays, which may mean arrays to draw batches "
            "from or batches. Pass a tuple or a dictionary of arrays for the one, "
            "`iter(data)` or a data loader for the other."
        )
    if arrays:
        return ArrayBatches(data, size, key)
    if not isinstance(data, Iterable) or isinstance(data, str | dict | tuple):
        raise TypeError(
            "fit: `data` must be a pytree of arrays that share their first axis, or an "
            f"iterable of batches, got {data!r}."
        )
    if size is not None:
        raise ValueError(
            f"fit: `batch_size` is {size}, but `data` is an iterable, whose batches "
            "have their own size. Leave `batch_size` out."
        )
    return StreamBatches(data, steps)


def sample_arrays(name: str, tree: PyTree) -> tuple[PyTree[Array], int]:
    """A pytree as JAX arrays, and the length of their first axis.

    **Raises:** `TypeError` for leaves that are not arrays; `ValueError` for first axes
    that differ or are empty, or float64 data while JAX runs in 32 bits.
    """
    paths, treedef = jtu.tree_flatten_with_path(tree)
    leaves, lengths = [], {}
    for path, leaf in paths:
        where = f"fit: {name if '`' in name else f'`{name}`'}{jtu.keystr(path)}"
        require_precision(where, leaf)
        try:
            array = jnp.asarray(leaf)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{where} must be an array, got {leaf!r}.") from error
        if array.ndim == 0:
            raise ValueError(f"{where} must have a first axis, that of the samples.")
        leaves.append(array)
        lengths[jtu.keystr(path)] = array.shape[0]
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        listing = ", ".join(f"{path or 'array'}: {n}" for path, n in lengths.items())
        raise ValueError(
            f"fit: the arrays of {name if '`' in name else f'`{name}`'} must share a "
            f"first axis, that of the samples, and not be empty; got lengths "
            f"{listing or 'of no arrays'}."
        )
    return jtu.tree_unflatten(treedef, leaves), leaves[0].shape[0]


def check_finite(name: str, arrays: PyTree[Array]) -> None:
    """Refuse samples that hold NaN or infinity.

    **Raises:** `ValueError`, naming the argument and the first such sample.
    """
    for path, leaf in jtu.tree_leaves_with_path(arrays):
        if not is_concrete(leaf) or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        finite = np.asarray(jnp.isfinite(leaf).reshape(leaf.shape[0], -1).all(axis=1))
        if not finite.all():
            raise ValueError(
                f"fit: `{name}{jtu.keystr(path)}` must be finite, but sample "
                f"{int(np.argmin(finite))} holds NaN or infinity (samples count from "
                f"0; {np.count_nonzero(~finite)} of {finite.size} do). Leave such "
                "samples out, or fill them in."
            )


def described(shapes: PyTree) -> str:
    """Shapes and dtypes for messages, such as `float32[32,2], int32[32]`."""
    leaves = jtu.tree_leaves(shapes)
    return ", ".join(f"{x.dtype}[{','.join(map(str, x.shape))}]" for x in leaves)
