"""Rules for primitives that only move elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._code import Code, Index, call, literal
from ._elementwise import convert
from ._loops import LoopEmitter
from ._program import Equation, Shape
from ._values import Computed, Memory, Position, Uniform, Value, flatten_index


def _moved(value: Value, shape: Shape, source, flat=lambda position: None) -> Value:
    """`value` seen through a map of positions."""
    if isinstance(value, Uniform):
        return Uniform(value.code, shape, value.dtype)
    return Computed(shape, value.dtype, lambda p: value.at(source(p)), value.cost, flat)


def reshape(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    value, shape = values[0], eq.outputs[0].shape
    if isinstance(value, Memory):
        return [value.reshaped(shape)]
    axes = _unit_axes(value.shape, shape)
    if axes is not None:
        # Only axes of length one come or go.
        def source(position: Position) -> list[Index]:
            return [Index() if axis is None else position[axis] for axis in axes]

        return [_moved(value, shape, source, value.flat)]
    if isinstance(value, Uniform):
        return [Uniform(value.code, shape, value.dtype)]
    memory = em.memory(value, eq.outputs[0].name)
    return [memory.reshaped(shape)]


def _unit_axes(shape: Shape, target: Shape) -> list[int | None] | None:
    """For each axis of `shape`, the axis of `target` it becomes; `None` for units."""
    if [n for n in shape if n != 1] != [n for n in target if n != 1]:
        return None
    targets = iter([axis for axis, n in enumerate(target) if n != 1])
    return [None if n == 1 else next(targets) for n in shape]


def broadcast_in_dim(
    em: LoopEmitter, eq: Equation, values: Sequence[Value]
) -> list[Value]:
    value, shape = values[0], eq.outputs[0].shape
    dims = eq.parameters["broadcast_dimensions"]
    if math.prod(shape) > value.size:
        value = em.cheap(value, eq.outputs[0].name)
    lengths = value.shape
    if isinstance(value, Memory) and value.size == math.prod(shape):
        return [value.reshaped(shape)]

    def source(position: Position) -> list[Index]:
        return [
            position[dim] if n != 1 else Index()
            for dim, n in zip(dims, lengths, strict=True)
        ]

    same = value.size == math.prod(shape)
    return [_moved(value, shape, source, value.flat if same else lambda p: None)]


def transpose(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    permutation = eq.parameters["permutation"]

    def source(position: Position) -> list[Index]:
        result = [Index()] * len(permutation)
        for axis, origin in enumerate(permutation):
            result[origin] = position[axis]
        return result

    return [_moved(values[0], eq.outputs[0].shape, source)]


def rev(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    value, dims = values[0], eq.parameters["dimensions"]

    def source(position: Position) -> list[Index]:
        return [
            index * -1 + (value.shape[axis] - 1) if axis in dims else index
            for axis, index in enumerate(position)
        ]

    return [_moved(value, value.shape, source)]


def _window(value: Value, starts: Sequence[int], steps: Sequence[int], shape: Shape):
    def source(position: Position) -> list[Index]:
        return [
            index * step + start
            for index, start, step in zip(position, starts, steps, strict=True)
        ]

    return _moved(value, shape, source)


def slice_(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    value, starts = values[0], eq.parameters["start_indices"]
    steps = eq.parameters["strides"] or (1,) * len(starts)
    shape = eq.outputs[0].shape
    leading = value.shape[1:] == shape[1:] and all(step == 1 for step in steps)
    if isinstance(value, Memory) and shape and leading:
        # A run of rows is contiguous: the same memory, further on.
        offset = value.offset + flatten_index(
            value.shape, [Index(start) for start in starts]
        )
        return [Memory(value.name, shape, value.dtype, value.dims, offset)]
    return [_window(value, starts, steps, shape)]


def split(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    value, axis = em.cheap(values[0]), eq.parameters["axis"]
    results, start = [], 0
    for size, output in zip(eq.parameters["sizes"], eq.outputs, strict=True):
        starts = [start if a == axis else 0 for a in range(len(value.shape))]
        results.append(_window(value, starts, [1] * len(starts), output.shape))
        start += size
    return results


def iota(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    output, axis = eq.outputs[0], eq.parameters["dimension"]
    integer = np.dtype(np.int64)

    def at(position: Position) -> Code:
        code = Code(f"({position[axis].text()})")
        return convert(code, integer, output.dtype, em.working)

    return [Computed(output.shape, output.dtype, at, 0)]


def _write(
    em: LoopEmitter, value: Value, target: Memory, starts: Sequence[int], steps=None
) -> None:
    """Store `value` into the part of `target` that begins at `starts`."""
    steps = steps or [1] * len(starts)
    with em.nest(value.shape) as position:
        there = [
            index * step + start
            for index, start, step in zip(position, starts, steps, strict=True)
        ]
        em.line(f"{target.at(there)} = {value.at(position)}")


def concatenate(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    axis, target, start = eq.parameters["dimension"], em.result(eq.outputs[0]), 0
    for value in values:
        starts = [start if a == axis else 0 for a in range(len(value.shape))]
        _write(em, value, target, starts)
        start += value.shape[axis]
    return [target]


def stack(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    axis, target = eq.parameters["axis"], em.result(eq.outputs[0])
    for index, value in enumerate(values):
        with em.nest(value.shape) as position:
            there = [*position[:axis], Index(index), *position[axis:]]
            em.line(f"{target.at(there)} = {value.at(position)}")
    return [target]


def unstack(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    value, axis = em.cheap(values[0]), eq.parameters["axis"]

    def part(index: int) -> Value:
        source = lambda position: [*position[:axis], Index(index), *position[axis:]]
        return _moved(value, eq.outputs[index].shape, source)

    return [part(index) for index in range(len(eq.outputs))]


def tile(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    value = em.cheap(values[0])

    def source(position: Position) -> list[Index]:
        result = []
        for index, n, repeats in zip(
            position, value.shape, eq.parameters["reps"], strict=True
        ):
            if repeats > 1:
                index = (
                    Index() if n == 1 else Index(0, {f"(({index.text()}) % {n})": 1})
                )
            result.append(index)
        return result

    return [_moved(value, eq.outputs[0].shape, source)]


def pad(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    value, filler = values
    output, config = eq.outputs[0], eq.parameters["padding_config"]
    target = em.result(output)
    em.store(Uniform(filler.at([]), output.shape, output.dtype), target)
    starts, steps, first, counts = [], [], [], []
    for (low, _, interior), n, room in zip(
        config, value.shape, output.shape, strict=True
    ):
        step = interior + 1
        begin = max(0, math.ceil(-low / step))
        count = sum(0 <= low + k * step < room for k in range(n))
        starts.append(low + begin * step)
        steps.append(step)
        first.append(begin)
        counts.append(count)
    part = _window(value, first, [1] * len(first), tuple(counts))
    if all(counts):
        _write(em, part, target, starts, steps)
    return [target]


def _clamped(em: LoopEmitter, code: Code, highest: int, stem: str) -> Index:
    """A run-time start index, clamped as XLA clamps it, in a local variable."""
    name = em.fresh(stem)
    em.line(f"{name} = clamp(Int({code}), 0, {highest})")
    return Index(0, {name: 1})


def _starts(
    em: LoopEmitter, eq: Equation, values: Sequence[Value], room: Shape, size: Shape
) -> list[Index]:
    starts = []
    for atom, value, n, m in zip(
        eq.inputs[-len(room) :] if room else [], values, room, size, strict=True
    ):
        if isinstance(atom, np.ndarray):
            starts.append(Index(int(np.clip(int(atom), 0, n - m))))
        else:
            starts.append(_clamped(em, value.at([]), n - m, "start"))
    return starts


def dynamic_slice(
    em: LoopEmitter, eq: Equation, values: Sequence[Value]
) -> list[Value]:
    value, shape = em.cheap(values[0]), eq.outputs[0].shape
    starts = _starts(em, eq, values[1:], value.shape, shape)
    if shape == ():
        return [value]

    def source(position: Position) -> list[Index]:
        return [index + start for index, start in zip(position, starts, strict=True)]

    return [_moved(value, shape, source)]


def dynamic_update_slice(
    em: LoopEmitter, eq: Equation, values: Sequence[Value]
) -> list[Value]:
    operand, update = values[0], em.cheap(values[1])
    if operand.shape == ():
        return [update]
    starts = _starts(em, eq, values[2:], operand.shape, update.shape)
    target = em.result(eq.outputs[0])
    em.store(operand, target)
    with em.nest(update.shape) as position:
        there = [i + start for i, start in zip(position, starts, strict=True)]
        em.line(f"{target.at(there)} = {update.at(position)}")
    return [target]


def _mode(eq: Equation) -> str:
    return getattr(eq.parameters["mode"], "name", str(eq.parameters["mode"]))


def _static_in_bounds(
    eq: Equation, index: int, axes: Sequence[int], limits: Sequence[int]
) -> bool:
    """Whether constant start indices all lie within their limits."""
    array = eq.inputs[index]
    if not isinstance(array, np.ndarray):
        return False
    return all(
        bool(np.all((array[..., k] >= 0) & (array[..., k] <= limits[axis])))
        for k, axis in enumerate(axes)
    )


def gather(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    operand, indices = em.cheap(values[0]), em.cheap(values[1], "index")
    dims, sizes = eq.parameters["dimension_numbers"], eq.parameters["slice_sizes"]
    output, offset_dims = eq.outputs[0], eq.parameters["dimension_numbers"].offset_dims
    gone = {*dims.collapsed_slice_dims, *dims.operand_batching_dims}
    window_axes = [axis for axis in range(len(operand.shape)) if axis not in gone]
    batch_dims = [a for a in range(len(output.shape)) if a not in offset_dims]
    limits = [n - m for n, m in zip(operand.shape, sizes, strict=True)]
    mode = _mode(eq)
    if _static_in_bounds(eq, 1, dims.start_index_map, limits):
        mode = "STATIC"

    def starts(position: Position) -> dict[int, Code]:
        batch = [position[a] for a in batch_dims]
        return {
            axis: call("Int", indices.at([*batch, Index(k)]))
            for k, axis in enumerate(dims.start_index_map)
        }

    def source(position: Position) -> list[Index]:
        result = [Index()] * len(operand.shape)
        for axis, dim in zip(window_axes, offset_dims, strict=True):
            result[axis] = position[dim]
        for axis, index in zip(
            dims.operand_batching_dims, dims.start_indices_batching_dims, strict=True
        ):
            result[axis] = position[batch_dims[index]]
        for axis, code in starts(position).items():
            if mode != "STATIC":
                # Also where the program promises: memory safety is Julia's to lose.
                code = call("clamp", code, "0", str(limits[axis]))
            result[axis] = result[axis] + Index(0, {str(code): 1})
        return result

    def at(position: Position) -> Code:
        code = operand.at(source(position))
        if mode == "FILL_OR_DROP":
            inside = " & ".join(
                f"(0 <= {start} <= {limits[axis]})"
                for axis, start in starts(position).items()
            )
            return call("choose", inside, code, filler)
        return code

    filler = _fill_value(eq, output.dtype)
    return [Computed(output.shape, output.dtype, at, 2 + operand.cost)]


def _fill_value(eq: Equation, dtype: np.dtype) -> Code:
    value = eq.parameters.get("fill_value")
    if value is None:
        if dtype.kind == "f":
            value = np.nan
        elif dtype.kind == "b":
            value = True
        else:
            info = np.iinfo(dtype)
            value = info.min if dtype.kind == "i" else info.max
    return literal(value, dtype)


_UPDATES = {
    "scatter": "{1}",
    "scatter-add": "{0} + {1}",
    "scatter_add": "{0} + {1}",
    "scatter-sub": "{0} - {1}",
    "scatter_sub": "{0} - {1}",
    "scatter_mul": "{0} * {1}",
    "scatter-mul": "{0} * {1}",
    "scatter_min": "min({0}, {1})",
    "scatter-min": "min({0}, {1})",
    "scatter_max": "max({0}, {1})",
    "scatter-max": "max({0}, {1})",
}


def scatter(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    operand, indices, updates = values[0], em.cheap(values[1], "index"), values[2]
    dims, mode = eq.parameters["dimension_numbers"], _mode(eq)
    gone = {*dims.inserted_window_dims, *dims.operand_batching_dims}
    window_axes = [axis for axis in range(len(operand.shape)) if axis not in gone]
    window = [1] * len(operand.shape)
    for axis, dim in zip(window_axes, dims.update_window_dims, strict=True):
        window[axis] = updates.shape[dim]
    limits = [n - m for n, m in zip(operand.shape, window, strict=True)]
    axes = dims.scatter_dims_to_operand_dims
    if _static_in_bounds(eq, 1, axes, limits):
        mode = "STATIC"
    target = em.result(eq.outputs[0])
    em.store(operand, target)
    scatter_dims = [
        a for a in range(len(updates.shape)) if a not in dims.update_window_dims
    ]
    with em.nest(updates.shape) as position:
        there = [Index()] * len(operand.shape)
        for axis, dim in zip(window_axes, dims.update_window_dims, strict=True):
            there[axis] = position[dim]
        batch = [position[a] for a in scatter_dims]
        for axis, index in zip(
            dims.operand_batching_dims, dims.scatter_indices_batching_dims, strict=True
        ):
            there[axis] = batch[index]
        conditions = []
        for k, axis in enumerate(axes):
            code = call("Int", indices.at([*batch, Index(k)]))
            if mode == "CLIP":
                code = call("clamp", code, "0", str(limits[axis]))
            elif mode != "STATIC":
                conditions.append(f"0 <= {code} <= {limits[axis]}")
            there[axis] = there[axis] + Index(0, {str(code): 1})
        entry = target.at(there)
        new = _UPDATES[eq.primitive].format(entry, updates.at(position))
        guard = f"{' && '.join(conditions)} && " if conditions else ""
        em.line(f"{guard}({entry} = {new})" if guard else f"{entry} = {new}")
    return [target]
