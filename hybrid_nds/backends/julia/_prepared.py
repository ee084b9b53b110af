"""A problem made ready in Julia, and how states and numbers cross."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ...lowering import lower
from ...problems import Event, Problem
from ...runtime import Session
from .._options import DEFAULT_MAX_STEPS, Options
from .._tolerances import steady_tolerances
from ._fields import (
    Approach as Approach,
    CallbackWeights,
    Coupling,
    FunctionCache,
    flat_function,
    host_function,
    julia_model,
    julia_type,
    memory_view,
    vector_view,
)
from ._layout import KEEP, report_of
from ._payload import path_increments

# In fixed steps no error estimate says how well to solve the stages: nearly to
# round-off (times Julia's `stage_tolerance`), so that only the scheme's error is left.
FIXED_STEP_NEWTON = {"float64": 1e-6, "float32": 1e-4}


@dataclasses.dataclass(frozen=True, eq=False)
class RawResult:
    """What a solve in Julia leaves: flat states, one row a time, and its report.

    `times` and `states` are those asked for; `end_times` and `ends` the one where the
    solve ended.
    """

    code: int
    event: int
    stats: Mapping[str, int]
    start_time: float
    times: np.ndarray
    states: np.ndarray
    end_times: np.ndarray
    ends: np.ndarray


class ParameterSource:
    """The inexact arrays of a pytree as one vector, gathered again only when needed.

    The leaves are looked up on every call, since containers can be changed in place;
    JAX arrays cannot, so the same leaves make the same vector. NumPy arrays can, so
    they are read every time.
    """

    def __init__(self, tree: PyTree, target: np.ndarray):
        self._target = target
        self._leaves: list[Any] = []
        self._frozen = False
        self.fill(tree)

    def fill(self, tree: PyTree) -> None:
        """Write the parameters of `tree` to the vector they belong in."""
        leaves = jtu.tree_leaves(tree)
        same = len(leaves) == len(self._leaves) and all(
            a is b for a, b in zip(leaves, self._leaves, strict=True)
        )
        if same and self._frozen:
            return
        start = 0
        for leaf in leaves:
            if eqx.is_inexact_array(leaf):
                self._target[start : start + leaf.size] = np.asarray(leaf).reshape(-1)
                start += leaf.size
        self._leaves = leaves
        self._frozen = not any(isinstance(leaf, np.ndarray) for leaf in leaves)


def parameter_count(tree: PyTree) -> int:
    """How many parameters a pytree holds."""
    return sum(x.size for x in jtu.tree_leaves(tree) if eqx.is_inexact_array(x))


class StateLayout:
    """The pytree of the state, and the flat vector it is in Julia."""

    def __init__(self, y0: PyTree):
        leaves, self._treedef = jtu.tree_flatten(y0)
        self._shapes = [tuple(leaf.shape) for leaf in leaves]
        self._ends = [int(e) for e in np.cumsum([leaf.size for leaf in leaves])]

    def flatten(self, y: PyTree, target: np.ndarray) -> None:
        """Write a state to a flat vector."""
        start = 0
        for leaf, end in zip(jtu.tree_leaves(y), self._ends, strict=True):
            target[start:end] = np.asarray(leaf).reshape(-1)
            start = end

    def unflatten(self, states: np.ndarray | jax.Array) -> PyTree:
        """States with any leading axes, their last one flat, as pytrees."""
        leading = states.shape[:-1]
        starts = [0, *self._ends[:-1]]
        leaves = [
            states[..., start:end].reshape((*leading, *shape))
            for start, end, shape in zip(starts, self._ends, self._shapes, strict=True)
        ]
        return jtu.tree_unflatten(self._treedef, leaves)


class PreparedProblem:
    """A problem in Julia, to be solved any number of times: its memory there, and what
    a solve leaves in it.

    **Arguments:** the Julia session, a cache of Julia functions, the problem, its
    events, and how it reaches Julia.
    """

    def __init__(
        self,
        session: Session,
        cache: FunctionCache,
        problem: Problem,
        events: tuple[Any, ...],
        approach: Approach,
    ):
        module, weights = session.module, (problem.functions, problem.args)
        model, self._callback = julia_model(session, cache, problem, approach)
        motions = problem.noise_dimension
        self.handle = module.Prepared(
            julia_type(session, problem.dtype),
            model,
            problem.dimension,
            parameter_count(weights) if approach.coupling == "lowered" else 0,
            motions,
            motions if approach.matrix else 0,
        )
        self.dtype = problem.dtype
        self.layout = StateLayout(problem.y0)
        self._session = session
        self._start = vector_view(session, self.handle.start, self.dtype)
        self._report = report_of(session, self.handle)
        parameters = vector_view(session, self.handle.parameters, self.dtype)
        self._weights = self._callback or ParameterSource(weights, parameters)
        self._times = np.empty(0, self.dtype)
        self._path: Any = None
        self._events = [
            self._add_event(session, cache, problem, event, approach.coupling)
            for event in events
        ]
        self._ends: tuple[Any, Any] = (None, None)
        self._span = (np.nan, np.nan)
        self._solve = getattr(module, "solve!")

    def _add_event(
        self,
        session: Session,
        cache: FunctionCache,
        problem: Problem,
        event: Any,
        coupling: Coupling,
    ) -> Any:
        module = session.module
        element = julia_type(session, self.dtype)
        add = getattr(module, "add_event!")
        if not isinstance(event, Event):
            condition = module.steady_state(element, problem.dimension)
            return vector_view(session, add(self.handle, condition, False), self.dtype)
        # Julia looks for rising zeros, or for both.
        sign, both = -1 if event.direction == "down" else 1, event.direction is None
        weights = (event.condition, problem.args)
        if coupling == "lowered":
            lowered = lower(event.condition, problem.t0, problem.y0, problem.args)
            condition, count = cache.get(session, lowered), parameter_count(weights)
            crossing = module.crossing(element, condition, count, sign)
            vector = vector_view(session, add(self.handle, crossing, both), self.dtype)
            return ParameterSource(weights, vector)
        holder = CallbackWeights(weights)
        flat = flat_function(event.condition, problem.y0, problem.args)
        condition = host_function(session, flat, holder, problem, (1,))
        add(self.handle, module.crossing(element, condition, 0, sign), both)
        return holder

    def fill(self, problem: Problem) -> None:
        """Write the state and the parameters of a problem of this structure."""
        self.layout.flatten(problem.y0, self._start)
        self._weights.fill((problem.functions, problem.args))

    def set_path(self, path: Any) -> None:
        """Write a Brownian path; `None` leaves no increments."""
        resize = getattr(self._session.module, "resize_path!")
        if path is None:
            resize(self.handle, 0, False)
        elif path is not self._path:
            increments, areas = path_increments(path)
            there = resize(self.handle, path.steps, areas is not None)
            for target, values in (
                (there.grid, path.times),
                (there.increments, increments),
                (there.areas, areas),
            ):
                if values is not None:
                    # A row a step here is a column a step there.
                    view = vector_view(self._session, target, self.dtype)
                    view[:] = np.asarray(values, self.dtype).reshape(-1)
        self._path = path

    def solve(
        self,
        problem: Problem,
        options: Options,
        algorithm: Any,
        *,
        step_to_saveat: bool,
        report: Callable[[float], None] | None,
    ) -> RawResult:
        """Solve a problem of the structure this one was prepared for.

        **Arguments:** the problem, its checked options, the Julia algorithm, whether
        steps end at the times of `saveat`, and a callable of the time
        reached, or `None`.
        """
        self.fill(problem)
        for event, known in zip(options.event or (), self._events, strict=True):
            if isinstance(event, Event):
                known.fill((event.condition, problem.args))
            else:
                known[:] = steady_tolerances(
                    event, options.rtol, options.atol, self.dtype
                )
        if options.path is not None:
            self.set_path(options.path)
        keep = self._set_times(options.saveat, step_to_saveat)
        t0, t1 = self._span_of(problem)
        self._session.call(
            self._solve,
            self.handle,
            algorithm,
            t0,
            t1,
            _number(options.rtol),
            options.atol if np.ndim(options.atol) else _number(options.atol),
            _number(options.dt),
            keep,
            most_steps(options),
            report,
        )
        return self._result(t0)

    def _set_times(self, saveat: Any, step_to_saveat: bool) -> int:
        if saveat is None:
            return KEEP["end"]
        if isinstance(saveat, str):
            return KEEP[saveat]
        if len(self._times) != len(saveat):
            resize = getattr(self._session.module, "resize_times!")
            vector = resize(self.handle, len(saveat))
            self._times = vector_view(self._session, vector, self.dtype)
        self._times[:] = saveat
        return KEEP["stops" if step_to_saveat else "times"]

    def _result(self, start_time: float) -> RawResult:
        report = self._report
        count = report.count
        times = memory_view(report.times, count, self.dtype).copy()
        size = count * self._start.size
        states = memory_view(report.states, size, self.dtype).copy().reshape(count, -1)
        return RawResult(
            code=report.outcome,
            event=report.event,
            stats=report.statistics,
            start_time=start_time,
            times=times[:-1],
            states=states[:-1],
            end_times=times[-1:],
            ends=states[-1:],
        )

    @property
    def message(self) -> str:
        """The solver's own message on the last solve."""
        return str(self.handle.message)

    def _span_of(self, problem: Problem) -> tuple[float, float]:
        # JAX arrays do not change, and cost microseconds to read.
        ends = (problem.t0, problem.t1)
        if not all(a is b for a, b in zip(ends, self._ends, strict=True)):
            self._ends, self._span = ends, (float(ends[0]), float(ends[1]))
        return self._span

    @property
    def solution(self) -> Any:
        """The last solve's dense output, in Julia."""
        return self.handle.solution

    @property
    def callback_leaves(self) -> list[Any] | None:
        """The arrays that callbacks read now, `None` for a lowered field."""
        return None if self._callback is None else self._callback.leaves

    def interpolate(
        self, solution: Any, times: np.ndarray, leaves: list[Any] | None
    ) -> np.ndarray:
        """Dense output at many times, one row a time.

        Some interpolants evaluate the field once more: a callback then reads the
        arrays it read in the solve.
        """
        evaluate = self._session.module.interpolate
        if self._callback is None or leaves is None:
            matrix = self._session.call(evaluate, solution, times)
        else:
            current, self._callback.leaves = self._callback.leaves, leaves
            try:
                matrix = self._session.call(evaluate, solution, times)
            finally:
                self._callback.leaves = current
        return np.array(np.asarray(matrix).T, order="C")


def _number(value: Any) -> float:
    return 0.0 if value is None else float(value)


def most_steps(options: Options) -> int:
    """The most steps of a solve: by default those of the grid, where steps are its."""
    if options.max_steps is not None:
        return options.max_steps
    if options.path is not None and options.fixed_steps:
        return options.path.steps
    return DEFAULT_MAX_STEPS
