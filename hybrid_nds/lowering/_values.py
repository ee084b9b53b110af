"""What an emitter knows of a value: where it lies, or how one element is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ._code import Code, Index
from ._program import Shape

Position = Sequence[Index]


def strides(shape: Shape) -> list[int]:
    """Row-major strides, in elements."""
    result = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        result[axis] = result[axis + 1] * shape[axis + 1]
    return result


def flatten_index(shape: Shape, position: Position) -> Index:
    """The row-major linear position of a multi-index."""
    total = Index()
    for index, stride in zip(position, strides(shape), strict=True):
        total = total + index * stride
    return total


class Value:
    """An array whose elements can be written as Julia expressions."""

    shape: Shape
    dtype: np.dtype
    cost: int = 0

    def at(self, position: Position) -> Code:
        """The element at a multi-index."""
        raise NotImplementedError(type(self).__name__)

    def flat(self, position: Index) -> Code | None:
        """The element at a row-major linear position, if that needs no division."""
        raise NotImplementedError(type(self).__name__)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


class Uniform(Value):
    """One expression for every element: a literal or a local variable."""

    def __init__(self, code: Code, shape: Shape, dtype: np.dtype):
        self.code, self.shape, self.dtype = code, shape, dtype

    def at(self, position: Position) -> Code:
        return self.code

    def flat(self, position: Index) -> Code | None:
        return self.code


class Memory(Value):
    """Elements of a Julia array, from `offset` on, row-major.

    `dims` is the shape the Julia array itself has, in JAX's order; `None` means
    that it is read as a vector.
    """

    def __init__(
        self,
        name: str,
        shape: Shape,
        dtype: np.dtype,
        dims: Shape | None = None,
        offset: Index | None = None,
    ):
        self.name, self.shape, self.dtype, self.dims = name, shape, dtype, dims
        self.offset = offset or Index()

    def at(self, position: Position) -> Code:
        whole = self.offset.static == 0
        if whole and self.dims == self.shape and self.shape:
            text = ", ".join(index.text(1) for index in reversed(position))
            return Code(f"{self.name}[{text}]")
        element = self.flat(flatten_index(self.shape, position))
        return element

    def flat(self, position: Index) -> Code:
        return Code(f"{self.name}[{(self.offset + position).text(1)}]")

    def reshaped(self, shape: Shape) -> Memory:
        """The same elements in another shape."""
        return Memory(self.name, shape, self.dtype, self.dims, self.offset)

    def row(self, index: Index) -> Memory:
        """The elements at one position of the first axis."""
        rest = self.shape[1:]
        offset = self.offset + index * math.prod(rest)
        return Memory(self.name, rest, self.dtype, self.dims, offset)


class Computed(Value):
    """Elements that are computed where they are read."""

    def __init__(
        self,
        shape: Shape,
        dtype: np.dtype,
        at: Callable[[Position], Code],
        cost: int,
        flat: Callable[[Index], Code | None] = lambda position: None,
    ):
        self.shape, self.dtype, self.cost = shape, dtype, cost
        self._at, self._flat = at, flat

    def at(self, position: Position) -> Code:
        return self._at(position)

    def flat(self, position: Index) -> Code | None:
        return self._flat(position)
