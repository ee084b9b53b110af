"""What ends a solve early: zero crossings and steady states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
from jaxtyping import ArrayLike


class Event(eqx.Module):
    """A terminal event: the solve stops where `condition` crosses zero.

    The time of the crossing is found by root finding on the solver's interpolant
    within the step that brackets it, on both backends. Two crossings within one
    step cancel and go unseen: limit the step where that can happen.

    **Arguments:**

    - `condition`: a callable `condition(t, y, args)` that returns a real scalar.
    - `direction`: `"up"` stops only where the condition goes from negative to
        positive *along the solve* (so with decreasing time in a backward solve),
        `"down"` where it goes from positive to negative, `None` at both. A
        condition that is zero at the start is no event; the first crossing after
        it is.
    - `required`: whether a solve in which no event fires is a failure. By default it
        ends at `t1` with success, and `Solution.event_index` is −1.

    **Raises:** `TypeError` or `ValueError`, naming the argument, for a condition
    that is not callable or a direction that does not exist.
    """

    condition: Callable[[Any, Any, Any], Any]
    direction: Literal["up", "down"] | None = eqx.field(static=True, default=None)
    required: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if not callable(self.condition):
            raise TypeError(
                "Event: `condition` must be a callable condition(t, y, args), got "
                f"{type(self.condition).__name__}."
            )
        if self.direction not in (None, "up", "down"):
            raise ValueError(
                'Event: `direction` must be "up", "down" or None, got '
                f"{self.direction!r}."
            )


class SteadyState(eqx.Module):
    """A terminal event: the solve stops where the field has died out.

    It stops at the end of the first step at which every component of the field
    satisfies $T\\,|f_i| \\le \\mathrm{atol} + \\mathrm{rtol}\\,|y_i|$: over the time
    $T$ it would move by no more than the tolerances. The span may then end at
    infinity. An explicit solver on a stiff field keeps its error near its own tolerance
    and its field above this one: take an implicit solver, or looser tolerances here
    than in the solve.

    **Arguments:**

    - `rtol`, `atol`: the tolerances of the criterion; `None` takes those of the
        solve (for fixed steps, the defaults of `solve`).
    - `time_scale`: $T$, in the problem's unit of time, positive. The default is 1, and
        then a solve that stops far from rest is refused, by Newton's step from there:
        its unit of time may be far from that of its motion.
    - `required`: as of [`Event`][hybrid_nds.Event].
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    required: bool = eqx.field(static=True, default=False)
    time_scale: ArrayLike | None = None

    def __check_init__(self):
        scale = self.time_scale
        if isinstance(scale, float | int) and not 0 < scale < float("inf"):
            raise ValueError(
                "SteadyState: `time_scale` must be a positive, finite time, got "
                f"{scale}."
            )
        for name in ("rtol", "atol"):
            value = getattr(self, name)
            if isinstance(value, float | int) and not value >= 0:
                raise ValueError(
                    f"SteadyState: `{name}` must not be negative, got {value}."
                )


def as_events(event: Any) -> tuple[Event | SteadyState, ...]:
    """The events of one solve as a tuple.

    **Arguments:** `event`, as given to `solve`: `None`, one event, or a list or tuple
    of them.

    **Returns:** a tuple of `Event` and `SteadyState`, in the order given.

    **Raises:** `TypeError` for anything else.
    """
    if event is None:
        return ()
    events = tuple(event) if isinstance(event, list | tuple) else (event,)
    for one in events:
        if not isinstance(one, Event | SteadyState):
            raise TypeError(
                "solve: `event` must be a hybrid_nds.Event, a "
                "hybrid_nds.SteadyState, a list of these, or a diffrax.Event on the "
                f"Diffrax backend; got {type(one).__name__}. Wrap a condition as "
                "Event(condition)."
            )
    if isinstance(event, list | tuple) and not events:
        raise ValueError("solve: `event` is an empty list; pass None for no event.")
    return events
