"""Solves through the crossing into Julia that every thread and program can take."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ... import runtime
from ..._core import is_concrete
from ...lowering import lower, lower_stochastic_parts
from ...methods import Method
from ...problems import Event, Problem
from ...solution import (
    OUTCOME_NAMES,
    SUCCESSES,
    Provenance,
    Solution,
    outcome_of,
)
from .._failure import failure_text, has_steady_state
from .._options import Options
from .._tolerances import steady_tolerances
from ._adjoint import call_shared
from ._context import context_of, structure_of
from ._derivatives import (
    Differentiable,
    OrdinaryDerivatives,
    recorded_steps,
    refusal,
    singular,
)
from ._fields import lowered_model
from ._layout import KEEP, STATS
from ._pathwise import PathwiseDerivatives
from ._payload import (
    concatenated,
    explaining_traced_values,
    flat_state,
    path_increments,
    weights_vector,
)
from ._prepared import Approach, StateLayout, most_steps, parameter_count
from ._ready import algorithm_of
from ._shared import SharedSolve
from ._traced import is_traced


@dataclasses.dataclass(frozen=True, eq=False)
class Crossing:
    """A solve that can be called from anywhere.

    **Fields:** the session, the problem and its checked options, and the solve in
    Julia.
    """

    session: runtime.Session
    problem: Any
    options: Options
    shared: SharedSolve

    def within_trace(self, provenance: Provenance) -> Solution:
        """Solve when the traced program runs.

        **Arguments:** what to say of the solution's origin.
        """
        problem, options = self.problem, self.options
        functions = weights_of(problem)[0]
        operands = [flat_state(problem), weights_vector(problem, functions)]
        times, states, end_time, end_state, counts = call_shared(
            self.shared, [*operands, *self.others()]
        )
        if options.throw:
            times, states, end_state = self._checked(
                (times, states, end_state), end_time, counts, provenance
            )
        layout = StateLayout(problem.y0)
        saved = options.saveat is not None
        return Solution(
            ts=times if saved else end_time[None],
            ys=layout.unflatten(states if saved else end_state[None]),
            stats={name: counts[k] for k, name in enumerate(STATS, start=2)},
            outcome=outcome_of(counts[0]),
            event_index=counts[1] if options.event else None,
            provenance=provenance,
            end_time=end_time,
            end_state=layout.unflatten(end_state),
        )

    def others(self) -> list[Any]:
        """The operands behind state and weights, each of one axis."""
        problem, options = self.problem, self.options
        dtype = problem.dtype
        adaptive = not options.fixed_steps
        path = problem.kind.follows_path
        # Along a path in fixed steps, steps are those of the path.
        step = options.dt if adaptive or not path else None
        span = [problem.t0, problem.t1, options.rtol, step]
        none = np.zeros(0, dtype)
        saved = not (options.saveat is None or isinstance(options.saveat, str))
        operands = [
            concatenated([_number(x, dtype) for x in span], dtype),
            _number(options.atol, dtype),
            options.saveat if saved else none,
            concatenated(self._event_parameters(), dtype),
        ]
        if not path:
            return operands
        return [*operands, *self._path()]

    def _path(self) -> list[Any]:
        """The grid of the path, its increments and its areas."""
        along, dtype = self.options.along, self.problem.dtype
        none = np.zeros(0, dtype)
        flat = lambda x: none if x is None else x.astype(dtype).reshape(-1)
        read = lambda: [flat(x) for x in (along.times, *path_increments(along))]
        if not all(is_concrete(leaf) for leaf in jtu.tree_leaves(along)):
            return read()

        def known() -> list[np.ndarray]:
            # Within a trace, too, what is made of a known path is known.
            with jax.ensure_compile_time_eval():
                return [np.asarray(x) for x in read()]

        return self.shared.path_arrays(along, known)

    def _event_parameters(self) -> list[Any]:
        problem, options = self.problem, self.options
        parameters: list[Any] = []
        for event in options.event or ():
            if isinstance(event, Event):
                parameters.append(weights_vector(problem, event.condition))
            else:
                pair = steady_tolerances(
                    event, options.rtol, options.atol, problem.dtype
                )
                parameters += [_number(x, problem.dtype) for x in pair]
        return parameters

    def _checked(
        self, arrays: Any, end_time: Any, counts: Any, provenance: Provenance
    ) -> Any:
        """The arrays, with an error that is raised where a solve failed."""
        end_time = jax.lax.stop_gradient(end_time)
        failed = (counts[0] != SUCCESSES[0]) & (counts[0] != SUCCESSES[1])
        bridge, problem = self.session.bridge, self.problem
        # Nothing that is traced may be stored.
        steady = has_steady_state(self.options.event)
        infinite = is_concrete(problem.t1) and bool(np.isinf(problem.t1))
        kind = problem.kind

        def raise_first(counts: Any, end_time: Any) -> np.ndarray:
            rows = np.asarray(counts).reshape(-1, np.shape(counts)[-1])
            ends = np.broadcast_to(end_time, np.shape(counts)[:-1]).reshape(-1)
            first = int(np.flatnonzero(~np.isin(rows[:, 0], SUCCESSES))[0])
            row = rows[first].tolist()
            exception, message = bridge.text("failure_message", row[-1]).split("\n", 1)
            if message:
                message = f"Julia says: {message}." if not exception else message
            text = failure_text(
                OUTCOME_NAMES[row[0]],
                provenance,
                end_time=float(ends[first]),
                steps=row[2],
                message=message,
                kind=kind,
                infinite=infinite,
                steady=steady,
            )
            if len(rows) > 1:
                text = f"{text} (Trajectory {first} of {len(rows)}.)"
            raise RuntimeError(text)

        shape = jax.ShapeDtypeStruct((), counts.dtype)
        raised = jax.lax.cond(
            eqxi.unvmap_any(failed),
            lambda: jax.pure_callback(
                raise_first, shape, counts, end_time, vmap_method="broadcast_all"
            ),
            lambda: jnp.zeros((), counts.dtype),
        )
        return jtu.tree_map(lambda x: x + raised.astype(x.dtype), arrays)


def crossing(
    problem: Problem,
    options: Options,
    method: Method,
    approach: Approach,
    *,
    step_to_saveat: bool,
) -> Crossing:
    """Prepare a solve that was checked, of a problem that may be traced.

    **Arguments:** the problem, its checked options, the solver, how the problem reaches
    Julia, and whether steps end at the times of `saveat`.
    """
    session = runtime.session()
    if session.main_thread_only and is_traced(problem, options):
        raise RuntimeError(
            "solve: compiled JAX programs call Julia from threads of their own, and "
            f"this Julia takes the main thread alone: {session.main_thread_only} Or "
            "pass worker=hybrid_nds.JuliaWorker()."
        )
    context = context_of(session)
    algorithm = algorithm_of(session, problem, options, method, approach)
    keep = KEEP["end"]
    if isinstance(options.saveat, str):
        keep = KEEP[options.saveat]
    elif options.saveat is not None:
        keep = KEEP["stops" if step_to_saveat else "times"]
    steps = most_steps(options)
    events = options.event or ()

    def structure() -> Any:
        with explaining_traced_values():
            return structure_of(problem, events, approach)

    def prepared(keep: int) -> runtime.Reference:
        return _shared(
            session, problem, events, approach, algorithm, keep, steps, structure
        )

    capacity = recorded_steps(options, steps, problem.dimension)

    def make() -> SharedSolve:
        differentiable: Differentiable | str = refusal(
            problem, options, method, approach.jacobian
        )
        if not differentiable:
            # Of a problem that may be traced: what records is prepared with it.
            stops = KEEP["end"] if options.saveat is None else KEEP["stops"]
            recording = prepared(stops)
            differentiable = _differentiable(
                session, problem, options, approach, algorithm, recording, capacity
            )
        return SharedSolve(session, prepared(keep), differentiable)

    settings = (approach, algorithm.number, keep, steps, capacity, options.throw)
    shared = context.shared(problem, events, settings, structure, make)
    return Crossing(session, problem, options, shared)


def _differentiable(
    session: runtime.Session,
    problem: Any,
    options: Options,
    approach: Approach,
    algorithm: runtime.Reference,
    recording: runtime.Reference,
    capacity: int,
) -> Differentiable:
    functions, strict = context_of(session).functions, options.throw
    count = parameter_count(weights_of(problem))
    if problem.kind.follows_path:
        make = PathwiseDerivatives(
            session, functions, problem, count, approach.matrix, algorithm, strict
        )
        return Differentiable(make, recording, capacity, along_path=True)
    events = options.event or ()
    make = OrdinaryDerivatives(
        session,
        functions,
        problem,
        events,
        approach.jacobian,
        count,
        algorithm,
        strict,
    )
    return Differentiable(
        make,
        recording,
        capacity,
        singular=singular(problem.mass_matrix),
        evented=bool(events),
    )


def _shared(
    session: runtime.Session,
    problem: Any,
    events: tuple[Any, ...],
    approach: Approach,
    algorithm: runtime.Reference,
    keep: int,
    steps: int,
    structure: Any,
) -> runtime.Reference:
    bridge, name, n = session.bridge, problem.dtype.name, problem.dimension
    context = context_of(session)
    key = structure()
    count = parameter_count(weights_of(problem))
    with explaining_traced_values():
        model = context.models.get(
            None if key is None else (key, approach),
            lambda: _model(session, problem, approach),
        )
        plans = bridge.make("event_plans")
        for event in events:
            _plan(session, plans, problem, event)
    motions = problem.noise_dimension
    sizes = (n, count, motions, motions if approach.matrix else 0)
    return bridge.make(
        "shared_solve", name, model, *sizes, plans, algorithm, keep, steps
    )


def _model(
    session: runtime.Session, problem: Any, approach: Approach
) -> runtime.Reference:
    functions = context_of(session).functions
    of: Any = lambda parts: [functions.reference(session, part) for part in parts]
    make, name = session.bridge.make, problem.dtype.name
    if problem.kind.follows_path:
        parts = of(lower_stochastic_parts(problem))
        return make("shared_stochastic_model", name, *parts, approach.matrix)
    return lowered_model(session, functions, problem, approach)


def _plan(
    session: runtime.Session, plans: runtime.Reference, problem: Any, event: Any
) -> None:
    if not isinstance(event, Event):
        session.bridge.number("plan_steady_state!", plans)
        return
    # Julia looks for rising zeros, or for both.
    sign, both = -1 if event.direction == "down" else 1, event.direction is None
    lowered = lower(event.condition, problem.t0, problem.y0, problem.args)
    condition = context_of(session).functions.reference(session, lowered)
    count = parameter_count((event.condition, problem.args))
    session.bridge.number("plan_crossing!", plans, condition, count, sign, both)


def weights_of(problem: Problem) -> Any:
    """The functions of a problem and their arguments, whose arrays are parameters."""
    return problem.functions, problem.args


def _number(value: Any, dtype: np.dtype) -> Any:
    """A number or a vector as an array of one axis; none is zero."""
    if value is None:
        return np.zeros(1, dtype)
    if is_concrete(value):
        return np.asarray(value, dtype).reshape(-1)
    return jnp.asarray(value, dtype).reshape(-1)


def crosses(options: Options, approach: Approach) -> bool:
    """Whether a plain solve takes the crossing, or juliacall: where Python runs during
    the solve."""
    return approach.coupling == "lowered" and not options.progress
