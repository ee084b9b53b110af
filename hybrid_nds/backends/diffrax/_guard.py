"""Error control that ends a solve whose steps vanish."""

from __future__ import annotations

from typing import Any

import diffrax
import equinox as eqx
import jax.lax as lax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool

from ._first_step import first_step

# Rejected one after another: at a fifth of the step before, 1e-21 of the first one
# where values are not finite, and 1e-42 in any case.
_NOT_FINITE, _REJECTED = 30, 60


class GuardedController(diffrax.AbstractAdaptiveStepSizeController):
    """A step size controller that gives up when no step can be accepted.

    Diffrax shortens a rejected step without end. Where a solution blows up, or the
    field is not finite beyond some time, this one ends the solve with
    `RESULTS.dt_min_reached`: once a rejected step would be followed by one below four
    units in the last place of the time, after thirty rejected steps in a row that led
    to values that are not finite, or after sixty of any kind.

    **Fields:** the controller that chooses the steps; whether the problem is
    stochastic, whose first step is a hundredth of the span where the caller names none;
    and the direction of time.
    """

    controller: diffrax.PIDController
    stochastic: bool = eqx.field(static=True)
    direction: Any

    def __init__(
        self,
        controller: diffrax.PIDController,
        stochastic: bool = False,
        direction: Any = 1,
    ):
        self.controller, self.stochastic = controller, stochastic
        self.direction = direction

    @property
    def rtol(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.controller.rtol

    @property
    def atol(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.controller.atol

    @property
    def norm(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.controller.norm

    def wrap(self, direction: Any) -> GuardedController:
        return GuardedController(
            self.controller.wrap(direction), self.stochastic, direction
        )

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        if dt0 is None:
            dt0 = self._first_step(terms, t0, t1, y0, args, func, error_order)
        end, inner = self.controller.init(
            terms, t0, t1, y0, dt0, args, func, error_order
        )
        return end, (inner, jnp.asarray(0), jnp.asarray(0))

    def _first_step(self, terms, t0, t1, y0, args, func, error_order):
        if self.stochastic:
            return jnp.asarray((t1 - t0) / 100, jnp.result_type(t0))
        terms, t0, t1, y0, args = jtu.tree_map(
            lambda leaf: lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf,
            (terms, t0, t1, y0, args),
        )

        def rate(t: Any, y: Any) -> Any:
            slope = func(terms, t, y, args)
            if isinstance(terms, diffrax.MultiTerm):
                # The parts of an implicit-explicit method.
                slope = jtu.tree_map(lambda *parts: sum(parts), *slope)
            return jtu.tree_map(lambda f: f * self.direction, slope)

        return first_step(
            rate, t0, t1, y0, error_order, self.rtol, self.atol, self.norm
        )

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        inner, lost, rejected = controller_state
        finite = _finite((y1_candidate, y_error))
        # From an infinite state Diffrax makes a next step that is not a number.
        y1_candidate = jtu.tree_map(
            lambda new, old: jnp.where(finite, new, old), y1_candidate, y0
        )
        y_error = jtu.tree_map(lambda e: jnp.where(finite, e, jnp.inf), y_error)
        keep, start, end, jump, inner, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, inner
        )
        lost = jnp.where(keep | finite, 0, lost + 1)
        rejected = jnp.where(keep, 0, rejected + 1)
        least = 4 * jnp.finfo(jnp.result_type(t0)).eps * jnp.abs(start)
        # Negated, so that a step that is not a number is too short.
        short = jnp.logical_not(end - start > least)
        many = (lost >= _NOT_FINITE) | (rejected >= _REJECTED)
        vanished = jnp.logical_not(keep) & (short | many)
        result = diffrax.RESULTS.where(vanished, diffrax.RESULTS.dt_min_reached, result)
        return keep, start, end, jump, (inner, lost, rejected), result


def is_guarded(controller: diffrax.AbstractStepSizeController) -> bool:
    """Whether `RESULTS.dt_min_reached` is the verdict of a guard, not of a `dtmin`."""
    if isinstance(controller, diffrax.ClipStepSizeController):
        controller = controller.controller
    return isinstance(controller, GuardedController)


def _finite(tree: Any) -> Bool[Array, ""]:
    finite = jnp.asarray(True)
    for leaf in jtu.tree_leaves(tree):
        finite = finite & jnp.all(jnp.isfinite(leaf))
    return finite
