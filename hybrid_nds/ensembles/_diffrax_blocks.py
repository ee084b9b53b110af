"""Blocks of trajectories in XLA: vectorized, and sharded over devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree

from ..problems import Problem
from ..solution import Provenance, code_of
from ..solving import solve
from ._plan import BlockResult, Plan, Trajectories, initial_states, keep


@dataclasses.dataclass(frozen=True)
class _Fixed:
    """What a compiled program depends on, beside shapes: all of it hashable."""

    t0: float
    t1: float
    saveat: tuple[float, ...] | None
    paths: str
    key_kind: str
    block: int
    mesh: Mesh


def _line_of(mesh: Mesh | None) -> Mesh:
    """The devices of a mesh in one line; by default the one that JAX would take."""
    devices = list(jnp.zeros(()).devices()) if mesh is None else mesh.devices.ravel()
    return Mesh(np.array(devices), ("trajectories",))


@eqx.filter_jit
def _program(
    problem: Problem,
    y0s: PyTree | None,
    key_data: jax.Array,
    indices: jax.Array,
    options: dict[str, Any],
    fixed: _Fixed,
) -> tuple[tuple[jax.Array, ...], Provenance]:
    """Solve as many blocks as the mesh has devices, one on each.

    Every device runs the program of one block, whatever their number: not one sum is
    taken in another order. Adaptive blocks do not wait for each other.
    """
    arrays, rest = eqx.partition((problem, options), eqx.is_array)
    # What was learnt while tracing; the same for every block.
    provenances: list[Provenance] = []

    def block(arrays: PyTree, key_data: jax.Array, y0s: PyTree, indices: jax.Array):
        problem, options = eqx.combine(arrays, rest)
        key = jr.wrap_key_data(key_data, impl=fixed.key_kind)
        dtype = problem.dtype

        def one(index: jax.Array, y0: PyTree) -> tuple[jax.Array, ...]:
            # The span stays known while tracing: grids of steps follow from it.
            span = np.asarray(fixed.t0, dtype), np.asarray(fixed.t1, dtype)
            state = problem.y0 if y0s is None else y0
            moved = eqx.tree_at(lambda p: (p.t0, p.t1, p.y0), problem, (*span, state))
            own: dict[str, Any] = dict(options)
            if problem.kind.follows_path:
                own |= {"key": jr.fold_in(key, index), "paths": fixed.paths}
            times = None if fixed.saveat is None else np.asarray(fixed.saveat, dtype)
            solution = solve(moved, "diffrax", saveat=times, throw=False, **own)
            provenances.append(solution.provenance)
            return (
                jnp.asarray(code_of(solution.outcome)),
                jnp.asarray(solution.end_time, dtype),
                problem.flat_state.flatten(solution.ys),
            )

        return jax.vmap(one)(indices, y0s)

    split, whole = PartitionSpec(fixed.mesh.axis_names), PartitionSpec()
    found = jax.shard_map(
        block,
        mesh=fixed.mesh,
        in_specs=(whole, whole, split, split),
        out_specs=split,
        check_vma=False,
    )(arrays, key_data, y0s, indices)
    return found, provenances[-1]


class DiffraxBlocks:
    """Runs blocks of a plan on the devices of a mesh."""

    def __init__(self, plan: Plan, mesh: Mesh | None = None):
        self.plan = plan
        self.mesh = _line_of(mesh)
        self.provenance: Provenance | None = None
        times = plan.saveat
        self._fixed = _Fixed(
            float(plan.problem.t0),
            float(plan.problem.t1),
            None if times is None else tuple(times.tolist()),
            plan.paths,
            plan.key_kind,
            plan.block,
            self.mesh,
        )

    @property
    def blocks_per_call(self) -> int:
        """How many blocks run at a time."""
        return self.mesh.size

    @property
    def runner(self) -> str:
        return f"vmap over blocks of {self.plan.block}"

    def run(self, blocks: range, given: PyTree) -> Iterator[BlockResult]:
        """Solve some blocks, and keep what is requested of them.

        **Arguments:** the blocks' numbers; initial states for all trajectories of
        these blocks, or `None`.

        **Returns:** an iterator over what is kept of each, in order.
        """
        plan, first = self.plan, blocks.start * self.plan.block
        last = plan.span(blocks.stop - 1).stop - 1
        for start in range(blocks.start, blocks.stop, self.blocks_per_call):
            width = self.blocks_per_call * plan.block
            # The last block is padded by the last trajectory, so that all are compiled
            # as one.
            requested = start * plan.block + np.arange(width)
            indices = np.minimum(requested, last)
            own = (
                None
                if given is None
                else jtu.tree_map(lambda x, i=indices: x[i - first], given)
            )
            y0s = initial_states(plan, indices, own)
            (outcomes, ends, values), self.provenance = _program(
                plan.problem,
                y0s,
                jnp.asarray(plan.key_data),
                jnp.asarray(indices),
                dict(plan.options),
                self._fixed,
            )
            parts = [np.asarray(x) for x in (outcomes, ends, values)]
            for position in range(min(self.blocks_per_call, blocks.stop - start)):
                rows = slice(position * plan.block, (position + 1) * plan.block)
                found = Trajectories(*(part[rows] for part in parts))
                yield keep(plan, start + position, found)
