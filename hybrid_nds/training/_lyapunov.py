"""A penalty on Lyapunov exponents."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from .._core import check_whole
from ..methods import Stack
from ..problems import ODEProblem, SDEProblem
from ..stability import finite_time_exponents
from ._batches import check_states
from ._losses import Loss, Value, solve_options
from ._penalties import floating, not_negative


class LyapunovPenalty(Loss):
    """A penalty on orbits of a model along which neighbours do not come together,

    $$\\frac1S\\sum_{s=1}^S\\sum_{i=1}^k\\max(0,\\,\\lambda_i(y_s) + m)^2,$$

    with $\\lambda_i$ the
    [`finite_time_exponents`][hybrid_nds.stability.finite_time_exponents] of the orbit
    that starts at $y_s$, for a stochastic model along noise of its own in each step of
    the training. Where it is zero, tangent vectors shrink at the rate $m$ or faster.
    Its gradient is that of the finite time, which along chaotic orbits grows with it.

    The part `exponent` is the largest one.

    **Arguments:**

    - `states`: where orbits start, an array of shape `(orbits, …)` or a pytree of such
        in the structure of the state; `None` takes the first states of the batch,
        trajectories of shape `(samples, times, …)`.
    - `span`: $(t_0, t_1)$, of the orbits.
    - `margin`: $m$, 0 or more, in inverse units of time.
    - `exponents`: $k$, how many of the largest.
    - `intervals`, `transient`: as of
        [`finite_time_exponents`][hybrid_nds.stability.finite_time_exponents].
    - `backend`, `solver`, `dt`, `rtol`, `atol`, `adjoint`, `max_steps`: as of
        [`solve`][hybrid_nds.solve]; on `"julia"` orbits are shared among Julia's
        threads, and `solver` must be one that has derivatives there.
    - `args`: of the model.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    states: PyTree[Array] | None
    span: tuple[float, float] = eqx.field(static=True)
    margin: float
    exponents: int = eqx.field(static=True)
    intervals: int = eqx.field(static=True)
    transient: int | None = eqx.field(static=True)
    options: dict[str, Any]
    args: PyTree

    def __init__(
        self,
        states: PyTree[ArrayLike] | None = None,
        *,
        span: tuple[float, float],
        margin: float = 0.0,
        exponents: int = 1,
        intervals: int = 32,
        transient: int | None = None,
        backend: Stack = "diffrax",
        solver: Any = None,
        dt: Any = None,
        rtol: Any = None,
        atol: Any = None,
        adjoint: Any = None,
        max_steps: int | None = None,
        args: PyTree = None,
    ):
        caller = "LyapunovPenalty"
        self.states = None if states is None else jtu.tree_map(floating, states)
        self.span = _span(caller, span)
        self.margin = not_negative(caller, "margin", margin)
        self.exponents = check_whole(caller, "exponents", exponents)
        self.intervals = check_whole(caller, "intervals", intervals)
        self.transient = transient
        stated: dict[str, Any] = {"solver": solver, "dt": dt, "rtol": rtol}
        stated |= {"atol": atol, "adjoint": adjoint, "max_steps": max_steps}
        self.options = solve_options(caller, backend, stated)
        self.args = args

    @property
    def name(self) -> str:
        return "lyapunov"

    def __call__(self, model: PyTree, batch: PyTree, key: PRNGKeyArray) -> Value:
        states = self.states
        if states is None:
            use = "without `states` orbits start at the first states"
            check_states("LyapunovPenalty", batch, use)
            states = jtu.tree_map(lambda leaf: leaf[:, 0], batch)
        count = jtu.tree_leaves(states)[0].shape[0]
        found = jax.vmap(lambda y0, key: self._found(model, y0, key))(
            states, jr.split(key, count)
        )
        over = jnp.maximum(found + jnp.asarray(self.margin, found.dtype), 0)
        value = jnp.mean(jnp.sum(over**2, axis=1))
        return value, {"exponent": jnp.max(found)}

    def _found(
        self, model: PyTree, y0: PyTree, key: PRNGKeyArray
    ) -> Float[Array, " exponents"]:
        problem = self._problem(model, y0)
        noise = {"key": key} if problem.kind.follows_path else {}
        return finite_time_exponents(
            problem,
            exponents=self.exponents,
            intervals=self.intervals,
            transient=self.transient,
            **noise,
            **self.options,
        )

    def _problem(self, model: Any, y0: PyTree) -> ODEProblem | SDEProblem:
        if hasattr(model, "problem"):
            return model.problem(y0, *self.span, self.args)
        if not callable(model):
            raise TypeError(
                "LyapunovPenalty: `model` must have a method `problem`, or be a field "
                f"(t, y, args), got {type(model).__name__}."
            )
        return ODEProblem(model, y0, *self.span, self.args)


def _span(caller: str, span: Any) -> tuple[float, float]:
    try:
        first, last = (float(t) for t in span)
    except (TypeError, ValueError):
        first = last = math.nan
    if not (math.isfinite(first) and math.isfinite(last) and first != last):
        raise ValueError(
            f"{caller}: `span` must be a pair of finite times that differ, (t0, t1), "
            f"got {span!r}."
        )
    return first, last
