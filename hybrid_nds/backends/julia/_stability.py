"""Tangent vectors along orbits in Julia: the whole loop there, no Python in it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from ... import runtime
from ...lowering import lower
from ...methods import find_solver
from ...noise import grid_steps
from ...problems import (
    SCHEMES,
    ExitStep,
    ODEProblem,
    Problem,
    SDEProblem,
    Segment,
    tangent_step,
)
from ...solution import INTERRUPTED, SUCCESS, Provenance
from .._integration import Integration
from .._options import DEFAULT_MAX_STEPS
from ._context import context_of
from ._fields import julia_type, memory_view, vector_view
from ._layout import Report, report_of
from ._prepared import FIXED_STEP_NEWTON, ParameterSource, parameter_count
from ._ready import ready
from ._report import PYTHON_VERSIONS

# Explicit and of high order: tangent vectors are followed to tight tolerances.
DEFAULT_SOLVER = "Vern7"


@dataclasses.dataclass(frozen=True)
class JuliaTangentFlow:
    """Orbits of a problem with tangent vectors in Julia, ready to be advanced.

    **Fields:** the call that carries one chain on; the flat start vector and the report
    that Julia shares; how many tangent vectors; the precision; the provenance.
    """

    grow: Callable[[int, int, int], None]
    start: np.ndarray
    report: Report
    count: int
    provenance: Provenance

    def advance(
        self,
        states: Float[np.ndarray, "chains n"],
        directions: Float[np.ndarray, "chains n k"],
        first: int,
        intervals: int,
        capacity: int,
    ) -> Segment:
        """Advance all orbits by so many intervals, chain after chain.

        **Arguments:** the flat states and the directions of all chains; the index of
        the first interval, counted from the start; how many intervals.

        **Returns:** a [`Segment`][hybrid_nds.problems.Segment], the same to the
        last bit however a span is cut into segments.
        """
        del capacity
        ends, orthonormal, grown, steps, failed = [], [], [], 0, []
        n = states.shape[1]
        for chain, (state, vectors) in enumerate(zip(states, directions, strict=True)):
            self.start[:n] = state
            self.start[n:] = vectors.T.reshape(-1)
            self.grow(chain, first, intervals)
            report = self.report
            code, done = report.outcome, report.count
            if code == INTERRUPTED:
                raise KeyboardInterrupt
            logs = memory_view(report.states, intervals * self.count, self.start.dtype)
            grown.append(logs.reshape(intervals, self.count)[:done].copy())
            ends.append(self.start[:n].copy())
            orthonormal.append(self.start[n:].reshape(self.count, n).T.copy())
            steps += report.num_steps
            failed.append(code != SUCCESS)
        # Where one chain fails, what the others did after is of no use.
        least = min(map(len, grown))
        first_to_fail = [
            bad and len(own) == least for bad, own in zip(failed, grown, strict=True)
        ]
        return Segment(
            np.stack([own[:least] for own in grown]),
            np.stack(ends),
            np.stack(orthonormal),
            steps,
            np.array(first_to_fail),
        )


def julia_tangent_flow(
    problem: ODEProblem | SDEProblem,
    count: int,
    integration: Integration,
    *,
    interval: float,
    span: float,
) -> JuliaTangentFlow:
    """Make ready to follow orbits and `count` tangent vectors of each in Julia.

    **Arguments:** as of
    [`diffrax_tangent_flow`][hybrid_nds.backends.diffrax.diffrax_tangent_flow].
    Euler's and Heun's schemes of stochastic problems run in loops of this package,
    other methods in those of StochasticDiffEq.

    **Raises:** `ValueError` or `TypeError`, naming the option; what the Julia session
    raises.
    """
    tangent = integration.tangent(problem, count, interval, span)
    if not tangent.kind.follows_path:
        return _ordinary(tangent, count, integration, interval)
    options = integration.options(tangent)
    key, path = integration.key, integration.path
    start = float(problem.t0)
    steps = grid_steps("lyapunov", start, start + interval, float(options.dt))
    seeds = (0, 0) if key is None else _seeds(key)
    run = (start, float(interval), steps)
    info = find_solver(options.solver, "julia", "sde")
    if info.name in SCHEMES:
        return _mapped(problem, count, info.name, run, seeds, path, float(options.dt))
    return _stochastic(tangent, count, options, run, seeds, path)


def julia_exit_loop(
    problem: SDEProblem,
    levels: Callable[[Any], Any],
    boundaries: int,
    scheme: str,
    *,
    dt: float,
    key: PRNGKeyArray,
    bridge: bool,
) -> JuliaExitLoop:
    """Make ready to follow trajectories until they leave a region, in Julia.

    **Arguments:** the problem; the levels of its boundaries, a function of the flat
    state, and how many; a scheme of `hybrid_nds.problems.SCHEMES`; the step; a
    random key; whether a Brownian bridge may cross within a step.

    **Raises:** what lowering and the Julia session raise.
    """
    step = ExitStep(problem, levels, scheme, boundaries)
    entries = problem.dimension + 2 * boundaries
    numbers = jnp.zeros(1 + problem.noise_dimension, problem.dtype)
    session = runtime.session()
    module, element = session.module, julia_type(session, problem.dtype)
    state = jnp.zeros(entries, problem.dtype)
    made = context_of(session).functions.get(
        session, lower(step, problem.t0, state, numbers)
    )
    weights = (step, numbers)
    handle = module.Stability.StepMap(
        element, made, entries, parameter_count(weights), problem.noise_dimension
    )
    ParameterSource(weights, vector_view(session, handle.parameters, problem.dtype))
    call = getattr(module.Stability, "first_exits!")
    seeds = _seeds(key)
    begin = float(problem.t0)

    def run(starts: np.ndarray, first: int, most: int) -> tuple[np.ndarray, np.ndarray]:
        times, through = np.full(len(starts), np.nan), np.full(len(starts), -1)
        columns = np.zeros((len(starts), entries), problem.dtype)
        columns[:, : problem.dimension] = starts
        # Each row is a column in Julia, without a copy.
        level = jax.vmap(levels)(jnp.asarray(starts))
        columns[:, problem.dimension : problem.dimension + boundaries] = level
        steps = session.call(
            call,
            times,
            through,
            handle,
            columns.T,
            boundaries,
            begin,
            dt,
            most,
            first,
            *seeds,
            bridge,
        )
        if int(steps) < 0:
            raise KeyboardInterrupt
        return times, through

    name = f"{scheme} (HybridNDS)"
    return JuliaExitLoop(run, _provenance(name, _versions(session), dt=dt))


@dataclasses.dataclass(frozen=True)
class JuliaExitLoop:
    """Trajectories on their way out of a region, all in Julia.

    **Fields:** `run`, called with flat starts `(n, components)`, the index of the first
    and the most steps of each: the times of the exits, shape `(n,)`, infinite for
    trajectories that stay and NaN for those that fail, and the boundaries; and the
    provenance.
    """

    run: Callable[[np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
    provenance: Provenance


def _ordinary(
    tangent: Problem, count: int, integration: Integration, interval: float
) -> JuliaTangentFlow:
    solver = DEFAULT_SOLVER if integration.solver is None else integration.solver
    options = dataclasses.replace(integration, solver=solver).options(tangent)
    if np.ndim(options.atol):
        raise ValueError("lyapunov: `atol` must be one number for tangent vectors.")
    info = find_solver(options.solver, "julia")
    session = runtime.session()
    module, element = session.module, julia_type(session, tangent.dtype)
    (field,) = tangent.functions
    point = (tangent.t0, tangent.y0, tangent.args)
    functions = context_of(session).functions
    drift = functions.get(session, lower(field, *point))
    # Derivatives of the tangent flow have as many entries as it has, squared.
    none = module.Stability.unavailable
    derivatives = (none, none)
    if info.implicit:
        derivatives = tuple(
            context_of(session).functions.get(session, lower(field, *point, part=part))
            for part in ("jacobian", "time_gradient")
        )
    model = module.model(element, drift, *derivatives)
    weights = (field, tangent.args)
    handle = module.Prepared(
        element, model, tangent.dimension, parameter_count(weights)
    )
    ParameterSource(weights, vector_view(session, handle.parameters, tangent.dtype))
    fixed = options.fixed_steps
    algorithm = module.algorithm(
        info.julia, FIXED_STEP_NEWTON[tangent.dtype.name] if fixed else None
    )
    numbers = (
        0.0 if fixed else float(options.rtol),
        0.0 if fixed else float(options.atol),
        float(options.dt) if fixed else 0.0,
        options.max_steps or DEFAULT_MAX_STEPS,
    )
    tolerances = (
        {"dt": numbers[2]} if fixed else {"rtol": numbers[0], "atol": numbers[1]}
    )
    begin = float(tangent.t0)
    call = getattr(module.Stability, "grow!")

    def grow(chain: int, first: int, intervals: int) -> None:
        del chain
        session.call(
            call,
            handle,
            algorithm,
            count,
            begin,
            float(interval),
            first,
            intervals,
            *numbers,
        )

    return JuliaTangentFlow(
        grow,
        vector_view(session, handle.start, tangent.dtype),
        report_of(session, handle),
        count,
        _provenance(str(info.julia), _versions(session), **tolerances),
    )


def _mapped(
    problem: Problem,
    count: int,
    scheme: str,
    run: tuple[float, float, int],
    seeds: tuple[int, int],
    path: Any,
    dt: float,
) -> JuliaTangentFlow:
    stochastic = cast(SDEProblem, problem)
    step, state, numbers = tangent_step(stochastic, scheme, count)
    session = runtime.session()
    module, element = session.module, julia_type(session, problem.dtype)
    made = context_of(session).functions.get(
        session, lower(step, problem.t0, state, numbers)
    )
    weights = (step, numbers)
    handle = module.Stability.StepMap(
        element,
        made,
        problem.dimension * (1 + count),
        parameter_count(weights),
        problem.noise_dimension,
    )
    ParameterSource(weights, vector_view(session, handle.parameters, problem.dtype))
    if path is not None:
        increments, _ = path.increments()
        room = getattr(module.Stability, "resize_increments!")(handle, path.steps)
        values = np.asarray(increments, problem.dtype).reshape(-1)
        vector_view(session, room, problem.dtype)[:] = values
    call = getattr(module.Stability, "grow_map!")

    def grow(chain: int, first: int, intervals: int) -> None:
        session.call(call, handle, count, *run, first, intervals, *seeds, chain)

    return JuliaTangentFlow(
        grow,
        vector_view(session, handle.start, problem.dtype),
        report_of(session, handle),
        count,
        _provenance(f"{scheme} (HybridNDS)", _versions(session), dt=dt),
    )


def _stochastic(
    tangent: Problem,
    count: int,
    options: Any,
    run: tuple[float, float, int],
    seeds: tuple[int, int],
    path: Any,
) -> JuliaTangentFlow:
    solve = ready(tangent, options)
    session, prepared, method = solve.session, solve.prepared, solve.algorithm
    prepared.fill(tangent)
    prepared.set_path(path)
    areas = options.along.area != "none"
    call = getattr(session.module.Stability, "grow_stochastic!")
    info = find_solver(options.solver, "julia", "sde")
    handle = prepared.handle

    def grow(chain: int, first: int, intervals: int) -> None:
        session.call(
            call, handle, method, count, *run, first, intervals, *seeds, chain, areas
        )

    return JuliaTangentFlow(
        grow,
        vector_view(session, handle.start, tangent.dtype),
        report_of(session, handle),
        count,
        _provenance(str(info.julia), solve.versions, dt=float(options.dt)),
    )


def _versions(session: Any) -> tuple[tuple[str, str], ...]:
    return (*PYTHON_VERSIONS, *session.versions)


def _provenance(
    method: str, versions: tuple[tuple[str, str], ...], **steps: Any
) -> Provenance:
    listed = tuple(sorted(versions))
    return Provenance("julia", method, listed, field="lowered", **steps)


def _seeds(key: PRNGKeyArray) -> tuple[int, int]:
    """Two words of 32 bits, of a key of any kind; other ones than ensembles use."""
    data = np.asarray(jr.key_data(jr.fold_in(key, 0x57AB)))
    digest = hashlib.blake2b(data.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
