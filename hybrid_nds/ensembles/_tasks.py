"""Batches of blocks as tasks that travel to other processes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pickle
import threading
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import cloudpickle
import jax
import jax.experimental
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ..solution import Provenance
from ..tasks import julia_beside
from ._diffrax_blocks import DiffraxBlocks
from ._julia_blocks import JuliaBlocks
from ._plan import BlockResult, Plan


@runtime_checkable
class Blocks(Protocol):
    """A way to run the blocks of a plan."""

    provenance: Provenance | None

    @property
    def runner(self) -> str: ...

    @property
    def blocks_per_call(self) -> int: ...

    def run(self, blocks: range, given: PyTree) -> Iterator[BlockResult]: ...


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some blocks, and the initial states of their trajectories if given as arrays."""

    first: int
    stop: int
    given: PyTree = None

    @property
    def blocks(self) -> range:
        return range(self.first, self.stop)


@dataclasses.dataclass(frozen=True)
class BatchResult:
    """What came of a batch: its blocks, and how they were run."""

    results: tuple[BlockResult, ...]
    provenance: Provenance | None
    runner: str


def make_blocks(plan: Plan, mesh: Any = None, threads: int | None = None) -> Blocks:
    """The way to run the blocks of a plan in this process."""
    if plan.backend == "julia":
        return JuliaBlocks(plan, threads)
    return DiffraxBlocks(plan, mesh)


def run_batch(blocks: Blocks, batch: Batch) -> BatchResult:
    """Solve a batch and reduce its blocks, one at a time."""
    results = tuple(blocks.run(batch.blocks, batch.given))
    return BatchResult(results, blocks.provenance, blocks.runner)


@dataclasses.dataclass(frozen=True)
class Payload:
    """A plan on its way to other processes.

    **Fields:** the plan as bytes, their digest, whether JAX runs in 64 bits, whether
    Julia solves, and the number of its threads to use.
    """

    data: bytes
    digest: str
    double: bool
    julia: bool
    threads: int | None


def serialized(plan: Plan, threads: int | None) -> Payload:
    """A plan ready to travel.

    Functions of scripts and notebooks travel as they are; those of modules by name.

    **Raises:** `TypeError` for a plan that cannot travel.
    """
    try:
        data = cloudpickle.dumps(plan)
        pickle.loads(data)
    except Exception as error:
        raise TypeError(
            "ensemble: the problem cannot travel to the workers of `executor`: "
            f"{type(error).__name__}: {error}. Keep open files, locks, threads and "
            "devices out of `problem`, `initial` and `reduce`."
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    double = jnp.result_type(float) == np.float64
    return Payload(data, digest, double, plan.backend == "julia", threads)


# One plan at a time: a worker that gets another is done with the last.
_UNPACKED: dict[str, Blocks] = {}


def run_payload(payload: Payload, batch: Batch) -> BatchResult:
    """Solve a batch in a worker process.

    Julia runs in the main thread of a process. Dask's workers run tasks in others, and
    get a process for Julia beside them.
    """
    main = threading.current_thread() is threading.main_thread()
    if payload.julia and not main:
        return julia_beside("ensemble", payload.threads).call(
            run_payload, payload, batch
        )
    with _precision(payload.double):
        if payload.digest not in _UNPACKED:
            plan: Plan = pickle.loads(payload.data)
            _UNPACKED.clear()
            _UNPACKED[payload.digest] = make_blocks(plan, threads=payload.threads)
        return run_batch(_UNPACKED[payload.digest], batch)


def cut(given: PyTree, plan: Plan, blocks: range) -> PyTree:
    """The initial states of some blocks, from those of all."""
    if given is None:
        return None
    rows = slice(blocks.start * plan.block, plan.span(blocks.stop - 1).stop)
    return jtu.tree_map(lambda leaf: np.asarray(leaf)[rows], given)


@contextlib.contextmanager
def _precision(double: bool) -> Iterator[None]:
    # Older JAX has it under jax.experimental.
    module: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
    switch = module.enable_x64
    with switch(double):
        yield
