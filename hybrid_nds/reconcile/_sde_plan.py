"""What is compared of one stochastic problem: points, paths, methods, laws."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree

from ..discretization import end_states
from ..methods import SDE_METHODS, Method
from ..problems import ODEProblem, SDEProblem
from ._analyses import PlannedAnalysis
from ._plan import Plan, first_scale, given_scale, typical_scale
from ._sde_fixtures import Law, StochasticFixture

# For a problem of one's own.
_PATHS, _STEPS = 64, 512
_LAW_STEPS = 256
SAMPLES = 8192
_POINTS = 3
# In order: of these, a rung takes those that suit the problem.
_STRONG = {
    "diffrax": ("Euler", "Heun", "ItoMilstein", "StratonovichMilstein", "SRA1"),
    "julia": ("Euler", "Heun", "RKMil", "RKMilCommute", "SRA1", "SOSRA", "SRIW1"),
}
_LAW = {
    "diffrax": ("SRA1", "ItoMilstein", "Heun", "Euler"),
    "julia": ("SRA1", "SRIW1", "Heun", "RKMilCommute", "Euler"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class StochasticPlan:
    """One stochastic problem, ready to be taken up the ladder by any stack.

    **Fields:** the name and the problem; plans of its drift and of each column of its
    diffusion, as if each were an ordinary field; increments and areas of the paths,
    shapes `(paths, steps, m)`; the times of strong solutions and the states there,
    `(paths, times, n)` or `None`; numbers of steps for strong orders; scale; orders
    that differ from the methods' own, and methods whose order bounds from below; the
    law; backends and rungs; analyses.
    """

    name: str
    problem: SDEProblem
    fields: Mapping[str, Plan]
    increments: np.ndarray
    areas: np.ndarray
    times: np.ndarray
    reference: np.ndarray | None
    source: str
    steps: tuple[int, ...]
    scale: np.ndarray
    orders: Mapping[str, float]
    at_least: tuple[str, ...]
    law: Law
    backends: tuple[str, ...]
    rungs: tuple[str, ...]
    analyses: tuple[PlannedAnalysis, ...]

    @property
    def twins(self) -> tuple[str, ...]:
        """The methods of which both stacks take the same step on this problem."""
        return tuple(
            info.name
            for info in SDE_METHODS
            if info.twin and self._suits(info) and not self._only_near(info)
        )

    @property
    def near_twins(self) -> tuple[str, ...]:
        """Methods that both stacks have by one name and that are two schemes here, each
        with what differs."""
        return tuple(
            f"{info.name} ({info.note})"
            for info in SDE_METHODS
            if info.diffrax
            and info.julia
            and self._suits(info)
            and (not info.twin or self._only_near(info))
        )

    def strong_solvers(self, stack: str) -> tuple[str, ...]:
        """The methods whose strong order is measured on a stack."""
        suitable = [
            info.name
            for name in _STRONG[stack]
            for info in SDE_METHODS
            if info.name == name and self._suits(info)
        ]
        # One method, for matrices and for vectors.
        same = {"RKMilCommute"} if "RKMil" in suitable else set()
        if self.problem.noise == "additive":
            # Their steps are those of Euler, and of SRA1.
            same |= {"ItoMilstein", "StratonovichMilstein", "RKMil", "SRIW1"}
            same |= {"RKMilCommute"}
        return tuple(name for name in suitable if name not in same)

    def law_solver(self, stack: str) -> str:
        """The method that samples the law on a stack."""
        return next(
            name
            for name in _LAW[stack]
            for info in SDE_METHODS
            if info.name == name and self._suits(info)
        )

    def order(self, solver: str) -> float:
        """The strong order that a method has on this problem."""
        info = next(i for i in SDE_METHODS if i.name == solver)
        return self.orders.get(solver, info.strong_order[self.problem.noise])

    def _suits(self, info: Method) -> bool:
        problem = self.problem
        return (
            info.takes(problem.kind)
            and info.converges_to(problem.kind)
            and not info.langevin
            and not info.samples_area
        )

    def _only_near(self, info: Method) -> bool:
        # Its two steps differ where the diffusion depends on time.
        return info.name == "SRA1" and self._diffusion_depends_on_time()

    def _diffusion_depends_on_time(self) -> bool:
        flat = self.problem.flat_diffusion()
        plan = self.fields["drift"]
        return any(
            bool(
                np.any(np.asarray(jax.jacfwd(flat, 0)(jnp.asarray(t), jnp.asarray(u))))
            )
            for t, u in zip(plan.point_times, plan.points, strict=True)
        )


def plan_stochastic_fixture(fixture: StochasticFixture) -> StochasticPlan:
    """The plan of a fixture."""
    strong = fixture.strong
    states = np.concatenate([strong.states[0], strong.states[1]])
    return StochasticPlan(
        name=fixture.name,
        problem=fixture.problem,
        fields=_fields(fixture.problem, np.tile(strong.times, 2), states, strong.scale),
        increments=strong.increments,
        areas=strong.areas,
        times=strong.times,
        reference=strong.states,
        source="the closed form"
        if strong.kind == "closed form"
        else "the reference on the finest grid",
        steps=strong.steps,
        scale=strong.scale,
        orders=strong.orders,
        at_least=strong.at_least,
        law=fixture.law,
        backends=fixture.backends,
        rungs=fixture.rungs,
        analyses=fixture.analyses,
    )


def plan_stochastic_problem(
    problem: SDEProblem, scale: Any, analyses: Sequence[PlannedAnalysis] = ()
) -> StochasticPlan:
    """A plan for a problem of one's own: nothing known but the problem.

    Each method's own solution on the finest grid stands for the exact one, and laws are
    compared between the stacks alone.
    """
    t0, t1 = float(problem.t0), float(problem.t1)
    generator = np.random.default_rng(20261123)
    shape = (_PATHS, _STEPS, problem.noise_dimension)
    root = np.sqrt((t1 - t0) / _STEPS)
    dw = root * generator.standard_normal(shape)
    h = root / np.sqrt(12) * generator.standard_normal(shape)
    times = t0 + (t1 - t0) * np.arange(1, 5) / 4
    name = "Euler" if problem.interpretation == "ito" else "Heun"
    states = end_states(problem, "diffrax", name, dw[:1], h[:1], _STEPS, times)[0]
    if scale is None:
        u0 = np.asarray(ravel_pytree(problem.y0)[0])
        way = np.concatenate([u0[None], states])
        scale = typical_scale(way, first_scale(u0, states))
    else:
        scale = given_scale(scale, problem.dimension)
    return StochasticPlan(
        name="problem",
        problem=problem,
        fields=_fields(problem, times, states, scale),
        increments=dw,
        areas=h,
        times=times,
        reference=None,
        source=f"the same method in {_STEPS} steps",
        steps=(8, 16, 32, 64),
        scale=scale,
        orders={},
        at_least=tuple(i.name for i in SDE_METHODS),
        law=Law(t1, _LAW_STEPS, ()),
        backends=("diffrax", "julia"),
        rungs=("L0", "L1", "L2", "L3"),
        analyses=tuple(analyses),
    )


def law_problem(plan: StochasticPlan) -> SDEProblem:
    """The problem up to the time of its law."""
    end = jnp.asarray(plan.law.t1, plan.problem.dtype)
    return eqx.tree_at(lambda p: p.t1, plan.problem, end)


class _Column(eqx.Module):
    """One column of a diffusion as a field."""

    diffusion: Callable[..., Any]
    column: int | None = eqx.field(static=True)

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        g = self.diffusion(t, y, args)
        if self.column is None:
            return g
        return jtu.tree_map(lambda leaf: leaf[..., self.column], g)


def _fields(
    problem: SDEProblem, times: np.ndarray, states: np.ndarray, scale: np.ndarray
) -> dict[str, Plan]:
    columns: list[int | None] = (
        list(range(problem.noise_dimension)) if problem.matrix_noise else [None]
    )
    fields: dict[str, Any] = {"drift": problem.drift}
    for column in columns:
        label = "diffusion" + ("" if column is None else f" {column + 1}")
        fields[label] = _Column(problem.diffusion, column)
    places = np.unique(np.linspace(0, len(times) - 1, _POINTS).astype(int))
    points = states[places]
    wave = 1 + 0.1 * np.cos(np.arange(points.size)).reshape(points.shape)
    return {
        label: Plan(
            name=label,
            problem=ODEProblem(field, problem.y0, problem.t0, problem.t1, problem.args),
            backends=("diffrax", "julia"),
            rungs=("L0",),
            points=np.concatenate([points, points * wave]),
            point_times=np.tile(times[places], 2),
            times=times,
            reference=None,
            accuracy=0.0,
            scheme_t1=None,
            scheme_steps=None,
            rtols=(),
            scale=scale,
            growth=1.0,
            stiff=False,
            observables=(),
        )
        for label, field in fields.items()
    }
