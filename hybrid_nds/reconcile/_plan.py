"""What is compared of one problem, of whichever kind."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..problems import Problem
from ._analyses import PlannedAnalysis
from ._gradients import Gradients, wave_weights
from ._parts import FieldPoints
from ._stacks import Question


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Plan(abc.ABC):
    """One problem, ready to be taken up the ladder by any stack.

    **Fields:** its name; the problem; its vector fields by label, and where they are
    compared; the backends and rungs that apply; the times of solutions, shape
    `(times,)`; the scale of each component, shape `(n,)`; analyses; and whether
    gradients are compared, too.
    """

    name: str
    problem: Problem
    fields: Mapping[str, FieldPoints]
    backends: tuple[str, ...]
    rungs: tuple[str, ...]
    times: np.ndarray
    scale: np.ndarray
    analyses: tuple[PlannedAnalysis, ...] = ()
    gradients: bool = False

    @property
    @abc.abstractmethod
    def twins(self) -> tuple[str, ...]:
        """The methods of which both stacks take the same step on this problem."""

    @property
    @abc.abstractmethod
    def no_twins(self) -> str:
        """Why there may be none."""

    @abc.abstractmethod
    def scheme(self, twin: str) -> Question:
        """States of a twin in fixed steps, shape `(times, n)`."""

    @abc.abstractmethod
    def scheme_claim(self, twin: str) -> str:
        """What is claimed of a twin."""

    @abc.abstractmethod
    def scheme_limits(self) -> tuple[Mapping[str, float], str]:
        """How far each twin may be off as a part of |y| + scale, and why."""

    @property
    @abc.abstractmethod
    def gradient_twins(self) -> tuple[str, ...]:
        """The twins whose gradients are compared."""

    @functools.cached_property
    def scheme_gradients(self) -> Mapping[str, Gradients]:
        """Gradients of the state at the end of fixed steps, by twin."""
        return {
            twin: Gradients(self.problem, self.scale, self.scheme_end(twin))
            for twin in self.gradient_twins
        }

    @abc.abstractmethod
    def scheme_end(self, twin: str) -> Callable[[Any, str, Any], Any]:
        """What solves a problem on a backend in a twin's fixed steps, and gives its
        flat state at their end."""

    def scheme_gradient(self, twin: str) -> Question:
        """The gradient of a twin in fixed steps, shape `(1, n + 2)`."""

        def gradient(backend: str) -> list[np.ndarray]:
            weights = wave_weights(1, self.scale)
            return [self.scheme_gradients[twin](backend, weights, 0.0)[None]]

        return Question("scheme gradient", (twin,), gradient)

    def analysis(self, planned: PlannedAnalysis) -> Question:
        """The values of an analysis and half the widths of their intervals."""

        def run(problem: Any, backend: str) -> list[np.ndarray]:
            return [np.stack(planned.run(problem, backend))]

        return Question(
            "analysis", (planned.name,), functools.partial(run, self.problem)
        )
