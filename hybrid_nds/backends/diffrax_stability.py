"""Tangent vectors along many orbits at once, stepped by Diffrax's solvers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..noise import BrownianPath, StoredPath, grid_steps
from ..options import check_options
from ..problem import ODEProblem
from ..solution import Provenance
from ..solvers import SOLVERS
from ..stability_flow import Stretch, tangent_problem
from ..stochastic_options import check_stochastic_options
from ..stochastic_problem import SDEProblem
from .base import DEFAULT_MAX_STEPS, SolveOptions
from .diffrax import plan
from .diffrax_parts import make_solver
from .diffrax_run import all_finite
from .diffrax_stochastic import make_stochastic_terms, plan_stochastic

_NO_OPTIONS: dict[str, Any] = {
    "saveat": None,
    "adjoint": None,
    "event": None,
    "progress": False,
    "extra": {},
}


class StepIncrement(diffrax.AbstractBrownianPath):
    """What a Brownian path does in one step, drawn beforehand."""

    W: Array
    H: Array | None
    t0: Any
    t1: Any
    levy_area: Any = eqx.field(static=True)

    def __init__(self, W: Array, H: Array | None, t0: Any, t1: Any):
        self.W, self.H, self.t0, self.t1 = W, H, t0, t1
        self.levy_area = (
            diffrax.BrownianIncrement if H is None else diffrax.SpaceTimeLevyArea
        )

    def evaluate(
        self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False
    ) -> Any:
        del left
        if not use_levy:
            return self.W
        areas = {} if self.H is None else {"H": self.H}
        return self.levy_area(dt=t1 - t0, W=self.W, **areas)


class _Plan(eqx.Module):
    """What one interval needs, as JAX sees it."""

    problem: ODEProblem | SDEProblem
    terms: PyTree
    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController
    path: Any
    origin: Array
    interval: Array
    steps: int | None = eqx.field(static=True)
    areas: bool = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)


@dataclasses.dataclass(frozen=True)
class DiffraxTangentFlow:
    """Orbits of a problem with tangent vectors, ready to be advanced.

    **Fields:** the plan; how many tangent vectors; the key of the noise, of chain `c`
    and interval `i` by folding in `c` and then `i`; the provenance.
    """

    plan: _Plan
    count: int
    key: PRNGKeyArray | None
    provenance: Provenance

    def advance(
        self,
        states: Float[np.ndarray, "chains n"],
        directions: Float[np.ndarray, "chains n k"],
        first: int,
        intervals: int,
        capacity: int,
    ) -> Stretch:
        """Advance all orbits by so many intervals.

        **Arguments:** the flat states and the directions of all chains; the index of
        the first interval, counted from the start; how many intervals, at most
        `capacity`, each value of which compiles once.

        **Returns:** a [`Stretch`][hybrid_nds.stability_flow.Stretch], the
        same to the last bit however a span is cut into stretches.
        """
        dtype = self.plan.problem.dtype
        chains = len(states)
        key, keys = self.key, None
        if key is not None:
            keys = jax.vmap(lambda c: jr.fold_in(key, c))(jnp.arange(chains))
        done, growth, end, turned, steps, failed = _advance(
            self.plan,
            jnp.asarray(states, dtype),
            jnp.asarray(np.swapaxes(directions, 1, 2), dtype),
            keys,
            jnp.asarray(first),
            jnp.asarray(intervals),
            capacity,
        )
        return Stretch(
            np.swapaxes(np.asarray(growth)[: int(done)], 0, 1),
            np.asarray(end),
            np.swapaxes(np.asarray(turned), 1, 2),
            int(steps),
            np.asarray(failed),
        )


def diffrax_tangent_flow(
    problem: ODEProblem | SDEProblem,
    count: int,
    *,
    solver: Any = None,
    dt: float | None = None,
    rtol: Any = None,
    atol: Any = None,
    interval: float,
    span: float,
    key: PRNGKeyArray | None = None,
    path: BrownianPath | StoredPath | None = None,
    max_steps: int | None = None,
) -> DiffraxTangentFlow:
    """Make ready to follow orbits and `count` tangent vectors of each.

    **Arguments:** a problem; how many tangent vectors; the solver, step and tolerances
    of [`solve`][hybrid_nds.solve]; how long tangent vectors grow before they are made
    orthonormal again; how long a given `path` has to last; for a stochastic problem
    `key` or `path`; the most steps of one interval.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    tangent = tangent_problem(problem, np.eye(problem.dimension, count))
    start = float(problem.t0)
    length = interval if path is None else span
    # The options are checked against one interval, or the span of the path.
    tangent = eqx.tree_at(
        lambda p: p.t1, tangent, jnp.asarray(start + length, problem.dtype)
    )
    if isinstance(tangent, ODEProblem):
        return _ordinary(tangent, count, solver, dt, rtol, atol, interval, max_steps)
    return _stochastic(tangent, count, solver, dt, interval, key, path)


def _ordinary(
    tangent: ODEProblem,
    count: int,
    solver: Any,
    dt: float | None,
    rtol: Any,
    atol: Any,
    interval: float,
    max_steps: int | None,
) -> DiffraxTangentFlow:
    options = check_options(
        tangent,
        "diffrax",
        **_NO_OPTIONS,
        solver=solver,
        rtol=rtol,
        atol=atol,
        dt=dt,
        max_steps=max_steps,
    )
    arguments, _ = plan(tangent, options)
    steps = None
    if options.fixed_steps:
        start = float(tangent.t0)
        steps = grid_steps("lyapunov", start, start + interval, float(options.dt))
    made = _Plan(
        tangent,
        arguments["terms"],
        _forward(arguments["solver"]),
        arguments["stepsize_controller"],
        None,
        tangent.t0,
        jnp.asarray(interval, tangent.dtype),
        steps,
        False,
        max_steps or DEFAULT_MAX_STEPS,
    )
    return DiffraxTangentFlow(made, count, None, _provenance(arguments, options))


def _stochastic(
    tangent: SDEProblem,
    count: int,
    solver: Any,
    dt: float | None,
    interval: float,
    key: Any,
    path: Any,
) -> DiffraxTangentFlow:
    solver = _implicit_for_additive(tangent, solver)
    options = check_stochastic_options(
        tangent,
        "diffrax",
        **_NO_OPTIONS,
        solver=solver,
        rtol=None,
        atol=None,
        dt=dt,
        key=key,
        path=path,
        max_steps=None,
    )
    arguments = plan_stochastic(tangent, options)
    method = arguments["solver"]
    if isinstance(method, diffrax.HalfSolver):
        raise ValueError(
            "lyapunov: diffrax.HalfSolver looks at the path within a step, which fixed "
            "steps do not know; pass the solver itself."
        )
    implicit = isinstance(method, diffrax.AbstractImplicitSolver)
    if implicit and tangent.noise != "additive":
        raise ValueError(
            f"lyapunov: {type(method).__name__} would take the noise implicitly as "
            f"well, which is right for additive noise alone, not {tangent.noise!r}; "
            'backend="julia" has ImplicitEM and ISSEM.'
        )
    start = float(tangent.t0)
    made = _Plan(
        tangent,
        None,
        _forward(method),
        diffrax.ConstantStepSize(),
        path,
        tangent.t0,
        jnp.asarray(interval, tangent.dtype),
        grid_steps("lyapunov", start, start + interval, float(options.dt)),
        options.path.area != "none",
        DEFAULT_MAX_STEPS,
    )
    return DiffraxTangentFlow(made, count, key, _provenance(arguments, options))


def _forward(solver: Any) -> Any:
    """The solver with a loop over its stages that keeps nothing for derivatives."""
    if getattr(solver, "scan_kind", "none") is not None:
        return solver
    is_none = lambda leaf: leaf is None
    return eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=is_none)


def _implicit_for_additive(tangent: SDEProblem, solver: Any) -> Any:
    """An implicit solver of ordinary problems by name, for additive noise.

    With $g$ constant, $y_1 = y_0 + h f(y_1) + g\\,\\Delta W$ is drift-implicit.
    """
    if tangent.noise != "additive" or not isinstance(solver, str):
        return solver
    known = {info.name.casefold(): info for info in SOLVERS if info.diffrax}
    info = known.get(solver.casefold())
    if info is None or not info.implicit or info.order is None:
        return solver
    ordinary = ODEProblem(
        tangent.drift, tangent.y0, tangent.t0, tangent.t1, tangent.args
    )
    return make_solver(ordinary, SolveOptions(solver=info.name, dt=1.0))


def _provenance(arguments: Any, options: Any) -> Provenance:
    from .diffrax_run import _VERSIONS

    numbers = [
        None if x is None else float(x)
        for x in (options.rtol, options.atol, options.dt)
    ]
    name = type(arguments["solver"]).__name__
    return Provenance("diffrax", name, _VERSIONS, *numbers, field="jax")


@eqx.filter_jit
def _advance(
    plan: _Plan,
    states: Array,
    directions: Array,
    keys: Array | None,
    first: Array,
    intervals: Array,
    capacity: int,
) -> tuple[Array, Array, Array, Array, Array, Array]:
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
    plan: _Plan, state: Array, directions: Array, key: Any, index: Array
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


def _adaptive(plan: _Plan, time: Array, start: PyTree) -> tuple[PyTree, Array, Array]:
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
        adjoint=diffrax.ForwardMode(),
        max_steps=plan.max_steps,
        throw=False,
    )
    end = jtu.tree_map(lambda leaf: leaf[-1], solution.ys)
    good = solution.result == diffrax.RESULTS.successful
    return end, solution.stats["num_steps"], good


def _fixed(
    plan: _Plan, time: Array, start: PyTree, key: Any, index: Array
) -> tuple[PyTree, Array, Array]:
    steps = cast(int, plan.steps)
    step = plan.interval / steps
    drawn = None
    if key is not None and plan.path is None:
        problem = cast(SDEProblem, plan.problem)
        one, other = jr.split(jr.fold_in(key, index))
        shape, dtype = (steps, problem.noise_dimension), problem.dtype
        drawn = (
            jnp.sqrt(step) * jr.normal(one, shape, dtype),
            # Over one step independent of the increment (Foster 2020, theorem 4.2.3).
            jnp.sqrt(step / 12) * jr.normal(other, shape, dtype)
            if plan.areas
            else None,
        )

    def terms(increment: Any, t0: Array, t1: Array) -> PyTree:
        if isinstance(plan.problem, ODEProblem):
            return plan.terms
        control = plan.path
        if control is None:
            control = StepIncrement(increment[0], increment[1], t0, t1)
        return make_stochastic_terms(plan.problem, control, plan.solver)

    def one_step(carry: Any, given: Any) -> Any:
        y, kept, good = carry
        j, increment = given
        t0, t1 = time + j * step, time + (j + 1) * step
        y, _, _, kept, result = plan.solver.step(
            terms(increment, t0, t1), t0, t1, y, plan.problem.args, kept, False
        )
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


def powers_of_two(count: int, most: int = 4096) -> int:
    """The least power of two that holds `count`, at most `most`."""
    return min(most, 2 ** math.ceil(math.log2(max(1, count))))
