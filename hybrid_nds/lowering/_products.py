"""Products of the derivatives of a field, as functions that are lowered as it is.

Each is a function of a state that holds more than the field's, all flat: `u` and the
vectors that the derivatives are multiplied with. Its parameters are those of the field.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..problems import VectorField

Vector = Float[Array, " states"]


class _Layout(eqx.Module):
    """The pytree that a flat state stands for."""

    treedef: Any = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def tree(self, u: Array) -> PyTree[Array]:
        sizes = [math.prod(shape) for shape in self.shapes]
        parts = jnp.split(u, np.cumsum(sizes)[:-1]) if len(sizes) > 1 else [u]
        leaves = [part.reshape(s) for part, s in zip(parts, self.shapes, strict=True)]
        return jtu.tree_unflatten(self.treedef, leaves)


def _layout(y: PyTree[Array | np.ndarray]) -> _Layout:
    leaves, treedef = jtu.tree_flatten(y)
    return _Layout(treedef, tuple(tuple(np.shape(leaf)) for leaf in leaves))


def _flat(tree: PyTree[Array | np.ndarray]) -> Array:
    leaves = [jnp.asarray(leaf).reshape(-1) for leaf in jtu.tree_leaves(tree)]
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)


class _Product(eqx.Module):
    """A product of derivatives of a field."""

    field: VectorField
    layout: _Layout

    def _split(self, args: PyTree) -> tuple[list[Array], Callable[..., Array]]:
        """The parameters, and the field as a function of `(t, u, parameters)`."""
        weights, static = eqx.partition((self.field, args), eqx.is_inexact_array)
        leaves, treedef = jtu.tree_flatten(weights)

        def flat_field(t: Any, u: Array, ps: list[Array]) -> Array:
            inner, inner_args = eqx.combine(jtu.tree_unflatten(treedef, ps), static)
            return _flat(inner(t, self.layout.tree(u), inner_args))

        return leaves, flat_field

    def _pieces(self, leaves: list[Array], δp: Array) -> list[Array]:
        """A flat vector of parameters in their shapes and dtypes."""
        ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
        parts = jnp.split(δp, ends) if leaves else []
        return [
            part.reshape(leaf.shape).astype(leaf.dtype)
            for part, leaf in zip(parts, leaves, strict=True)
        ]


class TangentProduct(_Product):
    """J δu + f_p δp, of the state (u, δu, δp)."""

    def __call__(self, t: Any, state: tuple[Array, ...], args: PyTree) -> Array:
        u, δu, δp = state
        leaves, field = self._split(args)
        along = (δu, self._pieces(leaves, δp))
        return jax.jvp(lambda u, ps: field(t, u, ps), (u, leaves), along)[1]


class SecondTangentProduct(_Product):
    """The derivative of J k + s f_t along (δu, δp), of the state (u, k, s, δu, δp)."""

    def __call__(self, t: Any, state: tuple[Array, ...], args: PyTree) -> Array:
        u, k, s, δu, δp = state
        leaves, field = self._split(args)

        def product(u: Array, ps: list[Array]) -> Array:
            inner = lambda t, u: field(t, u, ps)
            return jax.jvp(inner, (jnp.asarray(t), u), (s.reshape(()), k))[1]

        along = (δu, self._pieces(leaves, δp))
        return jax.jvp(product, (u, leaves), along)[1]


class AdjointProduct(_Product):
    """The gradient of vᵀf in u and in the parameters, of the state (u, v)."""

    def __call__(self, t: Any, state: tuple[Array, ...], args: PyTree) -> list[Array]:
        u, v = state
        leaves, field = self._split(args)
        _, pull = jax.vjp(lambda u, ps: field(t, u, ps), u, leaves)
        return _gradients(pull(v), u)


class SecondAdjointProduct(_Product):
    """The gradient of Σᵢ vᵢᵀ J kᵢ + gᵀf_t in u and in the parameters.

    The state is (u, V, K, g), of a row a term in V and K; or (u, G, g), where G is the
    matrix Σᵢ vᵢ kᵢᵀ that is contracted with J.
    """

    def __call__(self, t: Any, state: tuple[Array, ...], args: PyTree) -> list[Array]:
        u, *factors, g = state
        leaves, field = self._split(args)
        time = jnp.asarray(t)

        def contracted(u: Array, ps: list[Array]) -> Array:
            at = lambda u: field(time, u, ps)
            push = lambda k: jax.jvp(at, (u,), (k,))[1]
            if len(factors) == 1:
                # A column of J a row.
                columns = jax.vmap(push)(np.eye(u.size, dtype=u.dtype))
                value = jnp.vdot(factors[0].T, columns)
            else:
                value = jnp.vdot(factors[0], jax.vmap(push)(factors[1]))
            one = jnp.ones((), time.dtype)
            slope = jax.jvp(lambda t: field(t, u, ps), (time,), (one,))[1]
            return value + jnp.vdot(g, slope)

        return _gradients(jax.grad(contracted, argnums=(0, 1))(u, leaves), u)


def _gradients(gradients: tuple[Array, list[Array]], u: Array) -> list[Array]:
    first, others = gradients
    return [first, *(other.astype(u.dtype) for other in others)]


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """What is lowered of a product: a `function` of `(t, state, args)`, and an example
    of its `state`."""

    function: Callable[..., Any]
    state: PyTree


def tangent_products(
    field: VectorField, y: PyTree[Array | np.ndarray], parameters: int, dtype: np.dtype
) -> tuple[Product, Product]:
    """What tangents through the steps of a solver need.

    **Arguments:** the field, an example of its state, the number of its parameters, and
    the working precision.

    **Returns:** `TangentProduct` and `SecondTangentProduct`, with their states.
    """
    layout = _layout(y)
    n = sum(math.prod(shape) for shape in layout.shapes)
    u, p, s = np.ones(n, dtype), np.ones(parameters, dtype), np.ones(1, dtype)
    first = Product(TangentProduct(field, layout), (u, u, p))
    return first, Product(SecondTangentProduct(field, layout), (u, u, s, u, p))


def adjoint_products(
    field: VectorField,
    y: PyTree[Array | np.ndarray],
    stages: int | None,
    dtype: np.dtype,
) -> tuple[Product, Product]:
    """What adjoints through the steps of a solver need.

    **Arguments:** the field, an example of its state, the number of terms of the second
    product, `None` to contract a matrix of them with the Jacobian, and the working
    precision.

    **Returns:** `AdjointProduct` and `SecondAdjointProduct`, with their states.
    """
    layout = _layout(y)
    n = sum(math.prod(shape) for shape in layout.shapes)
    u = np.ones(n, dtype)
    many = np.ones((n if stages is None else stages, n), dtype)
    factors = (many,) if stages is None else (many, many)
    first = Product(AdjointProduct(field, layout), (u, u))
    return first, Product(SecondAdjointProduct(field, layout), (u, *factors, u))
