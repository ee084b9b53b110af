"""Loops over the stages of a scheme, written out.

Diffrax goes through the stages of a Runge–Kutta method in a loop, whose derivative
keeps and rebuilds what each pass computed. For few stages the same operations without a
loop take half the time, and XLA can join them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import PyTree

from ..._core import is_concrete

# Loops of more passes stay loops.
MOST_PASSES = 4

# What is done with counters and conditions. By NumPy, since JAX compiles a program for
# each operation.
_EXACT: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "add": np.add,
        "and": np.bitwise_and,
        "convert_element_type": lambda value: value,
        "copy": lambda value: value,
        "eq": np.equal,
        "ge": np.greater_equal,
        "gt": np.greater,
        "le": np.less_equal,
        "lt": np.less,
        "max": np.maximum,
        "min": np.minimum,
        "mul": np.multiply,
        "ne": np.not_equal,
        "not": np.invert,
        "or": np.bitwise_or,
        "reduce_and": lambda value: value,
        "reduce_or": lambda value: value,
        "select_n": lambda which, *cases: cases[int(which)],
        "sub": np.subtract,
        "unvmap_any": lambda value: value,
    }
)


def unrolled(function: Callable[..., PyTree], *arguments: PyTree) -> PyTree:
    """What a function returns, its outermost loops of a few passes written out, where
    while tracing it is known how many there are.

    **Arguments:** the function, and what it takes.
    """
    dynamic, static = eqx.partition(arguments, eqx.is_array)
    statics: list[PyTree] = []

    def of_arrays(dynamic: PyTree) -> PyTree:
        found = function(*eqx.combine(dynamic, static))
        arrays, rest = eqx.partition(found, eqx.is_array)
        statics[:] = [rest]
        return arrays

    closed, shapes = jax.make_jaxpr(of_arrays, return_shape=True)(dynamic)
    values = _evaluate(closed.jaxpr, closed.consts, jtu.tree_leaves(dynamic), True)
    arrays = jtu.tree_unflatten(jtu.tree_structure(shapes), values)
    return eqx.combine(arrays, statics[0])


def _known(value: Any) -> bool:
    """Whether a value is a counter or a condition that is known."""
    return (
        is_concrete(value)
        and np.ndim(value) == 0
        and np.dtype(value.dtype).kind in "iub"
    )


def _evaluate(
    jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any], outermost: bool
) -> list[Any]:
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values |= zip(jaxpr.invars, arguments, strict=True)

    def read(variable: Any) -> Any:
        if isinstance(variable, Literal):
            return np.asarray(variable.val, variable.aval.dtype)  # pyright: ignore
        return values[variable]

    for equation in jaxpr.eqns:
        given = [read(variable) for variable in equation.invars]
        found = _apply(equation, given, outermost)
        values |= zip(equation.outvars, found, strict=True)
    return [read(variable) for variable in jaxpr.outvars]


def _apply(equation: Any, given: list[Any], outermost: bool) -> list[Any]:
    name, parameters = equation.primitive.name, equation.params
    if name in ("jit", "pjit"):
        inner: ClosedJaxpr = parameters["jaxpr"]
        return _evaluate(inner.jaxpr, inner.consts, given, outermost)
    if name == "cond" and _known(given[0]):
        branches = parameters["branches"]
        branch = branches[int(np.clip(int(given[0]), 0, len(branches) - 1))]
        return _evaluate(branch.jaxpr, branch.consts, given[1:], outermost)
    if name == "while" and outermost:
        found = _written_out(parameters, given)
        if found is not None:
            return found
    if not (given and all(_known(value) for value in given)):
        return _bind(equation, given)
    if name in _EXACT:
        found = _EXACT[name](*map(np.asarray, given))
        return [np.asarray(found, equation.outvars[0].aval.dtype)]
    with jax.ensure_compile_time_eval():
        return _bind(equation, given)


def _bind(equation: Any, given: list[Any]) -> list[Any]:
    bound = equation.primitive.get_bind_params(equation.params)
    # Functions apart from parameters before JAX 0.10, and among them since.
    functions, parameters = bound if isinstance(bound, tuple) else ((), bound)
    found = equation.primitive.bind(*functions, *given, **parameters)
    return found if equation.primitive.multiple_results else [found]


def _written_out(parameters: Any, given: list[Any]) -> list[Any] | None:
    """The end of a loop; `None` where it is not known when it ends, or late."""
    condition, body = parameters["cond_jaxpr"], parameters["body_jaxpr"]
    first = parameters["cond_nconsts"]
    second = first + parameters["body_nconsts"]
    carry = given[second:]
    for _ in range(MOST_PASSES + 1):
        (going,) = _evaluate(
            condition.jaxpr, condition.consts, [*given[:first], *carry], False
        )
        if not _known(going):
            return None
        if not bool(going):
            return carry
        taken = [*given[first:second], *carry]
        carry = _evaluate(body.jaxpr, body.consts, taken, False)
    return None
