"""The table of elementwise primitives: what each is in Julia, and what it costs."""

from __future__ import annotations

import re

import numpy as np

from ._code import (
    ATOM,
    COMPARISON,
    POWER,
    PRODUCT,
    SUM,
    UNARY,
    Code,
    call,
    infix,
    julia_type,
)
from ._rule import CHEAP, DEAR, Elementwise, Operands


def _function(name: str, cost: int = DEAR, *, exact: bool = False) -> Elementwise:
    return Elementwise(lambda o: call(name, *o.codes), cost, exact)


def _infix(operator: str, level: int, *, associative: bool = True) -> Elementwise:
    def write(o: Operands) -> Code:
        left, right = o.codes
        return infix(left, operator, right, level, associative=associative)

    return Elementwise(write, CHEAP)


def _bitwise(operator: str, level: int) -> Elementwise:
    # Julia's & and | bind like * and +: parentheses keep the reader safe.
    return Elementwise(
        lambda o: Code(
            f"{o.codes[0].tight(ATOM)} {operator} {o.codes[1].tight(ATOM)}", level
        ),
        CHEAP,
    )


def _divide(o: Operands) -> Code:
    if o.result.kind == "f":
        return infix(o.codes[0], "/", o.codes[1], PRODUCT)
    return call("integer_divide", *o.codes)


def _remainder(o: Operands) -> Code:
    return call("rem" if o.result.kind == "f" else "integer_remainder", *o.codes)


def _not(o: Operands) -> Code:
    sign = "!" if o.result.kind == "b" else "~"
    return Code(f"{sign}{o.codes[0].tight(ATOM)}", UNARY)


def _power(o: Operands) -> Code:
    exponent = int(o.parameters["y"])
    text = str(exponent) if exponent >= 0 else f"({exponent})"
    return Code(f"{o.codes[0].tight(ATOM)}^{text}", POWER)


def _select(o: Operands) -> Code:
    which, *cases = o.codes
    if o.dtypes[0].kind == "b":
        return call("choose", which, cases[1], cases[0])
    code = cases[-1]
    for position in range(len(cases) - 2, -1, -1):
        code = call(
            "choose", f"{which.tight(SUM)} == {position}", cases[position], code
        )
    return code


def _round(o: Operands) -> Code:
    away = int(o.parameters["rounding_method"]) == 0
    return call("round", o.codes[0], *(["RoundNearestTiesAway"] if away else []))


def convert(code: Code, origin: np.dtype, to: np.dtype, working: np.dtype) -> Code:
    """Code converted from one element type to another, as XLA converts."""
    target = julia_type(to, working)
    if origin == to:
        return code
    if to.kind == "b":
        return Code(f"{code.tight(SUM)} != 0", COMPARISON)
    if to.kind == "f":
        # Only to a fixed narrower type does rounding need care for dual numbers.
        narrow = origin.kind == "f" and target != "T"
        return call("narrow", target, code) if narrow else call(target, code)
    if origin.kind == "f":
        return call("truncate", target, code)
    return Code(f"{code.tight(ATOM)} % {target}", PRODUCT)


def _convert(o: Operands) -> Code:
    return convert(o.codes[0], o.dtypes[0], o.result, o.working)


def _bitcast(o: Operands) -> Code:
    kinds = (np.dtype(o.dtypes[0]), np.dtype(o.result))
    return call("reinterpret", julia_type(kinds[1], None), o.codes[0])


ELEMENTWISE: dict[str, Elementwise] = {
    "add": _infix("+", SUM),
    "add_any": _infix("+", SUM),
    "sub": _infix("-", SUM),
    "mul": _infix("*", PRODUCT),
    "div": Elementwise(_divide, 4),
    "rem": Elementwise(_remainder, 4),
    "neg": Elementwise(
        lambda o: Code(f"-{o.codes[0].tight(POWER)}", UNARY), CHEAP, exact=True
    ),
    "abs": _function("abs", CHEAP, exact=True),
    "sign": _function("sign", CHEAP, exact=True),
    "max": _function("max", CHEAP, exact=True),
    "min": _function("min", CHEAP, exact=True),
    "clamp": Elementwise(
        lambda o: call("min", call("max", o.codes[1], o.codes[0]), o.codes[2]),
        2,
        exact=True,
    ),
    "square": Elementwise(lambda o: Code(f"{o.codes[0].tight(ATOM)}^2", POWER), CHEAP),
    "integer_pow": Elementwise(_power, 3),
    "pow": _function("power"),
    "sqrt": _function("square_root", 4),
    "rsqrt": Elementwise(lambda o: call("inv", call("square_root", o.codes[0])), 6),
    "cbrt": _function("cbrt"),
    "exp": _function("exp"),
    "exp2": _function("exp2"),
    "expm1": _function("expm1"),
    "log": _function("logarithm"),
    "log1p": _function("logarithm1p"),
    "logistic": _function("logistic"),
    "sin": _function("sine"),
    "cos": _function("cosine"),
    "tan": _function("tangent"),
    "asin": _function("arcsine"),
    "acos": _function("arccosine"),
    "atan": _function("atan"),
    "atan2": _function("atan"),
    "sinh": _function("sinh"),
    "cosh": _function("cosh"),
    "tanh": _function("tanh"),
    "asinh": _function("asinh"),
    "acosh": _function("area_cosine"),
    "atanh": _function("area_tangent"),
    "erf": _function("erf"),
    "erfc": _function("erfc"),
    "erf_inv": _function("inverse_erf"),
    "lgamma": _function("log_abs_gamma"),
    "digamma": _function("digamma"),
    "polygamma": _function("polygamma_real"),
    "zeta": _function("hurwitz_zeta"),
    "igamma": _function("lower_gamma"),
    "igammac": _function("upper_gamma"),
    "regularized_incomplete_beta": _function("incomplete_beta"),
    "bessel_i0e": _function("bessel_i0e"),
    "bessel_i1e": _function("bessel_i1e"),
    "floor": _function("floor", CHEAP),
    "ceil": _function("ceil", CHEAP),
    "round": Elementwise(_round, CHEAP),
    "nextafter": _function("next_after", 4),
    "is_finite": _function("isfinite", CHEAP),
    "eq": _infix("==", COMPARISON, associative=False),
    "ne": _infix("!=", COMPARISON, associative=False),
    "lt": _infix("<", COMPARISON, associative=False),
    "le": _infix("<=", COMPARISON, associative=False),
    "gt": _infix(">", COMPARISON, associative=False),
    "ge": _infix(">=", COMPARISON, associative=False),
    "lt_to": _function("isless", CHEAP),
    "le_to": Elementwise(
        lambda o: Code(f"!isless({o.codes[1]}, {o.codes[0]})", UNARY), CHEAP
    ),
    "and": _bitwise("&", PRODUCT),
    "or": _bitwise("|", SUM),
    "xor": _function("xor", CHEAP),
    "not": Elementwise(_not, CHEAP),
    "shift_left": _function("shift_left", CHEAP),
    "shift_right_logical": _function("shift_right_logical", CHEAP),
    "shift_right_arithmetic": _function("shift_right_arithmetic", CHEAP),
    "population_count": _function("population_count", CHEAP),
    "clz": _function("leading_zero_count", CHEAP),
    "select_n": Elementwise(_select, CHEAP, exact=True),
    "convert_element_type": Elementwise(_convert, CHEAP),
    "bitcast_convert_type": Elementwise(_bitcast, CHEAP),
}


_QUALIFIED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*!?\Z")


def julia_function(name: str, cost: int = DEAR) -> Elementwise:
    """The rule of an elementwise primitive that one Julia function computes.

    **Raises:** `ValueError` if the function is not a plain, possibly qualified name.
    """
    if not _QUALIFIED.match(name):
        raise ValueError(
            "register_rule: `rule` must be a Julia function's name such as "
            f'"sin" or "SpecialFunctions.besselj0", or a Rule, got {name!r}.'
        )
    if cost < 0:
        raise ValueError(f"register_rule: `cost` must not be negative, got {cost}.")
    return _function(name, cost)
