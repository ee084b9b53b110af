"""Ordinary differential equations in Diffrax: terms, solver, steps, and the solve."""

from __future__ import annotations

import warnings
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..._core import is_concrete
from ...methods import COARSE_EVENTS, find_solver
from ...problems import Event, ODEProblem
from ...solution import Solution
from .._options import Options
from ._events import EventPlan, fired_index, make_event
from ._parts import (
    make_adjoint,
    make_controller,
    make_max_steps,
    make_progress_meter,
    make_saveat,
    make_solver,
    make_terms,
)
from ._run import DiffeqsolveArguments, make_solution, run_to_outcome, saved_of
from ._scan import Grid, Scan, ordinary_grid, scan_solution, scan_steps

_EXTRA = ("root_finder", "step_to_saveat", "stepsize_controller")


def solve_ordinary(problem: ODEProblem, options: Options) -> Solution:
    """Solve an ordinary problem."""
    arguments, events = plan_ordinary(problem, options)
    solver = arguments["solver"]
    grid = ordinary_grid(problem, options)
    if grid is not None:
        scan = _scan(grid, arguments["terms"], solver, problem.y0, problem.args)
        return scan_solution(problem, arguments, options, scan)
    raw, outcome, end, event_index = _integrate(
        arguments, events, make_progress_meter(problem, options)
    )
    interpolation = None
    if raw.interpolation is not None:
        interpolation = DenseOutput(raw.interpolation, problem.t0, end[0])
    return make_solution(
        solver,
        options,
        saved_of(arguments, raw),
        raw.stats,
        outcome,
        end,
        event_index=event_index,
        interpolation=interpolation,
    )


def _warn_of_events(options: Options) -> None:
    if not isinstance(options.solver, str) or not isinstance(options.event, tuple):
        return
    info = find_solver(options.solver, "diffrax")
    crossings = any(isinstance(one, Event) for one in options.event)
    if crossings and COARSE_EVENTS in info.faults:
        warnings.warn(
            f"solve: {info.name} of Diffrax, asked for events, {COARSE_EVENTS.effect}; "
            "take Kvaerno5 for a problem with an `event`.",
            stacklevel=4,
        )


def plan_ordinary(
    problem: ODEProblem, options: Options
) -> tuple[DiffeqsolveArguments, EventPlan]:
    """The arguments of `diffrax.diffeqsolve` for a problem and checked options.

    **Returns:** the arguments, and how their event came from those in `options`.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    unknown = sorted(set(options.extra) - set(_EXTRA))
    if unknown:
        raise TypeError(
            f"solve: the diffrax backend takes no option {', '.join(unknown)}; beside "
            f"the shared ones it takes {', '.join(_EXTRA)}."
        )
    if problem.kind.mass_matrix:
        raise ValueError(
            "solve: Diffrax takes no `mass_matrix`; solve this problem with "
            'backend="julia".'
        )
    solver = make_solver(problem, options)
    _warn_of_events(options)
    events = make_event(problem, options)
    arguments = DiffeqsolveArguments(
        terms=make_terms(problem, solver),
        solver=solver,
        t0=problem.t0,
        t1=problem.t1,
        dt0=options.dt,
        y0=problem.y0,
        args=problem.args,
        saveat=make_saveat(options.saveat),
        stepsize_controller=make_controller(problem, options, solver),
        adjoint=make_adjoint(options, solver),
        event=events.event,
        max_steps=make_max_steps(problem, options),
    )
    return arguments, events


@eqx.filter_jit
def _integrate(
    arguments: DiffeqsolveArguments,
    events: EventPlan,
    progress_meter: diffrax.AbstractProgressMeter,
) -> tuple[diffrax.Solution, Any, tuple[Array, PyTree], Array | None]:
    raw, outcome, end = run_to_outcome(arguments, progress_meter)
    event_index = None
    if raw.event_mask is not None:
        event_index = fired_index(events, raw.event_mask, *end, arguments["args"])
    return raw, outcome, end, event_index


@eqx.filter_jit
def _scan(
    grid: Grid, terms: PyTree, solver: diffrax.AbstractSolver, y0: PyTree, args: PyTree
) -> Scan:
    return scan_steps(grid, lambda _: terms, None, solver, y0, args)


class DenseOutput(eqx.Module):
    """Diffrax's interpolation, held to the span that was solved."""

    interpolation: diffrax.DenseInterpolation
    t0: Array
    t1: Array

    @property
    def span(self) -> tuple[Array, Array]:
        """Where it starts and ends."""
        return self.t0, self.t1

    def __call__(self, t: Any) -> PyTree[Array]:
        if all(is_concrete(x) for x in (t, self.t0, self.t1)):
            low, high = sorted((float(self.t0), float(self.t1)))
            times = np.asarray(t, self.t0.dtype)
            outside = times[~((times >= low) & (times <= high))]
            if outside.size:
                raise ValueError(
                    "Solution.evaluate: `t` must lie within the solved span from "
                    f"{float(self.t0)} to {float(self.t1)}, got "
                    f"{float(outside.flat[0])}."
                )
        times = jnp.asarray(t, self.t0.dtype)
        evaluate = self.interpolation.evaluate
        for _ in times.shape:
            evaluate = jax.vmap(evaluate)
        return evaluate(times)
