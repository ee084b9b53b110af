"""How many roundings lie one behind another in an expression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._program import Equation, Program, Variable, trace
from ._rule import Elementwise
from ._rules import KNOWN


def expression_depth(fn: Callable[..., Any], *examples: Any) -> int:
    """The longest chain of roundings in a function of arrays.

    A sum of k terms counts as k roundings, an elementary function as four.

    **Arguments:** `fn`, a function of arrays that returns a list of arrays, and
    example arguments.

    **Returns:** the number of half units in the last place that can gather on the way
    to an output, at least 1.
    """
    return max(1, _depth(trace(fn, *examples), {}))


def _depth(program: Program, known: dict[int, int]) -> int:
    depths = dict(known)

    def of(atom: Any) -> int:
        return depths.get(id(atom), 0) if isinstance(atom, Variable) else 0

    for equation in program.equations:
        below = max((of(atom) for atom in equation.inputs), default=0)
        total = below + _weight(equation, depths)
        for variable in equation.outputs:
            depths[id(variable)] = total
    return max((of(atom) for atom in program.outputs), default=0)


def _weight(equation: Equation, depths: dict[int, int]) -> int:
    if equation.outputs[0].dtype.kind != "f":
        return 0
    rule = KNOWN.get(equation.primitive)
    if isinstance(rule, Elementwise):
        return rule.roundings
    if rule is not None and rule.roundings is not None:
        return rule.roundings(equation)
    inner = max((_depth(program, depths) for program in equation.programs), default=0)
    return inner * equation.parameters.get("length", 1)
