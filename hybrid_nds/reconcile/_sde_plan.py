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

from ..backends.julia import worthwhile_pattern
from ..discretization import path_solver
from ..methods import SDE_METHODS, Method, find_solver
from ..noise import StoredPath, coarsened
from ..problems import ODEProblem, SDEProblem
from ..solving import solve
from ._analyses import PlannedAnalysis
from ._parts import FieldPoints, disturbed
from ._plan import Plan
from ._scale import first_scale, given_scale, typical_scale
from ._sde_fixtures import Law, StochasticFixture
from ._stacks import Question, Stack

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


# How many random numbers are held at once.
_NUMBERS = 2**23
# The backends draw their own samples: two independent ones, as the tests want.
_SEEDS = {"diffrax": 1, "julia": 2}
# What both stacks' rounding may add up to over a path, relative to |y| + scale.
TWIN_LIMIT = 1e-12


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SDEPlan(Plan):
    """A stochastic problem, ready to be taken up the ladder by any stack.

    **Fields:** beside those of every plan increments and areas of the paths, shapes
    `(paths, steps, m)`; the states of reference along them, `(paths, times, n)` or
    `None`, and where these come from; numbers of steps for strong orders; orders that
    differ from the methods' own, and methods whose order bounds from below; the
    distribution.
    """

    problem: SDEProblem
    increments: np.ndarray
    areas: np.ndarray
    reference: np.ndarray | None
    source: str
    steps: tuple[int, ...]
    orders: Mapping[str, float]
    at_least: tuple[str, ...]
    law: Law

    @property
    def twins(self) -> tuple[str, ...]:
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

    @property
    def no_twins(self) -> str:
        return "no twins for this noise"

    def scheme(self, twin: str) -> Question:
        def states(backend: str) -> list[np.ndarray]:
            # By the function itself on both sides: what is compared is what a user
            # calls.
            dw, h = self.increments[:1], self.areas[:1]
            call = (self.problem, backend, twin, self.steps[-1], self.times)
            return [path_solver(*call, quick=True)(dw, h)[0]]

        return Question("scheme", (twin,), states)

    def scheme_claim(self, twin: str) -> str:
        return f"{twin}, {self.steps[-1]} steps along one path"

    def scheme_limits(self) -> tuple[Mapping[str, float], str]:
        derivation = (
            "The same operations on the same increments: round-off alone, which over "
            "these steps stays below 1e-12 of |y| + scale (chosen, not derived)."
        )
        if self.near_twins:
            derivation += " Not compared, being near-twins: "
            derivation += "; ".join(self.near_twins) + "."
        return dict.fromkeys(self.twins, TWIN_LIMIT), derivation

    @property
    def gradient_twins(self) -> tuple[str, ...]:
        return self.twins if self.gradients else ()

    def scheme_end(self, twin: str) -> Callable[[Any, str, Any], Any]:
        span = {"t0": float(self.problem.t0), "t1": float(self.problem.t1)}
        dw, h = coarsened(self.increments[:1], self.areas[:1], self.steps[-1])
        path = StoredPath(dw[0], h[0], **span)

        def end(problem: Any, backend: str, at: Any) -> Any:
            solution = solve(problem, backend, solver=twin, path=path)
            return problem.flat_state.flatten(solution.ys)

        return end

    def strong(self, solver: str, steps: int) -> Question:
        """States along all paths in so many steps, shape `(paths · times, n)`."""

        def states(backend: str) -> list[np.ndarray]:
            dw, h = self.increments, self.areas
            if backend == "diffrax":
                call = (self.problem, backend, solver, steps, self.times)
                ends = path_solver(*call, quick=True)(dw, h)
            else:
                dw, h = coarsened(dw, h, steps)
                ends = _julia_states(self.problem, solver, dw, h, self.times)
            return [ends.reshape(-1, ends.shape[-1])]

        # Twelve digits are far finer than any error that an order is measured from.
        return Question("strong", (f"{solver} {steps}",), states, digits=12)

    def strong_states(self, stack: Stack, solver: str, steps: int) -> np.ndarray:
        """A stack's states along all paths, shape `(paths, times, n)`."""
        (states,) = stack.ask(self.strong(solver, steps))
        return states.reshape(len(self.increments), len(self.times), -1)

    def samples(self, stack: str) -> Question:
        """Independent samples of the distribution, shape `(samples, n)`."""
        solver = self.law_solver(stack)

        def states(backend: str) -> list[np.ndarray]:
            return [_samples(self, backend, solver)]

        return Question("sample", (solver,), states, digits=6)

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
        """The method that samples the distribution on a stack."""
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
        field = self.fields["drift"]
        return any(
            bool(
                np.any(np.asarray(jax.jacfwd(flat, 0)(jnp.asarray(t), jnp.asarray(u))))
            )
            for t, u in zip(field.times, field.points, strict=True)
        )


def plan_sde_fixture(fixture: StochasticFixture) -> SDEPlan:
    """The plan of a fixture."""
    strong = fixture.strong
    states = np.concatenate([strong.states[0], strong.states[1]])
    return SDEPlan(
        name=fixture.name,
        problem=fixture.problem,
        fields=_fields(fixture.problem, np.tile(strong.times, 2), states),
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
        gradients=fixture.gradients,
    )


def plan_sde_problem(
    problem: SDEProblem,
    scale: Any,
    analyses: Sequence[PlannedAnalysis] = (),
    *,
    gradients: bool = False,
) -> SDEPlan:
    """A plan for a problem of one's own: nothing known but the problem.

    Each method's own solution on the finest grid stands for the exact one, and
    distributions are compared between the stacks alone.
    """
    t0, t1 = float(problem.t0), float(problem.t1)
    generator = np.random.default_rng(20261123)
    shape = (_PATHS, _STEPS, problem.noise_dimension)
    root = np.sqrt((t1 - t0) / _STEPS)
    dw = root * generator.standard_normal(shape)
    h = root / np.sqrt(12) * generator.standard_normal(shape)
    times = t0 + (t1 - t0) * np.arange(1, 5) / 4
    name = "Euler" if problem.interpretation == "ito" else "Heun"
    along = path_solver(problem, "diffrax", name, _STEPS, times)
    states = along(dw[:1], h[:1])[0]
    if scale is None:
        u0 = np.asarray(ravel_pytree(problem.y0)[0])
        way = np.concatenate([u0[None], states])
        scale = typical_scale(way, first_scale(u0, states))
    else:
        scale = given_scale(scale, problem.dimension)
    return SDEPlan(
        name="problem",
        problem=problem,
        fields=_fields(problem, times, states),
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
        gradients=gradients,
    )


def _samples(plan: SDEPlan, backend: str, solver: str) -> np.ndarray:
    end = jnp.asarray(plan.law.t1, plan.problem.dtype)
    problem, steps = eqx.tree_at(lambda p: p.t1, plan.problem, end), plan.law.steps
    generator = np.random.default_rng(_SEEDS[backend])
    length = float(problem.t1) - float(problem.t0)
    root = np.sqrt(length / steps)
    times = np.array([float(problem.t1)])
    chunks = []
    most = max(1, _NUMBERS // (steps * problem.noise_dimension))
    for start in range(0, SAMPLES, most):
        count = min(most, SAMPLES - start)
        shape = (count, steps, problem.noise_dimension)
        dw = root * generator.standard_normal(shape)
        h = root / np.sqrt(12) * generator.standard_normal(shape)
        chunks.append(
            path_solver(problem, backend, solver, steps, times)(dw, h)
            if backend == "diffrax"
            else _julia_states(problem, solver, dw, h, times)
        )
    return np.concatenate(chunks)[:, -1]


def _julia_states(
    problem: SDEProblem, solver: str, dw: np.ndarray, h: np.ndarray, times: np.ndarray
) -> np.ndarray:
    from ..backends.julia import run_ensemble

    area = find_solver(solver, "julia", "sde").levy_area != "none"
    result = run_ensemble(
        problem,
        np.arange(len(dw)),
        key=None,
        solver=solver,
        dt=(float(problem.t1) - float(problem.t0)) / dw.shape[1],
        saveat=times,
        increments=(dw, h if area else None),
    )
    return np.asarray(result.states)


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
    problem: SDEProblem, times: np.ndarray, states: np.ndarray
) -> dict[str, FieldPoints]:
    columns: list[int | None] = (
        list(range(problem.noise_dimension)) if problem.matrix_noise else [None]
    )
    fields: dict[str, Any] = {"drift": problem.drift}
    for column in columns:
        label = "diffusion" + ("" if column is None else f" {column + 1}")
        fields[label] = _Column(problem.diffusion, column)
    positions = np.unique(np.linspace(0, len(times) - 1, _POINTS).astype(int))
    points, at = disturbed(states[positions]), np.tile(times[positions], 2)
    found = {}
    for label, field in fields.items():
        alone = ODEProblem(field, problem.y0, problem.t0, problem.t1, problem.args)
        found[label] = FieldPoints(alone, points, at, worthwhile_pattern(alone))
    return found
