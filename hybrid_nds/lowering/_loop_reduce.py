"""Rules for reductions, scans along an axis, sorting, and products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ._code import Code, Index, call, literal
from ._loops import LoopEmitter
from ._program import Equation
from ._values import Memory, Position, Uniform, Value

LoopRule = Callable[[LoopEmitter, Equation, Sequence[Value]], list[Value]]

# Matrix products smaller than this many multiplications are written as loops:
# BLAS's call overhead outweighs its speed.
_BLAS_MATRIX = 4096
_BLAS_VECTOR = 16384


def _lowest(dtype: np.dtype) -> Code:
    if dtype.kind == "f":
        return literal(-np.inf, dtype)
    return literal(False if dtype.kind == "b" else np.iinfo(dtype).min, dtype)


def _highest(dtype: np.dtype) -> Code:
    if dtype.kind == "f":
        return literal(np.inf, dtype)
    return literal(True if dtype.kind == "b" else np.iinfo(dtype).max, dtype)


_COMBINE: dict[str, tuple[str, Callable[[np.dtype], Code], bool]] = {
    # combination, neutral element, whether reassociating it is allowed and useful
    "sum": ("{0} + {1}", lambda d: literal(0, d), True),
    "prod": ("{0} * {1}", lambda d: literal(1, d), True),
    "max": ("max({0}, {1})", _lowest, False),
    "min": ("min({0}, {1})", _highest, False),
    "and": ("{0} & {1}", _highest, False),
    "or": ("{0} | {1}", _lowest, False),
    "xor": ("xor({0}, {1})", lambda d: literal(0, d), False),
    "logsumexp": ("log_add_exp({0}, {1})", _lowest, False),
}


def _start(em: LoopEmitter, combine: str, dtype: np.dtype) -> str:
    neutral = _COMBINE[combine][1](dtype)
    kind = em.type_of(dtype)
    # A generic element type starts as itself, so that the sum has one type.
    return f"convert({kind}, {neutral})" if kind == "T" else str(neutral)


def _update(combine: str, accumulator: str, code: Code) -> str:
    text = _COMBINE[combine][0].format(accumulator, code.tight(3))
    return f"{accumulator} = {text}"


def reduction(combine: str) -> LoopRule:
    def rule(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
        value, axes, output = values[0], eq.parameters["axes"], eq.outputs[0]
        simd = _COMBINE[combine][2] and output.dtype.kind == "f"

        def total(outer: Position) -> str:
            accumulator = em.fresh(output.name)
            em.line(f"{accumulator} = {_start(em, combine, output.dtype)}")
            with em.nest([value.shape[a] for a in axes], simd=simd) as inner:
                position, outer_indices = [], iter(outer)
                for axis in range(len(value.shape)):
                    position.append(
                        inner[axes.index(axis)] if axis in axes else next(outer_indices)
                    )
                em.line(_update(combine, accumulator, value.at(position)))
            return accumulator

        if output.shape == ():
            return [Uniform(Code(total([])), (), output.dtype)]
        target = em.result(output)
        with em.nest(output.shape) as outer:
            accumulator = total(outer)
            em.line(f"{target.at(outer)} = {accumulator}")
        return [target]

    return rule


def cumulative(combine: str) -> LoopRule:
    def rule(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
        value, axis, output = values[0], eq.parameters["axis"], eq.outputs[0]
        target, length = em.result(output), value.shape[eq.parameters["axis"]]
        others = [1 if a == axis else n for a, n in enumerate(value.shape)]
        with em.nest(others) as outer:
            accumulator = em.fresh(output.name)
            em.line(f"{accumulator} = {_start(em, combine, output.dtype)}")
            with em.loop(length) as along:
                if eq.parameters["reverse"]:
                    along = along * -1 + (length - 1)
                position = [along if a == axis else i for a, i in enumerate(outer)]
                em.line(_update(combine, accumulator, value.at(position)))
                em.line(f"{target.at(position)} = {accumulator}")
        return [target]

    return rule


def arg_extremum(comparison: str) -> LoopRule:
    def rule(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
        value, (axis,), output = (
            em.cheap(values[0]),
            eq.parameters["axes"],
            eq.outputs[0],
        )

        def search(outer: Position) -> Code:
            best, where = em.fresh("best"), em.fresh(output.name)

            def position(along: Index) -> list[Index]:
                return [*outer[:axis], along, *outer[axis:]]

            em.line(f"{best} = {value.at(position(Index()))}")
            em.line(f"{where} = 0")
            with em.loop(value.shape[axis]) as along:
                candidate = em.fresh("candidate")
                em.line(f"{candidate} = {value.at(position(along))}")
                with em.block(f"if {comparison}({candidate}, {best})"):
                    em.line(f"{best} = {candidate}")
                    em.line(f"{where} = {along.text()}")
            kind = em.type_of(output.dtype)
            return Code(where) if kind == "Int64" else call(kind, where)

        if output.shape == ():
            return [em.local(search([]), output.dtype, output.name)]
        target = em.result(output)
        with em.nest(output.shape) as outer:
            em.line(f"{target.at(outer)} = {search(outer)}")
        return [target]

    return rule


def sort(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    axis, keys = eq.parameters["dimension"], eq.parameters["num_keys"]
    targets = []
    for value, output in zip(values, eq.outputs, strict=True):
        target = em.result(output)
        em.store(value, target)
        targets.append(target)
    shape = eq.outputs[0].shape
    step = math.prod(shape[axis + 1 :])
    with em.nest([1 if a == axis else n for a, n in enumerate(shape)]) as position:
        arrays = ", ".join(t.name for t in targets)
        starts = ", ".join(_linear(t, position).text(1) for t in targets)
        em.line(
            f"sort_lines!(Val({keys}), ({arrays},), ({starts},), {step}, {shape[axis]})"
        )
    return list(targets)


def _linear(memory: Memory, position: Position) -> Index:
    from ._values import flatten_index

    return memory.offset + flatten_index(memory.shape, position)


def reduce_window(combine: str) -> LoopRule:
    def rule(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
        value, output, p = em.cheap(values[0]), eq.outputs[0], eq.parameters
        target = em.result(output)
        base = p["base_dilation"]
        with em.nest(output.shape) as outer:
            accumulator = em.fresh(output.name)
            em.line(f"{accumulator} = {_start(em, combine, output.dtype)}")
            with em.nest(p["window_dimensions"]) as inner:
                position, guards = [], []
                for axis, (o, w) in enumerate(zip(outer, inner, strict=True)):
                    index = (
                        o * p["window_strides"][axis]
                        + w * p["window_dilation"][axis]
                        + -p["padding"][axis][0]
                    )
                    index, guard = _within(index, value.shape[axis], base[axis])
                    position.append(index)
                    guards += guard
                update = _update(combine, accumulator, value.at(position))
                em.line(f"{' && '.join(guards)} && ({update})" if guards else update)
            em.line(f"{target.at(outer)} = {accumulator}")
        return [target]

    return rule


def _within(index: Index, length: int, dilation: int) -> tuple[Index, list[str]]:
    """A position in a padded, dilated axis, and when it holds an element."""
    text = index.text()
    if dilation == 1:
        if index.static is not None and 0 <= index.constant < length:
            return index, []
        return index, [f"0 <= {text} < {length}"]
    guards = [
        f"0 <= {text} < {(length - 1) * dilation + 1}",
        f"({text}) % {dilation} == 0",
    ]
    return Index(0, {f"(({text}) ÷ {dilation})": 1}), guards


def dot_general(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    (lhs_sum, rhs_sum), (lhs_batch, rhs_batch) = eq.parameters["dimension_numbers"]
    lhs, rhs = values
    output = eq.outputs[0]
    shape: tuple[int, ...] = output.shape
    lhs_free = [a for a in range(len(lhs.shape)) if a not in (*lhs_sum, *lhs_batch)]
    rhs_free = [a for a in range(len(rhs.shape)) if a not in (*rhs_sum, *rhs_batch)]
    rows = math.prod(lhs.shape[a] for a in lhs_free)
    columns = math.prod(rhs.shape[a] for a in rhs_free)
    summed = math.prod(lhs.shape[a] for a in lhs_sum)
    # An operand that every row or column reads again is computed once.
    lhs = em.cheap(lhs, output.name) if columns > 1 else lhs
    rhs = em.cheap(rhs, output.name) if rows > 1 else rhs
    plain = not lhs_batch and len(lhs_sum) == 1 and len(output.shape) > 0
    if plain and em.form == "array":
        done = _blas(em, eq, lhs, rhs, rows, columns, summed)
        if done is not None:
            return [done]

    def term(batch: Position, left: Position, right: Position, inner: Position) -> Code:
        at_lhs, at_rhs = [Index()] * len(lhs.shape), [Index()] * len(rhs.shape)
        for axes_l, axes_r, indices in (
            (lhs_batch, rhs_batch, batch),
            (lhs_sum, rhs_sum, inner),
        ):
            for a, b, index in zip(axes_l, axes_r, indices, strict=True):
                at_lhs[a], at_rhs[b] = index, index
        for a, index in zip(lhs_free, left, strict=True):
            at_lhs[a] = index
        for b, index in zip(rhs_free, right, strict=True):
            at_rhs[b] = index
        return Code(f"{lhs.at(at_lhs).tight(3)} * {rhs.at(at_rhs).tight(4)}", 3)

    lengths = [lhs.shape[a] for a in lhs_sum]
    simd = output.dtype.kind == "f"
    nbatch, nleft = len(lhs_batch), len(lhs_free)

    def parts(position: Position) -> tuple[Position, Position, Position]:
        return (
            position[:nbatch],
            position[nbatch : nbatch + nleft],
            position[nbatch + nleft :],
        )

    if shape == ():
        accumulator = em.fresh(output.name)
        em.line(f"{accumulator} = {_start(em, 'sum', output.dtype)}")
        with em.nest(lengths, simd=simd) as inner:
            em.line(_update("sum", accumulator, term([], [], [], inner)))
        return [Uniform(Code(accumulator), (), output.dtype)]
    target = em.result(output)
    strided = not _last(lhs, lhs_sum) or not _last(rhs, rhs_sum)
    along = _last(rhs, rhs_free) and shape[-1:] == tuple(
        rhs.shape[b] for b in rhs_free[-1:]
    )
    if not rhs_free:
        along = _last(lhs, lhs_free)
    if strided and along and shape[-1] > 3:
        # The result's last axis is the contiguous one: add rows, do not take dots.
        em.store(Uniform(em.zero(output.dtype), shape, output.dtype), target)
        with (
            em.nest(shape[:-1]) as head,
            em.nest(lengths) as inner,
            em.loop(shape[-1], simd=simd) as last,
        ):
            batch, left, right = parts([*head, last])
            entry = target.at([*head, last])
            em.line(f"{entry} = {entry} + {term(batch, left, right, inner)}")
        return [target]
    with em.nest(shape) as position:
        batch, left, right = parts(position)
        accumulator = em.fresh(output.name)
        em.line(f"{accumulator} = {_start(em, 'sum', output.dtype)}")
        with em.nest(lengths, simd=simd) as inner:
            em.line(_update("sum", accumulator, term(batch, left, right, inner)))
        em.line(f"{target.at(position)} = {accumulator}")
    return [target]


def _last(value: Value, axes: Sequence[int]) -> bool:
    """Whether these axes end with the contiguous one of memory."""
    last = len(value.shape) - 1
    return isinstance(value, Memory) and len(axes) > 0 and axes[-1] == last


def _blas(
    em: LoopEmitter,
    eq: Equation,
    lhs: Value,
    rhs: Value,
    rows: int,
    columns: int,
    summed: int,
) -> Memory | None:
    (lhs_sum, rhs_sum), _ = eq.parameters["dimension_numbers"]
    output = eq.outputs[0]
    work = rows * columns * summed
    enough = _BLAS_VECTOR if min(rows, columns) == 1 else _BLAS_MATRIX
    two = len(lhs.shape) == 2 and len(rhs.shape) <= 2
    if work < enough or not two or output.dtype != em.working:
        return None
    if lhs.dtype != em.working or rhs.dtype != em.working or min(rows, columns) == 1:
        return None
    left, right = em.memory(lhs, output.name), em.memory(rhs, output.name)
    target = em.result(output)
    if any(m.offset.static is None for m in (left, right, target)):
        return None
    # Row-major matrices are Julia's transposed: Cᵀ = Rᵀ Lᵀ.
    turn_right = "true" if rhs_sum[0] == 1 else "false"
    turn_left = "true" if lhs_sum[0] == 0 else "false"
    names = ", ".join(_matrix(m) for m in (target, right, left))
    em.line(f"product!({names}, Val({turn_right}), Val({turn_left}))")
    return target


def _matrix(memory: Memory) -> str:
    """A Julia matrix over memory of two axes."""
    if memory.dims == memory.shape and memory.offset.static == 0:
        return memory.name
    columns, rows = memory.shape[1], memory.shape[0]
    return f"Block({memory.name}, {memory.offset.text()}, ({columns}, {rows}))"


def convolution(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    p, output = eq.parameters, eq.outputs[0]
    lhs, rhs = em.cheap(values[0], output.name), em.cheap(values[1], output.name)
    numbers = p["dimension_numbers"]
    (lhs_n, lhs_c, *lhs_x) = numbers.lhs_spec
    (rhs_o, rhs_i, *rhs_x) = numbers.rhs_spec
    (out_n, out_c, *out_x) = numbers.out_spec
    groups, batches = p["feature_group_count"], p["batch_group_count"]
    per_group = output.shape[out_c] // (groups * batches)
    channels = rhs.shape[rhs_i]
    target = em.result(output)
    with em.nest(output.shape) as outer:
        accumulator = em.fresh(output.name)
        em.line(f"{accumulator} = {_start(em, 'sum', output.dtype)}")
        feature = outer[out_c]
        group = Index()
        if groups * batches > 1:
            group = Index(0, {f"(({feature.text()}) ÷ {per_group})": 1})
        kernel = [channels, *(rhs.shape[a] for a in rhs_x)]
        with em.nest(kernel) as inner:
            at_lhs, at_rhs = [Index()] * len(lhs.shape), [Index()] * len(rhs.shape)
            at_rhs[rhs_o], at_rhs[rhs_i] = feature, inner[0]
            at_lhs[lhs_c], at_lhs[lhs_n] = inner[0], outer[out_n]
            if groups > 1:
                at_lhs[lhs_c] = inner[0] + group * channels
            if batches > 1:
                at_lhs[lhs_n] = outer[out_n] + group * output.shape[out_n]
            guards: list[str] = []
            for axis in range(len(lhs_x)):
                index = (
                    outer[out_x[axis]] * p["window_strides"][axis]
                    + inner[axis + 1] * p["rhs_dilation"][axis]
                    + -p["padding"][axis][0]
                )
                index, guard = _within(
                    index, lhs.shape[lhs_x[axis]], p["lhs_dilation"][axis]
                )
                at_lhs[lhs_x[axis]], at_rhs[rhs_x[axis]] = index, inner[axis + 1]
                guards += guard
            product = Code(f"{lhs.at(at_lhs).tight(3)} * {rhs.at(at_rhs).tight(4)}", 3)
            update = _update("sum", accumulator, product)
            em.line(f"{' && '.join(guards)} && ({update})" if guards else update)
        em.line(f"{target.at(outer)} = {accumulator}")
    return [target]
