"""Emission as straight-line scalar code, for programs small enough to be unrolled."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ._code import Code, literal
from ._names import identifier
from ._program import Atom, Equation, Program, Variable, captured
from ._rule import Elementwise, Operands, Rules

UNROLL = 1200
"""Operations beyond which straight-line code costs LLVM more than it saves."""

_VISIT_LIMIT = 60_000
_INLINE_LIMIT = 12


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

    def __init__(
        self,
        rules: Rules,
        working: np.dtype,
        *,
        structural_zeros: bool,
        visits: int = _VISIT_LIMIT,
        conservative: bool = False,
    ):
        self.rules, self.working = rules, working
        self._most_visits = visits
        # What has no rule is then one scalar that depends on all that it reads.
        self._conservative = conservative
        # In a Jacobian a zero tangent is structure, and 0·x is 0 whatever x is.
        self.structural_zeros = structural_zeros
        self.nodes: list[_Node] = []
        self._known: dict[tuple, int] = {}
        self._visits = 0
        # What programs inside of an equation may read.
        self._scope: Mapping[int, np.ndarray] = {}

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
        if self._visits > self._most_visits:
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
            for index in (0, 1):
                if values[index] is not None and values[index] == -1:
                    other = (operands[1 - index],)
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
            try:
                results = self._applied(equation, arrays, values)
            except TooLargeError:
                if not self._conservative or self._visits > self._most_visits:
                    raise
                results = self._unknown(equation, arrays, values)
            for variable, array in zip(equation.outputs, results, strict=True):
                values[id(variable)] = np.asarray(array, np.int32).reshape(
                    variable.shape
                )
        return [read(atom) for atom in program.outputs]

    def _applied(
        self, eq: Equation, arrays: list[np.ndarray], values: dict[int, np.ndarray]
    ) -> Sequence[np.ndarray]:
        rule = self.rules.get(eq.primitive)
        if isinstance(rule, Elementwise):
            return [self._elementwise(eq, arrays)]
        if rule is None or rule.straight is None:
            raise TooLargeError
        self._scope = values
        return rule.straight(self, eq, arrays)

    def _unknown(
        self, eq: Equation, arrays: list[np.ndarray], values: dict[int, np.ndarray]
    ) -> Sequence[np.ndarray]:
        read = [*arrays, *(values[id(v)] for v in captured(eq) if id(v) in values)]
        nodes = np.unique(np.concatenate([array.reshape(-1) for array in read]))
        operands = tuple(nodes.tolist())
        self._visits += len(operands)
        results = []
        for output in eq.outputs:
            node = _Node("unknown", operands, output.dtype, {}, None, output.name)
            number = self._intern(("unknown", id(output)), node)
            results.append(np.full(output.shape, number, np.int32))
        return results

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

    @property
    def scope(self) -> dict[int, np.ndarray]:
        """What the programs inside of the present equation may read."""
        return dict(self._scope)


def input_nodes(
    unroller: Unroller, program: Program, states: int
) -> dict[int, np.ndarray]:
    """The nodes of the inputs of a program: time, `states` arrays that lie in `u` one
    behind the other, and those of the parameters in `p`."""
    inputs: dict[int, np.ndarray] = {}
    offsets = {"u": 0, "p": 0}
    for position, variable in enumerate(program.inputs):
        if position == 0:
            nodes = [unroller.input("t", unroller.working, "t")]
        else:
            vector = "u" if position <= states else "p"
            start = offsets[vector]
            offsets[vector] += math.prod(variable.shape)
            nodes = [
                unroller.input(f"{vector}[{k + 1}]", unroller.working, variable.name)
                for k in range(start, offsets[vector])
            ]
        inputs[id(variable)] = np.asarray(nodes, np.int32).reshape(variable.shape)
    return inputs


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
            rule = self.un.rules[node.primitive]
            assert isinstance(rule, Elementwise)
            code = rule.write(
                Operands(operands, dtypes, node.dtype, node.parameters, self.un.working)
            )
            size = 1 + sum(self._sizes[n] for n in node.operands)
        if self._uses[number] > 1 or size > _INLINE_LIMIT:
            name = self._name(node.name)
            self.lines.append(f"{name} = {code}")
            code, size = Code(name), 1
        self._codes[number], self._sizes[number] = code, size
