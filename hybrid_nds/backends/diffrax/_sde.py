"""Stochastic problems on Diffrax: terms, the plan of a solve, the solve itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ...methods import find_solver
from ...problems import (
    LangevinDiffusion,
    LangevinDrift,
    NoiseKind,
    SDEProblem,
    forward_problem,
)
from ...solution import Solution
from .._options import DEFAULT_MAX_STEPS, Options
from ._guard import GuardedController
from ._parts import (
    check_fixed_steps,
    make_adjoint,
    make_progress_meter,
    make_saveat,
    stated_controller,
)
from ._run import (
    DiffeqsolveArguments,
    is_unstable,
    make_solution,
    run_to_outcome,
    saved_of,
    up_to_failure,
)
from ._scan import Grid, Scan, drawn, scan_solution, scan_steps, stochastic_grid

_EXTRA = ("stepsize_controller",)
_BUFFERED_STEPS = 4096
_LANGEVIN = (diffrax.ALIGN, diffrax.ShOULD, diffrax.QUICSORT)


class DiffusionOperator(eqx.Module):
    """A diffusion as the vector field of a `diffrax.ControlTerm`: a matrix, or a
    linear operator on the increments of the path."""

    diffusion: Callable[[Any, Any, Any], Any]
    y0: PyTree[Array]
    noise: NoiseKind = eqx.field(static=True)
    matrix_noise: bool = eqx.field(static=True)
    full: bool = eqx.field(static=True)

    def __call__(self, t: Any, y: PyTree[Array], args: PyTree) -> Any:
        # Diffrax's solvers for additive noise want to see that there is no derivative.
        g = self.diffusion(t, self.y0 if self.noise == "additive" else y, args)
        if self.noise == "scalar":
            g = jtu.tree_map(lambda leaf: leaf[..., None], g)
        elif not self.matrix_noise:
            if not self.full:
                return lx.DiagonalLinearOperator(g)
            flat, unravel = ravel_pytree(g)
            g = jax.vmap(unravel, in_axes=1, out_axes=-1)(jnp.diag(flat))
        if isinstance(g, jax.Array):
            return g
        return lx.PyTreeLinearOperator(g, jax.eval_shape(lambda: y))


class StatePath(diffrax.AbstractBrownianPath):
    """A path with the structure of the state, for diagonal noise."""

    path: diffrax.AbstractBrownianPath
    unravel: Callable[[Array], PyTree[Array]]
    t0: Any
    t1: Any
    levy_area: Any = eqx.field(static=True)

    def __init__(self, path: Any, unravel: Callable[[Array], PyTree[Array]]):
        self.path, self.unravel = path, unravel
        self.t0, self.t1, self.levy_area = path.t0, path.t1, path.levy_area

    def evaluate(
        self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False
    ) -> Any:
        found: Any = self.path.evaluate(t0, t1, left=left, use_levy=use_levy)
        if not use_levy:
            return self.unravel(found)
        parts = {name: getattr(found, name) for name in found.__dataclass_fields__}
        return type(found)(
            **{k: v if k == "dt" else self.unravel(v) for k, v in parts.items()}
        )


def make_stochastic_terms(
    problem: SDEProblem, path: Any, solver: diffrax.AbstractSolver
) -> diffrax.MultiTerm:
    """Drift and diffusion as the terms this solver takes."""
    inner = solver
    while isinstance(inner, diffrax.HalfSolver):
        inner = inner.solver
    if isinstance(inner, _LANGEVIN):
        return _langevin_terms(problem, path, inner)
    control = path
    flat = isinstance(problem.y0, jax.Array) and problem.y0.ndim == 1
    diagonal = not problem.matrix_noise and problem.noise != "scalar"
    # It forms the matrix itself, and fails on increments that are no single array.
    full = diagonal and not flat and isinstance(inner, diffrax.ItoMilstein)
    if diagonal and not flat and not full:
        control = StatePath(path, ravel_pytree(problem.y0)[1])
    anchor = lax.stop_gradient(problem.y0)
    operator = DiffusionOperator(
        problem.diffusion, anchor, problem.noise, problem.matrix_noise, full
    )
    return diffrax.MultiTerm(
        diffrax.ODETerm(problem.drift), diffrax.ControlTerm(operator, control)
    )


def _langevin_terms(
    problem: SDEProblem, path: Any, solver: diffrax.AbstractSolver
) -> diffrax.MultiTerm:
    drift, diffusion = problem.drift, problem.diffusion
    if not (
        isinstance(drift, LangevinDrift) and isinstance(diffusion, LangevinDiffusion)
    ):
        raise ValueError(
            f"solve: {type(solver).__name__} is for underdamped Langevin dynamics "
            "alone; make the problem by hybrid_nds.underdamped_langevin."
        )
    return diffrax.MultiTerm(
        diffrax.UnderdampedLangevinDriftTerm(
            drift.friction, drift.damping, drift.gradient
        ),
        diffrax.UnderdampedLangevinDiffusionTerm(
            diffusion.friction, diffusion.damping, path
        ),
    )


def plan_stochastic(problem: SDEProblem, options: Options) -> DiffeqsolveArguments:
    """The arguments of `diffrax.diffeqsolve` for a problem and checked options.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    unknown = sorted(set(options.extra) - set(_EXTRA))
    if unknown:
        raise TypeError(
            f"solve: for a stochastic problem the diffrax backend takes no option "
            f"{', '.join(unknown)}; beside the shared ones it takes "
            f"{', '.join(_EXTRA)}."
        )
    solver = _make_solver(options)
    fixed = options.fixed_steps and "stepsize_controller" not in options.extra
    if fixed:
        # Every time of the grid is kept.
        check_fixed_steps(options.along.steps)
    adjoint = make_adjoint(options, solver)
    if isinstance(adjoint, diffrax.ImplicitAdjoint):
        raise ValueError(
            'solve: `adjoint="implicit"` differentiates a steady state, which a '
            "stochastic problem has not."
        )
    # The backward solve of this adjoint cannot step to given times.
    backsolve = isinstance(adjoint, diffrax.BacksolveAdjoint)
    controller = _make_controller(problem, options, fixed, backsolve)
    return DiffeqsolveArguments(
        terms=make_stochastic_terms(problem, options.along, solver),
        solver=solver,
        t0=problem.t0,
        t1=problem.t1,
        dt0=None if isinstance(controller, diffrax.StepTo) else options.dt,
        y0=problem.y0,
        args=problem.args,
        saveat=make_saveat(options.saveat),
        stepsize_controller=controller,
        adjoint=adjoint,
        event=None,
        max_steps=_max_steps(options, fixed),
    )


def _make_solver(options: Options) -> diffrax.AbstractSolver:
    if isinstance(options.solver, diffrax.AbstractSolver):
        return options.solver
    name = find_solver(options.solver, "diffrax", "sde").diffrax
    return getattr(diffrax, name or "")()


def _make_controller(
    problem: SDEProblem, options: Options, fixed: bool, backsolve: bool
) -> diffrax.AbstractStepSizeController:
    if (controller := stated_controller(options)) is not None:
        return controller
    if fixed and backsolve:
        return diffrax.ConstantStepSize()
    if fixed:
        return diffrax.StepTo(ts=options.along.times)
    # A step that is rejected has looked at the path: its end must be stepped to, or
    # noise that does not commute gets another distribution (Jelincic & Foster 2024).
    general = problem.noise == "general"
    saved: Any = options.saveat
    if isinstance(saved, str | diffrax.SaveAt):
        saved = None
    return diffrax.ClipStepSizeController(
        # The coefficients that Diffrax advises for stochastic problems.
        GuardedController(
            diffrax.PIDController(
                rtol=options.rtol, atol=options.atol, pcoeff=0.1, icoeff=0.3
            ),
            stochastic=True,
        ),
        # Between steps no interpolation follows the path.
        step_ts=saved,
        store_rejected_steps=100 if general else None,
    )


def _max_steps(options: Options, fixed: bool) -> int:
    if options.max_steps is not None:
        return options.max_steps
    if fixed:
        return options.along.steps
    return _BUFFERED_STEPS if isinstance(options.saveat, str) else DEFAULT_MAX_STEPS


def solve_stochastic(problem: SDEProblem, options: Options) -> Solution:
    """Solve a stochastic problem along the path in its options."""
    # Milstein's methods differentiate the diffusion.
    problem = forward_problem(problem)
    arguments = plan_stochastic(problem, options)
    solver = arguments["solver"]
    grid = stochastic_grid(options)
    if grid is not None:
        scan = _scan(grid, problem, drawn(options.along), solver)
        return scan_solution(problem, arguments, options, scan)
    meter = make_progress_meter(problem, options)
    raw, outcome, end = _integrate(arguments, meter)
    # The backward solve of this adjoint takes no events.
    backsolve = isinstance(arguments["adjoint"], diffrax.BacksolveAdjoint)
    if is_unstable(outcome) and not backsolve:
        return up_to_failure(problem, arguments, options, outcome)
    saved = saved_of(arguments, raw)
    return make_solution(solver, options, saved, raw.stats, outcome, end)


@eqx.filter_jit
def _scan(
    grid: Grid, problem: SDEProblem, path: Any, solver: diffrax.AbstractSolver
) -> Scan:
    def terms(step: Any) -> diffrax.MultiTerm:
        return make_stochastic_terms(problem, step, solver)

    return scan_steps(grid, terms, path, solver, problem.y0, problem.args)


_integrate = eqx.filter_jit(run_to_outcome)
