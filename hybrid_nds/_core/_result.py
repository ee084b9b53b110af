"""The base of all results: plain data, a dataset, a figure and a summary."""

from __future__ import annotations

import abc
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.core
import jax.tree_util as jtu
import numpy as np

from ._figures import Panels, drawn
from ._members import Member, members, names_of
from ._notebook import page_of, range_of, size_of

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure


class Variable(NamedTuple):
    """An array of a result with the names of its dimensions.

    **Fields:** `dims`; `values`; `axis`, whether the values are the coordinate of its
    one dimension; `unit`.
    """

    dims: tuple[str, ...]
    values: Any
    axis: bool = False
    unit: str = ""


class Result(abc.ABC):
    """What a computation returns: printed, drawn, and turned into data in one way.

    Dimensions come from the annotations of a result's fields and properties:
    `Float[np.ndarray, "time observable"]` is an array along `time` and `observable`.
    Complex numbers are two variables, `…_real` and `…_imaginary`; of a pytree each leaf
    is one, named by its path.
    """

    @abc.abstractmethod
    def summary(self) -> str:
        """A few lines for people: every figure with its error."""

    @abc.abstractmethod
    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """Draw the result."""

    def variables(self) -> Mapping[str, Variable]:
        """The numbers: by name, the names of their dimensions and the values."""
        return derived_variables(self)

    def attributes(self) -> Mapping[str, Any]:
        """What stands beside the numbers: texts, settings, provenance."""
        return derived_attributes(self)

    def to_xarray(self) -> xarray.Dataset:
        """The result as a dataset.

        Dimensions have their names and, where the result knows them, coordinates:
        `time` for one. Settings, texts and the provenance (as JSON) are attributes.

        **Raises:** `ImportError` without xarray; `TypeError` for a result that is
        traced.
        """
        try:
            import xarray
        except ImportError as error:
            raise ImportError(
                "to_xarray needs xarray: pip install 'hybrid_nds[xarray]'."
            ) from error
        require_concrete(self, "to_xarray")
        data, coordinates = {}, {}
        for name, one in self.variables().items():
            variable = Variable(*one)
            about = {"long_name": name.replace("_", " ")}
            about |= {"units": variable.unit} if variable.unit else {}
            made = (variable.dims, np.asarray(variable.values), about)
            if variable.axis:
                coordinates[variable.dims[0]] = made
            if not variable.axis or name != variable.dims[0]:
                data[name] = made
        attributes = {name: _attribute(x) for name, x in self.attributes().items()}
        return xarray.Dataset(data, coordinates, attributes)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain, JSON-ready data; NaN stays, which JSON proper has not.

        **Raises:** `TypeError` for a result that is traced.
        """
        return derived_record(self, "to_dict")

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, the numbers, and what stands beside."""
        if is_traced(self):
            return page_of(repr(self), {})
        numbers = [("number", "dimensions", "value", "range")]
        for name, one in self.variables().items():
            variable = Variable(*one)
            dims = " × ".join(variable.dims)
            values = variable.values
            numbers.append((name, dims, size_of(values), range_of(values)))
        beside = [("setting", "value")]
        beside += [(name, str(_attribute(x))) for name, x in self.attributes().items()]
        return page_of(self.summary(), {"Numbers": numbers, "Settings": beside})


class DrawnResult(Result):
    """A result with a figure of its own, which `draw` fills."""

    @abc.abstractmethod
    def draw(self, panels: Panels) -> None:
        """Draw the result.

        **Arguments:** `panels`, whose `subplots` gives the axes to draw in, as that of
        a matplotlib figure does.
        """

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, ax: Any = None
    ) -> Figure:
        """The result as a figure.

        **Arguments:**

        - `path`: where to write it (PNG, or by its suffix), whole or not at all; `None`
            writes none.
        - `ax`: matplotlib's axes to draw in, an array of them for a result of several
            panels; `None` makes a figure.

        **Returns:** the matplotlib figure.

        **Raises:** `ValueError` for another number of axes than there are panels.
        """
        return drawn(type(self).__name__, self.draw, path=path, ax=ax).figure


def is_traced(result: Any) -> bool:
    """Whether some array of a result has no values yet."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jtu.tree_leaves(result))


def require_concrete(result: Result, function: str) -> None:
    """Refuse a result whose arrays are traced.

    **Raises:** `TypeError`, naming the result and the function.
    """
    if is_traced(result):
        name = type(result).__name__
        raise TypeError(
            f"{name}.{function}: the arrays of this {name} are traced by jax.jit, "
            "jax.vmap or a derivative and have no values yet; return it from the "
            f"transformed function, and call `{function}` outside."
        )


def derived_variables(
    result: Any, leading: tuple[str, ...] = ()
) -> dict[str, Variable]:
    """The variables of a result by its annotations.

    **Arguments:** the result; dimensions that all its arrays have beside their own, in
    front, as those of a batch.
    """
    found: dict[str, Variable] = {}
    for member in members(type(result)):
        if member.kind in ("text", "mapping"):
            continue
        value = getattr(result, member.name)
        if value is None:
            continue
        if member.kind == "result":
            for name, one in value.variables().items():
                found[f"{member.name}.{name}" if name in found else name] = one
        elif member.kind == "records":
            assert member.records is not None
            found |= record_variables(value, member.records.dim, member.records.prefix)
        else:
            found |= dict(_arrays(member, value, leading))
    return found


def record_variables(
    rows: Any, dim: str, prefix: str | None = None
) -> dict[str, Variable]:
    """A table's columns as variables: each field and property of its rows.

    **Arguments:** the rows, dataclasses of one type; the dimension over them; what the
    names begin with, by default the dimension and an underscore.
    """
    start = f"{dim}_" if prefix is None else prefix
    found = {}
    for member in members(type(rows[0])) if rows else ():
        values = [getattr(row, member.name) for row in rows]
        if member.kind in ("number", "text"):
            # Where one has no number, the column has NaN.
            column = [np.nan if x is None else x for x in values]
            found[start + member.name] = Variable(
                (dim,), np.array(column), unit=member.unit
            )
        elif member.kind == "array":
            stack = np.stack([np.asarray(x) for x in values])
            dims = names_of(member.dims, stack.ndim - 1, member.name)
            found[start + member.name] = Variable((dim, *dims), stack)
    return found


def derived_attributes(result: Any, derived: bool = True) -> dict[str, Any]:
    """The attributes of a result by its annotations.

    **Arguments:** the result; whether to take properties, too.
    """
    found: dict[str, Any] = {}
    for member in members(type(result)):
        if member.kind not in ("text", "mapping") or (member.derived and not derived):
            continue
        value = getattr(result, member.name)
        if hasattr(value, "as_dict"):
            found[member.name] = json.dumps(value.as_dict())
        elif member.kind == "mapping" and value is not None:
            # Settings are the result's own; others are told by what they belong to.
            start = "" if member.name == "settings" else f"{member.name}."
            found |= {f"{start}{n}": x for n, x in _mapping(value).items()}
        elif value is not None:
            found[member.name] = value
    return found


def derived_record(
    result: Result, function: str, derived: bool = True
) -> dict[str, Any]:
    """The data of a result by its annotations, as plain data.

    **Arguments:** the result; who asks, for errors; whether to take properties, too.
    """
    require_concrete(result, function)
    of = members(type(result))
    return _record(result, [one for one in of if derived or not one.derived])


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers, texts, lists and mappings of them."""
    if isinstance(value, Result):
        return value.to_dict()
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _record(value: Any, of: Sequence[Member]) -> dict[str, Any]:
    """The members of a dataclass as plain data."""
    found: dict[str, Any] = {}
    for member in of:
        one = getattr(value, member.name)
        if member.kind == "records":
            found[member.name] = [_record(row, members(type(row))) for row in one]
        elif member.kind == "mapping" and not hasattr(one, "as_dict"):
            pairs = {} if one is None else _mapping(one)
            found[member.name] = {str(n): _attribute(x) for n, x in pairs.items()}
        elif member.kind in ("array", "number") and np.iscomplexobj(one):
            found |= {n: plain(x) for n, x in _parts(member.name, one)}
        else:
            found[member.name] = plain(one)
    return found


def _arrays(
    member: Member, value: Any, leading: tuple[str, ...], start: str = ""
) -> Iterator[tuple[str, Variable]]:
    """The arrays of a field, with their names."""
    name = start or member.name
    if member.kind in ("array", "number"):
        leaves = [("", value)]
    elif member.kind == "tree":
        leaves = [
            (jtu.keystr(path, simple=True, separator="."), leaf)
            for path, leaf in jtu.tree_leaves_with_path(value)
        ]
    elif member.kind == "group":
        assert member.value is not None
        for key, one in value.items():
            # Numbers as keys are no names.
            label = key if isinstance(key, str) else f"{name}.{key}"
            yield from _arrays(member.value, one, leading, label)
        return
    else:
        return
    for path, leaf in leaves:
        whole = f"{name}.{path}" if path else name
        array = np.asarray(leaf)
        own = names_of(member.dims, array.ndim - len(leading), whole, path)
        for label, part in _parts(whole, array):
            axis = member.axis and not leading
            yield label, Variable((*leading, *own), part, axis, member.unit)


def _parts(name: str, array: Any) -> list[tuple[str, Any]]:
    if not np.iscomplexobj(array):
        return [(name, array)]
    return [(f"{name}_real", np.real(array)), (f"{name}_imaginary", np.imag(array))]


def _mapping(value: Any) -> dict[str, Any]:
    """The entries of a mapping, a dataclass, or of pairs."""
    if isinstance(value, Mapping | tuple):
        return dict(value)
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}


def _attribute(value: Any) -> Any:
    """A setting as a number, a text, or a list of them."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    if isinstance(value, str | int | float | list):
        return value
    return list(value) if isinstance(value, tuple) else str(value)
