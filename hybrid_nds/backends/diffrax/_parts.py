"""From options to the parts of a Diffrax solve: solver, controller, adjoint, saving."""

from __future__ import annotations

import math
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ..._core import is_concrete, with_forward_rule
from ...methods import ODE_METHODS, find_solver
from ...problems import ODEProblem, Problem
from .._options import DEFAULT_MAX_STEPS, MOST_FIXED_STEPS, Options
from ._guard import GuardedController
from ._stages import RoundoffNewton, ToleranceNewton

_ADJOINTS = {
    # As many checkpoints as Diffrax takes for its own default of 4096 steps; beyond
    # that, more steps cost more recomputation rather than more memory.
    "recursive_checkpoint": lambda: diffrax.RecursiveCheckpointAdjoint(checkpoints=90),
    "direct": diffrax.DirectAdjoint,
    "forward": diffrax.ForwardMode,
    "backsolve": diffrax.BacksolveAdjoint,
    "implicit": diffrax.ImplicitAdjoint,
}

_BUFFERED_STEPS = 4096

# Their dense output is of lower order than their steps: on an oscillator at rtol=1e-8,
# values between steps are 13 to 75 times less accurate than those at steps, where for
# the other solvers the two agree within a factor of 1.5. They step to the saved times.
_COARSE_OUTPUT = tuple(
    getattr(diffrax, str(method.diffrax))
    for method in ODE_METHODS
    if "diffrax" in method.coarse_output
)

_IMEX = (diffrax.KenCarp3, diffrax.KenCarp4, diffrax.KenCarp5)


def no_drift(t: Any, y: PyTree, args: Any) -> PyTree:
    return jtu.tree_map(jnp.zeros_like, y)


def make_terms(problem: ODEProblem, solver: diffrax.AbstractSolver) -> PyTree:
    """The field as the terms this solver takes.

    The implicit-explicit KenCarp methods get the whole field as their implicit part,
    which makes them the ESDIRK methods of the same name.
    """
    field = problem.field
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        # Newton's method pushes tangents through it.
        field = with_forward_rule(field, problem.t0, problem.y0, problem.args)
    term = diffrax.ODETerm(field)
    if isinstance(solver, _IMEX):
        return diffrax.MultiTerm(diffrax.ODETerm(no_drift), term)
    return term


def make_solver(problem: ODEProblem, options: Options) -> diffrax.AbstractSolver:
    """The Diffrax solver that was asked for."""
    given = options.solver
    root_finder = options.extra.get("root_finder")
    if isinstance(given, diffrax.AbstractSolver):
        if root_finder is not None:
            raise ValueError(
                "solve: `root_finder` goes with a solver given by name; a Diffrax "
                "solver holds its own."
            )
        solver = given
    elif given is None or isinstance(given, str):
        solver = getattr(
            diffrax, find_solver(given, "diffrax", problem.kind.name).diffrax or ""
        )()
        if isinstance(solver, diffrax.AbstractImplicitSolver):
            chosen = root_finder or _root_finder(problem, options)
            solver = eqx.tree_at(lambda s: s.root_finder, solver, chosen)
        elif root_finder is not None:
            raise ValueError(
                f"solve: `root_finder` is for implicit solvers, but "
                f"{type(solver).__name__} is explicit."
            )
    else:
        raise TypeError(
            "solve: `solver` must be a name or a Diffrax solver, got "
            f"{type(given).__name__}."
        )
    doubles = jnp.result_type(float) == np.float64
    if isinstance(solver, _IMEX) and problem.dtype == np.float32 and doubles:
        # Diffrax interpolates them with coefficients of JAX's widest type.
        raise ValueError(
            f"solve: {type(solver).__name__} solves in float32 only where JAX runs in "
            "32 bits, and x64 is enabled here; take Kvaerno5, or a float64 state."
        )
    controller = options.extra.get("stepsize_controller")
    adaptive = isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    if controller is None:
        adaptive = not options.fixed_steps
    if adaptive and not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            f"solve: {type(solver).__name__} has no error estimate and cannot hold "
            "`rtol` and `atol`; pass `dt` alone for fixed steps, or take another "
            "solver."
        )
    return solver


def _root_finder(problem: ODEProblem, options: Options) -> Any:
    """Newton's method, at the tolerances of the error control where there is one,
    else at round-off.

    Diffrax's own choice, a chord method that keeps one Jacobian for a whole step,
    takes about ten times as many steps on Robertson's and Van der Pol's problems at
    every tolerance, and makes no progress in the KenCarp methods.
    """
    controller = options.extra.get("stepsize_controller")
    adaptive = isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    if adaptive or (controller is None and not options.fixed_steps):
        return diffrax.with_stepsize_controller_tols(ToleranceNewton)()
    return RoundoffNewton()


def _absolute(problem: ODEProblem, atol: Any) -> Any:
    """The absolute tolerance as Diffrax takes it: one for every array of the state."""
    if np.ndim(atol) == 0:
        return atol
    states = jtu.tree_leaves(problem.y0)
    if len(states) > 1:
        raise ValueError(
            "solve: Diffrax takes an `atol` by component only where `y0` is a single "
            f"array, got {len(states)} arrays; pass one number, keep the state in one "
            'array, or solve with backend="julia".'
        )
    # In NumPy it would break up the trees that Diffrax adds it to.
    return jnp.reshape(jnp.asarray(atol), states[0].shape)


def stated_controller(options: Options) -> diffrax.AbstractStepSizeController | None:
    """The step size controller that the user states, if any."""
    controller = options.extra.get("stepsize_controller")
    if controller is None or isinstance(controller, diffrax.AbstractStepSizeController):
        return controller
    raise TypeError(
        "solve: `stepsize_controller` must be a Diffrax step size controller, got "
        f"{type(controller).__name__}."
    )


def make_controller(
    problem: ODEProblem, options: Options, solver: diffrax.AbstractSolver
) -> diffrax.AbstractStepSizeController:
    """The step size controller: the user's, fixed steps, or error control."""
    if (controller := stated_controller(options)) is not None:
        return controller
    if options.fixed_steps:
        return diffrax.ConstantStepSize()
    controller = GuardedController(
        diffrax.PIDController(rtol=options.rtol, atol=_absolute(problem, options.atol))
    )
    step_to = options.extra.get("step_to_saveat")
    times = _saved_times(options.saveat)
    if step_to is None:
        step_to = isinstance(solver, _COARSE_OUTPUT)
    if step_to and times is not None:
        return diffrax.ClipStepSizeController(controller, step_ts=times)
    return controller


def _saved_times(saveat: Any) -> Any:
    if isinstance(saveat, diffrax.SaveAt):
        sub = saveat.subs
        return sub.ts if isinstance(sub, diffrax.SubSaveAt) else None
    return None if saveat is None or isinstance(saveat, str) else saveat


def make_adjoint(
    options: Options, solver: diffrax.AbstractSolver
) -> diffrax.AbstractAdjoint:
    """The way to differentiate the solve."""
    given = options.adjoint
    if isinstance(given, diffrax.AbstractAdjoint):
        adjoint = given
    else:
        name = "recursive_checkpoint" if given is None else given
        if not isinstance(name, str) or name not in _ADJOINTS:
            raise ValueError(
                "solve: `adjoint` must be a Diffrax adjoint or one of "
                f"{', '.join(sorted(_ADJOINTS))}; got {given!r}."
            )
        adjoint = _ADJOINTS[name]()
    if isinstance(adjoint, diffrax.BacksolveAdjoint) and options.event is not None:
        raise ValueError(
            'solve: `adjoint="backsolve"` cannot differentiate through an `event`; '
            'use "recursive_checkpoint".'
        )
    if isinstance(adjoint, diffrax.BacksolveAdjoint) and isinstance(solver, _IMEX):
        raise ValueError(
            f'solve: `adjoint="backsolve"` cannot run {type(solver).__name__} '
            "backward; take another adjoint or another solver."
        )
    limited = isinstance(adjoint, diffrax.BacksolveAdjoint | diffrax.ImplicitAdjoint)
    if limited and isinstance(options.saveat, str):
        raise ValueError(
            f'solve: `adjoint="{_adjoint_name(adjoint)}"` cannot save '
            f'`saveat="{options.saveat}"`; pass times, or None for the final one.'
        )
    if isinstance(adjoint, diffrax.ImplicitAdjoint) and options.saveat is not None:
        raise ValueError(
            'solve: `adjoint="implicit"` differentiates a steady state and saves only '
            "the final time; pass saveat=None and a SteadyState."
        )
    return adjoint


def _adjoint_name(adjoint: diffrax.AbstractAdjoint) -> str:
    if isinstance(adjoint, diffrax.BacksolveAdjoint):
        return "backsolve"
    return "implicit"


def make_saveat(saveat: Any) -> diffrax.SaveAt:
    """What Diffrax saves for the `saveat` of `solve`."""
    if isinstance(saveat, diffrax.SaveAt):
        if saveat.solver_state or saveat.controller_state or saveat.made_jump:
            raise ValueError(
                "solve: `saveat` asks for the solver's state, which a Solution does "
                "not keep; call diffrax.diffeqsolve(**to_diffrax(problem, ...))."
            )
        if saveat.subs is None:
            return diffrax.SaveAt(t1=True, dense=saveat.dense)
        return saveat
    if saveat is None:
        return diffrax.SaveAt(t1=True)
    if isinstance(saveat, str):
        if saveat == "dense":
            return diffrax.SaveAt(t1=True, dense=True)
        return diffrax.SaveAt(t0=True, t1=True, steps=True)
    return diffrax.SaveAt(ts=jnp.asarray(saveat))


def make_max_steps(problem: ODEProblem, options: Options) -> int:
    """The most steps to try: as asked, else enough for fixed steps, else a default."""
    if options.max_steps is not None:
        return options.max_steps
    saveat = options.saveat
    buffered = isinstance(saveat, str) or (
        isinstance(saveat, diffrax.SaveAt)
        and (saveat.dense or any(sub.steps for sub in _subs(saveat)))
    )
    default = _BUFFERED_STEPS if buffered else DEFAULT_MAX_STEPS
    known = [options.dt, problem.t0, problem.t1]
    if not options.fixed_steps or any(x is None or not is_concrete(x) for x in known):
        return default
    steps = abs((float(problem.t1) - float(problem.t0)) / float(options.dt))
    if not math.isfinite(steps):
        return default
    check_fixed_steps(steps)
    # A power of two, so that a slightly other span makes no other compilation; two
    # to spare for round-off in the sum of the steps.
    enough = 2 ** math.ceil(math.log2(steps + 2))
    return enough if buffered else max(default, enough)


def check_fixed_steps(steps: float) -> None:
    """Refuse more fixed steps than there are to be without being asked for.

    **Raises:** `ValueError`, naming `dt` and the number of steps.
    """
    if steps > MOST_FIXED_STEPS:
        raise ValueError(
            f"solve: `dt` makes {steps:.4g} steps of the span, more "
            f"than the {MOST_FIXED_STEPS:,} that a solve in fixed steps takes by "
            "default (`max_steps`); take a larger `dt`, or `rtol` and `atol` in "
            "its place."
        )


def _subs(saveat: diffrax.SaveAt) -> list[diffrax.SubSaveAt]:
    is_sub = lambda x: isinstance(x, diffrax.SubSaveAt)
    return [sub for sub in jtu.tree_leaves(saveat.subs, is_leaf=is_sub) if is_sub(sub)]


def make_progress_meter(
    problem: Problem, options: Options
) -> diffrax.AbstractProgressMeter:
    """The progress meter; none for an infinite span, which has no fraction done."""
    given = options.progress
    if isinstance(given, diffrax.AbstractProgressMeter):
        return given
    if not isinstance(given, bool):
        raise TypeError(
            "solve: `progress` must be True, False or a Diffrax progress meter, got "
            f"{type(given).__name__}."
        )
    endless = is_concrete(problem.t1) and math.isinf(float(problem.t1))
    return (
        diffrax.TextProgressMeter()
        if given and not endless
        else diffrax.NoProgressMeter()
    )
