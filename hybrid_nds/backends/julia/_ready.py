"""What a solve in Julia needs: the prepared problem, the algorithm, the versions."""

from __future__ import annotations

import dataclasses
from typing import Any

from ... import runtime
from ...methods import Method, find_solver, register_catalogue
from ...problems import Kind, Problem
from .._options import Options
from ._catalogue import catalogued
from ._checks import check
from ._context import context_of
from ._prepared import FIXED_STEP_NEWTON, Approach
from ._report import PYTHON_VERSIONS

Versions = tuple[tuple[str, str], ...]

register_catalogue("julia", catalogued)

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


@dataclasses.dataclass(frozen=True, eq=False)
class Ready:
    """A solve that can start.

    **Fields:** the session; the problem prepared there; the algorithm in Julia; the
    versions of the packages that run.
    """

    session: runtime.Session
    prepared: Any
    algorithm: Any
    versions: Versions


def method_of(problem: Problem, options: Options) -> Method:
    """The row of the table that a solve takes."""
    return find_solver(options.solver, "julia", problem.kind.name)


def ready(problem: Problem, options: Options) -> Ready:
    """Check a solve and prepare it in Julia."""
    method = method_of(problem, options)
    return ready_as(problem, options, method, check(problem, options, method))


def ready_as(
    problem: Problem, options: Options, method: Method, approach: Approach
) -> Ready:
    """Prepare a solve that was checked."""
    session = runtime.session()
    versions = load(session, problem.kind)
    events = options.event or ()
    prepared = context_of(session).prepared(session, problem, events, approach)
    algorithm = algorithm_of(session, problem, options, method, approach)
    algorithm = session.module.referred(algorithm.number)
    return Ready(session, prepared, algorithm, versions)


def load(session: runtime.Session, kind: Kind) -> Versions:
    """Let Julia load what a kind of equation needs; StochasticDiffEq is what only
    stochastic problems wait for.

    **Returns:** the versions of the packages that run.

    **Raises:** `JuliaNotFoundError` where the environment lacks a package.
    """
    own = PYTHON_VERSIONS + session.versions
    if not kind.follows_path:
        return own
    context = context_of(session)
    if context.stochastic_version is None:
        missing = session.bridge.text("load_stochastic")
        if missing:
            raise runtime.JuliaNotFoundError(_MISSING[missing])
        context.stochastic_version = session.bridge.text("stochastic_version")
    return (*own, ("StochasticDiffEq", context.stochastic_version))


def algorithm_of(
    session: runtime.Session,
    problem: Problem,
    options: Options,
    method: Method,
    approach: Approach,
) -> runtime.Reference:
    """The algorithm in Julia, stored there."""
    kind = problem.kind
    tolerance = options.extra.get("newton_tolerance")
    solves = method.implicit or not kind.follows_path
    if tolerance is None and solves and options.fixed_steps:
        tolerance = FIXED_STEP_NEWTON[problem.dtype.name]
    form = approach.jacobian.form
    form = form if form in ("sparse", "matrix-free") else "dense"
    made: tuple[Any, ...] = ("algorithm", method.julia, tolerance, form)
    conditioned = approach.jacobian.preconditioner
    if kind.follows_path:
        stratonovich = kind.interpretation == "stratonovich"
        theta = options.extra.get("theta")
        made = ("stochastic_method", method.julia, stratonovich, tolerance, theta)
    return context_of(session).algorithms.get(
        (made, conditioned),
        lambda: session.bridge.make(
            *made, *(() if conditioned is None else (conditioned.reference(session),))
        ),
    )
