"""Terminal events for Diffrax: conditions in the user's time, and their roots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import optimistix as optx
from jaxtyping import Array, Bool, Scalar

from ..events import Event
from ..options import steady_tolerances
from ..problem import ODEProblem
from .base import SolveOptions


class Crossing(eqx.Module):
    """The condition of an `Event` as Diffrax calls it.

    Diffrax negates time in a backward solve and calls conditions with that time, and
    it takes a condition that is zero at the start for an event: both are undone here.
    """

    condition: Callable[[Any, Any, Any], Any]
    sign: Array

    def __call__(self, t: Any, y: Any, args: Any, *, t0: Any, **kwargs: Any) -> Any:
        value = self.condition(self.sign * t, y, args)
        # NaN compares false with everything, so that no crossing starts here.
        return jnp.where((t == t0) & (value == 0), jnp.nan, value)


class AtRest(eqx.Module):
    """The criterion of a `SteadyState` as Diffrax calls it."""

    field: Callable[[Any, Any, Any], Any]
    rtol: Any
    atol: Any
    sign: Array

    def __call__(self, t: Any, y: Any, args: Any, **kwargs: Any) -> Any:
        small = jtu.tree_map(
            lambda f, x: jnp.all(jnp.abs(f) <= self.atol + self.rtol * jnp.abs(x)),
            self.field(self.sign * t, y, args),
            y,
        )
        return jnp.all(jnp.stack(jtu.tree_leaves(small)))


class _BisectionState(eqx.Module):
    lower: Scalar
    upper: Scalar
    resolution: Scalar
    sign_before: Scalar


class BracketedEvent(optx.AbstractRootFinder):
    """Bisection between the ends of the step in which an event fired.

    Newton's method may leave the step, and Optimistix's bisection takes one condition
    and stops short of the end of the span when no event fired. This takes several
    conditions (all zero but that which fired), and returns the upper end of a bracket
    of two units in the last place: the condition has crossed there.
    """

    rtol: float = 0.0
    atol: float = 0.0
    norm: ClassVar[Callable[[Any], Scalar]] = jnp.abs

    def init(self, fn, y, args, options, f_struct, aux_struct, tags):
        del f_struct, aux_struct, tags
        lower = jnp.asarray(options["lower"], y.dtype)
        upper = jnp.asarray(options["upper"], y.dtype)
        before, after = _total(fn, lower, args), _total(fn, upper, args)
        # Round-off in the interpolant can hide the change of sign when the crossing
        # lies at an end of the step. It is then at the end with the smaller value.
        hidden = jnp.sign(before) == jnp.sign(after)
        at_lower = hidden & (jnp.abs(before) < jnp.abs(after))
        sign_before = jnp.where(at_lower, -jnp.sign(after), jnp.sign(before))
        largest = jnp.maximum(jnp.abs(lower), jnp.abs(upper))
        resolution = 2 * jnp.finfo(y.dtype).eps * largest
        return _BisectionState(lower, upper, resolution, sign_before)

    def step(self, fn, y, args, options, state, tags):
        del y, options, tags
        middle = state.lower + 0.5 * (state.upper - state.lower)
        crossed = jnp.sign(_total(fn, middle, args)) != state.sign_before
        lower = jnp.where(crossed, state.lower, middle)
        upper = jnp.where(crossed, middle, state.upper)
        new = _BisectionState(lower, upper, state.resolution, state.sign_before)
        return upper, new, None

    def terminate(
        self, fn, y, args, options, state, tags
    ) -> tuple[Bool[Array, ""], optx.RESULTS]:
        del fn, y, args, options, tags
        return state.upper - state.lower <= state.resolution, optx.RESULTS.successful

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        del fn, args, options, tags, result, y
        return state.upper, aux, {}


def _total(fn: Callable, t: Scalar, args: Any) -> Scalar:
    values, _ = fn(t, args)
    return jnp.asarray(sum(jtu.tree_leaves(values)), t.dtype)


def make_event(
    problem: ODEProblem, options: SolveOptions
) -> tuple[diffrax.Event | None, tuple[int, ...]]:
    """The events of a solve in Diffrax's terms.

    **Arguments:** the problem and the options of its solve.

    **Returns:** a `diffrax.Event` or `None`, and for each of its conditions, in the
    order of their leaves, the index of the event it belongs to.
    """
    event = options.event
    if event is None:
        return None, ()
    if isinstance(event, diffrax.Event):
        count = len(jtu.tree_leaves(event.cond_fn, is_leaf=callable))
        return event, tuple(range(count))
    sign = jnp.where(problem.t1 > problem.t0, 1, -1).astype(problem.dtype)
    conditions: list[Callable] = []
    directions: list[bool | None] = []
    owners: list[int] = []
    for index, one in enumerate(event):
        if isinstance(one, Event):
            crossing = Crossing(one.condition, sign)
            # "Both" is asked for as two: Diffrax's own "both" fires on NaN, which
            # `Crossing` returns for a zero at the start.
            ways = {"up": (True,), "down": (False,), None: (True, False)}
            for way in ways[one.direction]:
                conditions.append(crossing)
                directions.append(way)
                owners.append(index)
        else:
            rtol, atol = steady_tolerances(one, options, problem.dtype)
            conditions.append(AtRest(problem.field, rtol, atol, sign))
            directions.append(None)
            owners.append(index)
    needs_root = any(isinstance(one, Event) for one in event)
    return (
        diffrax.Event(
            conditions,
            root_finder=BracketedEvent() if needs_root else None,
            direction=directions,
        ),
        tuple(owners),
    )


def fired_index(event_mask: Any, owners: tuple[int, ...]) -> Array:
    """Which event stopped a solve: its index, −1 for none."""
    flags = jnp.stack([jnp.asarray(flag) for flag in jtu.tree_leaves(event_mask)])
    first = jnp.asarray(owners)[jnp.argmax(flags)]
    return jax.lax.select(jnp.any(flags), first, jnp.full_like(first, -1))
