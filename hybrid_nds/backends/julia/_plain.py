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
from ._layout import STATS
from ._prepared import StateLayout, parameter_count
from ._report import failure_message
from ._shared import Memory


class PlainSolve:
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
        self._shapes = (
            problem.dimension,
            parameter_count(weights_of(problem)),
            *(np.size(x) for x in self._others),
        )
        self._layout = StateLayout(problem.y0)
        self._kind, self._provenance = problem.kind, provenance
        self._saved, self._event = options.saveat is not None, bool(options.event)
        self._identity = object()
        self._structure: jtu.PyTreeDef | None = None

    def __call__(self, problem: Problem) -> Solution:
        """Solve now.

        **Raises:** `JuliaExecutionError` for a Julia exception.
        """
        make = lambda: Memory(problem, weights_of(problem), self._shapes)
        memory = self._shared.memory(self._shapes, make)
        if memory.filled_for is not self._identity:
            memory.fill(problem, weights_of(problem), self._others)
            memory.filled_for = self._identity
        times, states, end_time, end_state, counts = self._shared.solve(memory)
        code, event, *stats, ticket = counts.tolist()
        reached = None if code == SUCCESS else int(np.isfinite(times).sum())
        ends = end_time.reshape(1).copy()
        end = end_state.reshape(1, -1).copy()
        fields = (
            times[:reached].copy() if self._saved else ends,
            self._layout.unflatten(states[:reached].copy() if self._saved else end),
            dict(zip(STATS, stats, strict=True)),
            outcome_of(code),
            event if self._event else None,
            ends[0],
            self._layout.unflatten(end[0]),
        )
        if code == SUCCESS and self._structure is not None:
            # Of the structure that its constructor checked the last time.
            return self._structure.unflatten((*fields[:5], None, *fields[5:]))
        words = "" if code in SUCCESSES else self._words(ticket)
        ts, ys, counted, outcome, fired, end_time, end_state = fields
        solution = Solution(
            ts=ts,
            ys=ys,
            stats=counted,
            outcome=outcome,
            event_index=fired,
            provenance=self._provenance,
            end_time=end_time,
            end_state=end_state,
            message=failure_message(words, code, counted, end_time, self._kind),
        )
        if code == SUCCESS:
            self._structure = jtu.tree_structure(
                solution, is_leaf=lambda node: node is not solution
            )
        return solution

    def _words(self, ticket: int) -> str:
        """What the solver says of its failure."""
        text = self._session.bridge.text("failure_words", ticket)
        exception, words = text.split("\n", 1)
        if exception:
            raise runtime.execution_error(text)
        return words


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
