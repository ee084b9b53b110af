"""Emission as straight-line scalar code, for programs small enough to be unrolled."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._code import Code, literal
from ._elementwise import ELEMENTWISE, Operands
from ._names import identifier
from ._program import Atom, Equation, Program, Variable

UNROLL = 1200
"""Operations beyond which straight-line code costs LLVM more than it saves."""

_VISIT_LIMIT = 60_000
_INLINE_LIMIT = 12

_ABSENT = np.iinfo(np.int32).min


class TooLargeError(Exception):
    """The program is better written as loops."""


@dataclasses.dataclass(frozen=True)
class _Node:
    """One scalar: an operation on earlier nodes, a literal, or an input."""

    primitive: str
    operands: tuple[int, ...]
    dtype: np.dtype
    parameters: Mapping[str, Any]
    value: Any = None
    name: str = "x"
    code: Code | None = None


class Unroller:
    """Evaluates a program on arrays of node numbers."""

    def __init__(self, working: np.dtype, *, structural_zeros: bool):
        self.working = working
        # In a Jacobian a zero tangent is structure, and 0·x is 0 whatever x is.
        self.structural_zeros = structural_zeros
        self.nodes: list[_Node] = []
        self._known: dict[tuple, int] = {}
        self._visits = 0

    # Nodes

    def _intern(self, key: tuple, node: _Node) -> int:
        if key not in self._known:
            self._known[key] = len(self.nodes)
            self.nodes.append(node)
        return self._known[key]

    def literal(self, value: Any, dtype: np.dtype) -> int:
        """The node of a constant."""
        value = np.asarray(value, dtype)
        key = ("literal", value.tobytes(), value.dtype.str)
        return self._intern(key, _Node("literal", (), value.dtype, {}, value[()]))

    def input(self, code: str, dtype: np.dtype, name: str) -> int:
        """The node of an element of the state, the parameters, or time."""
        node = _Node("input", (), dtype, {}, name=name, code=Code(code))
        return self._intern(("input", code), node)

    def _constant(self, node: int) -> Any:
        return (
            self.nodes[node].value if self.nodes[node].primitive == "literal" else None
        )

    def operation(
        self,
        primitive: str,
        operands: tuple[int, ...],
        dtype: np.dtype,
        parameters: Mapping[str, Any],
        name: str,
    ) -> int:
        """The node of one elementwise operation, simplified where that is exact."""
        self._visits += 1
        if self._visits > _VISIT_LIMIT:
            raise TooLargeError
        simple = self._simplify(primitive, operands, dtype, parameters, name)
        if simple is not None:
            return simple
        own = {k: parameters[k] for k in _OWN_PARAMETERS if k in parameters}
        key = (primitive, operands, dtype.str, repr(own))
        return self._intern(key, _Node(primitive, operands, dtype, own, None, name))

    def _simplify(
        self,
        primitive: str,
        operands: tuple[int, ...],
        dtype: np.dtype,
        parameters: Mapping[str, Any],
        name: str,
    ) -> int | None:
        values = [self._constant(node) for node in operands]
        if primitive == "convert_element_type":
            if self.nodes[operands[0]].dtype == dtype:
                return operands[0]
            if values[0] is not None:
                return self.literal(np.asarray(values[0]).astype(dtype), dtype)
        if primitive == "select_n" and values[0] is not None:
            return operands[1 + int(values[0])]
        if primitive == "select_n" and len(set(operands[1:])) == 1:
            return operands[1]
        fold = _FOLDS.get(primitive)
        if fold is not None and all(value is not None for value in values):
            with np.errstate(all="ignore"):
                return self.literal(fold(*values), dtype)
        if dtype.kind != "f":
            return None
        zero = [value is not None and value == 0 for value in values]
        one = [value is not None and value == 1 for value in values]
        if primitive in ("add", "add_any"):
            if zero[0]:
                return operands[1]
            if zero[1]:
                return operands[0]
        elif primitive == "sub":
            if zero[1]:
                return operands[0]
            if zero[0]:
                return self.operation("neg", operands[1:], dtype, {}, name)
        elif primitive == "mul":
            if one[0]:
                return operands[1]
            if one[1]:
                return operands[0]
            for place in (0, 1):
                if values[place] is not None and values[place] == -1:
                    other = (operands[1 - place],)
                    return self.operation("neg", other, dtype, {}, name)
            if self.structural_zeros and (zero[0] or zero[1]):
                return self.literal(0, dtype)
        elif primitive == "div":
            if one[1]:
                return operands[0]
            if self.structural_zeros and zero[0]:
                return operands[0]
        elif primitive == "neg" and zero[0]:
            return operands[0]
        return None

    # Programs

    def run(
        self, program: Program, inputs: Mapping[int, np.ndarray]
    ) -> list[np.ndarray]:
        """Evaluate a program; `inputs` maps `id(variable)` to arrays of nodes."""
        values = dict(inputs)

        def read(atom: Atom) -> np.ndarray:
            if isinstance(atom, Variable):
                return values[id(atom)]
            flat = [self.literal(x, atom.dtype) for x in atom.reshape(-1)]
            return np.asarray(flat, np.int32).reshape(atom.shape)

        for equation in program.equations:
            arrays = [read(atom) for atom in equation.inputs]
            rule = _RULES.get(equation.primitive)
            if equation.primitive in ELEMENTWISE:
                results = [self._elementwise(equation, arrays)]
            elif equation.primitive == "cond":
                results = self._cond(equation, arrays[0], values)
            elif equation.primitive == "scan":
                results = self._scan(equation, arrays, values)
            elif rule is not None:
                results = rule(self, equation, arrays)
            else:
                raise TooLargeError
            for variable, array in zip(equation.outputs, results, strict=True):
                values[id(variable)] = np.asarray(array, np.int32).reshape(
                    variable.shape
                )
        return [read(atom) for atom in program.outputs]

    def _elementwise(self, eq: Equation, arrays: list[np.ndarray]) -> np.ndarray:
        output = eq.outputs[0]
        flat = [np.broadcast_to(a, output.shape).reshape(-1).tolist() for a in arrays]
        nodes = [
            self.operation(
                eq.primitive, operands, output.dtype, eq.parameters, output.name
            )
            for operands in zip(*flat, strict=True)
        ]
        return np.asarray(nodes, np.int32).reshape(output.shape)

    def fold(self, primitive: str, nodes: Sequence[int], output: Variable) -> int:
        """One node that combines many, from the left."""
        total = nodes[0]
        for node in nodes[1:]:
            total = self.operation(
                primitive, (total, node), output.dtype, {}, output.name
            )
        return total

    def _cond(self, eq: Equation, which: np.ndarray, values: dict[int, np.ndarray]):
        branches = [self.run(program, values) for program in eq.programs]
        boolean = isinstance(eq.inputs[0], Variable) and eq.inputs[0].dtype.kind == "b"
        index = int(which)
        if not boolean:
            dtype = self.nodes[index].dtype
            low = self.literal(0, dtype)
            high = self.literal(len(branches) - 1, dtype)
            index = self.operation("clamp", (low, index, high), dtype, {}, "branch")
        results = []
        for position, output in enumerate(eq.outputs):
            cases = [branch[position].reshape(-1).tolist() for branch in branches]
            results.append(
                [
                    self.operation(
                        "select_n", (index, *case), output.dtype, {}, output.name
                    )
                    for case in zip(*cases, strict=True)
                ]
            )
        return results

    def _scan(
        self, eq: Equation, arrays: list[np.ndarray], values: dict[int, np.ndarray]
    ):
        (body,), p = eq.programs, eq.parameters
        count = p["num_carry"]
        carry, rows = arrays[:count], arrays[count:]
        stacked: list[list[np.ndarray]] = [[] for _ in eq.outputs[count:]]
        order = range(p["length"])
        for turn in reversed(order) if p["reverse"] else order:
            inner = dict(values)
            given = [*carry, *(row[turn] for row in rows)]
            for variable, array in zip(body.inputs, given, strict=True):
                inner[id(variable)] = array
            results = self.run(body, inner)
            carry = results[:count]
            for column, array in zip(stacked, results[count:], strict=True):
                column.append(array)
        if p["reverse"]:
            stacked = [column[::-1] for column in stacked]
        return [*carry, *(np.stack(column) for column in stacked)]


_OWN_PARAMETERS = ("y", "rounding_method", "new_dtype")

_FOLDS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "add_any": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "max": np.maximum,
    "min": np.minimum,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "not": lambda a: ~a,
}


def _movement(move: Callable[[Equation, list[np.ndarray]], Any]):
    def rule(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
        result = move(eq, arrays)
        return list(result) if len(eq.outputs) > 1 else [result]

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
    places = np.cumsum(eq.parameters["sizes"])[:-1]
    return np.split(arrays[0], places, axis=eq.parameters["axis"])


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


def _gather(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
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


def _reduce(primitive: str):
    def rule(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
        output, axes = eq.outputs[0], tuple(eq.parameters["axes"])
        kept = [a for a in range(arrays[0].ndim) if a not in axes]
        rows = np.transpose(arrays[0], [*kept, *axes]).reshape(
            math.prod(output.shape), -1
        )
        if rows.shape[1] == 0:
            raise TooLargeError
        return [np.asarray([un.fold(primitive, row, output) for row in rows.tolist()])]

    return rule


def _cumulative(primitive: str):
    def rule(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
        axis, output = eq.parameters["axis"], eq.outputs[0]
        lines = np.moveaxis(arrays[0], axis, -1)
        lines = lines[..., ::-1] if eq.parameters["reverse"] else lines
        result = np.array(lines)
        for place in np.ndindex(lines.shape[:-1]):
            for k in range(1, lines.shape[-1]):
                pair = (int(result[(*place, k - 1)]), int(lines[(*place, k)]))
                result[(*place, k)] = un.operation(
                    primitive, pair, output.dtype, {}, output.name
                )
        result = result[..., ::-1] if eq.parameters["reverse"] else result
        return [np.moveaxis(result, -1, axis)]

    return rule


def _dot_general(
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


def _iota(un: Unroller, eq: Equation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    output, axis = eq.outputs[0], eq.parameters["dimension"]
    line = [un.literal(k, output.dtype) for k in range(output.shape[axis])]
    shape = [1] * len(output.shape)
    shape[axis] = output.shape[axis]
    return [np.broadcast_to(np.asarray(line).reshape(shape), output.shape)]


_RULES: dict[
    str, Callable[[Unroller, Equation, list[np.ndarray]], list[np.ndarray]]
] = {
    "reshape": _movement(lambda eq, a: a[0].reshape(eq.outputs[0].shape)),
    "expand_dims": _movement(lambda eq, a: a[0].reshape(eq.outputs[0].shape)),
    "squeeze": _movement(lambda eq, a: a[0].reshape(eq.outputs[0].shape)),
    "broadcast_in_dim": _movement(_broadcast),
    "transpose": _movement(lambda eq, a: a[0].transpose(eq.parameters["permutation"])),
    "rev": _movement(lambda eq, a: np.flip(a[0], eq.parameters["dimensions"])),
    "slice": _movement(_slice),
    "split": _movement(_split),
    "concatenate": _movement(
        lambda eq, a: np.concatenate(a, axis=eq.parameters["dimension"])
    ),
    "stack": _movement(lambda eq, a: np.stack(a, axis=eq.parameters["axis"])),
    "tile": _movement(lambda eq, a: np.tile(a[0], eq.parameters["reps"])),
    "iota": _iota,
    "pad": lambda un, eq, a: [_positions(un, eq, a, 2)],
    "gather": _gather,
    "dynamic_slice": lambda un, eq, a: [_positions(un, eq, a, 1)],
    "dynamic_update_slice": lambda un, eq, a: [_positions(un, eq, a, 2)],
    "reduce_sum": _reduce("add"),
    "reduce_prod": _reduce("mul"),
    "reduce_max": _reduce("max"),
    "reduce_min": _reduce("min"),
    "reduce_and": _reduce("and"),
    "reduce_or": _reduce("or"),
    "cumsum": _cumulative("add"),
    "cumprod": _cumulative("mul"),
    "cummax": _cumulative("max"),
    "cummin": _cumulative("min"),
    "dot_general": _dot_general,
}


class StatementWriter:
    """Writes chosen nodes as Julia statements, each shared node computed once."""

    def __init__(self, unroller: Unroller, outputs: Sequence[int], limit: int):
        self.un, self.lines = unroller, []
        self._codes: dict[int, Code] = {}
        self._sizes: dict[int, int] = {}
        self._uses: dict[int, int] = {}
        self._count = 0
        live = self._live(outputs)
        operations = [n for n in live if unroller.nodes[n].operands]
        if len(operations) > limit:
            raise TooLargeError
        for number in live:
            self._write(number)

    def code(self, number: int) -> Code:
        """The expression of a node that has been written."""
        return self._codes[number]

    def _live(self, outputs: Sequence[int]) -> list[int]:
        seen: set[int] = set()
        waiting = list(outputs)
        for node in outputs:
            self._uses[node] = self._uses.get(node, 0) + 1
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            for operand in self.un.nodes[number].operands:
                self._uses[operand] = self._uses.get(operand, 0) + 1
                waiting.append(operand)
        # Operands are always older than what is made of them.
        return sorted(seen)

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{identifier(stem)}_{self._count}"

    def _write(self, number: int) -> None:
        node = self.un.nodes[number]
        if node.primitive == "literal":
            self._codes[number], self._sizes[number] = (
                literal(node.value, node.dtype),
                1,
            )
            return
        if node.code is not None:
            code, size = node.code, 1
        else:
            operands = [self._codes[n] for n in node.operands]
            dtypes = [self.un.nodes[n].dtype for n in node.operands]
            code = ELEMENTWISE[node.primitive].write(
                Operands(operands, dtypes, node.dtype, node.parameters, self.un.working)
            )
            size = 1 + sum(self._sizes[n] for n in node.operands)
        if self._uses[number] > 1 or size > _INLINE_LIMIT:
            name = self._name(node.name)
            self.lines.append(f"{name} = {code}")
            code, size = Code(name), 1
        self._codes[number], self._sizes[number] = code, size
