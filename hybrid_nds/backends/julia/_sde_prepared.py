"""A stochastic problem made ready in Julia, and its Brownian path on the way there."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ...lowering import lower_stochastic_problem, paired_fields
from ...problems import SDEProblem
from ...runtime import Session
from .._options import DEFAULT_MAX_STEPS, Options
from ._cache import structure_key
from ._fields import (
    CallbackWeights,
    FunctionCache,
    Way,
    flat_function,
    host_function,
    julia_type,
    memory_view,
    vector_view,
)
from ._prepared import (
    KEEP,
    STATS,
    ParameterSource,
    RawResult,
    StateLayout,
    parameter_count,
)

_KEPT_PROBLEMS = 128


class PreparedStochasticProblem:
    """A stochastic problem in Julia, to be solved along any number of paths.

    **Arguments:** the Julia session, a cache of Julia functions, the problem, how its
    fields reach Julia, and whether the diffusion is to be a matrix there, which one of
    scalar noise may be.
    """

    def __init__(
        self,
        session: Session,
        cache: FunctionCache,
        problem: SDEProblem,
        way: Way,
        matrix: bool,
    ):
        module = session.module
        self.dtype = problem.dtype
        self.layout = StateLayout(problem.y0)
        self._element = julia_type(session, self.dtype)
        self._session = session
        self._motions = problem.noise_dimension
        functions, callback = _functions(session, cache, problem, way)
        model = module.stochastic_model(self._element, *functions, matrix)
        weights = _weights(problem)
        count = parameter_count(weights) if way == "lowered" else 0
        self.handle = module.PreparedStochastic(
            self._element,
            model,
            problem.dimension,
            count,
            self._motions,
            self._motions if matrix else 0,
        )
        self._start = vector_view(session, self.handle.start, self.dtype)
        self._report = vector_view(session, self.handle.report, np.dtype(np.int64))
        parameters = vector_view(session, self.handle.parameters, self.dtype)
        self._weights = callback or ParameterSource(weights, parameters)
        self._path: tuple[Any, int] = (None, 0)

    def fill(self, problem: SDEProblem) -> None:
        """Write the state and the parameters of a problem of this structure."""
        self.layout.flatten(problem.y0, self._start)
        self._weights.fill(_weights(problem))

    def solve(
        self,
        problem: SDEProblem,
        options: Options,
        method: Any,
        report: Callable[[float], None] | None,
    ) -> RawResult:
        """Solve a problem of the structure this one was prepared for.

        **Arguments:** the problem, its checked options, the Julia method, and a
        callable that is told the time reached, or `None`.
        """
        self.fill(problem)
        self.set_path(options.along)
        keep = self._set_times(options.saveat)
        steps = options.max_steps
        if steps is None:
            steps = options.along.steps if options.fixed_steps else DEFAULT_MAX_STEPS
        start_time = float(problem.t0)
        adaptive = not options.fixed_steps
        self._session.call(
            getattr(self._session.module, "solve_stochastic!"),
            self.handle,
            method,
            start_time,
            float(problem.t1),
            float(options.rtol) if adaptive else 0.0,
            _absolute(options.atol) if adaptive else 0.0,
            float(options.dt) if adaptive and options.dt is not None else 0.0,
            keep,
            steps,
            self._path[1],
            report,
        )
        return self._result(start_time)

    def set_path(self, path: Any) -> None:
        """Write a Brownian path; `None` leaves no increments."""
        if path is None:
            getattr(self._session.module, "resize_path!")(self.handle, 0, False)
            self._path = None, 0
            return
        if path is self._path[0]:
            return
        increments, areas = _read(path)
        handle, dtype = self.handle, self.dtype
        areas_kept = areas is not None
        getattr(self._session.module, "resize_path!")(handle, path.steps, areas_kept)
        for target, values in (
            (handle.grid, path.times),
            (handle.increments, increments),
            (handle.areas, areas),
        ):
            if values is not None:
                # A row a step here is a column a step there.
                view = vector_view(self._session, target, dtype)
                view[:] = np.asarray(values, dtype).reshape(-1)
        # For methods that draw numbers of their own: other ones for another path.
        words = hashlib.blake2b(np.asarray(increments).tobytes(), digest_size=7)
        self._path = path, int.from_bytes(words.digest(), "little")

    def _set_times(self, saveat: Any) -> int:
        if saveat is None:
            return KEEP["end"]
        if isinstance(saveat, str):
            return KEEP[saveat]
        resize = getattr(self._session.module, "resize_times!")
        vector = resize(self.handle, len(saveat))
        vector_view(self._session, vector, self.dtype)[:] = saveat
        return KEEP["times"]

    def _result(self, start_time: float) -> RawResult:
        report = self._report.tolist()
        count = report[8]
        times = memory_view(report[9], count, self.dtype).copy()
        size = count * self._start.size
        states = memory_view(report[10], size, self.dtype).copy().reshape(count, -1)
        return RawResult(
            code=report[0],
            event=-1,
            stats=dict(zip(STATS, report[2:8], strict=True)),
            start_time=start_time,
            times=times[:-1],
            states=states[:-1],
            end_times=times[-1:],
            ends=states[-1:],
        )

    @property
    def message(self) -> str:
        """The solver's own word on the last solve."""
        return str(self.handle.message)


class PreparedStochasticCache:
    """Prepared stochastic problems by their structure, the oldest unused let go."""

    def __init__(self):
        self._functions = FunctionCache()
        self._known: collections.OrderedDict[Any, PreparedStochasticProblem] = (
            collections.OrderedDict()
        )

    def get(
        self, session: Session, problem: SDEProblem, way: Way, matrix: bool
    ) -> PreparedStochasticProblem:
        """The prepared form of a problem."""
        trees = (problem.y0, problem.drift, problem.diffusion, problem.args)
        structure = structure_key(trees)
        key = (structure, problem.noise_dimension, way, matrix)
        found = None if structure is None else self._known.get(key)
        if found is None:
            found = PreparedStochasticProblem(
                session, self._functions, problem, way, matrix
            )
            if structure is None:
                return found
            self._known[key] = found
            if len(self._known) > _KEPT_PROBLEMS:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return found


@eqx.filter_jit
def _read(path: Any) -> tuple[jax.Array, jax.Array | None]:
    return path.increments()


def _weights(problem: SDEProblem) -> Any:
    return (problem.drift, problem.diffusion), problem.args


def _functions(
    session: Session, cache: FunctionCache, problem: SDEProblem, way: Way
) -> tuple[list[Any], CallbackWeights | None]:
    """Drift, drift Jacobian and diffusion in Julia; where callbacks find the arrays
    that they read, `None` for lowered functions."""
    if way == "lowered":
        lowered = lower_stochastic_problem(problem)
        parts = (lowered.drift, lowered.jacobian, lowered.diffusion)
        return [cache.get(session, part) for part in parts], None
    n, m = problem.dimension, problem.noise_dimension
    drift, diffusion = (
        flat_function(one, problem.y0, problem.args) for one in paired_fields(problem)
    )
    weights = CallbackWeights(_weights(problem))
    sizes = (
        (drift, (n,)),
        (jax.jacfwd(drift, argnums=1), (n, n)),
        (diffusion, (n * m if problem.matrix_noise else n,)),
    )
    return [
        host_function(session, function, weights, problem, size)
        for function, size in sizes
    ], weights


def _absolute(atol: Any) -> Any:
    return np.asarray(atol) if np.ndim(atol) else float(atol)
