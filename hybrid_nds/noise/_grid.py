"""What all Brownian paths on a grid of equal steps share."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._core import concrete_array, is_concrete

LevyArea = Literal["none", "space-time", "space-time-time"]
"""Which iterated integrals of a path are drawn along with its increments."""
AREAS: dict[LevyArea, Any] = {
    "none": diffrax.BrownianIncrement,
    "space-time": diffrax.SpaceTimeLevyArea,
    "space-time-time": diffrax.SpaceTimeTimeLevyArea,
}


class Blocks(NamedTuple):
    """The increments of a path, a block of steps at a time.

    **Fields:** what each block is made from, with a leading axis of blocks; and the
    function that makes of one of them Diffrax's class of increments, with a leading
    axis of steps.
    """

    starts: PyTree[Array]
    draw: Callable[[Any], Any]


class GridPath(diffrax.AbstractBrownianPath):
    """A Brownian path on a grid of equal steps."""

    t0: eqx.AbstractVar[Any]
    t1: eqx.AbstractVar[Any]
    levy_area: eqx.AbstractVar[Any]
    steps: eqx.AbstractVar[int]
    dimension: eqx.AbstractVar[int]

    @property
    def area(self) -> LevyArea:
        """The Lévy area that the path comes with; `levy_area` is Diffrax's class."""
        return next(name for name, kind in AREAS.items() if kind is self.levy_area)

    @property
    def dtype(self) -> np.dtype:
        """The floating-point type of the path."""
        return np.dtype(self.t0.dtype)

    @property
    def dt(self) -> float:
        """The step of the grid."""
        return (float(self.t1) - float(self.t0)) / self.steps

    @property
    def times(self) -> Array:
        """The grid, shape `(steps + 1,)`."""
        return grid_times(self.t0, self.t1, self.steps)

    @abc.abstractmethod
    def increments(self) -> tuple[Array, Array | None]:
        """What the path does in each step.

        **Returns:** the increments `dW` of shape `(steps, m)`, and the space-time Lévy
        area `H` of every step in the same shape, `None` without Lévy area.
        """

    def values(self) -> tuple[Array, Array | None]:
        """The values of the path at the times of its grid.

        **Returns:** `W` at the grid's times, shape `(steps + 1, m)`, and there `Z`, an
        independent Brownian motion with increments $dZ = 2\\sqrt3\\,H$, so that
        $I_{(1,0)} = \\frac h2 (dW + dZ/\\sqrt3)$ (Rößler 2010, equation 4.3); `None`
        without Lévy area.
        """
        dw, h = self.increments()
        start = jnp.zeros((1, self.dimension), self.dtype)
        w = jnp.concatenate([start, jnp.cumsum(dw, axis=0)])
        if h is None:
            return w, None
        dz = 2 * math.sqrt(3.0) * h
        return w, jnp.concatenate([start, jnp.cumsum(dz, axis=0)])


def grid_times(t0: Array, t1: Array, steps: int) -> Array:
    """The times of equal steps, shape `(steps + 1,)`, the last of them `t1` itself.

    Times that are known stay known where the caller is traced, and cost no
    compilation.
    """
    real = jnp.result_type(float)
    parts = np.arange(steps + 1).astype(real) / np.asarray(steps, real)
    if not (is_concrete(t0) and is_concrete(t1)):
        start, end = t0.astype(real), t1.astype(real)
        return (start + (end - start) * parts).astype(t0.dtype).at[-1].set(t1)
    start, end = np.asarray(t0).astype(real), np.asarray(t1).astype(real)
    grid = (start + (end - start) * parts).astype(t0.dtype)
    grid[-1] = t1
    return concrete_array(grid, grid.dtype)


def grid_steps(caller: str, t0: float, t1: float, dt: float) -> int:
    """How many steps of length `dt` make the span.

    **Arguments:** who asks, the span and the step.

    **Returns:** the number of steps.

    **Raises:** `ValueError` for a step that is not positive, or does not divide the
    span to within a millionth of a step.
    """
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"{caller}: `dt` must be positive and finite, got {dt}.")
    count = (t1 - t0) / dt
    steps = round(count)
    if steps < 1 or abs(count - steps) > 1e-6 * max(1.0, count * 1e-3):
        fitting = (t1 - t0) / max(1, math.ceil(count))
        raise ValueError(
            f"{caller}: `dt` must divide the span from {t0} to {t1} into whole steps, "
            f"got {dt}, which makes {count:.6g}; {fitting!r} does."
        )
    return steps
