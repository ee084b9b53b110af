"""One run of `diffrax.diffeqsolve`, and what becomes a solution of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from ..._core import is_concrete
from ...problems import Problem
from ...solution import (
    UNSTABLE,
    Outcome,
    Provenance,
    Solution,
    code_of,
    package_versions,
)
from .._diagnosis import where_not_finite
from .._options import Options
from .._tolerances import recorded_tolerance
from ._clip import shorten
from ._guard import is_guarded


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


def run(
    arguments: DiffeqsolveArguments, progress_meter: diffrax.AbstractProgressMeter
) -> tuple[diffrax.Solution, tuple[Array, PyTree]]:
    """Run Diffrax, saving the end of the solve beside what was asked for.

    **Returns:** Diffrax's solution, and the last time and state.
    """
    arguments = arguments.copy()
    saveat = arguments["saveat"]
    tracked = _tracks_end(arguments)
    if tracked:
        subs = {"asked": saveat.subs, "end": diffrax.SubSaveAt(t1=True)}
        arguments["saveat"] = eqx.tree_at(
            lambda s: s.subs, saveat, subs, is_leaf=lambda x: x is saveat.subs
        )
    arguments["adjoint"] = shorten(arguments["adjoint"])
    with promotion_of(arguments["solver"]):
        raw = diffrax.diffeqsolve(
            **arguments, throw=False, progress_meter=progress_meter
        )
    ts: Any = raw.ts
    ys: Any = raw.ys
    if tracked:
        ts, ys = ts["end"], ys["end"]
    return raw, (ts[-1], jtu.tree_map(lambda y: y[-1], ys))


def run_to_outcome(
    arguments: DiffeqsolveArguments, progress_meter: diffrax.AbstractProgressMeter
) -> tuple[diffrax.Solution, Any, tuple[Array, PyTree]]:
    """As `run`, with the outcome between the two."""
    raw, end = run(arguments, progress_meter)
    guarded = is_guarded(arguments["stepsize_controller"])
    return raw, outcome_of(raw.result, end[1], guarded=guarded), end


def promotion_of(solver: Any) -> contextlib.AbstractContextManager[Any]:
    """What promotion of dtypes the steps of a solver need: Diffrax's ItoMilstein makes
    float64 of a float32 where JAX has it, whatever the user refuses."""
    inner = solver.solver if isinstance(solver, diffrax.HalfSolver) else solver
    if isinstance(inner, diffrax.ItoMilstein):
        return jax.numpy_dtype_promotion("standard")
    return contextlib.nullcontext()


def _tracks_end(arguments: DiffeqsolveArguments) -> bool:
    """Whether the end of the solve is saved beside what was asked for.

    Two adjoints save only one thing, and `SaveAt(t1=True)` asks for the end anyway.
    """
    limited = diffrax.BacksolveAdjoint | diffrax.ImplicitAdjoint
    return not isinstance(arguments["adjoint"], limited)


def outcome_of(result: Any, end_state: PyTree, *, guarded: bool = False) -> Any:
    """How a run ended, from Diffrax's own result, its last state, and whether a
    [`GuardedController`][hybrid_nds.backends.diffrax.GuardedController] chose
    its steps."""
    named = {
        "successful": Outcome.success,
        "event_occurred": Outcome.event,
        "max_steps_reached": Outcome.max_steps_reached,
        "dt_min_reached": Outcome.unstable if guarded else Outcome.step_size_too_small,
        "max_steps_rejected": Outcome.step_size_too_small,
        "internal_error": Outcome.failure,
    }
    finite = all_finite(end_state)
    if result is diffrax.RESULTS.successful:
        return Outcome.where(finite, Outcome.success, Outcome.unstable)
    # Everything else comes from the linear and nonlinear solvers of implicit stages.
    outcome = Outcome.nonlinear_solve_failed
    for name, ours in named.items():
        outcome = Outcome.where(result == getattr(diffrax.RESULTS, name), ours, outcome)
    ended = (outcome == Outcome.success) | (outcome == Outcome.event)
    return Outcome.where(ended & ~finite, Outcome.unstable, outcome)


class NotFinite(eqx.Module):
    """The condition that ends a solve once its state, or a field there, is not finite.

    **Fields:** the functions `(t, y, args)` that are looked at, too.
    """

    functions: tuple[Callable[..., Any], ...] = ()

    def __call__(self, t: Any, y: Any, args: Any, **_: Any) -> Any:
        return ~all_finite((y, [function(t, y, args) for function in self.functions]))


def all_finite(y: PyTree) -> Array:
    """Whether every number of a state is finite."""
    finite = jnp.asarray(True)
    for leaf in jtu.tree_leaves(y):
        finite = finite & jnp.all(jnp.isfinite(leaf))
    return finite


def make_solution(
    solver: diffrax.AbstractSolver,
    options: Options,
    saved: tuple[PyTree, PyTree],
    stats: Mapping[str, Any],
    outcome: Any,
    end: tuple[Array, PyTree],
    *,
    event_index: Any = None,
    interpolation: Callable[[Any], Any] | None = None,
    message: str = "",
) -> Solution:
    """The solution of a run: `saved` are the times it reached, and the states there."""
    ts, ys = saved
    return Solution(
        ts=ts,
        ys=ys,
        stats={
            name: stats[name]
            for name in ("num_steps", "num_accepted_steps", "num_rejected_steps")
        },
        outcome=outcome,
        event_index=event_index,
        provenance=provenance_of(solver, options),
        interpolation=interpolation,
        end_time=end[0],
        end_state=end[1],
        message=message,
    )


def saved_of(
    arguments: DiffeqsolveArguments, raw: diffrax.Solution
) -> tuple[PyTree, PyTree]:
    """What was asked for of a run: the times it reached, and the states there."""
    ts: Any = raw.ts
    ys: Any = raw.ys
    if _tracks_end(arguments):
        ts, ys = ts["asked"], ys["asked"]
    if not all(is_concrete(t) for t in jtu.tree_leaves((ts, ys))):
        return ts, ys
    is_sub = lambda x: isinstance(x, diffrax.SubSaveAt)
    pairs = jtu.tree_map(
        lambda _, t, y: reached(t, y), arguments["saveat"].subs, ts, ys, is_leaf=is_sub
    )
    is_pair = lambda x: isinstance(x, tuple)
    return (
        jtu.tree_map(lambda pair: pair[0], pairs, is_leaf=is_pair),
        jtu.tree_map(lambda pair: pair[1], pairs, is_leaf=is_pair),
    )


def reached(ts: Array, ys: PyTree) -> tuple[Array, PyTree]:
    """Leave out the times that the solve did not reach, which are infinite, where
    shapes may depend on values."""
    if not all(is_concrete(leaf) for leaf in jtu.tree_leaves((ts, ys))):
        return ts, ys
    finite = np.isfinite(np.asarray(ts))
    if finite.all():
        return ts, ys
    return ts[finite], jtu.tree_map(lambda leaf: leaf[finite], ys)


def is_unstable(outcome: Any) -> bool:
    """Whether the outcome of one solve is known to be `Outcome.unstable`."""
    if not is_concrete(code_of(outcome)):
        return False
    code = np.asarray(code_of(outcome))
    return code.ndim == 0 and int(code) == UNSTABLE


def up_to_failure(
    problem: Problem,
    arguments: DiffeqsolveArguments,
    options: Options,
    outcome: Any,
) -> Solution:
    """A solve that failed once more, up to the first state that is not finite, and
    again up to the first at which one of the problem's functions is not.

    To watch every step costs something, and most solves do not fail.
    """
    watched = arguments.copy()
    watched["event"] = diffrax.Event(NotFinite())
    raw, end = _run_watched(watched)
    message = (
        f"The state was no longer finite after step "
        f"{int(raw.stats['num_accepted_steps'])}, at t = {float(end[0]):.9g}."
    )
    watched["event"] = diffrax.Event(
        NotFinite(tuple(term.function for term in problem.terms))
    )
    _, before = _run_watched(watched)
    if found := where_not_finite(problem, *before):
        message += f" {found}"
    saved = saved_of(arguments, raw)
    return make_solution(
        arguments["solver"], options, saved, raw.stats, outcome, end, message=message
    )


@eqx.filter_jit
def _run_watched(arguments: DiffeqsolveArguments) -> Any:
    return run(arguments, diffrax.NoProgressMeter())


def _number(value: Any) -> float | None:
    return float(value) if value is not None and is_concrete(value) else None


def provenance_of(solver: diffrax.AbstractSolver, options: Options) -> Provenance:
    """Where what a solver gives comes from."""
    return Provenance(
        backend="diffrax",
        solver=type(solver).__name__,
        versions=package_versions("diffrax", "optimistix"),
        rtol=_number(options.rtol),
        atol=recorded_tolerance(options.atol),
        dt=_number(options.dt),
        field="jax",
    )
