"""Blocks of trajectories in Julia: one call for a batch, or one solve a trajectory."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from .. import runtime
from ..methods import find_solver
from ..noise import BrownianPath, LevyArea
from ..problems import Problem
from ..solution import Provenance, code_of, package_versions
from ..solving import solve
from ._moments import Moments
from ._plan import BlockResult, Plan, Trajectories, initial_states, keep

if TYPE_CHECKING:
    from ..backends.julia import KernelResult

# Bytes of increments held at a time.
_INCREMENTS = 64 * 2**20


class JuliaBlocks:
    """Runs blocks of a plan in Julia, in the process's main thread."""

    blocks_per_call = 1

    def __init__(self, plan: Plan, threads: int | None = None):
        self.plan = plan
        self.threads = threads
        self.provenance: Provenance | None = None
        self.runner = "one solve a trajectory"

    def run(self, blocks: range, given: PyTree) -> Iterator[BlockResult]:
        """Solve some blocks; see `DiffraxBlocks.run`."""
        plan, first = self.plan, blocks.start * self.plan.block
        indices = np.arange(first, plan.span(blocks.stop - 1).stop)
        y0s = initial_states(plan, indices, given)
        if self._moments:
            yield from self._reduced(blocks, indices, y0s)
            return
        problem = plan.problem
        batched = problem.kind.follows_path and why_not_batched(plan.options) is None
        found = (self._batched if batched else self._each)(indices, y0s)
        for number in blocks:
            span = plan.span(number)
            rows = slice(span.start - first, span.stop - first)
            own = Trajectories(
                found.outcomes[rows], found.ends[rows], found.values[rows]
            )
            yield keep(plan, number, own)

    @functools.cached_property
    def _moments(self) -> dict[str, Moments]:
        """The reductions, where Julia's loops can do all of them; else none."""
        from ..backends.julia import kernel_applies

        plan, reductions = self.plan, self.plan.reductions or {}
        found: dict[str, Moments] = {
            name: one
            for name, one in reductions.items()
            if isinstance(one, Moments) and type(one) is Moments and one.of is None
        }
        if plan.paths != "native" or len(found) != len(reductions):
            return {}
        solver, dt = plan.options["solver"], plan.options["dt"]
        if kernel_applies(plan.problem, solver, dt) is not None:
            return {}
        return found

    def _reduced(
        self, blocks: range, indices: np.ndarray, y0s: PyTree
    ) -> Iterator[BlockResult]:
        """Blocks reduced to moments in the loops that solve them."""
        from ..backends.julia import KernelMoments

        plan, requested = self.plan, self._moments
        orders = [one.order for one in requested.values()]
        covariance = any(one.covariance for one in requested.values())
        reduce = KernelMoments(plan.block, max(orders), covariance)
        raw = self._run(indices, y0s, save=False, reduce=reduce)
        assert raw.moments is not None
        outcomes = raw.outcomes.astype(np.int8)
        for position, number in enumerate(blocks):
            span = plan.span(number)
            rows = slice(span.start - indices[0], span.stop - indices[0])
            here = (raw.failed >= span.start) & (raw.failed < span.stop)
            sums = raw.moments.block(position)
            kept = {name: one.of_sums(*sums) for name, one in requested.items()}
            times = raw.failed_times[here]
            yield BlockResult(number, outcomes[rows], times, kept)

    def _run(self, indices: np.ndarray, y0s: PyTree, **more: Any) -> KernelResult:
        """Fixed steps of some trajectories, in one call of Julia."""
        from ..backends.julia import run_ensemble

        plan = self.plan
        solver, dt = plan.options["solver"], float(plan.options["dt"])
        raw = run_ensemble(
            plan.problem,
            indices,
            key=plan.key,
            solver=solver,
            dt=dt,
            saveat=plan.saveat,
            y0=None
            if y0s is None
            else np.asarray(plan.problem.flat_state.flatten(y0s)),
            threads=self.threads,
            **more,
        )
        if raw.interrupted:
            raise KeyboardInterrupt
        self.runner = raw.runner
        self.provenance = Provenance(
            "julia",
            str(find_solver(solver, "julia", "sde").julia),
            package_versions() + runtime.session().versions,
            dt=dt,
            field="lowered",
        )
        return raw

    def _each(self, indices: np.ndarray, y0s: PyTree) -> Trajectories:
        plan = self.plan
        k, (times, scalars) = len(indices), plan.layout.entries
        found = Trajectories(
            np.zeros(k, np.int64),
            np.zeros(k),
            np.full((k, times, scalars), np.nan, plan.problem.dtype),
        )
        for position, index in enumerate(indices):
            problem, own = plan.problem, dict(plan.options)
            if y0s is not None:
                y0 = jtu.tree_map(lambda leaf, i=position: jnp.asarray(leaf[i]), y0s)
                problem = eqx.tree_at(lambda p: p.y0, problem, y0)
            if problem.kind.follows_path:
                own["key"] = jr.fold_in(plan.key, int(index))
            solution = solve(problem, "julia", saveat=plan.saveat, throw=False, **own)
            self.provenance = solution.provenance
            # Times that were not reached are left out of a solution.
            states = np.asarray(problem.flat_state.flatten(solution.ys))
            found.outcomes[position] = int(np.asarray(code_of(solution.outcome)))
            found.ends[position] = float(np.asarray(solution.end_time))
            found.values[position, : len(states)] = states[:times]
        return found

    def _batched(self, indices: np.ndarray, y0s: PyTree) -> Trajectories:
        plan = self.plan
        problem, solver = plan.problem, plan.options["solver"]
        dt = float(plan.options["dt"])
        k, (times, scalars) = len(indices), plan.layout.entries
        found = Trajectories(
            np.zeros(k, np.int64),
            np.full(k, float(problem.t1)),
            np.empty((k, times, scalars), problem.dtype),
        )
        size = k
        area = find_solver(solver, "julia", "sde").levy_area
        if plan.paths == "shared":
            size = min(k, _chunk(problem, dt, area))
        for start in range(0, k, size):
            rows = slice(start, min(start + size, k))
            own, increments = indices[rows], None
            if plan.paths == "shared":
                # Always as many, so that all are compiled as one.
                padded = np.minimum(start + np.arange(size), k - 1)
                dw, h = shared_increments(plan, indices[padded], dt, area)
                count = len(own)
                increments = dw[:count], None if h is None else h[:count]
            starts = jtu.tree_map(lambda leaf, rows=rows: leaf[rows], y0s)
            raw = self._run(own, starts, increments=increments)
            found.outcomes[rows] = raw.outcomes
            found.ends[raw.failed - indices[0]] = raw.failed_times
            found.values[rows] = raw.states
        return found


def why_not_batched(options: Mapping[str, Any]) -> str | None:
    """Why Julia cannot run a batch of a stochastic problem in one call; `None` where
    it can: by a lean kernel, or by solves on Julia's threads.

    **Arguments:** the options of each solve in normal form.
    """
    if options["dt"] is None:
        return "it takes fixed steps `dt`"
    used = {name for name, value in options.items() if value is not None}
    others = sorted(used - {"solver", "dt"})
    return f"it takes no {', '.join(others)}" if others else None


def _chunk(problem: Problem, dt: float, area: LevyArea) -> int:
    """How many trajectories' increments fit in the memory allowed for them."""
    steps = (float(problem.t1) - float(problem.t0)) / dt
    kinds = 1 if area == "none" else 2
    one = steps * problem.noise_dimension * problem.dtype.itemsize * kinds
    return max(1, int(_INCREMENTS / one))


def shared_increments(
    plan: Plan, indices: np.ndarray, dt: float, area: LevyArea
) -> tuple[np.ndarray, np.ndarray | None]:
    """The increments of the Brownian paths that Diffrax takes for these trajectories.

    **Returns:** `dW`, shape `(k, steps, m)`, and the space-time Lévy areas in the same
    shape, or `None`.
    """
    problem = plan.problem
    span = float(problem.t0), float(problem.t1)
    dw, h = _increments(
        plan.key,
        jnp.asarray(indices),
        span,
        dt,
        problem.noise_dimension,
        area,
        str(problem.dtype),
    )
    return np.asarray(dw), None if h is None else np.asarray(h)


@eqx.filter_jit
def _increments(
    key: PRNGKeyArray,
    indices: jax.Array,
    span: tuple[float, float],
    dt: float,
    dimension: int,
    area: LevyArea,
    dtype: str,
) -> Any:
    def one(index: jax.Array) -> Any:
        own = jr.fold_in(key, index)
        path = BrownianPath(own, (dimension,), *span, dt, area, dtype=dtype)
        return path.increments()

    return jax.vmap(one)(indices)
