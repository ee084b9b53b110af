"""A Brownian path as independent increments, drawn straight from a key."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray, UInt32

from .._core import check_key, concrete_array
from ._grid import AREAS, Blocks, GridPath, LevyArea
from ._stored import StoredPath, blocks_of
from ._threefry import (
    bits,
    drawing,
    is_counter_based,
    normals,
    threefry_key,
    words_of,
)


class NativePath(GridPath):
    """A Brownian path on a grid of equal steps, as independent increments drawn
    straight from a key.

    Over steps of length $h$, with keys $k_i$ = `jax.random.fold_in(key, i)`, the
    increments are $\\sqrt h$ `jax.random.normal(k_0, (steps, m))`, the space-time Lévy
    areas $\\sqrt{h/12}$ `jax.random.normal(k_1, (steps, m))`, and the space-time-time
    ones $\\sqrt{h/720}$ `jax.random.normal(k_2, (steps, m))`: on a grid all are
    independent (Foster 2020, theorem 4.2.3; Jelinčič et al. 2024). Any step can be
    drawn without the others, so that memory is for a block of steps.

    Drawing takes half the time of a [`BrownianPath`][hybrid_nds.BrownianPath]. It is
    known on its grid alone: another grid is another path, so that neither can strong
    errors be measured on it, nor adaptive steps follow it.

    **Arguments:** as of [`BrownianPath`][hybrid_nds.BrownianPath], but with the number
    of steps in place of their length.
    """

    t0: Any
    t1: Any
    key: PRNGKeyArray
    steps: int = eqx.field(static=True)
    dimension: int = eqx.field(static=True)
    levy_area: Any = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        dimension: int,
        t0: Any,
        t1: Any,
        steps: int,
        levy_area: LevyArea = "none",
        *,
        dtype: Any = None,
    ):
        key = threefry_key(check_key("NativePath", key, traced=True))
        for name, count in (("dimension", dimension), ("steps", steps)):
            whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
            if not whole or count < 1:
                raise ValueError(
                    f"NativePath: `{name}` must be a whole number ≥ 1, got {count!r}."
                )
        if levy_area not in AREAS:
            raise ValueError(
                f"NativePath: `levy_area` must be one of {', '.join(AREAS)}, got "
                f"{levy_area!r}."
            )
        if steps * dimension >= 2**32:
            raise ValueError(
                "NativePath: `steps` times `dimension` must be below 2³², got "
                f"{steps * dimension}; solve in several spans."
            )
        real = jnp.result_type(float) if dtype is None else jnp.dtype(dtype)
        self.t0, self.t1 = concrete_array(t0, real), concrete_array(t1, real)
        self.key, self.steps, self.dimension = key, int(steps), int(dimension)
        self.levy_area = AREAS[levy_area]

    def increments(self) -> tuple[Array, Array | None]:
        """The increments `dW` of every step, shape `(steps, m)`, and the space-time
        Lévy areas in the same shape, `None` without."""
        found = self.along()
        return found.W, getattr(found, "H", None)

    def along(self) -> Any:
        """What the path does in each step, as Diffrax's class of increments, with a
        leading axis of steps."""
        if is_counter_based(self.key):
            return self._draw(jnp.asarray(0, jnp.uint32), self.steps)
        shape = (self.steps, self.dimension)
        return self._scaled([jr.normal(key, shape, self.dtype) for key in self._keys()])

    def blocks(self, length: int) -> Blocks:
        """What the path does in each step, a block of steps at a time; see
        [`BrownianPath`][hybrid_nds.BrownianPath]."""
        if not is_counter_based(self.key):
            return blocks_of(self.along(), length)
        starts = jnp.arange(0, self.steps, length, dtype=jnp.uint32)
        return Blocks(starts, lambda first: self._draw(first, length))

    def evaluate(
        self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False
    ) -> Any:
        """The path as Diffrax's own loop asks for it, at grid times; see
        [`StoredPath`][hybrid_nds.StoredPath]."""
        stored = StoredPath(*self.increments(), t0=self.t0, t1=self.t1)
        return stored.evaluate(t0, t1, left, use_levy)

    def _keys(self) -> list[PRNGKeyArray]:
        """The keys of the increments and of each area."""
        count = 1 + list(AREAS.values()).index(self.levy_area)
        return [jr.fold_in(self.key, kind) for kind in range(count)]

    @drawing
    def _draw(self, first: UInt32[Array, ""], length: int) -> Any:
        """Some steps, the first of them by its number."""
        # Components first: loops over the last axis are the ones that are vectorized.
        step = first + np.arange(length, dtype=np.uint32)
        component = np.arange(self.dimension, dtype=np.uint32)[:, None]
        counters = step * np.uint32(self.dimension) + component
        found = [bits(words_of(key), counters) for key in self._keys()]
        return self._scaled([normals(words, self.dtype).T for words in found])

    def _scaled(self, z: list[Array]) -> Any:
        h = (self.t1 - self.t0) / self.steps
        parts = {
            name: jnp.sqrt(h / share) * value
            for name, share, value in zip("WHK", (1, 12, 720), z, strict=False)
        }
        return self.levy_area(dt=jnp.broadcast_to(h, (len(z[0]),)), **parts)
