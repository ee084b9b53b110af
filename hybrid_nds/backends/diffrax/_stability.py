"""Tangent vectors along many orbits at once, stepped by Diffrax's solvers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from ...methods import ODE_METHODS
from ...noise import grid_steps
from ...problems import ODEProblem, Problem, SDEProblem, Segment
from ...solution import Provenance
from .._integration import Integration
from .._options import DEFAULT_MAX_STEPS, Options
from ._backend import plan
from ._parts import make_solver
from ._run import provenance_of
from ._scan import Increments, draw
from ._tangent_steps import TangentPlan, advance


@dataclasses.dataclass(frozen=True)
class DiffraxTangentFlow:
    """Orbits of a problem with tangent vectors, ready to be advanced.

    **Fields:** the plan; how many tangent vectors; the key of the noise, of chain `c`
    and interval `i` by folding in `c` and then `i`; the provenance.
    """

    plan: TangentPlan
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
    ) -> Segment:
        """Advance all orbits by so many intervals.

        **Arguments:** the flat states and the directions of all chains; the index of
        the first interval, counted from the start; how many intervals, at most
        `capacity`, each value of which compiles once.

        **Returns:** a [`Segment`][hybrid_nds.problems.Segment], the
        same to the last bit however a span is cut into segments.
        """
        dtype = self.plan.problem.dtype
        chains = len(states)
        key, keys = self.key, None
        if key is not None:
            keys = jax.vmap(lambda c: jr.fold_in(key, c))(jnp.arange(chains))
        done, growth, end, turned, steps, failed = advance(
            self.plan,
            jnp.asarray(states, dtype),
            jnp.asarray(np.swapaxes(directions, 1, 2), dtype),
            keys,
            jnp.asarray(first),
            jnp.asarray(intervals),
            capacity,
        )
        return Segment(
            np.swapaxes(np.asarray(growth)[: int(done)], 0, 1),
            np.asarray(end),
            np.swapaxes(np.asarray(turned), 1, 2),
            int(steps),
            np.asarray(failed),
        )


def diffrax_tangent_flow(
    problem: ODEProblem | SDEProblem,
    count: int,
    integration: Integration,
    *,
    interval: float,
    span: float,
) -> DiffraxTangentFlow:
    """Make ready to follow orbits and `count` tangent vectors of each.

    **Arguments:** a problem; how many tangent vectors; the method, its steps and the
    noise; how long tangent vectors grow before they are made orthonormal again; how
    long a path has to last.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    tangent = integration.tangent(problem, count, interval, span)
    make = _stochastic if tangent.kind.follows_path else _ordinary
    return make(tangent, count, integration, interval)


def _ordinary(
    tangent: Problem, count: int, integration: Integration, interval: float
) -> DiffraxTangentFlow:
    options = integration.options(tangent)
    arguments = plan(tangent, options)
    steps = None
    if options.fixed_steps:
        start = float(tangent.t0)
        steps = grid_steps("lyapunov", start, start + interval, float(options.dt))
    made = TangentPlan(
        tangent,
        arguments["terms"],
        _forward(arguments["solver"]),
        arguments["stepsize_controller"],
        None,
        tangent.t0,
        jnp.asarray(interval, tangent.dtype),
        steps,
        False,
        options.max_steps or DEFAULT_MAX_STEPS,
    )
    provenance = provenance_of(arguments["solver"], options)
    return DiffraxTangentFlow(made, count, None, provenance)


def _stochastic(
    tangent: Problem, count: int, integration: Integration, interval: float
) -> DiffraxTangentFlow:
    solver = _implicit_for_additive(tangent, integration.solver)
    options = dataclasses.replace(integration, solver=solver).options(tangent)
    path = integration.path
    arguments = plan(tangent, options)
    method = arguments["solver"]
    if isinstance(method, diffrax.HalfSolver):
        raise ValueError(
            "lyapunov: diffrax.HalfSolver looks at the path within a step, which fixed "
            "steps do not know; pass the solver itself."
        )
    implicit = isinstance(method, diffrax.AbstractImplicitSolver)
    if implicit and tangent.kind.noise != "additive":
        raise ValueError(
            f"lyapunov: {type(method).__name__} would take the noise implicitly as "
            "well, which is right for additive noise alone, not "
            f'{tangent.kind.noise!r}; backend="julia" has ImplicitEM and ISSEM.'
        )
    start = float(tangent.t0)
    made = TangentPlan(
        tangent,
        None,
        _forward(method),
        diffrax.ConstantStepSize(),
        None if path is None else Increments(draw(path)),
        tangent.t0,
        jnp.asarray(interval, tangent.dtype),
        grid_steps("lyapunov", start, start + interval, float(options.dt)),
        options.along.area != "none",
        DEFAULT_MAX_STEPS,
    )
    provenance = provenance_of(arguments["solver"], options)
    return DiffraxTangentFlow(made, count, integration.key, provenance)


def _forward(solver: Any) -> Any:
    """The solver with a loop over its stages that keeps nothing for derivatives."""
    if getattr(solver, "scan_kind", "none") is not None:
        return solver
    is_none = lambda leaf: leaf is None
    return eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=is_none)


def _implicit_for_additive(tangent: Problem, solver: Any) -> Any:
    """An implicit solver of ordinary problems by name, for additive noise.

    With $g$ constant, $y_1 = y_0 + h f(y_1) + g\\,\\Delta W$ is drift-implicit.
    """
    if tangent.kind.noise != "additive" or not isinstance(solver, str):
        return solver
    known = {info.name.casefold(): info for info in ODE_METHODS if info.diffrax}
    info = known.get(solver.casefold())
    if info is None or not info.implicit or info.order is None:
        return solver
    drift = tangent.functions[0]
    ordinary = ODEProblem(drift, tangent.y0, tangent.t0, tangent.t1, tangent.args)
    return make_solver(ordinary, Options(solver=info.name, dt=1.0))


def powers_of_two(count: int) -> int:
    """The least power of two that holds `count`, at most 4096."""
    return min(4096, 2 ** math.ceil(math.log2(max(1, count))))
