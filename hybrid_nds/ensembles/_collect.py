"""Putting blocks together in their order, whoever finishes first."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..solution import OUTCOME_NAMES, SUCCESSES
from ._layout import State
from ._plan import BlockResult, Plan
from ._result import Failure


class Collector:
    """Merges blocks in the order of their numbers; early ones wait for their turn."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.outcomes = np.zeros(plan.n, np.int8)
        self.failures: list[Failure] = []
        self._waiting: dict[int, dict[str, State]] = {}
        self._next = 0
        self._seen = np.zeros(plan.blocks, bool)
        self._values: np.ndarray | None = None
        self._states: dict[str, State] = {}
        if plan.reductions is None:
            shape = (plan.n, *plan.layout.entries)
            self._values = np.empty(shape, plan.problem.dtype)
        else:
            self._states = {
                name: reduction.init(plan.layouts[name])
                for name, reduction in plan.reductions.items()
            }

    @property
    def missing(self) -> list[int]:
        """The blocks that are not there yet."""
        return np.flatnonzero(~self._seen).tolist()

    def add(self, block: BlockResult) -> None:
        """Take a finished block."""
        if self._seen[block.number]:
            return
        self._seen[block.number] = True
        span = self.plan.span(block.number)
        self.outcomes[span.start : span.stop] = block.outcomes
        failed = np.flatnonzero(~np.isin(block.outcomes, SUCCESSES))
        for position, time in zip(failed, block.failed_times, strict=True):
            name = OUTCOME_NAMES[block.outcomes[position]]
            failure = Failure(span.start + int(position), name, float(time))
            self.failures.append(failure)
        if self._values is not None:
            self._values[span.start : span.stop] = block.kept[""]["values"]
            return
        self._waiting[block.number] = block.kept
        while self._next in self._waiting:
            kept = self._waiting.pop(self._next)
            for name, reduction in (self.plan.reductions or {}).items():
                self._states[name] = reduction.merge(self._states[name], kept[name])
            self._next += 1

    def states(self) -> Any:
        """All states as pytrees with axes of trajectories and times, if kept."""
        if self._values is None:
            return None
        return self.plan.layout.unflatten(self._values)

    def results(self) -> dict[str, Any] | None:
        """The results of the reductions by name."""
        if self.plan.reductions is None:
            return None
        return {
            name: reduction.result(self._states[name], self.plan.layouts[name])
            for name, reduction in self.plan.reductions.items()
        }
