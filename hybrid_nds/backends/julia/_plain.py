"""Plain solves through the crossing, of numbers known now, once or again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.tree_util as jtu
import numpy as np

from ... import runtime
from ...problems import Problem
from ...solution import SUCCESS, SUCCESSES, Provenance, Solution, outcome_of
from .._options import Options
from ._crossing import Crossing, weights_of
from ._dense import JuliaDense
from ._layout import COUNTS, STATS
from ._payload import flat_state, weights_vector
from ._prepared import StateLayout, parameter_count
from ._report import failure_message
from ._shared import Memory


class _Planned:
    """A solve with all operands at hand but the state and the weights.

    **Arguments:** the crossing, and what to say of the solution's origin. The problem
    is not kept: its caller has it.
    """

    repeatable = True

    def __init__(self, crossing: Crossing, provenance: Provenance):
        problem, options = crossing.problem, crossing.options
        self.options: Options = options
        self._session, self._shared = crossing.session, crossing.shared
        self._others = crossing.others()
        self._layout = StateLayout(problem.y0)
        self._kind, self._provenance = problem.kind, provenance
        self._event = bool(options.event)

    def _solution(
        self,
        counts: list[int],
        ts: Any,
        ys: np.ndarray,
        end_time: Any,
        end_state: np.ndarray,
        interpolation: JuliaDense | None = None,
    ) -> Solution:
        """The solution with these numbers, its states flat.

        **Raises:** `JuliaExecutionError` for a Julia exception.
        """
        code, event, *stats, ticket = counts
        message = ""
        if code not in SUCCESSES:
            text = self._session.bridge.text("failure_message", ticket)
            exception, message = text.split("\n", 1)
            if exception:
                raise runtime.execution_error(text)
        named = dict[str, int](zip(STATS, stats, strict=True))
        return Solution(
            ts=ts,
            ys=self._layout.unflatten(ys),
            stats=named,
            outcome=outcome_of(code),
            event_index=event if self._event else None,
            provenance=self._provenance,
            interpolation=interpolation,
            end_time=end_time,
            end_state=self._layout.unflatten(end_state),
            message=failure_message(message, code, named, end_time, self._kind),
        )


class PlainSolve(_Planned):
    """A solve that saves its end, or requested times.

    **Arguments:** the crossing, and what to say of the solution's origin.
    """

    def __init__(self, crossing: Crossing, provenance: Provenance):
        super().__init__(crossing, provenance)
        problem = crossing.problem
        self._shapes = (
            problem.dimension,
            parameter_count(weights_of(problem)),
            *(np.size(x) for x in self._others),
        )
        self._saved = self.options.saveat is not None
        self._identity = object()
        # Solutions of the same solve, with the same provenance, are of one structure.
        self._structure: Any = self._shared.solutions.get(provenance)

    def __call__(self, problem: Problem) -> Solution:
        """Solve now.

        **Raises:** `JuliaExecutionError` for a Julia exception.
        """
        make = lambda: Memory(problem, weights_of(problem), self._shapes)
        memory = self._shared.memory(self._shapes, make)
        if memory.filled_for is not self._identity:
            memory.fill(problem, weights_of(problem), self._others)
            memory.filled_for = self._identity
        times, states, end_time, end_state, results = self._shared.solve(memory)
        counts = results.tolist()
        ended = counts[0] == SUCCESS
        reached = None if ended else int(np.isfinite(times).sum())
        ends = end_time.reshape(1).copy()
        end = end_state.reshape(1, -1).copy()
        ts, ys = ends, end
        if self._saved:
            ts, ys = times[:reached].copy(), states[:reached].copy()
        if ended and self._structure is not None:
            # Of the structure that the constructor checked the last time.
            fields = (
                ts,
                self._layout.unflatten(ys),
                dict(zip(STATS, counts[2:-1], strict=True)),
                outcome_of(SUCCESS),
                counts[1] if self._event else None,
                None,
                ends[0],
                self._layout.unflatten(end[0]),
            )
            return self._structure.unflatten(fields)
        solution = self._solution(counts, ts, ys, ends[0], end[0])
        if ended:
            self._structure = jtu.tree_structure(
                solution, is_leaf=lambda node: node is not solution
            )
            self._shared.keep_structure(self._provenance, self._structure)
        return solution


class UnsizedSolve(_Planned):
    """A solve that saves every step, or dense output, of which only it knows the size.

    **Arguments:** the crossing, and what to say of the solution's origin.
    """

    def __call__(self, problem: Problem) -> Solution:
        """Solve now.

        **Raises:** `JuliaExecutionError` for a Julia exception.
        """
        bridge, dtype = self._session.bridge, problem.dtype
        weights = weights_vector(problem, weights_of(problem)[0])
        operands = (flat_state(problem), weights, *self._others)
        self._session.check_callable()
        with self._session.interrupts.armed():
            solved = bridge.make("saved_solve", self._shared.reference, *operands)
        count = bridge.number("saved_length", solved)
        times, states = (
            np.empty(count, dtype),
            np.empty((count, operands[0].size), dtype),
        )
        counts = np.empty(COUNTS, np.int64)
        addresses = (array.ctypes.data for array in (times, states, counts))
        bridge.number("copy_saved!", solved, *addresses)
        saved = slice(None, -1) if self.options.saveat == "steps" else slice(-1, None)
        dense = None
        if self.options.saveat == "dense":
            span = float(problem.t0), float(times[-1])
            evaluate = lambda at: self._evaluated(solved, at, states.shape[1])
            dense = JuliaDense(evaluate, self._layout, dtype, span)
        return self._solution(
            counts.tolist(), times[saved], states[saved], times[-1], states[-1], dense
        )

    def _evaluated(
        self, saved: runtime.Reference, times: np.ndarray, states: int
    ) -> np.ndarray:
        values = np.empty((times.size, states), times.dtype)
        self._session.check_callable()
        self._session.bridge.number(
            "interpolate_saved!", saved, times, values.ctypes.data
        )
        return values


class Once:
    """A solve that is planned anew each time.

    **Arguments:** its options, and what solves the problem.
    """

    repeatable = False

    def __init__(self, options: Options, solve: Callable[[Any], Solution]):
        self.options = options
        self._solve = solve

    def __call__(self, problem: Any) -> Solution:
        """Solve now."""
        return self._solve(problem)
