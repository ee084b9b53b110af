"""A function of many random keys, with as many of them at a time as memory is for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax

# Bytes that one array of all draws together may take: above it XLA would ask for tens
# of gigabytes where networks are large or draws are many.
ROOM = 2**28


def over_draws(function: Callable[[Any], Any], keys: jax.Array) -> Any:
    """`function` of each key, with a leading axis of keys.

    Where the largest array that it computes, times the number of keys, is above `ROOM`
    bytes, keys are taken in batches.
    """
    largest = largest_array(jax.make_jaxpr(function)(keys[0]).jaxpr)
    batch = max(1, ROOM // max(1, largest))
    if batch >= len(keys):
        return eqx.filter_jit(jax.vmap(function))(keys)
    return eqx.filter_jit(lambda k: jax.lax.map(function, k, batch_size=batch))(keys)


def largest_array(jaxpr: Any) -> int:
    """The bytes of the largest array that a jaxpr computes, those within it too."""
    most = 0
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            if hasattr(variable.aval, "shape"):
                size = math.prod(variable.aval.shape) * variable.aval.dtype.itemsize
                most = max(most, size)
        for inner in _within(tuple(equation.params.values())):
            most = max(most, largest_array(inner))
    return most


def _within(parameters: tuple[Any, ...]) -> Iterator[Any]:
    for value in parameters:
        if isinstance(value, tuple | list):
            yield from _within(tuple(value))
        elif hasattr(value, "eqns"):
            yield value
        elif hasattr(value, "jaxpr"):
            yield value.jaxpr
