"""Solve a problem on one of the solver stacks."""

from __future__ import annotations

import functools
import importlib
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from .._core import check_choice, is_concrete
from ..backends import (
    Backend,
    Options,
    PlanningBackend,
    check_options,
    check_steady_state,
    diagnosed,
    failure_text,
    has_steady_state,
)
from ..methods import installed_stack, stack_names
from ..noise import BrownianPath, NativePath, StoredPath
from ..problems import (
    Event,
    Problem,
    SteadyState,
    check_kind,
    forward_mode_named,
)
from ..solution import SUCCESS, Solution, SolveError, code_of, outcome_name, outcome_of
from ._repeats import Repeats

# A backend is imported when it is first asked for: importing hybrid_nds never
# touches Julia.
_OWN = {"diffrax": "DiffraxBackend", "julia": "JuliaBackend"}


def get_backend(name: str) -> Backend:
    """A solver stack by name.

    **Arguments:** `name`, `"diffrax"`, `"julia"` or that of an installed package.

    **Returns:** the backend, made on the first call and kept.

    **Raises:** `ValueError` for another name.
    """
    check_choice("solve", "backend", name, stack_names())
    return _backend(name)


@functools.cache
def _backend(name: str) -> Backend:
    if name not in _OWN:
        return installed_stack(name)
    module = importlib.import_module(f"hybrid_nds.backends.{name}")
    return getattr(module, _OWN[name])()


def solve(
    problem: Problem,
    backend: str = "diffrax",
    *,
    solver: Any = None,
    rtol: Any = None,
    atol: Any = None,
    dt: Any = None,
    key: PRNGKeyArray | None = None,
    path: BrownianPath | StoredPath | NativePath | None = None,
    paths: Literal["shared", "native"] | None = None,
    saveat: Any = None,
    adjoint: Any = None,
    event: Any = None,
    max_steps: int | None = None,
    progress: Any = False,
    throw: bool = True,
    **extra: Any,
) -> Solution:
    """Solve an initial value problem.

    The whole call can be transformed by `jax.jit`, `jax.vmap` and `jax.grad`, where on
    the Julia backend `saveat` must be times or `None`, and derivatives are those of
    ordinary equations by single-step methods (see `Method.derivatives`).

    A stochastic problem is solved along one Brownian path, the same on both backends:
    that of `key`, or `path`. Steps are those of the path's grid, and states are saved
    at steps alone, since no interpolation follows a path between them. With `rtol` or
    `atol` the steps adapt, where the solver estimates its error.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem] or an
        [`SDEProblem`][hybrid_nds.SDEProblem].
    - `backend`: `"diffrax"`, `"julia"`, or that of another package.
    - `solver`: a name (see [`solver_names`][hybrid_nds.solver_names]), or a Diffrax
        solver; on Julia also `"Package.Name"`, any algorithm for ordinary problems of a
        package that is installed there, or an algorithm made there. `None` takes Tsit5
        on Diffrax and the automatic choice on Julia, and for a stochastic problem SRA1
        (additive noise), Euler (Itô) or Heun (Stratonovich), or with tolerances one
        that estimates its error. A solver that would converge to the other
        interpretation is refused.
    - `rtol`, `atol`: relative and absolute tolerance of the local error. `rtol` is a
        number; so is `atol`, or it gives one for each component, in the structure of
        `y0` and shapes that broadcast to it (on Diffrax for a state of one array);
        by default 1e-6 and 1e-9 in float64, 1e-4 and 1e-6 in float32, where `atol` is
        at most `rtol` times the largest component of `y0` (of its first change, if the
        problem starts at zero), so that small units lose no accuracy.
    - `dt`: the first step, of the sign of `t1 - t0`. Without `rtol` and `atol`, the
        length of every step, and no error control.
    - `key`: for a stochastic problem, a JAX random key: the path is the
        [`BrownianPath`][hybrid_nds.BrownianPath] of this key on the grid of `dt`, with
        the Lévy area that the solver needs (on a grid of 2^16 steps where the steps
        adapt).
    - `path`: for a stochastic problem, its path, in place of `key`; a
        [`BrownianPath`][hybrid_nds.BrownianPath] or a
        [`StoredPath`][hybrid_nds.StoredPath].
    - `paths`: how the path of `key` is drawn. `"shared"`, the default, is the path of
        that key on every grid, for every `dt` and for adaptive steps. `"native"` is a
        [`NativePath`][hybrid_nds.NativePath], independent increments straight from the
        key, drawn in half the time: for fixed steps, and where no other grid is to see
        the same path.
    - `saveat`: `None` saves the final time; an array of times, ordered from `t0` to
        `t1`, saves these; `"steps"` the start and every accepted step; `"dense"` the
        final time, and keeps what `Solution.evaluate` needs; a `diffrax.SaveAt` on
        Diffrax (on Julia where it says one of the former).
    - `adjoint`: how Diffrax differentiates: `"recursive_checkpoint"` (the default;
        reverse mode), `"direct"` (both modes), `"forward"`, `"backsolve"`,
        `"implicit"` (for a steady state), or a Diffrax adjoint.
    - `event`: a terminal [`Event`][hybrid_nds.Event] or
        [`SteadyState`][hybrid_nds.SteadyState], or a list of them; a `diffrax.Event`
        on Diffrax. Where none fires, the solve ends at `t1` with
        `Outcome.success`, and `event_index` is −1, unless an event is `required`.
    - `max_steps`: the most steps to try, rejected ones included, 100 000 by default;
        on Diffrax 4096 for an adaptive solve with `"steps"` or `"dense"`, which needs
        memory for all of them.
    - `progress`: whether to show progress; or a Diffrax progress meter.
    - `throw`: whether to raise when the solve fails. With `False`, look at
        `Solution.outcome`.
    - the options of one backend alone. Diffrax: `stepsize_controller`; `root_finder`,
        for the stages of an implicit solver given by name (Newton's method by
        default); `step_to_saveat`, whether steps end at the times of `saveat` (by
        default for Dopri8, KenCarp5 and Kvaerno5, whose interpolation is less
        accurate than their steps). Julia:
        `rhs`, `"lowered"` (the default) or `"callback"` into JAX; `form` of lowered
        code, `"array"` (the default) or `"scalar"` for small systems; `specialize`,
        whether to compile the solver for this very field, which costs seconds once
        and saves a little in every call; `jacobian` of implicit solvers, `"auto"` (the
        default), `"dense"`, `"sparse"`, `"matrix-free"` (GMRES) or a
        [sparsity pattern][hybrid_nds.lowering.sparsity]; `preconditioner` of GMRES in
        place of its factorization, `"ilu"`, `"multigrid"`, `"block-jacobi"`, one of
        them with its parameter, as `("ilu", 1e-3)`, or a function made in Julia;
        `newton_tolerance` of
        implicit stages, as a fraction of the error tolerance; `recorded_steps`, the
        most steps there is room for when a solve is differentiated (4096, or
        `max_steps` if that is less);
        `step_to_saveat`, as for Diffrax (by default for DP8, KenCarp5, Kvaerno5 and
        RadauIIA5; where a solve is differentiated, always); `theta`, the weight of the
        drift at the end of a step, for implicit methods of stochastic problems;
        `worker`, a [`JuliaWorker`][hybrid_nds.JuliaWorker] to solve in.

    **Returns:** a [`Solution`][hybrid_nds.Solution]. Times that the solve did not
    reach are left out of it; inside a JAX transformation, where shapes must not
    depend on values, they stay and hold infinity.

    **Raises:** `ValueError` or `TypeError`, naming the option, for one that makes no
    sense; [`SolveError`][hybrid_nds.SolveError] for a solve that fails. Inside a JAX
    transformation a failure surfaces when the compiled function runs, as the
    `RuntimeError` of `equinox.error_if`.
    """
    given = (
        *(backend, solver, rtol, atol, dt, key, path, paths, saveat, adjoint, event),
        *(max_steps, progress, throw, *extra.items()),
    )
    if (known := _REPEATS.find(problem, given)) is not None:
        return _finished(known(problem), problem, known.options)
    stack = get_backend(backend)
    check_kind("solve", problem, "ode", "sde")
    shared: dict[str, Any] = {
        "solver": solver,
        "rtol": rtol,
        "atol": atol,
        "dt": dt,
        "key": key,
        "path": path,
        "paths": paths,
        "saveat": saveat,
        "adjoint": adjoint,
        "event": event,
        "max_steps": max_steps,
        "progress": progress,
        "extra": extra,
        "throw": throw,
    }
    name = stack.name
    # Fixed steps are one scan, which has derivatives in both modes.
    adaptive = dt is None or rtol is not None or atol is not None
    with forward_mode_named(problem, name, adjoint, adaptive):
        options = check_options(problem, name, **shared)
        if not isinstance(stack, PlanningBackend):
            solution, raised = stack.solve(problem, options), False
        else:
            plan = stack.plan(problem, options)
            solution = plan(problem)
            raised = not plan.repeatable and stack.raises_when_run(problem, options)
            if plan.repeatable:
                _REPEATS.keep(problem, given, plan)
    return _finished(solution, problem, options, raised=raised)


_REPEATS = Repeats()
_SUCCESS = outcome_of(SUCCESS)


def _finished(
    solution: Solution, problem: Problem, options: Options, *, raised: bool = False
) -> Solution:
    """A solution with the cause of a failure, or that failure raised."""
    if solution.outcome is _SUCCESS and options.event is None:
        return solution
    solution = diagnosed(solution, problem)
    check_steady_state(solution, problem, options.event)
    if not options.throw:
        return solution
    return raise_on_failure(solution, problem, options.event, raised=raised)


def raise_on_failure(
    solution: Solution, problem: Problem, event: Any, *, raised: bool = False
) -> Solution:
    """Raise if a solve failed.

    **Arguments:** the solution, its problem, and the events the solve had; whether the
    backend itself raises when a compiled program runs.

    **Returns:** the solution; inside a JAX transformation with the check built in.

    **Raises:** [`SolveError`][hybrid_nds.SolveError].
    """
    required = any(
        isinstance(one, Event | SteadyState) and one.required
        for one in (event if isinstance(event, tuple) else ())
    )
    missed = solution.event_index == -1 if required else False
    if not is_concrete(code_of(solution.outcome)):
        ys = solution.ys
        if not raised:
            ys = solution.outcome.error_if(ys, jnp.logical_not(solution.succeeded))
        ys = eqx.error_if(ys, missed, _MISSED) if required else ys
        return _with_states(solution, ys)
    if not bool(np.all(np.asarray(solution.succeeded))):
        end_time, steps = solution.end_time, solution.stats.get("num_steps")
        text = failure_text(
            outcome_name(solution.outcome),
            solution.provenance,
            end_time=None if end_time is None else float(end_time),
            steps=None if steps is None else int(steps),
            message=solution.message,
            kind=problem.kind,
            infinite=bool(np.isinf(problem.t1)),
            steady=has_steady_state(event),
        )
        raise SolveError(text, solution)
    if bool(np.any(np.asarray(missed))):
        raise SolveError(_MISSED, solution)
    return solution


_MISSED = (
    "solve: `event` is required, but none fired within the span: give a later `t1`, or "
    "check that its condition crosses zero in the direction asked for."
)


def _with_states(solution: Solution, ys: Any) -> Solution:
    return eqx.tree_at(
        lambda s: s.ys, solution, ys, is_leaf=lambda leaf: leaf is solution.ys
    )
