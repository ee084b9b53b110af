"""One Brownian path for two solver stacks."""

from __future__ import annotations

import math
from typing import Any, get_args

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._core import check_key, concrete_array, is_concrete, require_real_scalar
from ._grid import AREAS, Blocks, GridPath, LevyArea, grid_steps
from ._threefry import Words, bits, is_counter_based, threefry_key, words_of
from ._tree import Intervals, halves, whole_span


class BrownianPath(GridPath):
    """A Brownian path on a grid of equal steps, the same for both solver stacks.

    Diffrax reads it as it is, as the control of a `diffrax.ControlTerm`. Julia reads
    the increments of its grid. Behind it stands Diffrax's virtual Brownian tree, laid
    so that every grid point is a node of the tree; at times within √eps of one, in
    units of the step, the path takes the value there: rounding in a solver's
    own arithmetic of times does not move it to another value. Solves in fixed steps on
    Diffrax, and all on Julia, see the same increments to the last bit; Diffrax's
    adaptive loop takes differences of the path's values, which round.

    A path is a function of its key, its span, and its Lévy area (the tree draws other
    numbers for each): `with_steps` gives the same path on a finer or coarser grid.

    **Arguments:**

    - `key`: a JAX random key; one of another generator than Threefry stands for a
        Threefry key made of its bits.
    - `shape`: how many Brownian motions, `m` or `(m,)`.
    - `t0`, `t1`: the span, finite, `t1 > t0`.
    - `dt`: the step of the grid, which must divide the span.
    - `levy_area`: `"none"`, `"space-time"` for methods that want
        $H = \\frac1h\\int_s^t (W_u - W_s - \\frac{u-s}{h} W_{s,t})\\,du$ of every step
        (Foster 2020, definition 4.2.1), or `"space-time-time"`, which only Diffrax's
        Langevin solvers want.
    - `dtype`: of the path; by default JAX's default floating-point type.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    t0: Any
    t1: Any
    steps: int = eqx.field(static=True)
    dimension: int = eqx.field(static=True)
    levy_area: Any = eqx.field(static=True)
    key: PRNGKeyArray
    tree: diffrax.VirtualBrownianTree
    tree_steps: Float[Array, ""]

    def __init__(
        self,
        key: PRNGKeyArray,
        shape: int | tuple[int, ...],
        t0: Any,
        t1: Any,
        dt: Any,
        levy_area: LevyArea = "none",
        *,
        dtype: Any = None,
    ):
        self.key = threefry_key(check_key("BrownianPath", key, traced=True))
        for name, value in (("t0", t0), ("t1", t1), ("dt", dt)):
            require_real_scalar(f"BrownianPath: `{name}`", value)
            if not is_concrete(value):
                raise TypeError(
                    f"BrownianPath: `{name}` must be a concrete number: the number of "
                    "steps follows from it."
                )
        dimension = shape[0] if isinstance(shape, tuple) and len(shape) == 1 else shape
        whole = isinstance(dimension, int | np.integer)
        if not whole or isinstance(dimension, bool) or int(dimension) < 1:
            raise ValueError(
                "BrownianPath: `shape` must be the number of Brownian motions, m or "
                f"(m,), got {shape!r}."
            )
        if levy_area not in get_args(LevyArea):
            raise ValueError(
                f"BrownianPath: `levy_area` must be one of "
                f"{', '.join(get_args(LevyArea))}, got {levy_area!r}."
            )
        start, end, step = float(t0), float(t1), float(dt)
        if not (math.isfinite(start) and math.isfinite(end) and end > start):
            raise ValueError(
                "BrownianPath: the span must be finite, and `t1` later than `t0`; got "
                f"t0={start} and t1={end}."
            )
        self.dimension, self.levy_area = int(dimension), AREAS[levy_area]
        self.steps = grid_steps("BrownianPath", start, end, step)
        real = jnp.result_type(float) if dtype is None else jnp.dtype(dtype)
        if real not in (jnp.float32, jnp.float64) or jnp.zeros(0, real).dtype != real:
            raise TypeError(
                "BrownianPath: `dtype` must be float32, or float64 while JAX runs in "
                f"64 bits; got {real}."
            )
        # Whole steps are nodes of the tree when it spans a power of two of them.
        whole_steps = 2 ** math.ceil(math.log2(self.steps))
        self.t0, self.t1 = concrete_array(start, real), concrete_array(end, real)
        self.tree_steps = concrete_array(whole_steps, real)
        self.tree = diffrax.VirtualBrownianTree(
            np.zeros((), real),
            np.ones((), real),
            tol=0.5 / whole_steps,
            shape=jax.ShapeDtypeStruct((self.dimension,), real),
            key=self.key,
            levy_area=AREAS[levy_area],
        )

    def with_steps(self, steps: int) -> BrownianPath:
        """The same path on a grid of another number of steps.

        **Arguments:** `steps`, the present number times or divided by a power of two,
        which keeps the grid on nodes of the tree.

        **Returns:** the path on that grid.

        **Raises:** `ValueError` for another number.
        """
        whole = isinstance(steps, int | np.integer) and not isinstance(steps, bool)
        ratio = (
            max(steps, self.steps) / min(steps, self.steps)
            if whole and steps > 0
            else 0
        )
        if ratio < 1 or not math.log2(ratio).is_integer():
            raise ValueError(
                "BrownianPath.with_steps: `steps` must be the present number of "
                f"{self.steps} times or divided by a power of two, got {steps!r}."
            )
        tree_steps = int(float(self.tree_steps) * steps / self.steps)
        tree = eqx.tree_at(
            lambda t: t.tol, self.tree, jnp.asarray(0.5 / tree_steps, self.dtype)
        )
        other = eqx.tree_at(
            lambda p: (p.tree, p.tree_steps),
            self,
            (tree, jnp.asarray(tree_steps, self.dtype)),
            is_leaf=lambda leaf: leaf is self.tree,
        )
        object.__setattr__(other, "steps", int(steps))
        return other

    def evaluate(
        self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False
    ) -> Any:
        """The path at `t0`, or its increment from `t0` to `t1`, as Diffrax asks for it.

        **Arguments:** times within the span; `use_levy` asks for the increment with
        its Lévy areas.

        **Returns:** shape `(m,)`, or Diffrax's class of increments.
        """
        end = None if t1 is None else self._node(t1)
        found = self.tree.evaluate(self._node(t0), end, use_levy=True)
        return self._scaled(found, use_levy)

    def increments(self) -> tuple[Array, Array | None]:
        """What the path does in each step.

        **Returns:** the increments `dW` of shape `(steps, m)`, and the space-time Lévy
        area `H` of every step in the same shape, `None` without Lévy area.
        """
        found = self.along()
        return found.W, getattr(found, "H", None)

    def along(self) -> Any:
        """What the path does in each step, as Diffrax's class of increments, with a
        leading axis of steps."""
        if not self._by_levels:
            return self._descended(jnp.arange(self.steps))
        key, areas, dtype = self._key, self._areas, self.dtype
        found = whole_span(
            key, areas, self.dimension, self._depth, self.steps, dtype, False
        )
        return self._steps(found.values)

    def blocks(self, length: int) -> Blocks:
        """What the path does in each step, a block of steps at a time: memory is for
        one block, and the state of the path at the start of each.

        **Arguments:** `length`, how many steps make a block, a power of two. The last
        block may reach beyond the end of the path.
        """
        count = -(-self.steps // length)
        if not self._by_levels:
            index = jnp.arange(count * length).reshape(count, length)
            return Blocks(jnp.minimum(index, self.steps - 1), self._descended)
        below = min(length.bit_length() - 1, self._depth)
        level, areas = self._depth - below, self._areas
        top = whole_span(
            self._key, areas, self.dimension, level, count, self.dtype, True
        )

        def draw(start: Intervals) -> Any:
            return self._steps(
                halves(start, level, below, areas, self.dimension, self.dtype)
            )

        return Blocks(top, draw)

    @property
    def _areas(self) -> int:
        """How many Lévy areas are drawn."""
        return list(AREAS.values()).index(self.levy_area)

    @property
    def _depth(self) -> int:
        """The level of the tree whose nodes are the steps."""
        return math.ceil(math.log2(self.steps))

    @property
    def _by_levels(self) -> bool:
        """Whether the tree's numbers can be drawn many at once."""
        return is_counter_based(self.key)

    @property
    def _key(self) -> Words:
        """The tree's key, the first child of the path's. Not taken from the tree, which
        splits by JAX's function: in a caller's program that is slow to compile."""
        return bits(words_of(self.key), np.array(0, np.uint32))

    def _steps(self, values: tuple[Array, ...]) -> Any:
        """Steps from what the tree has in its intervals."""
        length = 2.0**-self._depth
        areas = {
            name: value / length**power
            for power, (name, value) in enumerate(zip("WHK", values, strict=False))
        }
        dt = jnp.full(values[0].shape[0], length, self.dtype)
        return self._scaled(self.levy_area(dt=dt, **areas), True)

    def _descended(self, index: Int[Array, " steps"]) -> Any:
        """What the path does in some of its steps, by a descent for each."""

        def step(k: Array) -> Any:
            start, end = k / self.tree_steps, (k + 1) / self.tree_steps
            return self._scaled(self.tree.evaluate(start, end, use_levy=True), True)

        return jax.vmap(step)(index.astype(self.dtype))

    def _node(self, t: Any) -> Array:
        """The position of a time in the tree, from 0 to 1."""
        t = jnp.asarray(t, self.dtype)
        position = (t - self.t0) / (self.t1 - self.t0) * self.steps
        nearest = jnp.round(position)
        near = jnp.abs(position - nearest) < math.sqrt(float(jnp.finfo(self.dtype).eps))
        return jnp.where(near, nearest, position) / self.tree_steps

    def _scaled(self, increment: Any, use_levy: bool) -> Any:
        """From the tree's unit span to the span that it stands for."""
        span = (self.t1 - self.t0) * (self.tree_steps / self.steps)
        root = jnp.sqrt(span)
        if not use_levy:
            return increment.W * root
        areas = {
            name: getattr(increment, name) * root
            for name in ("H", "K")
            if hasattr(increment, name)
        }
        return type(increment)(dt=increment.dt * span, W=increment.W * root, **areas)
