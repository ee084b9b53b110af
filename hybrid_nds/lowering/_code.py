"""Fragments of Julia: expressions with their precedence, literals, index arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

COMPARISON, SUM, PRODUCT, UNARY, POWER, ATOM = range(1, 7)
"""Binding strengths of Julia's operators, weakest first."""


class Code(str):
    """A Julia expression that knows how tightly it binds."""

    level: int

    def __new__(cls, text: str, level: int = ATOM) -> Code:
        code = super().__new__(cls, text)
        code.level = level
        return code

    def tight(self, level: int) -> str:
        """The expression, in parentheses if it binds less tightly than `level`."""
        return str(self) if self.level >= level else f"({self})"


def call(function: str, *arguments: str) -> Code:
    """`function(arguments...)`."""
    return Code(f"{function}({', '.join(arguments)})")


def infix(
    left: Code, operator: str, right: Code, level: int, *, associative: bool = True
) -> Code:
    """`left operator right`, with parentheses only where Julia needs them."""
    first = left.tight(level if associative else level + 1)
    return Code(f"{first} {operator} {right.tight(level + 1)}", level)


_SCALAR_TYPES = {
    "float64": "Float64",
    "float32": "Float32",
    "float16": "Float16",
    "int8": "Int8",
    "int16": "Int16",
    "int32": "Int32",
    "int64": "Int64",
    "uint8": "UInt8",
    "uint16": "UInt16",
    "uint32": "UInt32",
    "uint64": "UInt64",
    "bool": "Bool",
}


def julia_type(dtype: np.dtype, working: np.dtype | None) -> str:
    """The Julia type of a value; the working precision is the generic `T`."""
    return "T" if dtype == working else _SCALAR_TYPES[np.dtype(dtype).name]


def literal(value: object, dtype: np.dtype) -> Code:
    """A Julia literal of exactly this value and type."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return Code("true" if value else "false")
    if dtype.kind in "iu":
        number = int(value)  # pyright: ignore
        if dtype == np.int64:
            return Code(str(number), ATOM if number >= 0 else UNARY)
        return Code(f"{_SCALAR_TYPES[dtype.name]}({number})")
    number = float(value)  # pyright: ignore
    if dtype == np.float16:
        return Code(f"Float16({literal(number, np.dtype(np.float64))})")
    single = dtype == np.float32
    if not np.isfinite(number):
        stem = "NaN" if np.isnan(number) else "Inf"
        text = stem + ("32" if single else "")
        return Code(f"-{text}", UNARY) if number < 0 else Code(text)
    if single:
        mantissa, _, exponent = repr(float(str(np.float32(number)))).partition("e")
        text = f"{mantissa}f{int(exponent or 0)}"
    else:
        text = repr(number)
    return Code(text, UNARY if text.startswith("-") else ATOM)


class Index:
    """A zero-based integer position, affine in loop variables and other terms."""

    __slots__ = ("constant", "terms")

    def __init__(self, constant: int = 0, terms: Mapping[str, int] | None = None):
        self.constant = constant
        self.terms = {k: v for k, v in (terms or {}).items() if v != 0}

    @classmethod
    def loop(cls, variable: str) -> Index:
        """The position of a one-based loop variable."""
        return cls(-1, {variable: 1})

    def __add__(self, other: Index | int) -> Index:
        if not isinstance(other, Index):
            return Index(self.constant + int(other), self.terms)
        terms = dict(self.terms)
        for key, value in other.terms.items():
            terms[key] = terms.get(key, 0) + value
        return Index(self.constant + other.constant, terms)

    def __mul__(self, factor: int) -> Index:
        terms = {key: factor * value for key, value in self.terms.items()}
        return Index(factor * self.constant, terms)

    @property
    def static(self) -> int | None:
        """The position where it is known now."""
        return None if self.terms else self.constant

    def text(self, base: int = 0) -> str:
        """The position as Julia code, counted from `base`."""
        constant = self.constant + base
        pieces: list[str] = []
        for term, factor in self.terms.items():
            size = term if abs(factor) == 1 else f"{abs(factor)} * {term}"
            sign = "-" if factor < 0 else "+"
            pieces.append(f"{sign} {size}" if pieces or sign == "-" else size)
        if constant or not pieces:
            sign = "-" if constant < 0 else "+"
            pieces.append(f"{sign} {abs(constant)}" if pieces else str(constant))
        return " ".join(pieces)
