"""Emission as loops: fused elementwise nests over preallocated arrays."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from .._core import PortableError
from ._code import Code, Index, call, julia_type, literal
from ._names import identifier
from ._program import Atom, Equation, LoweringError, Program, Variable, captured
from ._rule import Elementwise, Operands, Rules
from ._values import Computed, Memory, Uniform, Value

Form = Literal["array", "scalar"]

_COUNTERS = "ijklmnrs"


class UnsupportedPrimitiveError(PortableError, LoweringError):
    """A primitive that lowering has no rule for."""

    def __init__(self, primitive: str, line: str):
        self.primitive, self.line = primitive, line
        super().__init__(
            f"Lowering has no rule for the JAX primitive '{primitive}', used at "
            f"{line}. Two ways out: register a rule with "
            f"hybrid_nds.lowering.register_rule({primitive!r}, ...), or solve with "
            'rhs="callback", where Julia calls back into JAX.'
        )


class LoopEmitter:
    """Writes the body of one Julia function, statement by statement."""

    def __init__(self, rules: Rules, working: np.dtype, form: Form):
        self.rules, self.working, self.form = rules, working, form
        self.prologue: list[str] = []
        self.lines: list[str] = []
        self.workspace: list[tuple[str, tuple[int, ...]]] = []
        self.constants: list[np.ndarray] = []
        self._depth = 0
        self._indent = 0
        self._count = 0
        self._values: dict[int, Value] = {}
        self._targets: dict[int, Memory] = {}
        self._uses: dict[int, int] = {}
        self._constant_names: dict[tuple, Value] = {}

    # Names, lines and blocks

    def fresh(self, stem: str) -> str:
        """A name nobody has: the stem and a number."""
        self._count += 1
        return f"{identifier(stem)}_{self._count}"

    def line(self, text: str) -> None:
        """Append one statement."""
        self.lines.append("    " * self._indent + text)

    @contextlib.contextmanager
    def indented(self) -> Iterator[None]:
        """Indent what is written inside."""
        self._indent += 1
        yield
        self._indent -= 1

    @contextlib.contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Indent what is written inside, between `head` and `end`."""
        self.line(head)
        with self.indented():
            yield
        self.line("end")

    @contextlib.contextmanager
    def loop(self, length: int, *, simd: bool = False) -> Iterator[Index]:
        """A loop over `length` positions; of one, only the position."""
        if length == 1:
            yield Index()
            return
        variable = _COUNTERS[self._depth % len(_COUNTERS)]
        if self._depth >= len(_COUNTERS):
            variable += str(self._depth // len(_COUNTERS))
        self._depth += 1
        with self.block(f"{'@simd ' if simd else ''}for {variable} in 1:{length}"):
            yield Index.loop(variable)
        self._depth -= 1

    @contextlib.contextmanager
    def nest(
        self, shape: Sequence[int], *, simd: bool = False
    ) -> Iterator[list[Index]]:
        """Nested loops over a shape, the last axis innermost."""
        with contextlib.ExitStack() as stack:
            last = max((k for k, n in enumerate(shape) if n != 1), default=-1)
            yield [
                stack.enter_context(self.loop(n, simd=simd and axis == last))
                for axis, n in enumerate(shape)
            ]

    def type_of(self, dtype: np.dtype) -> str:
        """The Julia type of elements of this dtype."""
        return julia_type(dtype, self.working)

    def zero(self, dtype: np.dtype) -> Code:
        """The zero of this dtype."""
        return call("zero", self.type_of(dtype))

    # Storage

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype, stem: str) -> Memory:
        """A work array, allocated once and reused by every call."""
        name = self.fresh(stem)
        if self.form == "array":
            kind = "float" if dtype == self.working else np.dtype(dtype).name
            self.workspace.append((kind, tuple(reversed(shape))))
            self.prologue.append(f"{name} = w[{len(self.workspace)}]")
        else:
            dims = ", ".join(map(str, reversed(shape)))
            self.prologue.append(
                f"{name} = scratch({self.type_of(dtype)}, Val(({dims},)))"
            )
        return Memory(name, shape, dtype, shape)

    def result(self, variable: Variable) -> Memory:
        """Where a rule writes an array: the program's own output, or a work array."""
        target = self._targets.pop(id(variable), None)
        if target is not None:
            return target
        return self.allocate(variable.shape, variable.dtype, variable.name)

    def local(self, code: Code, dtype: np.dtype, stem: str) -> Uniform:
        """A local variable that holds one number."""
        name = self.fresh(stem)
        self.line(f"{name} = {code}")
        return Uniform(Code(name), (), dtype)

    def constant(self, array: np.ndarray) -> Value:
        """A constant array as a value."""
        bits = array.tobytes()
        uniform = array.size > 0 and bits == bits[: array.itemsize] * array.size
        if uniform or array.size == 0:
            first = array.reshape(-1)[0] if array.size else 0
            return Uniform(literal(first, array.dtype), array.shape, array.dtype)
        key = (bits, array.dtype.str, array.shape)
        if key not in self._constant_names:
            name = self.fresh("constant")
            self.constants.append(np.ascontiguousarray(array))
            self.prologue.append(f"{name} = c[{len(self.constants)}]")
            memory = Memory(name, array.shape, array.dtype, array.shape)
            self._constant_names[key] = memory
        return self._constant_names[key]

    def store(self, value: Value, target: Memory) -> None:
        """Write every element of a value to memory."""
        if value is target:
            return
        nontrivial = [n for n in target.shape if n != 1]
        if len(nontrivial) > 1:
            probe = value.flat(Index(0, {"probe": 1}))
            if probe is not None:
                with self.loop(target.size) as position:
                    code = value.flat(position)
                    self.line(f"{target.flat(position)} = {code}")
                return
        with self.nest(target.shape) as position:
            self.line(f"{target.at(position)} = {value.at(position)}")

    def materialise(self, value: Value, stem: str = "x") -> Value:
        """The value, computed once: a local variable, or memory."""
        if isinstance(value, Memory | Uniform):
            return value
        if value.shape == ():
            return self.local(value.at([]), value.dtype, stem)
        memory = self.allocate(value.shape, value.dtype, stem)
        self.store(value, memory)
        return memory

    def cheap(self, value: Value, stem: str = "x") -> Value:
        """The value so that it may be read many times."""
        return self.materialise(value, stem) if value.cost > 0 else value

    def memory(self, value: Value, stem: str = "x") -> Memory:
        """The value as an array in memory, for operations that need one."""
        if isinstance(value, Memory) and value.shape:
            return value
        memory = self.allocate(value.shape, value.dtype, stem)
        self.store(value, memory)
        return memory

    # Programs

    def value(self, atom: Atom) -> Value:
        """The value of a variable or a constant."""
        if isinstance(atom, Variable):
            return self._values[id(atom)]
        return self.constant(atom)

    def known(self, variable: Variable) -> bool:
        """Whether the variable has a value yet."""
        return id(variable) in self._values

    def bind(self, variable: Variable, value: Value) -> None:
        """Say what an input of a program is."""
        self._values[id(variable)] = value

    def run(self, program: Program, targets: Sequence[Memory | None]) -> list[Value]:
        """Write a program; outputs with a target are stored there."""
        self._count_uses(program)
        reserved = set()
        for output, target in zip(program.outputs, targets, strict=True):
            if (
                isinstance(output, Variable)
                and target is not None
                and output.shape
                and id(output) not in reserved
                and id(output) not in self._values
            ):
                self._targets[id(output)] = target
                reserved.add(id(output))
        for equation in program.equations:
            self._equation(equation)
        results = []
        for output, target in zip(program.outputs, targets, strict=True):
            value = self.value(output)
            if target is not None:
                if isinstance(output, Variable):
                    self._targets.pop(id(output), None)
                same = (
                    isinstance(value, Memory)
                    and value.name == target.name
                    and value.offset.text() == target.offset.text()
                )
                if not same:
                    self.store(value, target)
            results.append(value)
        return results

    def _count_uses(self, program: Program) -> None:
        for equation in program.equations:
            for atom in equation.inputs:
                if isinstance(atom, Variable):
                    self._uses[id(atom)] = self._uses.get(id(atom), 0) + 1
            for variable in captured(equation):
                # Read inside a loop or branch: as good as read many times.
                self._uses[id(variable)] = self._uses.get(id(variable), 0) + 2
        for output in program.outputs:
            if isinstance(output, Variable):
                self._uses[id(output)] = self._uses.get(id(output), 0) + 1

    def _equation(self, equation: Equation) -> None:
        values = [self.value(atom) for atom in equation.inputs]
        rule = self.rules.get(equation.primitive)
        if isinstance(rule, Elementwise):
            results = [self._elementwise(rule, equation, values)]
        elif rule is not None:
            results = rule.loop(self, equation, values)
        else:
            raise UnsupportedPrimitiveError(equation.primitive, equation.line)
        for variable, value in zip(equation.outputs, results, strict=True):
            again = self._uses.get(id(variable), 0) > 1 and value.cost > 1
            if isinstance(value, Computed) and (
                again or (value.shape == () and value.cost > 0)
            ):
                if id(variable) in self._targets:
                    target = self._targets.pop(id(variable))
                    self.store(value, target)
                    value = target
                else:
                    value = self.materialise(value, variable.name)
            self._values[id(variable)] = value

    def _elementwise(
        self, rule: Elementwise, equation: Equation, values: Sequence[Value]
    ) -> Value:
        output = equation.outputs[0]
        size = math.prod(output.shape)
        dtypes = [value.dtype for value in values]
        # XLA's own operations let an axis of length one stand for any length.
        values = [
            self.cheap(value, output.name) if value.size < size else value
            for value in values
        ]

        def write(codes: list[Code]) -> Code:
            return rule.write(
                Operands(codes, dtypes, output.dtype, equation.parameters, self.working)
            )

        def at(position: Sequence[Index]) -> Code:
            return write([v.at(_broadcast(v.shape, position)) for v in values])

        def flat(position: Index) -> Code | None:
            codes = []
            for value in values:
                if value.size not in (1, size):
                    return None
                code = value.flat(position if value.size > 1 else Index())
                if code is None:
                    return None
                codes.append(code)
            return write(codes)

        cost = rule.cost + sum(value.cost for value in values)
        return Computed(output.shape, output.dtype, at, cost, flat)


def _broadcast(shape: Sequence[int], position: Sequence[Index]) -> list[Index]:
    """The position in an operand whose axes of length one are broadcast."""
    if not shape:
        return []
    return [
        Index() if n == 1 else index for n, index in zip(shape, position, strict=True)
    ]
