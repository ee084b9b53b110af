"""How many roundings lie one behind another in an expression."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ._elementwise import CHEAP, ELEMENTWISE
from ._program import Equation, Program, Variable, trace

# Elementary functions are accurate to about two units in the last place in either
# stack: four half units.
_ELEMENTARY = 4
_EXACT = frozenset({"neg", "abs", "max", "min", "select_n", "clamp", "sign"})


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
    name, first = equation.primitive, equation.inputs[:1]
    if name in _EXACT or equation.outputs[0].dtype.kind != "f":
        return 0
    if name in ELEMENTWISE:
        return 1 if ELEMENTWISE[name].cost <= 4 * CHEAP else _ELEMENTARY
    if name in ("reduce_sum", "reduce_prod"):
        outputs = math.prod(equation.outputs[0].shape)
        return max(1, math.prod(first[0].shape) // max(outputs, 1))
    if name in ("cumsum", "cumprod"):
        return first[0].shape[equation.parameters["axis"]]
    if name == "conv_general_dilated":
        return math.prod(equation.inputs[1].shape)
    if name == "dot_general":
        (summed, _), _ = equation.parameters["dimension_numbers"]
        return math.prod(first[0].shape[axis] for axis in summed)
    if name in ("cholesky", "lu", "triangular_solve"):
        return 2 * first[0].shape[-1]
    inner = max((_depth(program, depths) for program in equation.programs), default=0)
    return inner * equation.parameters.get("length", 1)
