"""Rules for control flow: branches and loops become Julia's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._code import Code, Index, call
from ._loops import LoopEmitter
from ._program import Equation, Program, Variable, captured
from ._values import Memory, Uniform, Value


class _Slot:
    """A target that control flow writes: memory, or a local variable."""

    def __init__(self, em: LoopEmitter, variable: Variable, memory: Memory | None):
        self.em, self.dtype, self.memory = em, variable.dtype, memory
        self.name = em.fresh(variable.name) if memory is None else memory.name

    def write(self, value: Value) -> None:
        if self.memory is not None:
            self.em.store(value, self.memory)
            return
        code, kind = value.at([]), self.em.type_of(self.dtype)
        # The generic type must not depend on the branch taken.
        code = call("convert", kind, code) if kind == "T" else code
        self.em.line(f"{self.name} = {code}")

    @property
    def value(self) -> Value:
        return self.memory or Uniform(Code(self.name), (), self.dtype)


def _result_slot(em: LoopEmitter, variable: Variable) -> _Slot:
    return _Slot(em, variable, em.result(variable) if variable.shape else None)


def _work_slot(em: LoopEmitter, variable: Variable) -> _Slot:
    if not variable.shape:
        return _Slot(em, variable, None)
    memory = em.allocate(variable.shape, variable.dtype, variable.name)
    return _Slot(em, variable, memory)


def _settle(em: LoopEmitter, eq: Equation) -> None:
    """Compute what the bodies read from outside once, before they run."""
    for variable in sorted(captured(eq), key=lambda v: v.name):
        if em.known(variable):
            em.bind(variable, em.cheap(em.value(variable), variable.name))


def _body(em: LoopEmitter, program: Program, slots: Sequence[_Slot]) -> None:
    """Write a body and its outputs into slots."""
    results = em.run(program, [slot.memory for slot in slots])
    for slot, value in zip(slots, results, strict=True):
        if slot.memory is None:
            slot.write(value)


def cond(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    which = em.materialise(values[0], "branch").at([])
    _settle(em, eq)
    slots = [_result_slot(em, variable) for variable in eq.outputs]
    for slot in slots:
        if slot.memory is None:
            em.line(f"{slot.name} = {em.zero(slot.dtype)}")
    boolean = values[0].dtype.kind == "b"
    last = len(eq.programs) - 1
    for position, program in enumerate(eq.programs):
        # XLA clamps the branch index: the first takes all below, the last the rest.
        if position == 0:
            em.line(f"if !{which}" if boolean else f"if {which} <= 0")
        elif position == last:
            em.line("else")
        else:
            em.line(f"elseif {which} == {position}")
        with em.indented():
            _body(em, program, slots)
    em.line("end")
    return [slot.value for slot in slots]


def while_(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    test, body = eq.programs
    _settle(em, eq)
    carried = [_result_slot(em, variable) for variable in eq.outputs]
    for slot, value in zip(carried, values, strict=True):
        slot.write(value)
    for program in eq.programs:
        for variable, slot in zip(program.inputs, carried, strict=True):
            em.bind(variable, slot.value)
    with em.block("while true"):
        proceed = em.run(test, [None])[0]
        em.line(f"{proceed.at([]).tight(6)} || break")
        _advance(em, body, carried, [])
    return [slot.value for slot in carried]


def _advance(
    em: LoopEmitter, body: Program, carried: list[_Slot], collected: list[_Slot]
) -> None:
    """Write one turn of a loop: new carries aside first, then all at once."""
    moved: list[tuple[_Slot, _Slot]] = []
    targets = []
    for position, slot in enumerate(carried):
        output = body.outputs[position]
        if output is body.inputs[position]:
            targets.append(slot)
            continue
        variable = Variable(
            slot.memory.shape if slot.memory else (), slot.dtype, "next"
        )
        aside = _work_slot(em, variable)
        targets.append(aside)
        moved.append((slot, aside))
    _body_keeping(em, body, targets, carried, collected)
    for slot, aside in moved:
        slot.write(aside.value)


def _body_keeping(
    em: LoopEmitter,
    body: Program,
    targets: list[_Slot],
    carried: list[_Slot],
    collected: list[_Slot],
) -> None:
    slots = [*targets, *collected]
    carried_ids = {id(slot) for slot in carried}
    memories = [None if id(slot) in carried_ids else slot.memory for slot in slots]
    results = em.run(body, memories)
    for slot, value in zip(slots, results, strict=True):
        if slot.memory is None and id(slot) not in carried_ids:
            slot.write(value)


def scan(em: LoopEmitter, eq: Equation, values: Sequence[Value]) -> list[Value]:
    p, (body,) = eq.parameters, eq.programs
    count, length = p["num_carry"], p["length"]
    _settle(em, eq)
    rows = [em.cheap(value, "rows") for value in values[count:]]
    carried = [_result_slot(em, variable) for variable in eq.outputs[:count]]
    for slot, value in zip(carried, values[:count], strict=True):
        slot.write(value)
    stacked = [em.result(variable) for variable in eq.outputs[count:]]
    for variable, slot in zip(body.inputs[:count], carried, strict=True):
        em.bind(variable, slot.value)
    with em.loop(length) as turn:
        if p["reverse"]:
            turn = turn * -1 + (length - 1)
        for variable, value in zip(body.inputs[count:], rows, strict=True):
            em.bind(variable, _row(value, turn))
        collected = []
        for memory, atom in zip(stacked, body.outputs[count:], strict=True):
            row = memory.row(turn)
            variable = Variable(row.shape, np.dtype(atom.dtype), "row")
            collected.append(_Slot(em, variable, row))
        _advance(em, body, carried, collected)
    return [*(slot.value for slot in carried), *stacked]


def _row(value: Value, turn: Index) -> Value:
    from ._values import Computed

    if isinstance(value, Memory):
        return value.row(turn)
    if isinstance(value, Uniform):
        return Uniform(value.code, value.shape[1:], value.dtype)
    return Computed(
        value.shape[1:], value.dtype, lambda position: value.at([turn, *position]), 0
    )
