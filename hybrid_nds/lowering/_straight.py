"""Rules on arrays of scalar expressions, for programs written without loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._program import Equation, Variable
from ._unroll import TooLargeError, Unroller

_ABSENT = np.iinfo(np.int32).min


def movement(move: Callable[[Equation, list[np.ndarray]], Any]):
    def rule(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
        result = move(eq, arrays)
        return result if isinstance(result, list) else [result]

    return rule


def _broadcast(eq: Equation, arrays: list[np.ndarray]) -> np.ndarray:
    shape = [1] * len(eq.outputs[0].shape)
    for axis, n in zip(
        eq.parameters["broadcast_dimensions"], arrays[0].shape, strict=True
    ):
        shape[axis] = n
    return np.broadcast_to(arrays[0].reshape(shape), eq.outputs[0].shape)


def _slice(eq: Equation, arrays: list[np.ndarray]) -> np.ndarray:
    p = eq.parameters
    steps = p["strides"] or (1,) * len(p["start_indices"])
    window = zip(p["start_indices"], p["limit_indices"], steps, strict=True)
    return arrays[0][tuple(slice(*bounds) for bounds in window)]


def _split(eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    ends = np.cumsum(eq.parameters["sizes"])[:-1]
    return np.split(arrays[0], ends, axis=eq.parameters["axis"])


def unstack(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    axis = eq.parameters["axis"]
    return [np.take(arrays[0], index, axis) for index in range(len(eq.outputs))]


def _positions(un: Unroller, eq: Equation, arrays: list[np.ndarray], count: int):
    """Run a primitive on node numbers themselves, its index operands as they are.

    Moving elements about does not depend on what they are, so JAX's own
    implementation says where each one goes.
    """
    indices = []
    for atom in eq.inputs[count:]:
        if isinstance(atom, Variable):
            raise TooLargeError
        indices.append(jnp.asarray(atom))
    assert eq.bind is not None
    with jax.ensure_compile_time_eval():
        moved = eq.bind(*map(jnp.asarray, arrays[:count]), *indices, **eq.parameters)
    return np.asarray(moved)


def gather(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    if eq.parameters.get("fill_value") is not None:
        raise TooLargeError
    moved = _positions(un, eq, arrays, 1)
    if (moved == _ABSENT).any():
        if eq.outputs[0].dtype.kind != "f":
            raise TooLargeError
        moved = np.where(
            moved == _ABSENT, un.literal(np.nan, eq.outputs[0].dtype), moved
        )
    return [moved]


def reduction(primitive: str):
    def rule(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
        output, axes = eq.outputs[0], tuple(eq.parameters["axes"])
        remaining = [a for a in range(arrays[0].ndim) if a not in axes]
        rows = np.transpose(arrays[0], [*remaining, *axes]).reshape(
            math.prod(output.shape), -1
        )
        if rows.shape[1] == 0:
            raise TooLargeError
        return [np.asarray([un.fold(primitive, row, output) for row in rows.tolist()])]

    return rule


def cumulative(primitive: str):
    def rule(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
        axis, output = eq.parameters["axis"], eq.outputs[0]
        lines = np.moveaxis(arrays[0], axis, -1)
        lines = lines[..., ::-1] if eq.parameters["reverse"] else lines
        result = np.array(lines)
        for index in np.ndindex(lines.shape[:-1]):
            for k in range(1, lines.shape[-1]):
                pair = (int(result[(*index, k - 1)]), int(lines[(*index, k)]))
                result[(*index, k)] = un.operation(
                    primitive, pair, output.dtype, {}, output.name
                )
        result = result[..., ::-1] if eq.parameters["reverse"] else result
        return [np.moveaxis(result, -1, axis)]

    return rule


def dot_general(
    un: Unroller, eq: Equation, arrays: list[np.ndarray]
) -> list[np.ndarray]:
    (lhs_sum, rhs_sum), (lhs_batch, rhs_batch) = eq.parameters["dimension_numbers"]
    output = eq.outputs[0]

    def rows(array: np.ndarray, batch: Sequence[int], summed: Sequence[int]):
        free = [a for a in range(array.ndim) if a not in (*batch, *summed)]
        count = math.prod(array.shape[a] for a in batch)
        inner = math.prod(array.shape[a] for a in summed)
        return np.transpose(array, [*batch, *free, *summed]).reshape(count, -1, inner)

    left, right = (
        rows(arrays[0], lhs_batch, lhs_sum),
        rows(arrays[1], rhs_batch, rhs_sum),
    )
    zero = un.literal(0, output.dtype)
    nodes = []
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        for x in a:
            for y in b:
                # A zero in a constant matrix, such as stoichiometric coefficients, is
                # structure: what it meets takes no part, NaN or infinite though it be.
                terms = [
                    un.operation("mul", pair, output.dtype, {}, output.name)
                    for pair in zip(x, y, strict=True)
                    if zero not in pair
                ]
                nodes.append(un.fold("add", terms, output) if terms else zero)
    return [np.asarray(nodes)]


def iota(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    output, axis = eq.outputs[0], eq.parameters["dimension"]
    line = [un.literal(k, output.dtype) for k in range(output.shape[axis])]
    shape = [1] * len(output.shape)
    shape[axis] = output.shape[axis]
    return [np.broadcast_to(np.asarray(line).reshape(shape), output.shape)]


def cond(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    values, which = un.scope, arrays[0]
    branches = [un.run(program, values) for program in eq.programs]
    boolean = isinstance(eq.inputs[0], Variable) and eq.inputs[0].dtype.kind == "b"
    index = int(which)
    if not boolean:
        dtype = un.nodes[index].dtype
        low = un.literal(0, dtype)
        high = un.literal(len(branches) - 1, dtype)
        index = un.operation("clamp", (low, index, high), dtype, {}, "branch")
    results = []
    for position, output in enumerate(eq.outputs):
        cases = [branch[position].reshape(-1).tolist() for branch in branches]
        nodes = [
            un.operation("select_n", (index, *case), output.dtype, {}, output.name)
            for case in zip(*cases, strict=True)
        ]
        results.append(np.asarray(nodes))
    return results


def scan(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    values = un.scope
    (body,), p = eq.programs, eq.parameters
    count = p["num_carry"]
    carry, rows = arrays[:count], arrays[count:]
    stacked: list[list[np.ndarray]] = [[] for _ in eq.outputs[count:]]
    order = range(p["length"])
    for step in reversed(order) if p["reverse"] else order:
        inner = dict(values)
        inputs = [*carry, *(row[step] for row in rows)]
        for variable, array in zip(body.inputs, inputs, strict=True):
            inner[id(variable)] = array
        results = un.run(body, inner)
        carry = results[:count]
        for column, array in zip(stacked, results[count:], strict=True):
            column.append(array)
    if p["reverse"]:
        stacked = [column[::-1] for column in stacked]
    return [*carry, *(np.stack(column) for column in stacked)]


reshape = movement(lambda eq, a: a[0].reshape(eq.outputs[0].shape))
broadcast_in_dim = movement(_broadcast)
transpose = movement(lambda eq, a: a[0].transpose(eq.parameters["permutation"]))
rev = movement(lambda eq, a: np.flip(a[0], eq.parameters["dimensions"]))
slice_ = movement(_slice)
split = movement(_split)
concatenate = movement(lambda eq, a: np.concatenate(a, axis=eq.parameters["dimension"]))
stack = movement(lambda eq, a: np.stack(a, axis=eq.parameters["axis"]))
tile = movement(lambda eq, a: np.tile(a[0], eq.parameters["reps"]))


def pad(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [_positions(un, eq, arrays, 2)]


def dynamic_slice(
    un: Unroller, eq: Equation, arrays: list[np.ndarray]
) -> list[np.ndarray]:
    return [_positions(un, eq, arrays, 1)]


dynamic_update_slice = pad
