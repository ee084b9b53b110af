"""Jacobians by forward mode, or by reverse mode where that alone is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def jacobian(function: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """The Jacobian of a function, by forward mode where that is possible.

    A function with a rule of its own for reverse mode alone (`jax.custom_vjp`) cannot
    be pushed forward; its Jacobian is taken row by row.

    **Arguments:** the function of arrays, and the place of the one to differentiate.

    **Returns:** a function of the same arguments; see `jax.jacfwd`.

    **Raises:** what JAX raises where neither mode is possible.
    """

    def differentiated(*args: Any) -> Any:
        try:
            return jax.jacfwd(function, argnums)(*args)
        except TypeError as error:
            if not reverse_only(error):
                raise
            return jax.jacrev(function, argnums)(*args)

    return differentiated


def value_and_jacobian(
    function: Callable[[Array], tuple[Array, Any]], at: Float[Array, " n"]
) -> tuple[Float[Array, " m"], Float[Array, "m n"], Any]:
    """A function's value, its Jacobian, and what else it returns.

    **Arguments:** `function`, of a vector, returning a vector and anything else.

    **Raises:** as [`jacobian`][hybrid_nds._core.jacobian].
    """
    try:
        value, push, rest = jax.linearize(function, at, has_aux=True)
    except TypeError as error:
        if not reverse_only(error):
            raise
        value, pull, rest = jax.vjp(function, at, has_aux=True)
        rows = jnp.eye(value.shape[0], dtype=value.dtype)
        return value, jax.vmap(lambda row: pull(row)[0])(rows), rest
    columns = jax.vmap(push)(jnp.eye(at.shape[0], dtype=at.dtype))
    return value, columns.T, rest


def reverse_only(error: TypeError) -> bool:
    """Whether JAX refused a forward derivative for want of a rule (`custom_vjp`)."""
    return "custom_vjp" in str(error)
