"""The events of a solve, checked."""

from __future__ import annotations

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .._core import is_concrete
from ..methods import Stack
from ..problems import Event, Problem, as_events


def check_event(event: Any, problem: Problem, stack: Stack) -> Any:
    """The events as a tuple, `None` for none; a `diffrax.Event` as it is."""
    if event is not None and isinstance(event, diffrax.Event):
        if stack != "diffrax":
            raise TypeError(
                "solve: a diffrax.Event runs on the Diffrax backend only; pass a "
                "hybrid_nds.Event, which runs on both."
            )
        return event
    events = as_events(event)
    for index, one in enumerate(events):
        if isinstance(one, Event):
            _check_condition(one, index, problem)
    if is_concrete(problem.t1) and np.isinf(float(problem.t1)) and not events:
        raise ValueError(
            "solve: `t1` is infinite, so `event` must end the solve; pass an Event "
            "or a SteadyState."
        )
    return events or None


def _check_condition(event: Event, index: int, problem: Problem) -> None:
    try:
        value = eqx.filter_eval_shape(
            event.condition, problem.t0, problem.y0, problem.args
        )
    except Exception as error:
        raise ValueError(
            f"solve: the condition of `event` {index} could not be evaluated as "
            f"condition(t, y, args) at the initial state: {type(error).__name__}: "
            f"{error}"
        ) from error
    dtype = getattr(value, "dtype", None)
    if dtype == np.bool_:
        raise ValueError(
            f"solve: the condition of `event` {index} must return a real scalar that "
            "crosses zero, got a boolean; return the difference of the two sides of "
            "the comparison."
        )
    if (
        getattr(value, "shape", None) != ()
        or dtype is None
        or not jnp.issubdtype(dtype, jnp.floating)
    ):
        raise ValueError(
            f"solve: the condition of `event` {index} must return a real scalar, got "
            f"{value}."
        )
