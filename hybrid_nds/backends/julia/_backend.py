"""Julia's DifferentialEquations.jl as a backend: lowered fields, or callbacks."""

from __future__ import annotations

import functools
from typing import Any

import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ... import runtime
from ..._core import is_concrete
from ...methods import (
    ALGEBRAIC_RESIDUAL,
    ODE_METHODS,
    Method,
    find_solver,
    solver_names,
)
from ...problems import ODEProblem, SDEProblem
from ...solution import Outcome, Provenance, Solution
from .._options import Options
from .._tolerances import recorded_tolerance
from ._cache import PreparedCache
from ._prepared import FIXED_STEP_NEWTON, Approach, PreparedProblem, RawResult
from ._report import PYTHON_VERSIONS, reporting
from ._sde import StochasticJulia
from ._worker import RemoteJulia, Reply, check_worker, reply_of

_EXTRA = ("form", "newton_tolerance", "rhs", "specialize", "step_to_saveat", "worker")
_OUTCOMES: tuple[Any, ...] = tuple(
    getattr(Outcome, name) for name in Outcome._name_to_item
)
# Beyond this, static arrays take minutes to compile and gain nothing.
_LARGEST_SCALAR_FORM = 100


class JuliaBackend:
    """The DifferentialEquations.jl stack."""

    def __init__(self):
        self._prepared = PreparedCache()
        self._algorithms: dict[Any, Any] = {}
        self._provenances: dict[Any, Provenance] = {}
        self._remote = RemoteJulia(_answer, _versions)
        self._stochastic = StochasticJulia()

    @property
    def name(self) -> str:
        return "julia"

    def solver_names(self) -> tuple[str, ...]:
        return solver_names("julia")

    def solve(self, problem: Any, options: Options) -> Solution:
        if isinstance(problem, SDEProblem):
            return self._stochastic.solve(problem, options)
        info = find_solver(options.solver, "julia")
        approach = check(problem, options, info)
        worker = options.extra.get("worker")
        if worker is not None:
            versions = self._remote.versions(worker)
            provenance = self._provenance(versions, options, info, approach)
            return self._remote.solve(problem, options, provenance)
        session = runtime.session()
        events = options.event or ()
        prepared = self._prepared.get(session, problem, events, approach)
        algorithm = self._algorithm(session, info, options, problem)
        step_to = options.extra.get("step_to_saveat")
        if step_to is None:
            step_to = "julia" in info.coarse_output
        with reporting(problem, options) as report:
            raw = prepared.solve(
                problem, options, algorithm, step_to_saveat=step_to, report=report
            )
        return self._solution(session, prepared, raw, options, info, approach)

    def _algorithm(
        self,
        session: runtime.Session,
        info: Method,
        options: Options,
        problem: ODEProblem,
    ) -> Any:
        tolerance = options.extra.get("newton_tolerance")
        if tolerance is None and options.fixed_steps:
            tolerance = FIXED_STEP_NEWTON[problem.dtype.name]
        elif (
            tolerance is None
            and problem.kind.mass_matrix
            and ALGEBRAIC_RESIDUAL in info.faults
        ):
            tolerance = _constrained_newton(float(options.rtol), problem.dtype)
        key = (info.julia, tolerance)
        if key not in self._algorithms:
            self._algorithms[key] = session.module.algorithm(*key)
        return self._algorithms[key]

    def _solution(
        self,
        session: runtime.Session,
        prepared: PreparedProblem,
        raw: RawResult,
        options: Options,
        info: Method,
        approach: Approach,
    ) -> Solution:
        layout = prepared.layout
        dense = isinstance(options.saveat, str) and options.saveat == "dense"
        asked = options.saveat is not None and not dense
        ts: Any = raw.times if asked else raw.end_times
        states = raw.states if asked else raw.ends
        succeeded = raw.code <= 1
        return Solution(
            ts=ts,
            ys=layout.unflatten(states),
            stats=raw.stats,
            outcome=_OUTCOMES[raw.code],
            event_index=raw.event if options.event else None,
            provenance=self._provenance(session.versions, options, info, approach),
            interpolation=JuliaDense(session, prepared, raw) if dense else None,
            end_time=raw.end_times[0],
            end_state=layout.unflatten(raw.ends[0]),
            message="" if succeeded else _message(prepared),
        )

    def _provenance(
        self,
        versions: tuple[tuple[str, str], ...],
        options: Options,
        info: Method,
        approach: Approach,
    ) -> Provenance:
        rtol, dt = (
            float(value) if value is not None and is_concrete(value) else None
            for value in (options.rtol, options.dt)
        )
        atol = recorded_tolerance(options.atol)
        key = (info.julia, approach.way, rtol, atol, dt, versions)
        if key not in self._provenances:
            if len(self._provenances) > 1000:
                self._provenances.clear()
            self._provenances[key] = Provenance(
                "julia",
                str(info.julia),
                PYTHON_VERSIONS + versions,
                rtol,
                atol,
                dt,
                approach.way,
            )
        return self._provenances[key]


@functools.cache
def _own_backend() -> JuliaBackend:
    return JuliaBackend()


def _answer(problem: ODEProblem, options: Options) -> tuple[Reply, str]:
    """Solve for another process."""
    solution = _own_backend().solve(problem, options)
    return reply_of(solution), solution.message


def _versions() -> tuple[tuple[str, str], ...]:
    return runtime.session().versions


class JuliaDense:
    """Julia's dense output, held to the span that was solved."""

    def __init__(
        self, session: runtime.Session, prepared: PreparedProblem, raw: RawResult
    ):
        self._session = session
        self._prepared = prepared
        self._solution = prepared.solution
        self._weights = prepared.callback_leaves
        self._span = float(raw.start_time), float(raw.end_times[0])

    def __call__(self, t: Any) -> PyTree[np.ndarray]:
        if not is_concrete(t):
            raise TypeError(
                "Solution.evaluate: `t` must be a concrete number: the Julia backend "
                "cannot be traced by JAX."
            )
        times = np.asarray(t, self._prepared.dtype)
        low, high = sorted(self._span)
        outside = times[(times < low) | (times > high) | np.isnan(times)]
        if outside.size:
            raise ValueError(
                "Solution.evaluate: `t` must lie within the solved span from "
                f"{low} to {high}, got {float(outside.flat[0])}."
            )
        states = self._prepared.interpolate(
            self._solution, times.reshape(-1), self._weights
        )
        return self._prepared.layout.unflatten(states.reshape(*times.shape, -1))


def check(problem: ODEProblem, options: Options, info: Method) -> Approach:
    """Check what the Julia backend alone can know before Julia is called.

    **Arguments:** the problem, its options in normal form, and the solver.

    **Returns:** how the field is to reach Julia.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    extra = options.extra
    unknown = sorted(set(extra) - set(_EXTRA))
    if unknown:
        raise TypeError(
            f"solve: the julia backend takes no option {', '.join(unknown)}; beside "
            f"the shared ones it takes {', '.join(_EXTRA)}."
        )
    if extra.get("worker") is None:
        _check_concrete(problem, options)
    else:
        check_worker(options)
    if options.adjoint is not None:
        raise ValueError(
            "solve: `adjoint` is for the Diffrax backend; the Julia backend does not "
            f"differentiate, got {options.adjoint!r}."
        )
    if not isinstance(options.progress, bool | np.bool_):
        raise TypeError(
            "solve: `progress` must be True or False on the Julia backend, got "
            f"{type(options.progress).__name__}."
        )
    way = extra.get("rhs", "lowered")
    form = extra.get("form", "array")
    for name, value, known in (
        ("rhs", way, ("lowered", "callback")),
        ("form", form, ("array", "scalar")),
    ):
        if value not in known:
            raise ValueError(f"solve: `{name}` must be one of {known}, got {value!r}.")
    specialize = extra.get("specialize", False)
    if not isinstance(specialize, bool):
        raise TypeError(
            f"solve: `specialize` must be True or False, got {specialize!r}."
        )
    step_to_saveat = extra.get("step_to_saveat")
    if not (step_to_saveat is None or isinstance(step_to_saveat, bool)):
        raise TypeError(
            "solve: `step_to_saveat` must be True, False or None, got "
            f"{step_to_saveat!r}."
        )
    if form == "scalar":
        _check_scalar_form(problem, way)
    _check_newton_tolerance(extra.get("newton_tolerance"), info)
    if np.ndim(options.atol) and not info.component_tolerances:
        raise ValueError(
            f"solve: {info.name} takes one number for `atol` in Julia, not one for "
            "each component; pass a number, or take Rodas5P or FBDF."
        )
    if problem.mass_matrix is not None and not info.mass_matrix:
        able = ", ".join(i.name for i in ODE_METHODS if i.mass_matrix and i.julia)
        raise ValueError(
            f"solve: {info.name} takes no `mass_matrix`; these solvers do: {able}."
        )
    return Approach(way, form, specialize)


def _constrained_newton(rtol: float, dtype: np.dtype) -> float:
    """Newton's tolerance κ of Radau methods with algebraic equations.

    Julia's holds stages to κ of rtol^(2/3)/10; ten units in the last place are all that
    the iteration can reach (Hairer & Wanner 1996, section IV.8).
    """
    if rtol == 0:
        return 0.01
    reachable = 100 * float(np.finfo(dtype).eps) / rtol ** (2 / 3)
    return min(max(reachable, 1e-6), 0.01)


def _check_concrete(problem: ODEProblem, options: Options) -> None:
    given = (problem, options.rtol, options.atol, options.dt, options.saveat)
    if all(is_concrete(leaf) for leaf in jtu.tree_leaves((given, options.event))):
        return
    raise TypeError(
        "solve: the Julia backend cannot be traced, so `problem` and its options must "
        "be concrete: call it outside jax.jit, jax.vmap and jax.grad, differentiate "
        'with backend="diffrax", or solve in a process of its own, which compiled '
        "functions can use, with worker=hybrid_nds.JuliaWorker()."
    )


def _check_scalar_form(problem: ODEProblem, way: str) -> None:
    if way == "callback":
        raise ValueError(
            'solve: `form="scalar"` is a form of lowered code; leave it out with '
            '`rhs="callback"`.'
        )
    if problem.mass_matrix is not None:
        raise ValueError(
            'solve: `form="scalar"` takes no `mass_matrix`; leave `form` out.'
        )
    if problem.dimension > _LARGEST_SCALAR_FORM:
        raise ValueError(
            f'solve: `form="scalar"` is for at most {_LARGEST_SCALAR_FORM} scalars in '
            f"the state, got {problem.dimension}; leave `form` out."
        )


def _check_newton_tolerance(tolerance: Any, info: Method) -> None:
    if tolerance is None:
        return
    if not info.newton:
        able = ", ".join(i.name for i in ODE_METHODS if i.newton)
        raise ValueError(
            f"solve: {info.name} takes no `newton_tolerance`; these solvers do: {able}."
        )
    if not isinstance(tolerance, float) or not 0 < tolerance < 1:
        raise ValueError(
            "solve: `newton_tolerance` must be a number between 0 and 1, the fraction "
            f"of the error tolerance left to Newton's iteration; got {tolerance!r}."
        )


def _message(prepared: PreparedProblem) -> str:
    return f"Julia says: {prepared.message}."
