"""One interval of an orbit with tangent vectors, and many of them, in JAX."""

from __future__ import annotations

from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ...problems import Problem, SDEProblem
from ._clip import shorten
from ._run import all_finite, promotion_of
from ._scan import Increments, StepIncrement
from ._sde import make_stochastic_terms


class TangentPlan(eqx.Module):
    """What one interval needs, as JAX sees it."""

    problem: Problem
    terms: PyTree
    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController
    path: Increments | None
    origin: Array
    interval: Array
    steps: int | None = eqx.field(static=True)
    areas: bool = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)


@eqx.filter_jit
def advance(
    plan: TangentPlan,
    states: Array,
    directions: Array,
    keys: Array | None,
    first: Array,
    intervals: Array,
    capacity: int,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """All chains on by so many intervals, until one of them fails.

    **Arguments:** the plan; states `(chains, n)` and directions `(chains, k, n)`; the
    keys of the noise of all chains; the index of the first interval; how many, at most
    `capacity`.

    **Returns:** how many were done; the growth, shape `(capacity, chains, k)`; states;
    directions; how many steps were tried; which chains failed.
    """
    chains, k = directions.shape[0], directions.shape[1]
    many = jax.vmap(_interval, in_axes=(None, 0, 0, None if keys is None else 0, None))

    def more(carry: Any) -> Array:
        return (carry[0] < intervals) & ~jnp.any(carry[5])

    def body(carry: Any) -> Any:
        done, growth, states, directions, steps, _ = carry
        states, directions, logs, taken, failed = many(
            plan, states, directions, keys, first + done
        )
        growth = growth.at[done].set(logs)
        return done + 1, growth, states, directions, steps + jnp.sum(taken), failed

    start = (
        jnp.asarray(0),
        jnp.zeros((capacity, chains, k), states.dtype),
        states,
        directions,
        jnp.asarray(0),
        jnp.zeros(chains, bool),
    )
    return lax.while_loop(more, body, start)


def _interval(
    plan: TangentPlan, state: Array, directions: Array, key: Any, index: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """One interval of one orbit, and the tangent vectors orthonormal again."""
    unravel = ravel_pytree(plan.problem.y0[0])[1]
    time = plan.origin + index.astype(plan.origin.dtype) * plan.interval
    start = (unravel(state), directions)
    if plan.steps is None:
        (y, tangents), taken, good = _adaptive(plan, time, start)
    else:
        (y, tangents), taken, good = _fixed(plan, time, start, key, index)
    if len(tangents) == 1:
        lengths = jnp.linalg.norm(tangents, axis=1)
        turned = tangents / lengths[:, None]
    else:
        q, r = jnp.linalg.qr(tangents.T)
        turned, lengths = q.T, jnp.abs(jnp.diagonal(r))
    logs = jnp.log(lengths)
    flat = ravel_pytree(y)[0]
    failed = ~(good & all_finite((flat, logs)))
    return flat, turned, logs, taken, failed


def _adaptive(
    plan: TangentPlan, time: Array, start: PyTree
) -> tuple[PyTree, Array, Array]:
    solution = diffrax.diffeqsolve(
        plan.terms,
        plan.solver,
        time,
        time + plan.interval,
        None,
        start,
        plan.problem.args,
        saveat=diffrax.SaveAt(t1=True),
        stepsize_controller=plan.controller,
        adjoint=shorten(diffrax.ForwardMode()),
        max_steps=plan.max_steps,
        throw=False,
    )
    end = jtu.tree_map(lambda leaf: leaf[-1], solution.ys)
    good = solution.result == diffrax.RESULTS.successful
    return end, solution.stats["num_steps"], good


def _fixed(
    plan: TangentPlan, time: Array, start: PyTree, key: Any, index: Array
) -> tuple[PyTree, Array, Array]:
    steps = cast(int, plan.steps)
    step = plan.interval / steps
    drawn = None
    if plan.path is not None:
        drawn = jtu.tree_map(
            lambda leaf: lax.dynamic_slice_in_dim(leaf, index * steps, steps),
            plan.path.values,
        )
    elif key is not None:
        problem = plan.problem
        one, other = jr.split(jr.fold_in(key, index))
        shape, dtype = (steps, problem.noise_dimension), problem.dtype
        lengths = jnp.full(steps, step)
        dw = jnp.sqrt(step) * jr.normal(one, shape, dtype)
        drawn = diffrax.BrownianIncrement(dt=lengths, W=dw)
        if plan.areas:
            # Over one step independent of the increment (Foster 2020, theorem 4.2.3).
            area = jnp.sqrt(step / 12) * jr.normal(other, shape, dtype)
            drawn = diffrax.SpaceTimeLevyArea(dt=lengths, W=dw, H=area)

    def terms(increment: Any, t0: Array, t1: Array) -> PyTree:
        if not plan.problem.kind.follows_path:
            return plan.terms
        control = StepIncrement(increment, t0, t1)
        return make_stochastic_terms(
            cast(SDEProblem, plan.problem), control, plan.solver
        )

    def one_step(carry: Any, given: Any) -> Any:
        y, kept, good = carry
        j, increment = given
        t0, t1 = time + j * step, time + (j + 1) * step
        with promotion_of(plan.solver):
            after, _, _, kept, result = plan.solver.step(
                terms(increment, t0, t1), t0, t1, y, plan.problem.args, kept, False
            )
        # Diffrax's ItoMilstein returns float64 where JAX has it, from a float32 too.
        y = jtu.tree_map(lambda new, old: new.astype(old.dtype), after, y)
        return (y, kept, good & (result == diffrax.RESULTS.successful)), None

    # Tangent vectors were turned since the last step: nothing of it can be used again.
    first = jtu.tree_map(lambda leaf: leaf[0], drawn)
    kept = plan.solver.init(
        terms(first, time, time + step), time, time + step, start, plan.problem.args
    )
    numbers = jnp.arange(steps, dtype=plan.origin.dtype)
    (end, _, good), _ = lax.scan(
        one_step, (start, kept, jnp.asarray(True)), (numbers, drawn)
    )
    return end, jnp.asarray(steps), good
