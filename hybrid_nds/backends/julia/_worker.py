"""Solves in a worker process: the lowered problem goes there, numbers come back."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ..._core import is_concrete
from ...problems import Kind, Problem
from ...runtime import JuliaWorker
from ...solution import Provenance, Solution, code_of, outcome_of
from .._options import Options
from ._layout import STATS
from ._payload import serialized
from ._prepared import StateLayout

Versions = tuple[tuple[str, str], ...]


class Reply(NamedTuple):
    """What comes back from a solve: states flat, the outcome by its index."""

    ts: np.ndarray
    ys: np.ndarray
    end_time: np.ndarray
    end_state: np.ndarray
    outcome: np.ndarray
    event_index: np.ndarray
    stats: dict[str, np.ndarray]


def reply_of(solution: Solution) -> Reply:
    """The numbers of a solution of a flat problem."""
    event = -1 if solution.event_index is None else solution.event_index
    return Reply(
        ts=np.asarray(solution.ts),
        ys=np.asarray(solution.ys),
        end_time=np.asarray(solution.end_time),
        end_state=np.asarray(solution.end_state),
        outcome=np.asarray(code_of(solution.outcome)),
        event_index=np.asarray(event),
        stats={name: np.asarray(solution.stats[name]) for name in STATS},
    )


def check_worker(options: Options) -> None:
    """Refuse what a worker process cannot do.

    **Arguments:** the options of a solve, a worker among them.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    worker = options.extra["worker"]
    if not isinstance(worker, JuliaWorker):
        raise TypeError(
            "solve: `worker` must be a hybrid_nds.JuliaWorker, got "
            f"{type(worker).__name__}."
        )
    if options.extra.get("rhs", "lowered") == "callback":
        raise ValueError(
            'solve: `rhs="callback"` calls JAX in this process, which a `worker` '
            "cannot reach: leave out one of them, or register a lowering rule for "
            "what stops the field from being lowered."
        )
    if not isinstance(options.extra.get("preconditioner"), str | tuple | None):
        raise ValueError(
            "solve: a `preconditioner` that was made in this process's Julia cannot "
            "reach a `worker`: take one by its name, or leave out one of them."
        )
    if isinstance(options.saveat, str) and options.saveat == "dense":
        raise ValueError(
            'solve: `saveat="dense"` keeps its interpolation in the Julia process: '
            "with a `worker`, give the times to save, or leave the `worker` out."
        )


class RemoteJulia:
    """Solves problems in worker processes; any thread may call it.

    **Arguments:** two functions that run there: `answer`, of a flat problem and its
    options, gives a reply and the solver's own message on a failure; `versions` gives
    those of the packages that solve.
    """

    def __init__(
        self,
        answer: Callable[[Any, Any], tuple[Reply, str]],
        versions: Callable[[Kind], Versions],
    ):
        self._answer = answer
        self._ask = versions
        self._versions: weakref.WeakKeyDictionary[JuliaWorker, dict[str, Versions]] = (
            weakref.WeakKeyDictionary()
        )

    def versions(self, worker: JuliaWorker, kind: Kind) -> Versions:
        """The versions of the packages that solve there, asked for once."""
        known = self._versions.setdefault(worker, {})
        if kind.name not in known:
            known[kind.name] = worker.call(self._ask, kind)
        return known[kind.name]

    def solve(
        self, problem: Problem, options: Options, provenance: Provenance
    ) -> Solution:
        """Solve a problem in the worker of its options.

        Where the caller is traced by JAX, so is the solution, and the solve becomes a
        callback of the compiled function.

        **Arguments:** the problem, its checked options, and what to say of the
        solution's origin.
        """
        worker = options.extra["worker"]
        flat, sent = serialized(problem, options)
        message = ""
        if all(is_concrete(x) for x in jtu.tree_leaves((flat, _fields(sent)))):
            flat, fields = jtu.tree_map(_as_numpy, (flat, _fields(sent)))
            reply, message = worker.call(self._answer, flat, type(sent)(**fields))
        else:
            reply = self._within_trace(worker, flat, sent)
        events = options.event is not None
        return _solution_of(reply, message, problem, events, provenance)

    def _within_trace(
        self, worker: JuliaWorker, problem: Problem, options: Options
    ) -> Reply:
        if isinstance(options.saveat, str):
            raise ValueError(
                'solve: `saveat="steps"` gives as many times as there are steps, which '
                "JAX cannot know when it compiles: give the times to save."
            )
        count = 1 if options.saveat is None else len(options.saveat)
        shapes = _reply_shapes(count, problem.dimension, problem.dtype)
        arrays, static = eqx.partition((problem, _fields(options)), eqx.is_array)
        arrays = eqxi.nondifferentiable(
            arrays,
            msg="solve: a solve in a `worker` has no derivatives; leave `worker` out, "
            'take backend="diffrax", or jax.lax.stop_gradient of what the solve '
            "depends on.",
        )
        ranks = [leaf.ndim for leaf in jtu.tree_leaves(arrays)]
        treedef = jtu.tree_structure(arrays)

        def unpack(leaves: list[np.ndarray]) -> tuple[Problem, Options]:
            problem, fields = eqx.combine(jtu.tree_unflatten(treedef, leaves), static)
            return problem, type(options)(**fields)

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


def _solution_of(
    reply: Reply, message: str, problem: Problem, events: bool, provenance: Provenance
) -> Solution:
    layout = StateLayout(problem.y0)
    integer = lambda x: int(x) if is_concrete(x) else x
    return Solution(
        ts=cast(Any, reply.ts),
        ys=layout.unflatten(reply.ys),
        stats={name: integer(count) for name, count in reply.stats.items()},
        outcome=outcome_of(reply.outcome),
        event_index=integer(reply.event_index) if events else None,
        provenance=provenance,
        end_time=reply.end_time,
        end_state=layout.unflatten(reply.end_state),
        message=message,
    )


def _fields(options: Options) -> dict[str, Any]:
    return {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}


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

    def fit(array: np.ndarray, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        missing = [(0, w - n) for n, w in zip(array.shape, shape.shape, strict=True)]
        if any(after for _, after in missing):
            array = np.pad(array, missing, constant_values=np.inf)
        return array.astype(shape.dtype)

    return jtu.tree_map(fit, reply, shapes)
