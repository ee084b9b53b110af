"""Diffrax as a backend: solves in XLA, open to JAX's transformations."""

from __future__ import annotations

import importlib.metadata
from typing import Any, TypedDict

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from ..problem import ODEProblem
from ..problem_checks import is_concrete
from ..solution import Outcome, Provenance, Solution
from ..solvers import solver_names
from .base import SolveOptions
from .diffrax_events import EventPlan, fired_index, make_event
from .diffrax_parts import (
    make_adjoint,
    make_controller,
    make_max_steps,
    make_progress_meter,
    make_saveat,
    make_solver,
    make_terms,
)

_EXTRA = ("root_finder", "step_to_saveat", "stepsize_controller")


class DiffeqsolveArguments(TypedDict):
    """The keyword arguments of `diffrax.diffeqsolve`."""

    terms: PyTree
    solver: diffrax.AbstractSolver
    t0: Any
    t1: Any
    dt0: Any
    y0: PyTree
    args: PyTree
    saveat: diffrax.SaveAt
    stepsize_controller: diffrax.AbstractStepSizeController
    adjoint: diffrax.AbstractAdjoint
    event: diffrax.Event | None
    max_steps: int


class DiffraxBackend:
    """The Diffrax stack."""

    @property
    def name(self) -> str:
        return "diffrax"

    def solver_names(self) -> tuple[str, ...]:
        return solver_names("diffrax")

    def solve(self, problem: ODEProblem, options: SolveOptions) -> Solution:
        arguments, events = plan(problem, options)
        raw, outcome, end, event_index = _integrate(
            arguments, events, make_progress_meter(problem, options)
        )
        ts, ys = _asked(raw, arguments)
        ts, ys = _trim(arguments["saveat"], ts, ys)
        interpolation = None
        if raw.interpolation is not None:
            interpolation = DenseOutput(raw.interpolation, problem.t0, end[0])
        return Solution(
            ts=ts,
            ys=ys,
            stats={
                name: raw.stats[name]
                for name in ("num_steps", "num_accepted_steps", "num_rejected_steps")
            },
            outcome=outcome,
            event_index=event_index,
            provenance=_provenance(arguments["solver"], options),
            interpolation=interpolation,
            end_time=end[0],
            end_state=end[1],
        )


def plan(
    problem: ODEProblem, options: SolveOptions
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
    if problem.mass_matrix is not None:
        raise ValueError(
            "solve: Diffrax takes no `mass_matrix`; solve this problem with "
            'backend="julia".'
        )
    solver = make_solver(problem, options)
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


def _tracks_end(arguments: DiffeqsolveArguments) -> bool:
    """Whether the end of the solve is saved beside what was asked for.

    Two adjoints save only one thing, and `SaveAt(t1=True)` asks for the end anyway.
    """
    limited = diffrax.BacksolveAdjoint | diffrax.ImplicitAdjoint
    return not isinstance(arguments["adjoint"], limited)


@eqx.filter_jit
def _integrate(
    arguments: DiffeqsolveArguments,
    events: EventPlan,
    progress_meter: diffrax.AbstractProgressMeter,
) -> tuple[diffrax.Solution, Any, tuple[Array, PyTree], Array | None]:
    arguments = arguments.copy()
    saveat = arguments["saveat"]
    tracked = _tracks_end(arguments)
    if tracked:
        subs = {"asked": saveat.subs, "end": diffrax.SubSaveAt(t1=True)}
        arguments["saveat"] = eqx.tree_at(
            lambda s: s.subs, saveat, subs, is_leaf=lambda x: x is saveat.subs
        )
    raw = diffrax.diffeqsolve(**arguments, throw=False, progress_meter=progress_meter)
    ts: Any = raw.ts
    ys: Any = raw.ys
    if tracked:
        ts, ys = ts["end"], ys["end"]
    end = ts[-1], jtu.tree_map(lambda y: y[-1], ys)
    outcome = _outcome(raw.result)
    finite = jnp.asarray(True)
    for y in jtu.tree_leaves(end[1]):
        finite = finite & jnp.all(jnp.isfinite(y))
    ended = (outcome == Outcome.success) | (outcome == Outcome.event)
    outcome = Outcome.where(ended & ~finite, Outcome.unstable, outcome)
    event_index = None
    if raw.event_mask is not None:
        event_index = fired_index(events, raw.event_mask, *end, arguments["args"])
    return raw, outcome, end, event_index


def _outcome(result: Any) -> Any:
    named = {
        "successful": Outcome.success,
        "event_occurred": Outcome.event,
        "max_steps_reached": Outcome.max_steps_reached,
        "dt_min_reached": Outcome.step_size_too_small,
        "max_steps_rejected": Outcome.step_size_too_small,
        "internal_error": Outcome.failure,
    }
    # Everything else comes from the linear and nonlinear solvers of implicit stages.
    outcome = Outcome.nonlinear_solve_failed
    for name, ours in named.items():
        outcome = Outcome.where(result == getattr(diffrax.RESULTS, name), ours, outcome)
    return outcome


def _asked(raw: diffrax.Solution, arguments: DiffeqsolveArguments) -> tuple[Any, Any]:
    ts: Any = raw.ts
    ys: Any = raw.ys
    return (ts["asked"], ys["asked"]) if _tracks_end(arguments) else (ts, ys)


def _trim(saveat: diffrax.SaveAt, ts: PyTree, ys: PyTree) -> tuple[PyTree, PyTree]:
    """Leave out the times that the solve did not reach, which Diffrax pads with inf."""
    if not all(is_concrete(t) for t in jtu.tree_leaves((ts, ys))):
        return ts, ys

    def trim_one(_: diffrax.SubSaveAt, t: Array, y: PyTree) -> tuple[Array, PyTree]:
        reached = np.isfinite(np.asarray(t))
        if reached.all():
            return t, y
        return t[reached], jtu.tree_map(lambda leaf: leaf[reached], y)

    is_sub = lambda x: isinstance(x, diffrax.SubSaveAt)
    pairs = jtu.tree_map(trim_one, saveat.subs, ts, ys, is_leaf=is_sub)
    is_pair = lambda x: isinstance(x, tuple)
    return (
        jtu.tree_map(lambda pair: pair[0], pairs, is_leaf=is_pair),
        jtu.tree_map(lambda pair: pair[1], pairs, is_leaf=is_pair),
    )


class DenseOutput(eqx.Module):
    """Diffrax's interpolation, held to the span that was solved."""

    interpolation: diffrax.DenseInterpolation
    t0: Array
    t1: Array

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


def _number(value: Any) -> float | None:
    return float(value) if value is not None and is_concrete(value) else None


def _provenance(solver: diffrax.AbstractSolver, options: SolveOptions) -> Provenance:
    return Provenance(
        backend="diffrax",
        solver=type(solver).__name__,
        versions=_VERSIONS,
        rtol=_number(options.rtol),
        atol=_number(options.atol),
        dt=_number(options.dt),
        field="jax",
    )


_VERSIONS = tuple(
    (name, importlib.metadata.version(name))
    for name in ("hybrid_nds", "jax", "equinox", "diffrax", "optimistix")
)
