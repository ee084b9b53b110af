"""Terminal events for Diffrax: conditions in the user's time, and their roots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, PyTree, Scalar

from ...problems import Event, ODEProblem, SteadyState
from .._options import Options
from .._tolerances import steady_tolerances

_NEGATIVE, _ZERO, _POSITIVE, _UNDECIDED = range(4)
# A pattern of one sign in two bits an event must be exact in float32.
_MOST_EVENTS = 11


class Conditions(eqx.Module):
    """The conditions of all events of a solve, in the user's time.

    Diffrax negates time in a backward solve, calls conditions with that time, and
    takes a condition that is zero at the start for an event; that is undone here.
    """

    conditions: tuple[Callable[[Any, Any, Any], Any], ...]
    field: Callable[[Any, Any, Any], Any]
    sign: Array

    def values(self, t: Any, y: Any, args: Any) -> Array:
        """The value of every condition."""
        time = self.sign * t
        return jnp.stack([condition(time, y, args) for condition in self.conditions])

    def converted(self, t: Any, y: Any, args: Any) -> Conditions:
        """The same, with arrays that functions close over as leaves.

        A custom derivative cannot see what a function closes over.
        """
        example = (self.sign * t, y, args)
        convert = lambda fn: eqx.filter_closure_convert(fn, *example)
        conditions = tuple(convert(condition) for condition in self.conditions)
        return Conditions(conditions, convert(self.field), self.sign)

    def nearest(self, t: Any, y: Any, args: Any) -> Array:
        """The index of the condition whose zero is the nearest in time."""

        def along(step: Array) -> Array:
            moved = jtu.tree_map(lambda x, f: x + step * f, y, rate)
            return self.values(t + self.sign * step, moved, args)

        rate = self.field(self.sign * t, y, args)
        zero = jnp.zeros((), self.sign.dtype)
        values, speeds = jax.jvp(along, (zero,), (jnp.ones_like(zero),))
        tiny = jnp.finfo(self.sign.dtype).tiny
        return jnp.argmin(jnp.abs(values) / (jnp.abs(speeds) + tiny))


@eqx.filter_custom_jvp
def _sign_pattern(conditions: Conditions, t: Any, y: Any, args: Any, t0: Any) -> Array:
    """The signs of all conditions in one negative number, two bits each.

    Its derivative is that of the condition which is crossing zero.
    """
    values = conditions.values(t, y, args)
    codes = jnp.where(values > 0, _POSITIVE, jnp.where(values < 0, _NEGATIVE, _ZERO))
    undecided = jnp.isnan(values) | ((t == t0) & (values == 0))
    codes = jnp.where(undecided, _UNDECIDED, codes)
    weights = 4 ** np.arange(len(conditions.conditions))
    # Diffrax puts it beside a constant of JAX's default type.
    return -(1.0 + jnp.sum(codes * weights).astype(jnp.result_type(float)))


@_sign_pattern.def_jvp
def _sign_pattern_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    conditions, t, y, args, _ = primals
    frozen = jax.lax.stop_gradient(eqx.filter(primals[:4], eqx.is_inexact_array))
    frozen = eqx.combine(frozen, primals[:4])
    index = frozen[0].nearest(*frozen[1:])
    _, moved = eqx.filter_jvp(
        lambda c, *rest: c.values(*rest), (conditions, t, y, args), tangents[:4]
    )
    pattern = _sign_pattern(*primals)
    return pattern, moved[index].astype(pattern.dtype)


def _decode(pattern: Array, count: int) -> Array:
    whole = (-pattern - 1).astype(jnp.int32)
    return (whole // (4 ** np.arange(count, dtype=np.int32))) % 4


class Crossing(eqx.Module):
    """One condition as Diffrax calls it.

    After each step Diffrax calls it by position, for its sign. To find the time of
    the event Diffrax calls that of the first event in the list to have fired, by
    keyword; another may have fired earlier in the same step, so it then returns the
    signs of all conditions, of which [`BracketedEvent`] takes the earliest change.
    """

    every: Conditions
    index: int = eqx.field(static=True)

    def __call__(self, *step: Any, t0: Any, **search: Any) -> Any:
        if not step:
            t, y, args = search["t"], search["y"], search["args"]
            every = self.every.converted(t, y, args)
            return _sign_pattern(every, t, y, args, t0)
        t, y, args = step
        value = self.every.conditions[self.index](self.every.sign * t, y, args)
        # NaN compares false with everything, so that no crossing starts here.
        return jnp.where((t == t0) & (value == 0), jnp.nan, value)

    @property
    def condition(self) -> Callable[[Any, Any, Any], Any]:
        """The user's condition."""
        return self.every.conditions[self.index]


class AtSteadyState(eqx.Module):
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
    before: Array


class BracketedEvent(optx.AbstractRootFinder):
    """The earliest crossing in the step in which an event fired, by bisection.

    Newton's method may leave the step; bisection cannot. The result is the upper end
    of a bracket of two units in the last place: the condition has crossed there.
    Where no event fired, Diffrax searches the end of the span, and gets it exactly.

    **Arguments:** `up` and `down`, for each event whether it fires in that direction.
    """

    up: tuple[bool, ...]
    down: tuple[bool, ...]
    rtol: float = 0.0
    atol: float = 0.0
    norm: ClassVar[Callable[[Any], Scalar]] = jnp.abs

    def init(self, fn, y, args, options, f_struct, aux_struct, tags):
        del f_struct, aux_struct, tags
        lower = jnp.asarray(options["lower"], y.dtype)
        upper = jnp.asarray(options["upper"], y.dtype)
        largest = jnp.maximum(jnp.abs(lower), jnp.abs(upper))
        resolution = 2 * jnp.finfo(y.dtype).eps * largest
        before = _decode(_total(fn, lower, args), len(self.up))
        return _BisectionState(lower, upper, resolution, before)

    def step(self, fn, y, args, options, state, tags):
        del y, options, tags
        middle = state.lower + 0.5 * (state.upper - state.lower)
        total = _total(fn, middle, args)
        after, before = _decode(total, len(self.up)), state.before
        up = np.array(self.up) & (before <= _ZERO) & (after == _POSITIVE)
        down = np.array(self.down) & (before == _POSITIVE) & (after <= _ZERO)
        # Not negative: no pattern, but the time left to the end of the step.
        crossed = jnp.any(up | down) & (total < 0)
        lower = jnp.where(crossed, state.lower, middle)
        upper = jnp.where(crossed, middle, state.upper)
        new = _BisectionState(lower, upper, state.resolution, before)
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
    # All but the condition that fired are zero.
    values, _ = fn(t, args)
    return jnp.sum(jnp.stack(jtu.tree_leaves(values)))


class EventPlan(eqx.Module):
    """The events of a solve in Diffrax's terms, and the way back.

    **Fields:** the `diffrax.Event`; for each of its conditions, in the order of their
    leaves, the index of the user's event; the user's indices of the crossings; the
    crossings' conditions.
    """

    event: diffrax.Event | None = None
    indices: tuple[int, ...] = eqx.field(static=True, default=())
    crossings: tuple[int, ...] = eqx.field(static=True, default=())
    conditions: Conditions | None = None


def make_event(problem: ODEProblem, options: Options) -> EventPlan:
    """Translate the events of a solve to Diffrax.

    **Arguments:** the problem and the options of its solve.

    **Returns:** an `EventPlan`.
    """
    event = options.event
    if event is None:
        return EventPlan()
    if isinstance(event, diffrax.Event):
        count = len(jtu.tree_leaves(event.cond_fn, is_leaf=callable))
        return EventPlan(event, tuple(range(count)))
    if len(event) > _MOST_EVENTS:
        raise ValueError(
            f"solve: the diffrax backend takes at most {_MOST_EVENTS} events, got "
            f"{len(event)} in `event`."
        )
    sign = jnp.where(problem.t1 > problem.t0, 1, -1).astype(problem.dtype)
    found = [(i, one) for i, one in enumerate(event) if isinstance(one, Event)]
    every = Conditions(tuple(one.condition for _, one in found), problem.field, sign)
    functions: list[Callable] = []
    directions: list[bool | None] = []
    indices: list[int] = []
    for position, (index, one) in enumerate(found):
        # "Both" is asked for as two: Diffrax's own "both" fires on NaN, which
        # `Crossing` returns for a zero at the start.
        ways = {"up": (True,), "down": (False,), None: (True, False)}
        for way in ways[one.direction]:
            functions.append(Crossing(every, position))
            directions.append(way)
            indices.append(index)
    # After the crossings: a state of rest is noticed at the end of a step, and a
    # crossing within that step comes before it.
    for index, one in enumerate(event):
        if isinstance(one, SteadyState):
            rtol, atol = steady_tolerances(
                one, options.rtol, options.atol, problem.dtype
            )
            functions.append(AtSteadyState(problem.field, rtol, atol, sign))
            directions.append(None)
            indices.append(index)
    finder = BracketedEvent(
        up=tuple(one.direction != "down" for _, one in found),
        down=tuple(one.direction != "up" for _, one in found),
    )
    return EventPlan(
        diffrax.Event(functions, finder if found else None, directions),
        tuple(indices),
        tuple(index for index, _ in found),
        every,
    )


def fired_index(
    plan: EventPlan, event_mask: Any, t: Array, y: PyTree[Array], args: Any
) -> Array:
    """Which event stopped a solve that ended at `t` with `y`: −1 for none."""
    flags = jnp.stack([jnp.asarray(flag) for flag in jtu.tree_leaves(event_mask)])
    fired = jnp.asarray(plan.indices)[jnp.argmax(flags)]
    if plan.conditions is not None and len(plan.crossings) > 1:
        crossings = jnp.asarray(plan.crossings)
        nearest = crossings[plan.conditions.nearest(plan.conditions.sign * t, y, args)]
        fired = jnp.where(jnp.any(fired == crossings), nearest, fired)
    return jnp.where(jnp.any(flags), fired, -1)
