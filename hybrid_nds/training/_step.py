"""One step of training, and segments of them, compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..problems import arrays_text
from ._data import ArrayBatches, described

Loss = Callable[..., Any]
"""`loss(model, batch, key)`: a scalar, or a scalar and scalars by name."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """A model split into what is trained, other arrays, and everything else."""

    parameters: PyTree[Array]
    frozen: PyTree[Array]
    static: PyTree

    @classmethod
    def of(cls, model: PyTree, trainable: Any) -> Parts:
        """Split a model by a filter, as `equinox.partition` takes it."""
        parameters, rest = eqx.partition(model, trainable)
        wrong = [
            jtu.keystr(path)
            for path, leaf in jtu.tree_leaves_with_path(parameters)
            if not eqx.is_inexact_array(leaf)
        ]
        if wrong:
            raise TypeError(
                f"fit: `trainable` chooses `model{wrong[0]}`, which is no array of "
                "floating-point numbers."
            )
        if not jtu.tree_leaves(parameters):
            raise ValueError(
                "fit: `model` has no arrays of floating-point numbers to train"
                f"{'' if trainable is eqx.is_inexact_array else ' in `trainable`'}."
            )
        frozen, static = eqx.partition(rest, eqx.is_array)
        return cls(parameters, frozen, static)

    def model(self, parameters: PyTree[Array]) -> PyTree:
        """The whole model with other parameters."""
        return eqx.combine(parameters, self.frozen, self.static)


class Program:
    """The compiled steps for one loss.

    **Arguments:** the split model, the loss, the optimizer; batches drawn from arrays,
    `None` for batches that are passed in; how many steps a segment has at most; what
    spreads a batch over devices.

    All segments of whatever length are one compiled program: where a segment ends
    does not change a bit of what is computed.
    """

    def __init__(
        self,
        parts: Parts,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        source: ArrayBatches | None,
        capacity: int,
        spread: Callable[[PyTree], PyTree],
    ):
        self._parts, self._source, self._capacity = parts, source, capacity
        self._optimizer = optax.with_extra_args_support(optimizer)
        self._spread = spread
        self._arrays, self._static_loss = eqx.partition(loss, eqx.is_array)
        # Equinox's shows errors of a solve readably, but waits for each call to end.
        self._segment = eqx.filter_jit(self._make_segment)
        self._one = jax.jit(self._make_one)

    @property
    def drawn(self) -> bool:
        """Whether it draws batches from arrays itself."""
        return self._source is not None

    def serves(self, loss: Loss) -> bool:
        """Whether it is the program of a loss, but for numbers in the loss's arrays."""
        arrays, static = eqx.partition(loss, eqx.is_array)
        return same(static, self._static_loss) and _shapes(arrays) == _shapes(
            self._arrays
        )

    def segment(
        self,
        loss: Loss,
        state: tuple[PyTree, PyTree],
        step: int,
        count: int,
        key: PRNGKeyArray,
    ) -> tuple[tuple[PyTree, PyTree], dict[str, Array], Array]:
        """Take up to `count` steps on batches drawn from arrays.

        **Returns:** the state after them: after the last good one, where a loss or an
        update is not finite; the losses, with room for a longest segment; how many
        steps were good.
        """
        assert self._source is not None
        orders, first = self._source.orders(step, self._capacity)
        arrays, _ = eqx.partition(loss, eqx.is_array)
        given = (self._parts.frozen, arrays, self._source.arrays, orders)
        numbers = np.array([first, step, count], np.int32)
        return self._segment(state, given, numbers, key)

    def one(
        self,
        loss: Loss,
        state: tuple[PyTree, PyTree],
        batch: PyTree,
        step: int,
        good: Array,
        key: PRNGKeyArray,
    ) -> tuple[tuple[PyTree, PyTree], dict[str, Array], Array]:
        """Take one step on a batch, unless a step before was not good.

        **Returns:** the state after it, the losses, whether it and all before are good.
        """
        arrays, _ = eqx.partition(loss, eqx.is_array)
        given = (self._parts.frozen, arrays)
        return self._one(state, given, batch, np.int32(step), good, key)

    def _make_segment(self, state, given, numbers, key):  # pyright: ignore
        *given, data, orders = given
        first, start, count = numbers

        def step(carry):  # pyright: ignore
            done, state, good, kept = carry
            batch = self._source.take(data, orders, first, start + done)  # pyright: ignore
            state, losses, good = self._make_one(
                state, given, batch, start + done, good, key
            )
            kept = jtu.tree_map(lambda a, x: a.at[done].set(x), kept, losses)
            return done + good.astype(jnp.int32), state, good, kept

        shapes = jax.eval_shape(
            lambda: self._make_one(
                state,
                given,
                self._source.take(data, orders, first, start),  # pyright: ignore
                start,
                jnp.array(True),
                key,
            )[1]
        )
        kept = jtu.tree_map(lambda x: jnp.zeros(self._capacity, x.dtype), shapes)
        done, state, _, kept = jax.lax.while_loop(
            lambda carry: (carry[0] < count) & carry[2],
            step,
            (jnp.zeros((), jnp.int32), state, jnp.array(True), kept),
        )
        return state, kept, done

    def _make_one(self, state, given, batch, step, good, key):  # pyright: ignore
        (parameters, optimizer_state), (frozen, arrays) = state, given
        loss = eqx.combine(arrays, self._static_loss)
        batch = self._spread(batch)
        step_key = jr.fold_in(key, step)

        def value(parameters: PyTree) -> tuple[Array, dict[str, Array]]:
            model = eqx.combine(parameters, frozen, self._parts.static)
            return value_and_parts(loss(model, batch, step_key))

        (found, parts), gradient = jax.value_and_grad(value, has_aux=True)(parameters)
        # JAX's gradient by a complex number is the conjugate of the way up.
        gradient = jtu.tree_map(
            lambda g: g.conj() if jnp.iscomplexobj(g) else g, gradient
        )
        # Optax counts in integers, of which it takes powers of floats.
        with jax.numpy_dtype_promotion("standard"):
            updates, new_state = self._optimizer.update(
                gradient,
                optimizer_state,
                parameters,
                value=found,
                grad=gradient,
                value_fn=lambda parameters: value(parameters)[0],
            )
            new = optax.apply_updates(parameters, updates)
        finite = [jnp.isfinite(x).all() for x in jtu.tree_leaves((found, new))]
        finite += _kept_finite(optimizer_state, new_state)
        good = good & jnp.stack(finite).all()
        state = jtu.tree_map(
            lambda x, old: jnp.where(good, x, old), (new, new_state), state
        )
        return (
            state,
            {"loss": found, **{"parts/" + n: x for n, x in parts.items()}},
            good,
        )


def _kept_finite(before: PyTree, after: PyTree) -> list[Array]:
    """Whether nothing in the state of an optimizer turned infinite, as squares of large
    gradients do, by which it divides and then stands still. Some begin so."""
    pairs = zip(jtu.tree_leaves(before), jtu.tree_leaves(after), strict=True)
    return [
        jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old))
        for old, new in pairs
        if eqx.is_inexact_array(new)
    ]


def value_and_parts(given: Any) -> tuple[Array, dict[str, Array]]:
    """What a loss gave, as a scalar and scalars by name."""
    value, parts = given if isinstance(given, tuple) else (given, {})
    return jnp.asarray(value), {name: jnp.asarray(x) for name, x in parts.items()}


def check_loss(
    name: str, loss: Loss, model: PyTree, example: PyTree, key: PRNGKeyArray
) -> str:
    """See that a loss gives a scalar on a batch like `example`.

    **Returns:** the operations it was traced to, as text.

    **Raises:** `TypeError` or `ValueError`; errors of the loss itself bear a note that
    says what it was called with.
    """
    dynamic, static = eqx.partition((loss, model), eqx.is_array)
    seen: list[Any] = []

    def call(dynamic: PyTree, batch: PyTree, key: PRNGKeyArray) -> PyTree:
        loss, model = eqx.combine(dynamic, static)
        seen.append(loss(model, batch, key))
        return eqx.filter(seen[0], eqx.is_array)

    if not callable(loss):
        raise TypeError(
            f"fit: `{name}` must be callable, `loss(model, batch, key)`, got {loss!r}."
        )
    try:
        closed = jax.make_jaxpr(call)(dynamic, example, key)
    except Exception as error:
        error.add_note(
            f"fit: raised by `{name}(model, batch, key)` on a batch of "
            f"{described(example)}. If the batch is not what the loss expects, change "
            "`data` or the loss."
        )
        raise
    _check_value(name, seen[0])
    return arrays_text((str(closed), closed.consts, dynamic[0]))


def _check_value(name: str, given: Any) -> None:
    value, parts = (
        given if isinstance(given, tuple) and len(given) == 2 else (given, {})
    )
    expected = "a real scalar, or `(scalar, {name: scalar})`"
    if not isinstance(parts, dict) or not all(isinstance(n, str) for n in parts):
        raise TypeError(f"fit: `{name}` must return {expected}; got {given!r}.")
    for label, x in {"the value": value, **parts}.items():
        what = "the value" if x is value else f"part {label!r}"
        shape, dtype = jnp.shape(x), jnp.result_type(x)
        if shape != ():
            raise ValueError(
                f"fit: `{name}` must return {expected}; {what} has shape {shape}. Take "
                "the mean over the batch."
            )
        real = jnp.issubdtype(dtype, jnp.floating)
        if not real and (what == "the value" or not jnp.issubdtype(dtype, jnp.integer)):
            raise TypeError(
                f"fit: `{name}` must return {expected}; {what} has dtype {dtype}."
            )


def same(a: Any, b: Any) -> bool:
    """Whether two losses, or parts of them, are the same."""
    if a is b:
        return True
    if jtu.tree_structure(a) != jtu.tree_structure(b):
        return False
    leaves = zip(jtu.tree_leaves(a), jtu.tree_leaves(b), strict=True)
    return all(x is y or _same_leaf(x, y) for x, y in leaves)


def _same_leaf(x: Any, y: Any) -> bool:
    if type(x) is not type(y):
        return False
    if eqx.is_array_like(x):
        return np.array_equal(x, y)
    try:
        return bool(x == y)
    except ValueError:
        # Arrays within something that is no pytree: told apart by identity alone.
        return False


def _shapes(arrays: PyTree) -> Any:
    leaves, treedef = jtu.tree_flatten(arrays)
    return treedef, [(x.shape, x.dtype) for x in leaves]
