"""Stochastic problems on StochasticDiffEq.jl, along the same path as on Diffrax."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import jax.tree_util as jtu
import numpy as np

from ... import runtime
from ..._core import is_concrete, precision_of
from ...methods import (
    LOST_NOISE,
    LOST_TERMS,
    SDE_METHODS,
    UNCONTROLLED,
    Method,
    find_solver,
)
from ...problems import SDEProblem
from ...solution import Outcome, Provenance, Solution
from .._options import Options
from .._tolerances import recorded_tolerance
from ._prepared import FIXED_STEP_NEWTON, RawResult
from ._report import PYTHON_VERSIONS, reporting
from ._sde_prepared import PreparedStochasticCache, PreparedStochasticProblem
from ._worker import RemoteJulia, Reply, check_worker, reply_of

_EXTRA = ("newton_tolerance", "rhs", "theta", "worker")
_OUTCOMES: tuple[Any, ...] = tuple(
    getattr(Outcome, name) for name in Outcome._name_to_item
)
_UNSTABLE, _STEP_TOO_SMALL = (
    list(Outcome._name_to_item).index(name)
    for name in ("unstable", "step_size_too_small")
)


class StochasticJulia:
    """Stochastic solves on the Julia stack."""

    def __init__(self):
        self._prepared = PreparedStochasticCache()
        self._methods: dict[Any, Any] = {}
        self._versions: tuple[tuple[str, str], ...] | None = None
        self._remote = RemoteJulia(_answer, _versions)

    def ready(
        self, problem: SDEProblem, options: Options
    ) -> tuple[PreparedStochasticProblem, Any, tuple[tuple[str, str], ...]]:
        """What a solve needs, checked.

        **Returns:** the problem prepared in Julia, the method, and the versions of the
        packages that run.
        """
        info = find_solver(options.solver, "julia", "sde")
        check_stochastic(problem, options, info)
        session = runtime.session()
        versions = self.load(session)
        matrix = problem.matrix_noise or (
            problem.noise == "scalar" and info.scalar_as_matrix
        )
        way = options.extra.get("rhs", "lowered")
        prepared = self._prepared.get(session, problem, way, matrix)
        return prepared, self._method(session, problem, options, info), versions

    def solve(self, problem: SDEProblem, options: Options) -> Solution:
        """Solve a stochastic problem along the path in its options."""
        info = find_solver(options.solver, "julia", "sde")
        way = options.extra.get("rhs", "lowered")
        worker = options.extra.get("worker")
        if worker is not None:
            check_stochastic(problem, options, info)
            versions = self._remote.versions(worker)
            provenance = _provenance(options, info, versions, way)
            return self._remote.solve(problem, options, provenance)
        prepared, method, versions = self.ready(problem, options)
        with reporting(problem, options) as report:
            raw = prepared.solve(problem, options, method, report)
        asked = options.saveat is not None
        layout = prepared.layout
        return Solution(
            ts=raw.times if asked else raw.end_times,  # pyright: ignore[reportArgumentType]
            ys=layout.unflatten(raw.states if asked else raw.ends),
            stats=raw.stats,
            outcome=_OUTCOMES[raw.code],
            event_index=None,
            provenance=_provenance(options, info, versions, way),
            end_time=raw.end_times[0],
            end_state=layout.unflatten(raw.ends[0]),
            message=_message(prepared, raw),
        )

    def load(self, session: runtime.Session) -> tuple[tuple[str, str], ...]:
        """Let Julia load StochasticDiffEq, which only stochastic problems wait for.

        **Returns:** the versions of the packages that run.
        """
        if self._versions is None:
            missing = str(session.call(session.module.load_stochastic))
            if missing:
                raise runtime.JuliaNotFoundError(_MISSING[missing])
            version = str(session.module.stochastic_version())
            self._versions = (
                *PYTHON_VERSIONS,
                *session.versions,
                ("StochasticDiffEq", version),
            )
        return self._versions

    def _method(
        self,
        session: runtime.Session,
        problem: SDEProblem,
        options: Options,
        info: Method,
    ) -> Any:
        tolerance = options.extra.get("newton_tolerance")
        if tolerance is None and info.implicit and options.fixed_steps:
            tolerance = FIXED_STEP_NEWTON[problem.dtype.name]
        stratonovich = problem.interpretation == "stratonovich"
        theta = options.extra.get("theta")
        key = (info.julia, stratonovich, tolerance, theta)
        if key not in self._methods:
            self._methods[key] = session.module.stochastic_method(*key)
        return self._methods[key]


@functools.cache
def _own_backend() -> StochasticJulia:
    return StochasticJulia()


def _answer(problem: SDEProblem, options: Options) -> tuple[Reply, str]:
    """Solve for another process, which has warned of what there is to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The path's numbers go through JAX.
        with precision_of(problem):
            solution = _own_backend().solve(problem, options)
    return reply_of(solution), solution.message


def _versions() -> tuple[tuple[str, str], ...]:
    return _own_backend().load(runtime.session())


_MISSING = {
    "package": (
        "The Julia environment lacks StochasticDiffEq 7, which stochastic problems "
        'need: add it there, by `import Pkg; Pkg.add("StochasticDiffEq")`.'
    ),
    "extension": (
        "The Julia environment does not know that HybridNDS works with its "
        "StochasticDiffEq: update it there, by `import Pkg; Pkg.resolve()`."
    ),
}


def check_stochastic(problem: SDEProblem, options: Options, info: Method) -> None:
    """Check what the Julia backend alone can know before Julia is called.

    **Arguments:** the problem, its options in normal form, and the solver.

    **Raises:** `ValueError` or `TypeError`, naming the option.

    **Warns:** of a method that is known to go wrong on such a problem.
    """
    extra = options.extra
    unknown = sorted(set(extra) - set(_EXTRA))
    if unknown:
        raise TypeError(
            "solve: for a stochastic problem the julia backend takes no option "
            f"{', '.join(unknown)}; beside the shared ones it takes "
            f"{', '.join(_EXTRA)}."
        )
    given = (problem, options.along, options.rtol, options.atol, options.saveat)
    if extra.get("worker") is not None:
        check_worker(options)
    elif not all(is_concrete(leaf) for leaf in jtu.tree_leaves(given)):
        raise TypeError(
            "solve: the Julia backend cannot be traced, so `problem`, its path and its "
            "options must be concrete: call it outside jax.jit, jax.vmap and jax.grad, "
            'differentiate with backend="diffrax", or solve in a process of its own, '
            "which compiled functions can use, with worker=hybrid_nds.JuliaWorker()."
        )
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
    if way not in ("lowered", "callback"):
        raise ValueError(
            f"solve: `rhs` must be one of ('lowered', 'callback'), got {way!r}."
        )
    tolerance = extra.get("newton_tolerance")
    if tolerance is not None:
        _check_newton_tolerance(tolerance, info)
    if extra.get("theta") is not None:
        _check_theta(extra["theta"], info)
    _check_noise(problem, options, info)


def _check_theta(theta: Any, info: Method) -> None:
    if not info.theta:
        able = ", ".join(one.name for one in SDE_METHODS if one.theta)
        raise ValueError(
            f"solve: {info.name} has no `theta`, the weight of the drift at the end of "
            f"a step; {able} have."
        )
    if not isinstance(theta, float | int) or not 0 < theta <= 1:
        raise ValueError(
            "solve: `theta` must be a number above 0 and up to 1: 1 is implicit Euler, "
            f"1/2 the trapezoidal rule; got {theta!r}."
        )


def _check_newton_tolerance(tolerance: Any, info: Method) -> None:
    if not info.implicit:
        raise ValueError(
            f"solve: {info.name} solves no equations and takes no `newton_tolerance`."
        )
    if not isinstance(tolerance, float) or not 0 < tolerance < 1:
        raise ValueError(
            "solve: `newton_tolerance` must be a number between 0 and 1, the fraction "
            f"of the error tolerance left to Newton's iteration; got {tolerance!r}."
        )


def _check_noise(problem: SDEProblem, options: Options, info: Method) -> None:
    """Refuse or warn of what StochasticDiffEq is known to get wrong."""
    several = problem.noise_dimension > 1
    faults = {fault.where: fault for fault in info.faults}
    if LOST_TERMS in info.faults and several:
        raise ValueError(
            f"solve: {info.name} of StochasticDiffEq 7 {LOST_TERMS.effect}, and "
            f"`problem` has {problem.noise_dimension}; take DRI1."
        )
    if options.fixed_steps:
        return
    if problem.matrix_noise and several and UNCONTROLLED in faults:
        raise ValueError(
            f"solve: with matrix noise {info.name} {faults[UNCONTROLLED].effect}, and "
            "cannot hold `rtol` and `atol`; pass `dt` alone for fixed steps."
        )
    diagonal = not problem.matrix_noise and problem.noise != "scalar"
    if LOST_NOISE in info.faults and diagonal:
        warnings.warn(
            f"solve: adaptive {info.name} of StochasticDiffEq 7 goes wrong on diagonal "
            f"noise: it {LOST_NOISE.effect}. Pass `dt` alone for fixed steps, or take "
            "ImplicitEM.",
            stacklevel=5,
        )


def _message(prepared: PreparedStochasticProblem, raw: RawResult) -> str:
    if raw.code <= 1:
        return ""
    said = f"Julia says: {prepared.message}."
    if raw.code == _UNSTABLE:
        return (
            "The state was no longer finite after step "
            f"{raw.stats['num_accepted_steps']}, at t = {float(raw.end_times[0]):.9g}."
        )
    if raw.code == _STEP_TOO_SMALL:
        return (
            "The tolerances ask for steps below those of the path's grid, between "
            f"which nothing is known of it; pass a finer path. {said}"
        )
    return said


def _provenance(
    options: Options,
    info: Method,
    versions: tuple[tuple[str, str], ...],
    way: str,
) -> Provenance:
    rtol, dt = (
        float(value) if value is not None and is_concrete(value) else None
        for value in (options.rtol, options.dt)
    )
    return Provenance(
        "julia",
        str(info.julia),
        versions,
        rtol,
        recorded_tolerance(options.atol),
        dt,
        way,
    )
