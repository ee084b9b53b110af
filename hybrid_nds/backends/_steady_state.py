"""Whether a steady state is one, whatever the unit of time."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from .._core import is_concrete, with_forward_rule
from ..problems import ODEProblem, SteadyState
from ..solution import Solution
from ._tolerances import default_tolerances

# Beyond so many scalars a Jacobian costs more than it tells.
_MOST = 200
# Slow modes of some 1e-4 of the unit of time are the caller's affair.
_FAR = 1e4


def check_steady_state(solution: Solution, problem: Any, event: Any) -> None:
    """Refuse a steady state that is far from rest, by Newton's step from it.

    The criterion compares a rate with a state, so that in a long unit of time it holds
    anywhere. Outside of JAX's transformations, for at most 200 scalars, and where the
    event names no `time_scale`.

    **Raises:** `ValueError`, with the remedy.
    """
    index = solution.event_index
    if index is None or not is_concrete(index) or np.ndim(index) or int(index) < 0:
        return
    fired = event[int(index)] if isinstance(event, tuple) else None
    if not isinstance(fired, SteadyState) or fired.time_scale is not None:
        return
    end = (solution.end_time, solution.end_state, problem)
    known = all(is_concrete(leaf) for leaf in jtu.tree_leaves(end))
    if not known or problem.dimension > _MOST or problem.mass_matrix is not None:
        return
    rtol, atol = default_tolerances(problem.dtype)
    values = (fired.rtol, solution.provenance.rtol, rtol)
    rtol = float(next(np.asarray(v) for v in values if v is not None))
    values = (fired.atol, solution.provenance.atol, atol)
    atol = float(np.min(next(np.asarray(v) for v in values if v is not None)))
    rate, jacobian, state = (
        np.asarray(x, float)
        for x in _linearization(problem, solution.end_time, solution.end_state)
    )
    if not np.all(np.isfinite(jacobian)):
        return
    # Least squares: where something is conserved, rest is a manifold.
    way = np.linalg.lstsq(jacobian, -rate, rcond=None)[0]
    far = np.max(np.abs(way) / (atol + rtol * np.abs(state) + np.finfo(float).tiny))
    if far > _FAR:
        raise ValueError(
            "solve: `event` is a SteadyState that holds far from rest: at t = "
            f"{float(solution.end_time):.6g} Newton's step to rest is {far:.1e} times "
            "the tolerances. The unit of time may be long beside the motion; give "
            "SteadyState(time_scale=T) with the time T over which the state must not "
            "move (T = 1 takes the criterion as it is)."
        )


@eqx.filter_jit
def _linearization(problem: ODEProblem, t: Any, y: Any) -> tuple[Array, Array, Array]:
    flat, unravel = ravel_pytree(y)
    field = with_forward_rule(problem.field, t, y, problem.args)

    def rate(u: Array) -> Array:
        return ravel_pytree(field(t, unravel(u), problem.args))[0]

    return rate(flat), jax.jacfwd(rate)(flat), jnp.asarray(flat)
