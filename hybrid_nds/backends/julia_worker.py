"""Solves in a worker process: the lowered problem goes there, numbers come back."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ..events import Event
from ..lowering import LoweredField, Lowerings, Part, lower
from ..problem import ODEProblem
from ..problem_checks import is_concrete
from ..runtime import JuliaWorker, session
from ..solution import Outcome, Solution
from .base import SolveOptions
from .julia_cache import structure_key
from .julia_fields import Form
from .julia_prepared import STATS, StateLayout

_KEPT_PROBLEMS = 128
_OUTCOMES: tuple[Any, ...] = tuple(
    getattr(Outcome, name) for name in Outcome._name_to_item
)
_PARTS: tuple[Part, ...] = ("field", "jacobian", "time_gradient")


class Reply(NamedTuple):
    """What comes back from a solve: states flat, the outcome by its place."""

    ts: np.ndarray
    ys: np.ndarray
    end_time: np.ndarray
    end_state: np.ndarray
    outcome: np.ndarray
    event_index: np.ndarray
    stats: dict[str, np.ndarray]


Answer = Callable[[ODEProblem, SolveOptions], tuple[Reply, str]]
"""What runs in the worker: it solves, and gives a reply and the solver's own words."""


def reply_of(solution: Solution) -> Reply:
    """The numbers of a solution of a flat problem."""
    event = -1 if solution.event_index is None else solution.event_index
    return Reply(
        ts=np.asarray(solution.ts),
        ys=np.asarray(solution.ys),
        end_time=np.asarray(solution.end_time),
        end_state=np.asarray(solution.end_state),
        outcome=np.asarray(solution.outcome._value),
        event_index=np.asarray(event),
        stats={name: np.asarray(solution.stats[name]) for name in STATS},
    )


def versions_there() -> tuple[tuple[str, str], ...]:
    """The versions of the Julia of this process."""
    return session().versions


class RemoteJulia:
    """Solves problems in worker processes; any thread may call it.

    **Arguments:** `answer`, the function that runs there.
    """

    def __init__(self, answer: Answer):
        self._answer = answer
        self._lock = threading.Lock()
        self._lowered: collections.OrderedDict[Any, _Lowered] = (
            collections.OrderedDict()
        )
        self._versions: weakref.WeakKeyDictionary[
            JuliaWorker, tuple[tuple[str, str], ...]
        ] = weakref.WeakKeyDictionary()

    def versions(self, worker: JuliaWorker) -> tuple[tuple[str, str], ...]:
        """The versions of a worker's Julia, asked for once."""
        if worker not in self._versions:
            self._versions[worker] = worker.call(versions_there)
        return self._versions[worker]

    def solve(
        self, worker: JuliaWorker, problem: ODEProblem, options: SolveOptions
    ) -> tuple[Reply, str]:
        """Solve a problem there.

        Where the caller is traced by JAX, so is the reply, and the solve becomes a
        callback of the compiled function.

        **Arguments:** the worker, the problem, and its checked options.

        **Returns:** the reply, and the solver's own words on a failure (empty within
        a trace).
        """
        flat, options = self._pack(problem, options)
        if all(is_concrete(x) for x in jtu.tree_leaves((flat, _fields(options)))):
            numbers = jtu.tree_map(_as_numpy, flat)
            return worker.call(self._answer, numbers, options)
        return self._within_trace(worker, flat, options), ""

    def _pack(
        self, problem: ODEProblem, options: SolveOptions
    ) -> tuple[ODEProblem, SolveOptions]:
        """A problem and its options with nothing in them but numbers and source."""
        extra = {k: v for k, v in options.extra.items() if k != "worker"}
        events = options.event or ()
        with _explaining_traced_values():
            lowered = self._lower(problem, events, extra.get("form", "array"))
        weights = lambda function: _concatenated(
            [
                leaf
                for leaf in jtu.tree_leaves((function, problem.args))
                if eqx.is_inexact_array(leaf)
            ],
            problem.dtype,
        )
        field = LoweredField(weights(problem.field), lowered.field)
        stand_ins = tuple(
            Event(
                LoweredField(weights(event.condition), condition),
                event.direction,
                event.required,
            )
            if condition is not None
            else event
            for event, condition in zip(events, lowered.conditions, strict=True)
        )
        flat = eqx.tree_at(
            lambda p: (p.field, p.y0, p.args),
            problem,
            (field, _concatenated(jtu.tree_leaves(problem.y0), problem.dtype), None),
            is_leaf=lambda x: x is None or x is problem.field,
        )
        return flat, dataclasses.replace(options, event=stand_ins or None, extra=extra)

    def _lower(
        self, problem: ODEProblem, events: tuple[Any, ...], form: Form
    ) -> _Lowered:
        conditions = tuple(
            event.condition if isinstance(event, Event) else None for event in events
        )
        key = structure_key((problem.y0, problem.field, problem.args, conditions))
        with self._lock:
            if (key, form) in self._lowered:
                self._lowered.move_to_end((key, form))
                return self._lowered[key, form]
            made = _Lowered.make(problem, conditions, form)
            if key is not None:
                self._lowered[key, form] = made
                if len(self._lowered) > _KEPT_PROBLEMS:
                    self._lowered.popitem(last=False)
            return made

    def _within_trace(
        self, worker: JuliaWorker, problem: ODEProblem, options: SolveOptions
    ) -> Reply:
        if isinstance(options.saveat, str):
            raise ValueError(
                'solve: `saveat="steps"` gives as many times as there are steps, which '
                "JAX cannot know when it compiles: give the times to save."
            )
        count = 1 if options.saveat is None else len(options.saveat)
        shapes = _reply_shapes(count, problem.dimension, problem.dtype)
        arrays, rest = eqx.partition((problem, _fields(options)), eqx.is_array)
        arrays = eqxi.nondifferentiable(
            arrays,
            msg="solve: the Julia backend does not differentiate; take "
            'backend="diffrax" for gradients, or jax.lax.stop_gradient of what a '
            "solve in Julia depends on.",
        )
        ranks = [leaf.ndim for leaf in jtu.tree_leaves(arrays)]
        treedef = jtu.tree_structure(arrays)

        def unpack(leaves: list[np.ndarray]) -> tuple[ODEProblem, SolveOptions]:
            problem, fields = eqx.combine(jtu.tree_unflatten(treedef, leaves), rest)
            return problem, SolveOptions(**fields)

        # Runs while the compiled function waits: nothing here may use JAX, but for
        # its trees.
        def solve_all(arrays: PyTree) -> Reply:
            leaves = [np.asarray(leaf) for leaf in jtu.tree_leaves(arrays)]
            leading = [
                leaf.shape[: leaf.ndim - rank]
                for leaf, rank in zip(leaves, ranks, strict=True)
            ]
            batch = np.broadcast_shapes(*leading)
            leaves = [
                np.broadcast_to(leaf, batch + leaf.shape[len(axes) :])
                for leaf, axes in zip(leaves, leading, strict=True)
            ]
            futures = [
                worker.submit(self._answer, *unpack([leaf[i] for leaf in leaves]))
                for i in np.ndindex(batch)
            ]
            replies = [_padded(future.result()[0], shapes) for future in futures]
            return jtu.tree_map(
                lambda one, *parts: np.stack(parts).reshape(batch + one.shape),
                shapes,
                *replies,
            )

        return jax.pure_callback(solve_all, shapes, arrays, vmap_method="expand_dims")


@dataclasses.dataclass(frozen=True)
class _Lowered:
    """The lowered field, and the lowered conditions, `None` for a steady state."""

    field: Lowerings
    conditions: tuple[Lowerings | None, ...]

    @classmethod
    def make(
        cls, problem: ODEProblem, conditions: tuple[Any, ...], form: Form
    ) -> _Lowered:
        at = problem.t0, problem.y0, problem.args
        return cls(
            Lowerings(
                (part, lower(problem.field, *at, form=form, part=part))
                for part in _PARTS
            ),
            tuple(
                None if one is None else Lowerings([("field", lower(one, *at))])
                for one in conditions
            ),
        )


def solution_of(
    reply: Reply,
    words: str,
    problem: ODEProblem,
    options: SolveOptions,
    provenance: Any,
) -> Solution:
    """The solution of a problem from the reply to its flat form."""
    layout = StateLayout(problem.y0)
    integer = lambda x: int(x) if is_concrete(x) else x
    return Solution(
        ts=cast(Any, reply.ts),
        ys=layout.unflatten(reply.ys),
        stats={name: integer(count) for name, count in reply.stats.items()},
        outcome=_outcome(reply.outcome),
        event_index=integer(reply.event_index) if options.event else None,
        provenance=provenance,
        end_time=reply.end_time,
        end_state=layout.unflatten(reply.end_state),
        message=words,
    )


def _outcome(place: Any) -> Any:
    if is_concrete(place):
        return _OUTCOMES[int(place)]
    outcome = _OUTCOMES[-1]
    for k, item in enumerate(_OUTCOMES[:-1]):
        outcome = Outcome.where(place == k, item, outcome)
    return outcome


def _fields(options: SolveOptions) -> dict[str, Any]:
    return {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}


def _concatenated(leaves: list[Any], dtype: np.dtype) -> Any:
    """Arrays as one vector; in NumPy, where no one traces them."""
    space = np if all(is_concrete(leaf) for leaf in leaves) else jnp
    if not leaves:
        return np.zeros(0, dtype)
    return space.concatenate([space.asarray(x, dtype).reshape(-1) for x in leaves])


def _as_numpy(leaf: Any) -> Any:
    return np.asarray(leaf) if eqx.is_array(leaf) else leaf


def _reply_shapes(count: int, dimension: int, dtype: np.dtype) -> Reply:
    integer: Any = jax.ShapeDtypeStruct((), jnp.result_type(int))
    real: Callable[..., Any] = lambda *shape: jax.ShapeDtypeStruct(shape, dtype)
    return Reply(
        ts=real(count),
        ys=real(count, dimension),
        end_time=real(),
        end_state=real(dimension),
        outcome=integer,
        event_index=integer,
        stats=dict.fromkeys(STATS, integer),
    )


def _padded(reply: Reply, shapes: Any) -> Reply:
    """The reply in shapes that do not depend on it: what was not reached is inf."""

    def fit(array: np.ndarray, wanted: jax.ShapeDtypeStruct) -> np.ndarray:
        missing = [(0, w - n) for n, w in zip(array.shape, wanted.shape, strict=True)]
        if any(after for _, after in missing):
            array = np.pad(array, missing, constant_values=np.inf)
        return array.astype(wanted.dtype)

    return jtu.tree_map(fit, reply, shapes)


@contextlib.contextmanager
def _explaining_traced_values() -> Iterator[None]:
    try:
        yield
    except (jax.errors.TracerArrayConversionError, jax.errors.UnexpectedTracerError):
        raise TypeError(
            "solve: the field holds values that JAX traces where lowering needs to "
            "know them: pass real ones through `args` or as arrays of an Equinox "
            "module, not through a closure, and keep integers out of the traced "
            "function's arguments."
        ) from None
