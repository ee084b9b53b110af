"""What an ensemble computes, apart from who computes it and when."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from ..problems import Problem
from ..solution import SUCCESSES, UNSTABLE
from ._layout import Layout, State
from ._reduction import Reduction, observe, observed_layout

# Far from the small numbers that a Brownian path draws its own keys with.
_INITIAL = 0x79300000


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything the trajectories depend on; travels to worker processes as it is.

    **Fields:** the problem; the number of trajectories; the key's data and kind; the
    backend; the options of each solve; the times to save, `None` for the last; a
    callable `key -> y0` or `None`; the reductions by name, `None` to keep all states;
    how many trajectories make a block; `"shared"` or `"native"` paths.

    Blocks are the units of computation: programs are compiled for one block, and
    reductions merge blocks in their order, so that no digit depends on how blocks are
    shared out among batches, workers and devices.
    """

    problem: Problem
    n: int
    key_data: np.ndarray
    key_kind: str
    backend: str
    options: Mapping[str, Any]
    saveat: np.ndarray | None
    initial: Callable[[PRNGKeyArray], PyTree] | None
    reductions: Mapping[str, Reduction] | None
    block: int
    paths: str

    @property
    def key(self) -> PRNGKeyArray:
        return jr.wrap_key_data(jnp.asarray(self.key_data), impl=self.key_kind)

    @property
    def blocks(self) -> int:
        """How many blocks make the ensemble."""
        return -(-self.n // self.block)

    @functools.cached_property
    def layout(self) -> Layout:
        """The layout of the saved states."""
        times = (
            np.asarray(self.problem.t1)[None] if self.saveat is None else self.saveat
        )
        return Layout(
            np.asarray(times, self.problem.dtype),
            self.problem.flat_state.structure,
            self.n,
        )

    @functools.cached_property
    def layouts(self) -> dict[str, Layout]:
        """The layout of what each reduction looks at."""
        named = self.reductions or {}
        return {
            name: observed_layout(reduction, self.layout)
            for name, reduction in named.items()
        }

    def span(self, block: int) -> range:
        """The trajectories of a block."""
        return range(block * self.block, min((block + 1) * self.block, self.n))


def block_size(n: int, accelerated: bool) -> int:
    """How many trajectories make a block.

    It depends on the size of the ensemble and the kind of device alone, never on the
    number of workers. A thousand trajectories fill a core's vector units and stay in
    its cache; an accelerator wants more. Small ensembles make four blocks to share out.
    """
    largest = 16384 if accelerated else 1024
    quarter = 2 ** max(0, (n // 4).bit_length() - 1)
    smallest = 2 ** (max(n, 1) - 1).bit_length()
    return min(largest, max(quarter, min(256, smallest)))


@dataclasses.dataclass(frozen=True)
class Trajectories:
    """The trajectories of one block, as a solver stack left them.

    **Fields:** outcome codes (the positions in `Outcome`), shape `(k,)`; where each
    solve ended, shape `(k,)`; flat states, shape `(k, times, scalars)`, not finite
    where a solve did not get.
    """

    outcomes: np.ndarray
    ends: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class BlockResult:
    """What is kept of one block.

    **Fields:** its number; outcome codes of its trajectories; the times at which some
    failed, in their order; the states of its reductions by name, or its flat states as
    `{"": {"values": …}}`.
    """

    number: int
    outcomes: np.ndarray
    failed_times: np.ndarray
    kept: dict[str, State]


@eqx.filter_jit
def _initial_states(
    initial: Callable[[PRNGKeyArray], PyTree], key: PRNGKeyArray, indices: jax.Array
) -> PyTree:
    def one(index: jax.Array) -> PyTree:
        return initial(initial_key(key, index))

    return jax.vmap(one)(indices)


def initial_key(key: PRNGKeyArray, index: Any) -> PRNGKeyArray:
    """The key of a trajectory's initial state, apart from that of its noise."""
    return jr.fold_in(jr.fold_in(key, index), _INITIAL)


def initial_states(plan: Plan, indices: np.ndarray, given: PyTree) -> PyTree | None:
    """The initial states of some trajectories, led by an axis of trajectories.

    **Arguments:** the plan; the indices; states given as arrays for these very
    trajectories, or `None`.

    **Returns:** a pytree of the structure of `y0`; `None` where all start at `y0`.
    """
    if given is not None:
        return given
    if plan.initial is None:
        return None
    return _initial_states(plan.initial, plan.key, jnp.asarray(indices))


def keep(plan: Plan, number: int, found: Trajectories) -> BlockResult:
    """Reduce a block, failed trajectories apart.

    **Arguments:** the plan, the number of the block, its trajectories, of which those
    beyond the size of the block are left out.
    """
    k = len(plan.span(number))
    outcomes, ends, values = (
        np.array(x) for x in (found.outcomes, found.ends, found.values)
    )
    lost = np.any(~np.isfinite(values), axis=2)
    failed = np.any(lost, axis=1)
    first = plan.layout.times[np.argmax(lost, axis=1)].astype(np.float64)
    outcomes[failed & np.isin(outcomes, SUCCESSES)] = UNSTABLE
    # A solve in fixed steps goes on to its end, whatever its states are.
    earlier = np.minimum if plan.problem.t1 > plan.problem.t0 else np.maximum
    ends = np.where(failed, earlier(ends, first), ends)
    good = np.isin(outcomes, SUCCESSES)
    kept: dict[str, State] = {}
    if plan.reductions is None:
        # From its first bad time on, a trajectory is not a number.
        values[np.logical_or.accumulate(lost, axis=1)] = np.nan
        kept[""] = {"values": values[:k]}
    for name, reduction in (plan.reductions or {}).items():
        # Before failed ones are left out: one shape, one compilation.
        seen = observe(reduction, plan.layout, values)[:k][good[:k]]
        kept[name] = reduction.update(reduction.init(plan.layouts[name]), seen)
    times = ends[:k][~good[:k]]
    return BlockResult(number, outcomes[:k].astype(np.int8), times, kept)
