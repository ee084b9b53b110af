"""What lowering knows of one primitive."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ._code import Code
from ._program import Equation
from ._values import Value

CHEAP, DEAR = 1, 10
"""Costs in flops: an addition against an exponential."""

# Elementary functions are accurate to about two units in the last place in either
# stack: four half units.
_ELEMENTARY = 4


@dataclasses.dataclass(frozen=True)
class Operands:
    """What an elementwise rule sees: code and types of operands, and parameters."""

    codes: Sequence[Code]
    dtypes: Sequence[np.dtype]
    result: np.dtype
    parameters: Mapping[str, Any]
    working: np.dtype


@dataclasses.dataclass(frozen=True)
class Elementwise:
    """A primitive that maps elements to elements: both code forms follow.

    **Fields:** `write`, its Julia expression; `cost` in flops; whether it is `exact`,
    that is, never rounds.
    """

    write: Callable[[Operands], Code]
    cost: int
    exact: bool = False

    @property
    def roundings(self) -> int:
        """How many half units in the last place its result may be off."""
        if self.exact:
            return 0
        return 1 if self.cost <= 4 * CHEAP else _ELEMENTARY


@dataclasses.dataclass(frozen=True)
class Rule:
    """Any other primitive.

    **Fields:**

    - `loop`: writes it as loops over arrays. From the `LoopEmitter`, the equation and
        the values of its operands to the values of its outputs.
    - `straight`: the same on arrays of scalar expressions, for programs small enough
        to be written without loops. From the `Unroller`, the equation and the arrays of
        its operands to the arrays of its outputs. Without one, a program that has the
        primitive is always written as loops.
    - `roundings`: how many roundings lie one behind another on the way to an output.
        Without one, those of the programs inside; none where there are none.
    """

    loop: Callable[[Any, Equation, Sequence[Value]], list[Value]]
    straight: Callable[[Any, Equation, list[np.ndarray]], Sequence[Any]] | None = None
    roundings: Callable[[Equation], int] | None = None


Rules = Mapping[str, Elementwise | Rule]
"""Rules by the name of the primitive."""
