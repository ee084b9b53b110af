"""Rules for dense factorizations and triangular solves, one matrix at a time."""

from __future__ import annotations

from collections.abc import Sequence

from ._code import Index
from ._loops import LoopEmitter
from ._program import Equation
from ._values import Memory, Value


def _block(em: LoopEmitter, memory: Memory, batch: Sequence[Index]) -> str:
    """One matrix (or vector) of a batch, as a Julia array with axes reversed."""
    rank = len(memory.shape) - len(batch)
    part = memory
    for index in batch:
        part = part.row(index)
    if not batch and memory.dims == memory.shape and memory.offset.static == 0:
        return memory.name
    dims = ", ".join(map(str, reversed(memory.shape[len(batch) :])))
    comma = "," if rank == 1 else ""
    return f"Block({part.name}, {part.offset.text()}, ({dims}{comma}))"


def cholesky(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    target = em.result(eq.outputs[0])
    em.store(values[0], target)
    with em.nest(target.shape[:-2]) as batch:
        em.line(f"cholesky_lower!({_block(em, target, batch)})")
    return [target]


def lu(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    factors, pivots, permutation = (em.result(output) for output in eq.outputs)
    em.store(values[0], factors)
    with em.nest(factors.shape[:-2]) as batch:
        blocks = [_block(em, m, batch) for m in (factors, pivots, permutation)]
        em.line(f"lu_factors!({', '.join(blocks)})")
    return [factors, pivots, permutation]


def lu_pivots_to_permutation(
    em: LoopEmitter, eq: Equation, values: Sequence[Value]
) -> list[Value]:
    pivots = em.memory(values[0], "pivots")
    target = em.result(eq.outputs[0])
    with em.nest(target.shape[:-1]) as batch:
        em.line(
            f"pivots_to_permutation!({_block(em, target, batch)}, "
            f"{_block(em, pivots, batch)})"
        )
    return [target]


def triangular_solve(
    em: LoopEmitter, eq: Equation, values: Sequence[Value]
) -> list[Value]:
    p = eq.parameters
    matrix = em.memory(values[0], "triangle")
    target = em.result(eq.outputs[0])
    em.store(values[1], target)
    flags = ", ".join(
        f"Val({'true' if p[key] else 'false'})"
        for key in ("left_side", "lower", "transpose_a", "unit_diagonal")
    )
    with em.nest(target.shape[:-2]) as batch:
        em.line(
            f"triangular_solve!({_block(em, target, batch)}, "
            f"{_block(em, matrix, batch)}, {flags})"
        )
    return [target]
