"""A stochastic problem made ready in Julia, and its Brownian path on the way there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ...lowering import lower_stochastic_problem, paired_fields
from ...problems import SDEProblem
from ...runtime import Session
from .._options import DEFAULT_MAX_STEPS, Options
from ._fields import (
    CallbackWeights,
    FunctionCache,
    Way,
    flat_function,
    host_function,
    julia_type,
    vector_view,
)
from ._prepared import Approach, Prepared, RawResult, parameter_count


class PreparedStochasticProblem(Prepared):
    """A stochastic problem in Julia, to be solved along any number of paths.

    **Arguments:** the Julia session, a cache of Julia functions, the problem, and how
    it reaches Julia.
    """

    def __init__(
        self,
        session: Session,
        cache: FunctionCache,
        problem: SDEProblem,
        approach: Approach,
    ):
        module, element = session.module, julia_type(session, problem.dtype)
        functions, callback = _functions(session, cache, problem, approach.way)
        model = module.stochastic_model(element, *functions, approach.matrix)
        weights = _weights(problem)
        count = parameter_count(weights) if approach.way == "lowered" else 0
        motions = problem.noise_dimension
        handle = module.Prepared(
            element,
            model,
            problem.dimension,
            count,
            motions,
            motions if approach.matrix else 0,
        )
        super().__init__(session, problem, handle, weights, callback)
        self._path: Any = None

    def fill(self, problem: SDEProblem) -> None:
        """Write the state and the parameters of a problem of this structure."""
        self.layout.flatten(problem.y0, self._start)
        self._weights.fill(_weights(problem))

    def solve(
        self,
        problem: SDEProblem,
        options: Options,
        algorithm: Any,
        *,
        step_to_saveat: bool = False,
        report: Callable[[float], None] | None,
    ) -> RawResult:
        """Solve a problem of the structure this one was prepared for.

        **Arguments:** the problem, its checked options, the Julia algorithm, whether
        steps end at the times of `saveat`, which they do, and a callable that is told
        the time reached, or `None`.
        """
        self.fill(problem)
        self.set_path(options.along)
        keep = self._set_times(options.saveat, step_to_saveat)
        steps = options.max_steps
        if steps is None:
            steps = options.along.steps if options.fixed_steps else DEFAULT_MAX_STEPS
        start_time = float(problem.t0)
        adaptive = not options.fixed_steps
        self._session.call(
            getattr(self._session.module, "solve!"),
            self.handle,
            algorithm,
            start_time,
            float(problem.t1),
            float(options.rtol) if adaptive else 0.0,
            _absolute(options.atol) if adaptive else 0.0,
            float(options.dt) if adaptive and options.dt is not None else 0.0,
            keep,
            steps,
            report,
        )
        return self._result(start_time)

    def set_path(self, path: Any) -> None:
        """Write a Brownian path; `None` leaves no increments."""
        resize = getattr(self._session.module, "resize_path!")
        if path is None:
            resize(self.handle, 0, False)
        elif path is not self._path:
            increments, areas = _read(path)
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
