"""The one table of rules: how each JAX primitive becomes Julia, and how it rounds."""

from __future__ import annotations

import functools
import importlib.metadata
import math
from collections.abc import Iterator, Mapping

from . import (
    _loop_control as control,
    _loop_layout as layout,
    _loop_linalg as linalg,
    _loop_reduce as reduce,
    _straight as straight,
)
from ._elementwise import ELEMENTWISE, julia_function
from ._program import Equation
from ._rule import DEAR, Elementwise, Rule

GROUP = "hybrid_nds.primitives"
"""The entry points under which other packages register rules."""


def _terms(eq: Equation) -> int:
    outputs = max(math.prod(eq.outputs[0].shape), 1)
    return max(1, math.prod(eq.inputs[0].shape) // outputs)


def _along_axis(eq: Equation) -> int:
    return eq.inputs[0].shape[eq.parameters["axis"]]


def _window(eq: Equation) -> int:
    return math.prod(eq.inputs[1].shape)


def _contracted(eq: Equation) -> int:
    (summed, _), _ = eq.parameters["dimension_numbers"]
    return math.prod(eq.inputs[0].shape[axis] for axis in summed)


def _elimination(eq: Equation) -> int:
    return 2 * eq.inputs[0].shape[-1]


RULES: dict[str, Elementwise | Rule] = {
    **ELEMENTWISE,
    "reshape": Rule(layout.reshape, straight.reshape),
    "expand_dims": Rule(layout.reshape, straight.reshape),
    "squeeze": Rule(layout.reshape, straight.reshape),
    "broadcast_in_dim": Rule(layout.broadcast_in_dim, straight.broadcast_in_dim),
    "transpose": Rule(layout.transpose, straight.transpose),
    "rev": Rule(layout.rev, straight.rev),
    "slice": Rule(layout.slice_, straight.slice_),
    "split": Rule(layout.split, straight.split),
    "iota": Rule(layout.iota, straight.iota),
    "concatenate": Rule(layout.concatenate, straight.concatenate),
    "stack": Rule(layout.stack, straight.stack),
    "unstack": Rule(layout.unstack, straight.unstack),
    "tile": Rule(layout.tile, straight.tile),
    "pad": Rule(layout.pad, straight.pad),
    "dynamic_slice": Rule(layout.dynamic_slice, straight.dynamic_slice),
    "dynamic_update_slice": Rule(
        layout.dynamic_update_slice, straight.dynamic_update_slice
    ),
    "gather": Rule(layout.gather, straight.gather),
    "scatter": Rule(layout.scatter),
    "scatter-add": Rule(layout.scatter),
    "scatter_add": Rule(layout.scatter),
    "scatter-sub": Rule(layout.scatter),
    "scatter_sub": Rule(layout.scatter),
    "scatter_mul": Rule(layout.scatter),
    "scatter-mul": Rule(layout.scatter),
    "scatter_min": Rule(layout.scatter),
    "scatter-min": Rule(layout.scatter),
    "scatter_max": Rule(layout.scatter),
    "scatter-max": Rule(layout.scatter),
    "reduce_sum": Rule(reduce.reduction("sum"), straight.reduction("add"), _terms),
    "reduce_prod": Rule(reduce.reduction("prod"), straight.reduction("mul"), _terms),
    "reduce_max": Rule(reduce.reduction("max"), straight.reduction("max")),
    "reduce_min": Rule(reduce.reduction("min"), straight.reduction("min")),
    "reduce_and": Rule(reduce.reduction("and"), straight.reduction("and")),
    "reduce_or": Rule(reduce.reduction("or"), straight.reduction("or")),
    "reduce_xor": Rule(reduce.reduction("xor")),
    "argmax": Rule(reduce.arg_extremum("exceeds")),
    "argmin": Rule(reduce.arg_extremum("falls_below")),
    "cumsum": Rule(reduce.cumulative("sum"), straight.cumulative("add"), _along_axis),
    "cumprod": Rule(reduce.cumulative("prod"), straight.cumulative("mul"), _along_axis),
    "cummax": Rule(reduce.cumulative("max"), straight.cumulative("max")),
    "cummin": Rule(reduce.cumulative("min"), straight.cumulative("min")),
    "cumlogsumexp": Rule(reduce.cumulative("logsumexp")),
    "reduce_window_sum": Rule(reduce.reduce_window("sum")),
    "reduce_window_max": Rule(reduce.reduce_window("max")),
    "reduce_window_min": Rule(reduce.reduce_window("min")),
    "sort": Rule(reduce.sort),
    "dot_general": Rule(reduce.dot_general, straight.dot_general, _contracted),
    "conv_general_dilated": Rule(reduce.convolution, roundings=_window),
    "cholesky": Rule(linalg.cholesky, roundings=_elimination),
    "lu": Rule(linalg.lu, roundings=_elimination),
    "lu_pivots_to_permutation": Rule(linalg.lu_pivots_to_permutation),
    "triangular_solve": Rule(linalg.triangular_solve, roundings=_elimination),
    "cond": Rule(control.cond, straight.cond),
    "while": Rule(control.while_),
    "scan": Rule(control.scan, straight.scan),
}


def register_rule(primitive: str, rule: str | Rule, *, cost: int = DEAR) -> None:
    """Teach lowering a primitive of your own, in this process.

    A package registers its rules for all processes, those of workers too, by entry
    points in the group `hybrid_nds.primitives`: the name is the primitive's, the object
    what `rule` takes.

    **Arguments:**

    - `primitive`: the name of the JAX primitive, as the error of an unknown one
        gives it.
    - `rule`: of an elementwise primitive, the Julia function that computes one element
        from one element of each operand. It must exist where the lowered code is
        evaluated: in `Base`, or qualified by a module that HybridNDS loads
        (`"SpecialFunctions.besselj0"`). Of any other, a
        [`Rule`][hybrid_nds.lowering.Rule].
    - `cost`: of an elementwise primitive, flops an element, to decide what is worth
        computing twice.

    **Raises:** `ValueError` if a function is not a plain, possibly qualified name;
    `TypeError` if a rule is neither.
    """
    RULES[primitive] = _checked(rule, cost)


def _checked(rule: str | Rule, cost: int) -> Elementwise | Rule:
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, str):
        return julia_function(rule, cost)
    raise TypeError(
        "register_rule: `rule` must be the name of a Julia function or a "
        f"hybrid_nds.lowering.Rule, got {rule!r}."
    )


class _Known(Mapping[str, Elementwise | Rule]):
    """The table, and after it the rules of installed packages."""

    def __getitem__(self, primitive: str) -> Elementwise | Rule:
        if primitive not in RULES and primitive in _installed():
            RULES[primitive] = _checked(_installed()[primitive].load(), DEAR)
        return RULES[primitive]

    def __iter__(self) -> Iterator[str]:
        return iter({**RULES, **_installed()})

    def __len__(self) -> int:
        return len({**RULES, **_installed()})


KNOWN = _Known()
"""Every rule there is."""


@functools.cache
def _installed() -> Mapping[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
