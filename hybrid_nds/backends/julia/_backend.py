"""Julia's DifferentialEquations.jl as a backend: lowered fields, or callbacks."""

from __future__ import annotations

import dataclasses
import functools
import warnings

from ... import runtime
from ..._core import LRU, is_concrete, precision_of
from ...methods import METHODS, Method
from ...problems import Kind, Problem
from ...solution import SUCCESSES, Provenance, Solution, outcome_of
from .._options import Options
from .._protocol import Plan
from .._tolerances import recorded_tolerance
from ._checks import check
from ._crossing import crosses, crossing
from ._dense import JuliaDense
from ._plain import Once, PlainSolve, UnsizedSolve
from ._prepared import Approach, PreparedProblem, RawResult
from ._ready import Versions, load, method_of, ready_as
from ._report import failure_message, reporting
from ._traced import is_traced, without_idle_integers
from ._worker import RemoteJulia, Reply, reply_of


class JuliaBackend:
    """The DifferentialEquations.jl stack."""

    def __init__(self):
        self._provenances: LRU[Provenance] = LRU(1000)
        self._remote = RemoteJulia(_answer, _versions)

    @property
    def name(self) -> str:
        return "julia"

    def raises_when_run(self, problem: Problem, options: Options) -> bool:
        return options.extra.get("worker") is None and is_traced(problem, options)

    @property
    def methods(self) -> tuple[Method, ...]:
        return METHODS

    def solve(self, problem: Problem, options: Options) -> Solution:
        return self.plan(problem, options)(problem)

    def plan(self, problem: Problem, options: Options) -> Plan:
        method = method_of(problem, options)
        approach = check(problem, options, method)
        worker = options.extra.get("worker")
        if worker is not None:
            versions = self._remote.versions(worker, problem.kind)
            provenance = self._provenance(versions, options, method, approach)
            sent = options
            if not problem.kind.follows_path:
                # What was chosen here, where the field is known.
                extra = {**options.extra, "jacobian": approach.jacobian.asked}
                sent = dataclasses.replace(options, extra=extra)
            solve = lambda problem: self._remote.solve(problem, sent, provenance)
            return Once(options, solve)
        step_to = options.extra.get("step_to_saveat")
        if step_to is None:
            step_to = "julia" in method.coarse_output
        versions = load(runtime.session(), problem.kind)
        provenance = self._provenance(versions, options, method, approach)
        traced = is_traced(problem, options)
        if traced or crosses(options, approach):
            known = without_idle_integers(problem) if traced else problem
            prepared = crossing(
                known, options, method, approach, step_to_saveat=step_to
            )
            if traced:
                return Once(options, lambda _: prepared.within_trace(provenance))
            sized = not isinstance(options.saveat, str)
            return (PlainSolve if sized else UnsizedSolve)(prepared, provenance)
        return Once(
            options,
            lambda problem: _through_juliacall(
                problem, options, method, approach, provenance, step_to_saveat=step_to
            ),
        )

    def _provenance(
        self, versions: Versions, options: Options, method: Method, approach: Approach
    ) -> Provenance:
        rtol, dt = (
            float(value) if value is not None and is_concrete(value) else None
            for value in (options.rtol, options.dt)
        )
        atol = recorded_tolerance(options.atol)
        implicit = method.kind == "ode" and method.implicit
        jacobian = approach.jacobian.describe() if implicit else None
        # An object that was made in Julia is known there by a number alone.
        named = str(method.julia)
        solver = method.name if named.startswith("#") else named
        made = (
            *("julia", solver, versions, rtol, atol, dt, approach.coupling),
            jacobian,
        )
        return self._provenances.get(made, lambda: Provenance(*made))


def _through_juliacall(
    problem: Problem,
    options: Options,
    method: Method,
    approach: Approach,
    provenance: Provenance,
    *,
    step_to_saveat: bool,
) -> Solution:
    """Solve where Python runs during the solve."""
    solve = ready_as(problem, options, method, approach)
    with reporting(problem, options) as report:
        raw = solve.prepared.solve(
            problem,
            options,
            solve.algorithm,
            step_to_saveat=step_to_saveat,
            report=report,
        )
    layout = solve.prepared.layout
    dense = isinstance(options.saveat, str) and options.saveat == "dense"
    saved = options.saveat is not None and not dense
    end_time = raw.end_times[0]
    message = "" if raw.code in SUCCESSES else solve.prepared.message
    return Solution(
        ts=raw.times if saved else raw.end_times,
        ys=layout.unflatten(raw.states if saved else raw.ends),
        stats=raw.stats,
        outcome=outcome_of(raw.code),
        event_index=raw.event if options.event else None,
        provenance=provenance,
        interpolation=_dense(solve.prepared, raw) if dense else None,
        end_time=end_time,
        end_state=layout.unflatten(raw.ends[0]),
        message=failure_message(message, raw.code, raw.stats, end_time, problem.kind),
    )


def _dense(prepared: PreparedProblem, raw: RawResult) -> JuliaDense:
    solution, leaves = prepared.solution, prepared.callback_leaves
    return JuliaDense(
        lambda times: prepared.interpolate(solution, times, leaves),
        prepared.layout,
        prepared.dtype,
        (raw.start_time, float(raw.end_times[0])),
    )


@functools.cache
def _own_backend() -> JuliaBackend:
    return JuliaBackend()


def _answer(problem: Problem, options: Options) -> tuple[Reply, str]:
    """Solve for another process, which has warned of what there is to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The numbers of a path go through JAX.
        with precision_of(problem):
            solution = _own_backend().solve(problem, options)
    return reply_of(solution), solution.message


def _versions(kind: Kind) -> Versions:
    return load(runtime.session(), kind)
