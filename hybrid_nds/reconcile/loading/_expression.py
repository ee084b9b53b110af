"""Arithmetic as text: the functions of a problem file that names none of the package.

The language is a small part of Python's: numbers, names, `+ - * / **`, comparisons
within `where`, and the functions of a table. Nothing else is evaluated.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

# Longer texts are no formulas that anybody wrote.
_LONGEST = 10_000

FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, jnp.abs),
    "arctan": (1, jnp.arctan),
    "arctan2": (2, jnp.arctan2),
    "cos": (1, jnp.cos),
    "cosh": (1, jnp.cosh),
    "exp": (1, jnp.exp),
    "expm1": (1, jnp.expm1),
    "log": (1, jnp.log),
    "log1p": (1, jnp.log1p),
    "maximum": (2, jnp.maximum),
    "minimum": (2, jnp.minimum),
    "sigmoid": (1, jax.nn.sigmoid),
    "sign": (1, jnp.sign),
    "sin": (1, jnp.sin),
    "sinh": (1, jnp.sinh),
    "softplus": (1, jax.nn.softplus),
    "sqrt": (1, jnp.sqrt),
    "tan": (1, jnp.tan),
    "tanh": (1, jnp.tanh),
    "where": (3, jnp.where),
}
"""How many arguments each function takes, and the function."""

CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e}

_BINARY: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda x, y: x + y,
    ast.Sub: lambda x, y: x - y,
    ast.Mult: lambda x, y: x * y,
    ast.Div: lambda x, y: x / y,
    ast.Pow: lambda x, y: x**y,
}
_COMPARE: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Lt: lambda x, y: x < y,
    ast.LtE: lambda x, y: x <= y,
    ast.Gt: lambda x, y: x > y,
    ast.GtE: lambda x, y: x >= y,
}

Evaluator = Callable[[Mapping[str, Any]], Any]


def parse_expression(text: str, names: Collection[str]) -> Evaluator:
    """The function that an arithmetic expression stands for.

    **Arguments:** the text; the names it may use beside those of constants and
    functions.

    **Returns:** a function of the names' values, real scalars of one dtype.

    **Raises:** `ValueError` saying what of the text is not understood.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"is {len(text)} characters long; at most {_LONGEST} are read")
    try:
        return _node(ast.parse(text.strip(), mode="eval").body, names, text.strip())
    except SyntaxError as error:
        raise ValueError(f"{text!r} is no arithmetic expression: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError("is nested too deeply") from None


def _node(node: ast.expr, names: Collection[str], text: str) -> Evaluator:
    shown = ast.get_source_segment(text, node) or ""
    match node:
        case ast.Constant(value=int() | float() as number) if number is not True:
            return _constant(number)
        case ast.Name(id=name):
            return _name(name, names)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            inner = _node(operand, names, text)
            return inner if isinstance(sign, ast.UAdd) else lambda v: -inner(v)
        case ast.BinOp(left=left, op=ast.Pow(), right=power) if _whole(power):
            base, whole = _node(left, names, text), _whole(power)
            return lambda v: jax.lax.integer_pow(base(v), whole)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _both(_BINARY[type(op)], left, right, names, text)
        case ast.Call(func=ast.Name(id=name), args=given, keywords=[]):
            return _call(name, given, names, text, shown)
    raise ValueError(
        f"{shown!r} is not understood: an expression has numbers, names, + - * / **, "
        f"parentheses and the functions {', '.join(FUNCTIONS)}"
    )


def _constant(number: float) -> Evaluator:
    value = float(number) if abs(number) < 2**1023 else math.inf
    return lambda values: jnp.asarray(value, values["t"].dtype)


def _name(name: str, names: Collection[str]) -> Evaluator:
    if name in names:
        return lambda values: values[name]
    if name in CONSTANTS:
        return _constant(CONSTANTS[name])
    if name in FUNCTIONS:
        raise ValueError(f"the function {name!r} lacks its arguments in parentheses")
    known = ", ".join([*names, *CONSTANTS])
    raise ValueError(f"the name {name!r} is not known; there are {known}")


def _whole(node: ast.expr) -> int:
    """A whole number up to 64 that stands there; else zero."""
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node, sign = node.operand, -1
    value = node.value if isinstance(node, ast.Constant) else None
    if not isinstance(value, int) or isinstance(value, bool) or value > 64:
        return 0
    return sign * value


def _both(
    function: Callable[[Any, Any], Any],
    left: ast.expr,
    right: ast.expr,
    names: Collection[str],
    text: str,
) -> Evaluator:
    first, second = _node(left, names, text), _node(right, names, text)
    return lambda values: function(first(values), second(values))


def _call(
    name: str, given: list[ast.expr], names: Collection[str], text: str, shown: str
) -> Evaluator:
    if name not in FUNCTIONS:
        raise ValueError(
            f"the function {name!r} is not known; there are {', '.join(FUNCTIONS)}"
        )
    count, function = FUNCTIONS[name]
    if len(given) != count:
        raise ValueError(f"{shown!r} has {len(given)} arguments, and takes {count}")
    if name == "where":
        inner = [_condition(given[0], names, text)]
        inner += [_node(one, names, text) for one in given[1:]]
    else:
        inner = [_node(one, names, text) for one in given]
    return lambda values: function(*(one(values) for one in inner))


def _condition(node: ast.expr, names: Collection[str], text: str) -> Evaluator:
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            if type(op) in _COMPARE:
                return _both(_COMPARE[type(op)], left, right, names, text)
    raise ValueError(
        f"{ast.get_source_segment(text, node)!r} is no condition: where(condition, x, "
        "y) takes one comparison by <, <=, > or >="
    )


def check_name(name: str) -> None:
    """Refuse a name that an expression cannot use.

    **Raises:** `ValueError`.
    """
    taken = {"t", *CONSTANTS, *FUNCTIONS}
    if not name.isidentifier() or name in taken:
        raise ValueError(
            f"{name!r} is no name for a component or a parameter: it must be letters, "
            f"digits and underscores, and none of {', '.join(sorted(taken))}"
        )
