"""What the annotations of a result say of its fields: shapes, numbers, texts."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import jax
import jaxtyping
import numpy as np

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Along:
    """Marks an annotation without a shape by the dimensions of its values.

    **Arguments:** the names, as jaxtyping writes them: `Annotated[tuple[str, ...],
    Along("equilibrium")]`.
    """

    dims: str


@dataclasses.dataclass(frozen=True)
class Records:
    """Marks a tuple of dataclasses as a table with a column a field.

    **Arguments:** the dimension that runs over the tuple; what the names of the columns
    begin with, by default the dimension and an underscore.
    """

    dim: str
    prefix: str | None = None


@dataclasses.dataclass(frozen=True)
class Unit:
    """Marks numbers by their unit, such as `"s"`."""

    name: str


_AXIS = "axis"
Axis = Annotated[T, _AXIS]
"""Marks a field of one dimension as the coordinate of this dimension."""

Kind = Literal[
    "array", "tree", "group", "number", "text", "mapping", "records", "result"
]
_NUMBERS = (bool, int, float, complex)


@dataclasses.dataclass(frozen=True)
class Member:
    """A field or property that holds data.

    **Fields:** its name and kind; its dimensions, `None` where an array's annotation
    has none; whether it is a coordinate; its unit; for a group what its values are,
    and for records how they are marked; whether it is a property.
    """

    name: str
    kind: Kind
    dims: tuple[str, ...] | None = None
    axis: bool = False
    unit: str = ""
    value: Member | None = None
    records: Records | None = None
    derived: bool = False


@functools.cache
def members(kind: type) -> tuple[Member, ...]:
    """The data of a dataclass by its annotations: fields in order, then properties.

    Fields of other types (models, functions, files) are not data. Of properties those
    are that return an array, a number or a text.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = [(one.name, hints[one.name]) for one in dataclasses.fields(kind)]
    found = [_member(name, hint) for name, hint in fields]
    for name, one in inspect.getmembers(kind, lambda x: isinstance(x, property)):
        hint = typing.get_type_hints(one.fget, include_extras=True).get("return")
        member = None if name.startswith("_") else _member(name, hint)
        if member is not None and member.kind in ("array", "number", "text"):
            found.append(dataclasses.replace(member, derived=True))
    return tuple(one for one in found if one is not None)


def names_of(
    dims: Sequence[str] | None, ndim: int, name: str, path: str = ""
) -> tuple[str, ...]:
    """The names of the axes of an array.

    **Arguments:** the dimensions of its annotation, of which `...` stands for those of
    the state; how many axes it has; its name; and its path within a pytree.

    **Raises:** `ValueError` where it has another number of axes.
    """
    if dims is None:
        return tuple(f"{name}_{i}" for i in range(ndim))
    free = ndim - len(dims) + 1
    if free < 0 if "..." in dims else free != 1:
        raise ValueError(
            f"`{name}` must have the dimensions ({', '.join(dims)}), got an array of "
            f"{ndim}."
        )
    state = f"{path}.component" if path else "component"
    state_dims = [state] if free == 1 else [f"{state}_{i}" for i in range(free)]
    found: list[str] = []
    for i, dim in enumerate(dims):
        found += state_dims if dim == "..." else [dim or f"{name}_{i}"]
    return tuple(found)


def _member(name: str, hint: Any, marks: tuple[Any, ...] = ()) -> Member | None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _member(name, arguments[0], (*marks, *arguments[1:]))
    if origin in (typing.Union, types.UnionType):
        some = [one for one in arguments if one is not types.NoneType]
        first, *others = (_member(name, one, marks) for one in some)
        return first if all(one == first for one in others) else None
    made = functools.partial(
        Member,
        name,
        axis=_AXIS in marks,
        unit="".join(one.name for one in marks if isinstance(one, Unit)),
    )
    for mark in marks:
        if isinstance(mark, Along):
            return made("array", _dims(mark.dims))
        if isinstance(mark, Records):
            return made("records", records=mark)
    if inspect.isclass(hint):
        return _of_class(made, hint)
    if origin is Literal or (origin is tuple and {*arguments} <= {str, ...}):
        return made("text")
    if origin is tuple and arguments == (tuple[str, str], ...):
        return made("mapping")
    if origin in (dict, collections.abc.Mapping):
        value = _member(name, arguments[1])
        if value is not None and value.kind in ("array", "tree"):
            return made("group", value=value)
        plain = arguments[1] is Any or (value and value.kind in ("number", "text"))
        return made("mapping") if plain else None
    return None


def _of_class(made: Any, hint: Any) -> Member | None:
    if issubclass(hint, jaxtyping.AbstractArray):
        return made("array", _dims(hint.dim_str))
    if hasattr(hint, "leaftype"):
        leaf = _member(made.args[0], hint.leaftype)
        # Of other leaves nothing is known.
        return made("tree", leaf.dims) if leaf and leaf.dims is not None else None
    if issubclass(hint, np.ndarray | jax.Array):
        return made("array")
    if issubclass(hint, _NUMBERS):
        return made("number", ())
    if issubclass(hint, str):
        return made("text")
    if hasattr(hint, "to_xarray"):
        return made("result")
    plain = hasattr(hint, "as_dict") or dataclasses.is_dataclass(hint)
    return made("mapping") if plain else None


def _dims(text: str) -> tuple[str, ...]:
    """Names alone: without sizes and jaxtyping's modifiers, and none for a size."""
    names = [one.split("=")[0].lstrip("#?_") for one in text.split()]
    names = ["..." if one.startswith("*") else one for one in names]
    return tuple("" if one.isdigit() else one for one in names)
