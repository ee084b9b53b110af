"""The first step of an adaptive solve, which no unit of time changes.

Diffrax 0.7 means to choose it as Hairer and others do, but takes 0.01 for every
problem: it looks for an `ODETerm`, and its loop has wrapped the terms by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.lax as lax
import jax.numpy as jnp
import jax.tree_util as jtu
from equinox.internal import ω
from jaxtyping import Array, PyTree, Scalar


def first_step(
    rate: Callable[[Any, PyTree], PyTree],
    t0: Any,
    t1: Any,
    y0: PyTree[Array],
    order: Any,
    rtol: Any,
    atol: Any,
    norm: Callable[[PyTree], Scalar],
) -> Scalar:
    """A step whose local error is about a hundredth of the tolerance.

    The algorithm of Hairer, Nørsett & Wanner (Solving Ordinary Differential Equations
    I, II.4) with time counted in spans, since its bounds are numbers without a unit.

    **Arguments:** the right-hand side `(t, y) -> dy/dt`; the span; the initial state;
    the order of the error estimate; tolerances and their norm.

    **Returns:** a positive scalar of the dtype of `t0`.
    """
    length = jnp.where(jnp.isfinite(t1), t1 - t0, 1)
    scale = (atol + ω(y0).call(jnp.abs) * rtol).ω
    least = jnp.asarray(1e-6, length.dtype)

    def size(values: PyTree) -> Scalar:
        return norm((values**ω / scale**ω).ω).astype(length.dtype)

    def trial_step(slope: PyTree) -> tuple[Scalar, Scalar]:
        small, change = size(y0), size(slope)
        usable = (small >= 1e-5) & (change >= 1e-5) & jnp.isfinite(small / change)
        return jnp.where(
            usable, 0.01 * small / jnp.where(usable, change, 1), least
        ), change

    def evaluate(carry: Any, _: None) -> tuple[Any, PyTree]:
        slope = (rate(*carry) ** ω * length).ω
        step = trial_step(slope)[0]
        return (t0 + step * length, (y0**ω + step * slope**ω).ω), slope

    # A scan of two, so that the field stands in the program once.
    _, slopes = lax.scan(evaluate, (jnp.asarray(t0), y0), None, length=2)
    first, second = (jtu.tree_map(lambda leaf, i=i: leaf[i], slopes) for i in (0, 1))
    trial, change = trial_step(first)
    largest = jnp.maximum(change, size((second**ω - first**ω).ω) / trial)
    flat = largest <= 1e-15
    chosen = jnp.where(
        flat,
        jnp.maximum(least, 1e-3 * trial),
        (0.01 / jnp.where(flat, 1, largest)) ** (1 / order),
    )
    chosen = jnp.where(jnp.isfinite(chosen) & (chosen > 0), chosen, trial)
    return jnp.minimum(100 * trial, chosen) * length
