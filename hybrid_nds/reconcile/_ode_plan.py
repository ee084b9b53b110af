"""What is compared of an ordinary problem: points, schemes, times and tolerances."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree

from ..backends.julia import worthwhile_pattern
from ..lowering import Sparsity
from ..methods import ODE_METHODS
from ..problems import ODEProblem
from ..solving import solve
from ._analyses import PlannedAnalysis
from ._field_rung import UNIT, part_depths, part_magnitudes
from ._fixtures import Fixture, NamedObservable
from ._gradients import Gradients
from ._observables import own_observable
from ._parts import FieldPoints, disturbed
from ._plan import Plan
from ._scale import first_scale, given_scale, typical_scale
from ._stacks import Question

EXPLICIT_TWINS = tuple(
    s.name for s in ODE_METHODS if s.twin and not s.implicit and s.order
)
IMPLICIT_TWINS = ("Kvaerno5",)
STAGES = {
    "Euler": 1,
    "Heun": 2,
    "Midpoint": 2,
    "Ralston": 2,
    "Bosh3": 4,
    "Tsit5": 7,
    "Dopri5": 7,
    "Kvaerno5": 7,
}
# Newton's iteration stops within this of the stage, relative to |y| + scale: what the
# solve of fixed steps asks of both stacks at the least.
NEWTON = 2.0 * float(np.finfo(np.float64).eps) ** 0.57
_POINTS = 6
_SCHEME_TIMES = 5
# Steps of a solve whose gradient is compared.
_GRADIENT_STEPS = 2**13


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ODEPlan(Plan):
    """An ordinary or differential-algebraic problem, ready to be taken up the ladder.

    **Fields:** beside those of every plan the states of reference, shape `(times, n)`
    or `None`, and their accuracy; the end and number of fixed steps, `None` for no
    twins; tolerances; the growth of errors; whether the problem is stiff; observables.
    """

    problem: ODEProblem
    reference: np.ndarray | None
    accuracy: float
    scheme_t1: float | None
    scheme_steps: int | None
    rtols: tuple[float, ...]
    growth: float
    stiff: bool
    observables: tuple[NamedObservable, ...]

    @property
    def twins(self) -> tuple[str, ...]:
        spanned = self.scheme_steps is not None and self.scheme_t1 is not None
        return EXPLICIT_TWINS + IMPLICIT_TWINS if spanned else ()

    @property
    def no_twins(self) -> str:
        return "no fixed-step span (mass matrix or none given)"

    @property
    def _steps(self) -> tuple[int, float]:
        """The number of fixed steps, and their length with its sign."""
        assert self.scheme_steps is not None
        assert self.scheme_t1 is not None
        length = self.scheme_t1 - float(self.problem.t0)
        return self.scheme_steps, length / self.scheme_steps

    @property
    def scheme_times(self) -> np.ndarray:
        """Grid times at which twin schemes are compared."""
        count, step = self._steps
        every = np.unique(np.linspace(1, count, _SCHEME_TIMES).astype(int))
        return float(self.problem.t0) + step * every

    def scheme(self, twin: str) -> Question:
        def states(backend: str) -> list[np.ndarray]:
            # The times are grid times: any other step would be another scheme.
            return [
                _solve_states(
                    _span(self.problem, self.scheme_t1),
                    backend,
                    self.scheme_times,
                    solver=twin,
                    dt=self._steps[1],
                    step_to_saveat=False,
                )
            ]

        return Question("scheme", (twin,), states)

    def scheme_claim(self, twin: str) -> str:
        return f"{twin}, {self.scheme_steps} fixed steps"

    def scheme_limits(self) -> tuple[Mapping[str, float], str]:
        count, step = self._steps
        (field,) = self.fields.values()
        size = np.abs(field.points) + self.scale
        condition = float(np.max(part_magnitudes(field)["field"] / size))
        depth = part_depths(field)["field"]
        limits = {}
        for twin in self.twins:
            stages = STAGES[twin]
            limit = 2 * self.growth * count * UNIT
            limit *= stages + 2 + stages * abs(step) * depth * condition
            if twin in IMPLICIT_TWINS:
                limit += 2 * stages * self.growth * count * NEWTON
            limits[twin] = limit
        return limits, (
            "A step of s stages rounds the state s + 2 times and adds h times the "
            "field's rounding d·u·m; over N steps, grown at most G times, in two "
            "stacks: 2·G·N·u·(s + 2 + s·h·d·max m/(|y| + scale)). Implicit stages add "
            "the tolerance of Newton's iteration, 2·s·G·N·η."
        )

    @property
    def gradient_twins(self) -> tuple[str, ...]:
        if not (self.gradients and self.twins):
            return ()
        return ("Kvaerno5",) if self.stiff else ("Tsit5",)

    def scheme_end(self, twin: str) -> Callable[[Any, str, Any], Any]:
        _, step = self._steps

        def end(problem: Any, backend: str, at: Any) -> Any:
            short = _span(problem, self.scheme_t1)
            solution = solve(short, backend, solver=twin, dt=step, throw=False)
            return problem.flat_state.flatten(solution.ys)

        return end

    @functools.cached_property
    def solution_gradients(self) -> Gradients:
        """Gradients by each stack's best adaptive solver, down to a tolerance."""

        def states(problem: Any, backend: str, rtol: Any) -> Any:
            scaled = scaled_problem(problem, self.scale)
            own: dict[str, Any] = {}
            if backend == "julia":
                own["recorded_steps"] = _GRADIENT_STEPS
            solution = solve(
                _span(scaled, self.times[-1]),
                backend,
                saveat=self.times,
                solver=self.best_solver(backend),
                rtol=rtol,
                atol=rtol,
                max_steps=_GRADIENT_STEPS,
                step_to_saveat=True,
                throw=False,
                **own,
            )
            return problem.flat_state.flatten(solution.ys) * self.scale

        return Gradients(self.problem, self.scale, states)

    def gradient(self, kind: str, label: str, weights: np.ndarray) -> Question:
        """Gradients by each stack's best adaptive solver.

        **Arguments:** the kind of the question; the label, of a tolerance where it is
        one, of the tightest elsewhere; and the weights of the states.
        """

        def gradient(backend: str) -> list[np.ndarray]:
            by_label = {f"{rtol:.0e}": rtol for rtol in self.rtols}
            rtol = by_label.get(label, self.rtols[-1])
            return [self.solution_gradients(backend, weights, rtol)[None]]

        return Question(kind, (label,), gradient)

    def solution(self, rtol: float) -> Question:
        """The best adaptive solver's states at the plan's times; NaN if it failed."""

        def states(backend: str) -> list[np.ndarray]:
            scaled = scaled_problem(self.problem, self.scale)
            values = _solve_states(
                _span(scaled, self.times[-1]),
                backend,
                self.times,
                solver=self.best_solver(backend),
                rtol=rtol,
                atol=rtol,
                step_to_saveat=True,
            )
            return [values * self.scale]

        return Question("solution", (f"{rtol:.0e}",), states)

    def best_solver(self, backend: str) -> str:
        """The stack's own best adaptive solver for this problem."""
        if backend == "diffrax":
            return "Kvaerno5" if self.stiff else "Dopri8"
        return "Rodas5P" if self.stiff else "Vern9"


def plan_ode_fixture(fixture: Fixture) -> ODEPlan:
    """The plan of a fixture."""
    s = fixture.settings
    reference = fixture.reference
    return ODEPlan(
        name=fixture.name,
        problem=fixture.problem,
        backends=s.backends,
        rungs=s.rungs,
        fields={"": _field(fixture.problem, reference.ts, reference.ys)},
        times=reference.ts,
        reference=reference.ys,
        accuracy=reference.accuracy,
        scheme_t1=s.scheme_t1,
        scheme_steps=s.scheme_steps,
        rtols=s.rtols,
        scale=s.scale,
        growth=s.growth,
        stiff=fixture.stiff,
        observables=s.observables,
        analyses=fixture.analyses,
        gradients=fixture.gradients,
    )


def plan_ode_problem(
    problem: ODEProblem,
    observables: Mapping[str, Callable[[np.ndarray, np.ndarray], float]],
    scale: Any,
    analyses: Sequence[PlannedAnalysis] = (),
    *,
    rungs: Sequence[str] = ("L0", "L1", "L2", "L3"),
    gradients: bool = False,
) -> ODEPlan:
    """A plan for a problem of one's own: nothing known but the problem.

    The span of the twin schemes follows the spectral radius of the Jacobian, and the
    growth of errors is measured by moving the initial state. Without a `scale` that of
    each component is its largest size on the way. Where only the field of a large
    problem is asked for, nothing is solved.

    **Raises:** `ValueError` for a `scale` that is not positive.
    """
    pattern = worthwhile_pattern(problem)
    if set(rungs) == {"L0"} and pattern is not None:
        return _field_plan(problem, pattern)
    t0, t1 = float(problem.t0), float(problem.t1)
    times = t0 + (t1 - t0) * np.linspace(0.1, 1.0, 10)
    flat = problem.flat_field()
    u0 = np.asarray(ravel_pytree(problem.y0)[0])
    radius = float(
        np.max(np.abs(np.linalg.eigvals(np.asarray(jax.jacfwd(flat, 1)(t0, u0)))))
    )
    stiff = problem.mass_matrix is not None or radius * abs(t1 - t0) > 1e3
    solver = "Kvaerno5" if stiff else "Dopri8"
    if problem.mass_matrix is not None:
        solver = "Rodas5P"

    def trajectory(start: np.ndarray, scale: np.ndarray) -> np.ndarray:
        moved = eqx.tree_at(
            lambda p: p.y0, problem, ravel_pytree(problem.y0)[1](jnp.asarray(start))
        )
        solution = solve(
            scaled_problem(moved, scale),
            "diffrax" if problem.mass_matrix is None else "julia",
            solver=solver,
            rtol=1e-9,
            atol=1e-12,
            saveat=times,
        )
        return np.asarray(problem.flat_state.flatten(solution.ys)) * scale

    if scale is None:
        rough = first_scale(u0, np.asarray(flat(t0, u0)) * (t1 - t0))
        way = trajectory(u0, np.full(u0.shape, rough))
        scale = typical_scale(np.concatenate([u0[None], way]), rough)
    else:
        scale = given_scale(scale, u0.size)
    middle = trajectory(u0, scale)
    move = 1e-5 * np.cos(1.0 + np.arange(u0.size)) * (np.abs(u0) + scale)
    away = np.abs(trajectory(u0 + move, scale) - middle) / (np.abs(middle) + scale)
    step = 0.5 / max(radius, 1 / abs(t1 - t0))
    return ODEPlan(
        name="problem",
        problem=problem,
        backends=("diffrax", "julia") if problem.mass_matrix is None else ("julia",),
        rungs=("L0", "L1", "L2", "L3"),
        fields={"": _field(problem, times, middle, pattern)},
        times=times,
        reference=None,
        accuracy=0.0,
        scheme_t1=None
        if problem.mass_matrix is not None
        else t0 + np.sign(t1 - t0) * min(50 * step, abs(t1 - t0)),
        scheme_steps=None if problem.mass_matrix is not None else 50,
        rtols=(1e-4, 1e-5, 1e-6, 1e-7, 1e-8),
        scale=scale,
        growth=max(2.0, 4 * float(away.max()) / 1e-5),
        stiff=stiff,
        observables=tuple(
            NamedObservable(name, own_observable(name, function), None)
            for name, function in observables.items()
        ),
        analyses=tuple(analyses),
        gradients=gradients,
    )


def _field_plan(problem: ODEProblem, pattern: Sparsity) -> ODEPlan:
    """The field alone, at the start and at both ends of the span."""
    start = np.asarray(ravel_pytree(problem.y0)[0])
    ends = np.array([float(problem.t1)])
    return ODEPlan(
        name="problem",
        problem=problem,
        backends=("diffrax", "julia"),
        rungs=("L0",),
        fields={"": _field(problem, ends, start[None], pattern)},
        times=ends,
        reference=None,
        accuracy=0.0,
        scheme_t1=None,
        scheme_steps=None,
        rtols=(),
        scale=np.ones(start.size),
        growth=1.0,
        stiff=False,
        observables=(),
        analyses=(),
        gradients=False,
    )


def _field(
    problem: ODEProblem,
    ts: np.ndarray,
    ys: np.ndarray,
    pattern: Sparsity | None = None,
) -> FieldPoints:
    """The field at the start and along the way, and at each of these disturbed."""
    u0 = np.asarray(ravel_pytree(problem.y0)[0])
    positions = np.unique(np.linspace(0, len(ts) - 1, _POINTS // 2).astype(int))
    states = np.concatenate([u0[None], ys[positions]])
    times = np.concatenate([[float(problem.t0)], ts[positions]])
    return FieldPoints(problem, disturbed(states), np.tile(times, 2), pattern)


def _span(problem: ODEProblem, t1: Any) -> ODEProblem:
    return eqx.tree_at(lambda p: p.t1, problem, jnp.asarray(t1, problem.dtype))


def _solve_states(
    problem: ODEProblem, backend: str, times: np.ndarray, **options: Any
) -> np.ndarray:
    """States at times; NaN where the solve did not get."""
    count, n = len(times), problem.dimension
    solution = solve(
        problem, backend, saveat=times, throw=False, max_steps=1_000_000, **options
    )
    states = np.full((count, n), np.nan)
    reached = np.asarray(problem.flat_state.flatten(solution.ys))
    if bool(solution.succeeded):
        states[: len(reached)] = reached
    return states


class _ScaledField(eqx.Module):
    """The field in units of each component's scale."""

    field: Any
    scale: Any

    def __call__(self, t: Any, z: Any, args: Any) -> Any:
        y = jtu.tree_map(jnp.multiply, z, self.scale)
        return jtu.tree_map(jnp.divide, self.field(t, y, args), self.scale)


def scaled_problem(problem: ODEProblem, scale: np.ndarray) -> ODEProblem:
    """The problem in units of `scale`, shape `(n,)`.

    Runge–Kutta, Rosenbrock and multistep methods commute with this change of units, so
    one absolute tolerance for the scaled state is one for each component of the state.
    """
    flat, unravel = ravel_pytree(problem.y0)
    units = unravel(jnp.asarray(scale, flat.dtype))
    mass = problem.mass_matrix
    if mass is not None:
        mass = np.asarray(mass) * scale[None, :] / scale[:, None]
    return ODEProblem(
        _ScaledField(problem.field, units),
        jtu.tree_map(jnp.divide, problem.y0, units),
        problem.t0,
        problem.t1,
        problem.args,
        mass_matrix=mass,
    )
