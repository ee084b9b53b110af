"""What is compared of one problem: points, schemes, times and tolerances."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree

from ..methods import ODE_METHODS
from ..problems import ODEProblem
from ..solving import solve
from ._analyses import PlannedAnalysis
from ._fixtures import Fixture, NamedObservable

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
_POINTS = 6
_SCHEME_TIMES = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """One problem, ready to be taken up the ladder by any stack.

    **Fields:** the problem; names and versions aside, what Julia's recorded results
    must have been made with: the states and times where fields are compared, shapes
    `(points, n)` and `(points,)`; the times of solutions, shape `(times,)`, and the
    reference there, shape `(times, n)` or `None`; the end and number of fixed steps,
    `None` for no twins; tolerances, scale, growth; and whether the problem is stiff.
    """

    name: str
    problem: ODEProblem
    backends: tuple[str, ...]
    rungs: tuple[str, ...]
    points: np.ndarray
    point_times: np.ndarray
    times: np.ndarray
    reference: np.ndarray | None
    accuracy: float
    scheme_t1: float | None
    scheme_steps: int | None
    rtols: tuple[float, ...]
    scale: np.ndarray
    growth: float
    stiff: bool
    observables: tuple[NamedObservable, ...]
    analyses: tuple[PlannedAnalysis, ...] = ()

    @property
    def scheme_times(self) -> np.ndarray:
        """Grid times at which twin schemes are compared."""
        assert self.scheme_steps is not None
        assert self.scheme_t1 is not None
        t0 = float(self.problem.t0)
        step = (self.scheme_t1 - t0) / self.scheme_steps
        every = np.unique(np.linspace(1, self.scheme_steps, _SCHEME_TIMES).astype(int))
        return t0 + step * every

    @property
    def twins(self) -> tuple[str, ...]:
        """The schemes both stacks hold."""
        return EXPLICIT_TWINS + IMPLICIT_TWINS

    def best_solver(self, backend: str) -> str:
        """The stack's own best adaptive solver for this problem."""
        if backend == "diffrax":
            return "Kvaerno5" if self.stiff else "Dopri8"
        return "Rodas5P" if self.stiff else "Vern9"


def plan_fixture(fixture: Fixture) -> Plan:
    """The plan of a fixture."""
    s = fixture.settings
    reference = fixture.reference
    points, times = _points(fixture.problem, reference.ts, reference.ys)
    return Plan(
        name=fixture.name,
        problem=fixture.problem,
        backends=s.backends,
        rungs=s.rungs,
        points=points,
        point_times=times,
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
    )


def plan_problem(
    problem: ODEProblem,
    observables: dict[str, Callable[[np.ndarray, np.ndarray], float]],
    scale: Any,
    analyses: Sequence[PlannedAnalysis] = (),
) -> Plan:
    """A plan for a problem of one's own: nothing known but the problem.

    The span of the twin schemes follows the spectral radius of the Jacobian, and the
    growth of errors is measured by moving the initial state. Without a `scale` that of
    each component is its largest size on the way.

    **Raises:** `ValueError` for a `scale` that is not positive.
    """
    t0, t1 = float(problem.t0), float(problem.t1)
    times = t0 + (t1 - t0) * np.linspace(0.1, 1.0, 10)
    flat = flat_field(problem)
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
        return flat_states(solution.ys, len(times)) * scale

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
    points, point_times = _points(problem, times, middle)
    return Plan(
        name="problem",
        problem=problem,
        backends=("diffrax", "julia") if problem.mass_matrix is None else ("julia",),
        rungs=("L0", "L1", "L2", "L3"),
        points=points,
        point_times=point_times,
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
            NamedObservable(name, function, None)
            for name, function in observables.items()
        ),
        analyses=tuple(analyses),
    )


def given_scale(scale: Any, n: int) -> np.ndarray:
    """The scale of each component as the caller gave it, shape `(n,)`.

    **Raises:** `ValueError` for one that is not positive, or of another shape.
    """
    values = np.asarray(scale, float)
    if values.shape not in ((), (1,), (n,)) or not np.all(
        np.isfinite(values) & (values > 0)
    ):
        raise ValueError(
            "reconcile: `scale` must be a positive number or positive numbers of shape "
            f"({n},), got {scale}."
        )
    return np.broadcast_to(values, (n,)).copy()


def first_scale(start: np.ndarray, change: np.ndarray) -> float:
    """A first idea of the size of a state: that of its start, or where it starts at
    zero of its first change; 1 where nothing moves."""
    for values in (start, change):
        size = float(np.max(np.abs(values), initial=0.0))
        if np.isfinite(size) and size > 0:
            return size
    return 1.0


def typical_scale(states: np.ndarray, rough: float) -> np.ndarray:
    """The largest size of each component, shape `(n,)`.

    **Arguments:** states, shape `(times, n)`, and a first idea of their size, which
    stands for components that are zero, or round-off of the others.
    """
    sizes = np.max(np.abs(states), axis=0)
    sizes = np.where(np.isfinite(sizes), sizes, rough)
    largest = float(np.max(sizes, initial=0.0)) or rough
    return np.where(sizes > 1e-12 * largest, sizes, largest)


def _points(problem: ODEProblem, ts: np.ndarray, ys: np.ndarray):
    """The start, states along the way, and each moved by up to a tenth."""
    u0 = np.asarray(ravel_pytree(problem.y0)[0])
    places = np.unique(np.linspace(0, len(ts) - 1, _POINTS // 2).astype(int))
    states = np.concatenate([u0[None], ys[places]])
    times = np.concatenate([[float(problem.t0)], ts[places]])
    wave = 1 + 0.1 * np.cos(np.arange(states.size)).reshape(states.shape)
    return np.concatenate([states, states * wave]), np.concatenate([times, times])


def flat_field(problem: ODEProblem) -> Callable[[Any, Any], Any]:
    """The field on flat states, `(t, u) -> du`."""
    unravel = ravel_pytree(problem.y0)[1]

    def flat(t: Any, u: Any) -> Any:
        return ravel_pytree(problem.field(t, unravel(u), problem.args))[0]

    return flat


def flat_states(ys: Any, count: int) -> np.ndarray:
    """Saved states as `(times, n)`, in the order of `ravel_pytree`."""
    leaves = [np.asarray(leaf).reshape(count, -1) for leaf in jtu.tree_leaves(ys)]
    return np.concatenate(leaves, axis=1)


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
