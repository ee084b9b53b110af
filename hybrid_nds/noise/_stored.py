"""A Brownian path whose increments are given."""

from __future__ import annotations

import math
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._core import (
    concrete_array,
    is_concrete,
    require_precision,
    require_real_scalar,
)
from ._grid import Blocks, GridPath


class StoredPath(GridPath):
    """A Brownian path made of given increments over equal steps.

    Solvers take it where they take a [`BrownianPath`][hybrid_nds.BrownianPath]: for
    paths that were stored, measured, or made by another program. It is known on its
    grid alone, so that only fixed steps of the grid can follow it.

    **Arguments:**

    - `increments`: the increment of every step, shape `(steps, m)`, `m` the number of
        Brownian motions; its dtype, float32 or float64, is that of the path.
    - `areas`: the space-time Lévy area $H$ of every step in the same shape (see
        [`BrownianPath`][hybrid_nds.BrownianPath]); `None` where it is not known.
    - `t0`, `t1`: the span, finite, `t1 > t0`.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    t0: Any
    t1: Any
    dW: Float[Array, "steps m"]
    H: Float[Array, "steps m"] | None
    levy_area: Any = eqx.field(static=True)

    def __init__(
        self,
        increments: ArrayLike,
        areas: ArrayLike | None = None,
        *,
        t0: Any,
        t1: Any,
    ):
        for name, value in (("t0", t0), ("t1", t1)):
            require_real_scalar(f"StoredPath: `{name}`", value)
        if is_concrete(t0) and is_concrete(t1):
            start, end = float(t0), float(t1)
            if not (math.isfinite(start) and math.isfinite(end) and end > start):
                raise ValueError(
                    "StoredPath: the span must be finite, and `t1` later than `t0`; "
                    f"got t0={start} and t1={end}."
                )
        self.dW = _checked("increments", increments)
        if self.dW.ndim != 2 or 0 in self.dW.shape:
            raise ValueError(
                "StoredPath: `increments` must have shape (steps, m), got "
                f"{self.dW.shape}."
            )
        self.H = None if areas is None else _checked("areas", areas)
        if self.H is not None and (self.H.shape, self.H.dtype) != (
            self.dW.shape,
            self.dW.dtype,
        ):
            raise ValueError(
                "StoredPath: `areas` must have the shape and dtype of `increments`, "
                f"{self.dW.shape} of {self.dW.dtype}, got {self.H.shape} of "
                f"{self.H.dtype}."
            )
        self.t0 = concrete_array(t0, self.dW.dtype)
        self.t1 = concrete_array(t1, self.dW.dtype)
        self.levy_area = (
            diffrax.BrownianIncrement if areas is None else diffrax.SpaceTimeLevyArea
        )

    @property
    def steps(self) -> int:  # pyright: ignore
        """The number of steps of the grid."""
        return self.dW.shape[0]

    @property
    def dimension(self) -> int:  # pyright: ignore
        """The number of Brownian motions."""
        return self.dW.shape[1]

    def with_steps(self, steps: int) -> StoredPath:
        """The same path on a coarser grid.

        Over two steps of equal length
        $H = \\tfrac12(H_1 + H_2) + \\tfrac14(dW_1 - dW_2)$: the areas under the two
        halves, and the triangle that their chords make with that of the whole.

        **Arguments:** `steps`, the present number divided by a power of two.

        **Returns:** the path on that grid.

        **Raises:** `ValueError` for another number; between its grid times a stored
            path is not known.
        """
        whole = isinstance(steps, int | np.integer) and not isinstance(steps, bool)
        ratio = self.steps // steps if whole and steps > 0 else 0
        if ratio < 1 or ratio * steps != self.steps or ratio & (ratio - 1):
            raise ValueError(
                "StoredPath.with_steps: `steps` must be the stored number of "
                f"{self.steps} divided by a power of two, got {steps!r}."
            )
        dw, h = coarsened(self.dW, self.H, steps)
        return eqx.tree_at(
            lambda p: (p.dW, p.H), self, (dw, h), is_leaf=lambda leaf: leaf is None
        )

    def increments(self) -> tuple[Array, Array | None]:
        """The increments `dW` of every step, shape `(steps, m)`, and the space-time
        Lévy areas in the same shape, `None` where they are not known."""
        return self.dW, self.H

    def along(self) -> Any:
        """What the path does in each step, as Diffrax's class of increments, with a
        leading axis of steps."""
        dt = jnp.broadcast_to((self.t1 - self.t0) / self.steps, (self.steps,))
        if self.H is None:
            return self.levy_area(dt=dt, W=self.dW)
        return self.levy_area(dt=dt, W=self.dW, H=self.H)

    def blocks(self, length: int) -> Blocks:
        """What the path does in each step, a block of steps at a time; see
        [`BrownianPath`][hybrid_nds.BrownianPath]."""
        return blocks_of(self.along(), length)

    def evaluate(
        self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False
    ) -> Any:
        """The path at `t0`, or its increment over the step from `t0` to `t1`, as
        Diffrax asks for it.

        **Arguments:** grid times, `t1` the one that follows `t0`; `use_levy` asks for
        the increment with its Lévy area.

        **Returns:** shape `(m,)`, or Diffrax's class of increments.

        **Raises:** at run time, for other times.
        """
        if t1 is None:
            position = self._position(t0)
            w = jnp.concatenate([jnp.zeros_like(self.dW[:1]), self.dW])
            return jnp.sum(jnp.where(jnp.arange(len(w))[:, None] <= position, w, 0), 0)
        start, end = self._position(t0), self._position(t1)
        # A solver that has finished may ask for an empty step, and use none of it.
        start = eqx.error_if(
            start,
            (end != start + 1) & (end != start),
            "A StoredPath is known from one grid time to the next; the step must be "
            "that of its grid.",
        )
        empty = end == start
        row = jnp.minimum(start, self.steps - 1)
        dw = jnp.where(empty, 0, self.dW[row])
        if not use_levy:
            return dw
        dt = (self.t1 - self.t0) * ((end - start) / self.steps).astype(self.dtype)
        if self.H is None:
            return self.levy_area(dt=dt, W=dw)
        return self.levy_area(dt=dt, W=dw, H=jnp.where(empty, 0, self.H[row]))

    def _position(self, t: Any) -> Array:
        """The index of a grid time."""
        t = jnp.asarray(t, self.dtype)
        position = (t - self.t0) / (self.t1 - self.t0) * self.steps
        nearest = jnp.round(position)
        far = jnp.abs(position - nearest) > math.sqrt(float(jnp.finfo(self.dtype).eps))
        nearest = eqx.error_if(
            nearest, far, "A StoredPath is known at its grid times alone."
        )
        return nearest.astype(int)


def blocks_of(increments: PyTree[Array], length: int) -> Blocks:
    """Increments that are there, in blocks; the last step is repeated to fill the last
    block."""
    steps = len(jtu.tree_leaves(increments)[0])
    beyond = -steps % length

    def cut(leaf: Array) -> Array:
        if beyond:
            filling = jnp.broadcast_to(leaf[-1:], (beyond, *leaf.shape[1:]))
            leaf = jnp.concatenate([leaf, filling])
        return leaf.reshape(-1, length, *leaf.shape[1:])

    return Blocks(jtu.tree_map(cut, increments), lambda block: block)


def coarsened(dw: Any, h: Any, steps: int) -> tuple[Any, Any]:
    """Increments and areas over fewer steps; see `StoredPath.with_steps`.

    **Arguments:** shapes `(..., fine, m)`, the areas `None` where there are none; the
        number of steps, the fine one divided by a power of two.
    """
    while dw.shape[-2] > steps:
        first, second = dw[..., ::2, :], dw[..., 1::2, :]
        if h is not None:
            h = 0.5 * (h[..., ::2, :] + h[..., 1::2, :]) + 0.25 * (first - second)
        dw = first + second
    return dw, h


def _checked(name: str, value: ArrayLike) -> Array:
    require_precision(f"StoredPath: `{name}`", value)
    array = jnp.asarray(value)
    if array.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            f"StoredPath: `{name}` must be float32 or float64, got {array.dtype}."
        )
    if is_concrete(value) and not np.all(np.isfinite(np.asarray(value))):
        raise ValueError(
            f"StoredPath: `{name}` must be finite, but contains NaN or infinity."
        )
    return array
