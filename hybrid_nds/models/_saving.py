"""Models on disk: arrays and a description of structure, and no code.

Every node of a description is a JSON value: `null`, a boolean, an integer, a text and a
finite number stand for themselves; anything else is an object that says what it is.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import inspect
import json
import math
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from .._core import atomic_file, is_concrete
from ._saving_names import Names, name_of

_FORMAT = 2
_KEY = "hybrid_nds"
# What safetensors keeps as it is; other types travel as their bytes.
_KEPT = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
_DTYPES = {
    name: np.dtype(name)
    for name in [*_KEPT.split(), "bfloat16", "complex64", "complex128"]
}
_PARTIAL = ("func", "args", "keywords")
_DAMAGED = "It is damaged, or was changed by other hands."


def save(path: str | os.PathLike[str], model: PyTree) -> None:
    """Write a model to a file, without pickle.

    The file is of the [safetensors](https://github.com/huggingface/safetensors)
    format: the model's arrays bit for bit under the names of their places, such as
    `network.layers[0].weight`, and in the header a description of the structure as
    JSON: classes and functions by name, and whatever is no array. It appears under its
    name only when it is whole.

    **Arguments:**

    - `path`: of the file, by custom with the suffix `.safetensors`; a file that is
        there is replaced.
    - `model`: an Equinox module, or a pytree of modules, arrays, numbers and texts.

    **Raises:** `TypeError` for what has no name to be found by, such as a lambda or a
    class made within a function, or of another type than these, naming its place.
    """
    import safetensors.numpy

    encoder = _Encoder("save: `model")
    names = ("hybrid_nds", "equinox", "jax")
    description = {
        "format": _FORMAT,
        "versions": {name: importlib.metadata.version(name) for name in names},
        "model": encoder.node(model, ""),
    }
    text = json.dumps(description, allow_nan=False)
    data = safetensors.numpy.save(encoder.arrays, metadata={_KEY: text})
    with atomic_file(path) as file:
        file.write(data)


def load(
    path: str | os.PathLike[str], like: PyTree = None, *, trust: Any = ()
) -> PyTree:
    """Read a model that [`save`][hybrid_nds.save] wrote, bit for bit.

    Loading runs no code that the file names and imports nothing. Classes are looked up
    by name among the modules of Equinox and of this package, functions in a list of
    elementwise ones of JAX (`jax.numpy.tanh`, `jax.nn.relu` and their like), and both
    among those that are passed. Modules are filled with their fields; their `__init__`
    does not run.

    **Arguments:**

    - `path`: of the file.
    - `like`: a model of the same structure, or what `equinox.filter_eval_shape` makes
        of its constructor; arrays must have its shapes and dtypes, and everything else
        must be equal. Its classes and functions are trusted.
    - `trust`: classes, functions and modules beyond these that the file may name; or a
        mapping from names that are in the file, for what was moved since or was
        defined in a script: `{"__main__.Model": Model}`.

    **Returns:** the model.

    **Raises:** `FileNotFoundError`; `ValueError` for a file that is damaged, of a newer
    format, or not written by [`save`][hybrid_nds.save]; that names what is unknown;
    whose arrays are missing, left over or of another shape; that differs from `like`;
    or that holds 64-bit numbers while JAX runs in 32 bits.
    """
    mentioned = _Encoder("load: `like")
    if like is not None:
        mentioned.node(like, "")
    names = Names(trust, mentioned.names)
    description, arrays = _read(Path(path))
    decoder = _Decoder(arrays, names)
    try:
        model = decoder.value(description["model"], "")
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"load: the description in {path} makes no sense: {error!r}. {_DAMAGED}"
        ) from error
    if extra := sorted(arrays.keys() - decoder.used):
        raise ValueError(
            f"load: {path} has extra arrays beside those of its model: "
            f"{', '.join(extra[:8])}. {_DAMAGED}"
        )
    if like is not None:
        _compare(model, like, path)
    return model


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import safetensors

    if not path.is_file():
        raise FileNotFoundError(f"load: there is no file {path}.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            # Not a mapping, whatever it has.
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"load: {path} is no safetensors file, or damaged: {error}."
        ) from error
    if text is None:
        raise ValueError(
            f"load: {path} holds arrays, but was not written by hybrid_nds.save: it "
            "describes no model. Put the arrays into a model with equinox.tree_at."
        )
    try:
        description = json.loads(text)
        number, written = description["format"], description["versions"][_KEY]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"load: the description in {path} cannot be read: {error!r}."
        ) from error
    if number != _FORMAT:
        raise ValueError(
            f"load: {path} is of format {number!r}, written by hybrid_nds {written}; "
            f"this is hybrid_nds {importlib.metadata.version('hybrid_nds')}, which "
            f"reads format {_FORMAT}. Update hybrid_nds."
        )
    return description, arrays


def _compare(model: PyTree, like: PyTree, path: Any) -> None:
    """Refuse a model that differs from another in more than its numbers."""
    ours, theirs = (
        {jtu.keystr(at): _word(leaf) for at, leaf in jtu.tree_leaves_with_path(tree)}
        for tree in (model, like)
    )
    # What static fields hold is in the structure.
    ours["'s structure"], theirs["'s structure"] = map(
        jtu.tree_structure, (model, like)
    )
    for place in [*ours, *theirs]:
        found, expected = (x.get(place, "nothing") for x in (ours, theirs))
        if found != expected:
            raise ValueError(
                f"load: `model{place}` in {path} is {found}, but `like{place}` is "
                f"{expected}. Pass a model made as the saved one was, or none."
            )


def _word(leaf: Any) -> str:
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return f"an array of shape {leaf.shape} and dtype {leaf.dtype}"
    return name_of(leaf) or repr(leaf)


class _Encoder:
    """Takes a model apart into nodes, arrays, and classes and functions by name.

    **Arguments:** how errors begin, up to the name of the model.
    """

    def __init__(self, start: str):
        self._start = start
        self.arrays: dict[str, np.ndarray] = {}
        self.names: dict[str, Any] = {}

    def node(self, value: Any, where: str) -> Any:
        """The node of a value at a place such as `.network.layers[0]`."""
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"number": repr(value)}
        if kind is complex:
            return {"complex": [self.node(x, where) for x in (value.real, value.imag)]}
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            return self._array(value, where)
        if isinstance(value, jax.ShapeDtypeStruct):
            return None  # of a `like` that is a shape
        if isinstance(value, np.dtype):
            return {"dtype": self._dtype(value, where)}
        if isinstance(value, type) and issubclass(value, np.generic):
            return {"type": self._dtype(np.dtype(value), where)}
        if isinstance(value, tuple | list) and kind in (tuple, list):
            nodes = [self.node(x, f"{where}[{k}]") for k, x in enumerate(value)]
            return {kind.__name__: nodes}
        if isinstance(value, dict) and kind is dict:
            places = ((k, x, f"{where}[{k!r}]") for k, x in value.items())
            return {
                "dict": [[self.node(k, at), self.node(x, at)] for k, x, at in places]
            }
        if kind is functools.partial:
            parts = [self.node(getattr(value, x), f"{where}.{x}") for x in _PARTIAL]
            return {"partial": parts}
        if isinstance(value, eqx.Module):
            fields = {
                field.name: self._field(kind, field.name, value, where)
                for field in dataclasses.fields(kind)
                if hasattr(value, field.name)
            }
            return {"class": self._name(kind, where), "fields": fields}
        if callable(value):
            return {"function": self._name(value, where)}
        raise TypeError(
            f"{self._start}{where}` is a value that cannot be saved, {value!r}. A "
            "model is saved by structure: arrays, numbers, texts, tuples, lists, "
            "dictionaries, Equinox modules, and functions that a module has by name. "
            "Keep it out of the model."
        )

    def _field(self, kind: type, name: str, module: eqx.Module, where: str) -> Any:
        value = getattr(module, name)
        # Such as the identity of `equinox.nn.MLP`, a lambda.
        nameless = inspect.isfunction(value) and not name_of(value)
        if nameless and value is _default(kind, name):
            return {"default": name}
        return self.node(value, f"{where}.{name}")

    def _name(self, value: Any, where: str) -> str:
        name = name_of(value)
        if not name:
            what = "of class" if isinstance(value, type) else "a function"
            raise TypeError(
                f"{self._start}{where}` is {what} {value!r}, which cannot be saved: no "
                "module has it by name, as it was made within a function or replaced. "
                "Define it at the top of a module, or keep it out of the model."
            )
        self.names[name] = value
        return name

    def _array(self, value: Any, where: str) -> Any:
        if not is_concrete(value):
            raise TypeError(
                f"{self._start}{where}` is traced; save outside of jax.jit, jax.vmap "
                "and jax.grad."
            )
        node: dict[str, Any] = {"array": where.lstrip(".") or "model"}
        if not isinstance(value, jax.Array):
            node["numpy"] = "scalar" if isinstance(value, np.generic) else "array"
        elif jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            node["random_key"] = str(jr.key_impl(value))
            value = jr.key_data(value)
        elif value.weak_type:
            node["weak"] = True
        # Not `ascontiguousarray`, which gives a scalar an axis.
        array = np.array(value, order="C")
        name = self._dtype(array.dtype, where)
        kept = name in _KEPT.split()
        self.arrays[node["array"]] = array if kept else array[..., None].view(np.uint8)
        return node | {"dtype": name, "shape": array.shape}

    def _dtype(self, dtype: Any, where: str) -> str:
        if dtype.name not in _DTYPES or not dtype.isnative:
            raise TypeError(
                f"{self._start}{where}` has dtype {dtype}, which cannot be saved; use "
                f"one of {', '.join(_DTYPES)}."
            )
        return dtype.name


class _Decoder:
    """Puts a model together from nodes and arrays.

    **Arguments:** the arrays as stored; the names that may be used.
    """

    def __init__(self, arrays: dict[str, np.ndarray], names: Names):
        self._arrays, self._names = arrays, names
        self.used: set[str] = set()

    def value(self, node: Any, where: str) -> Any:
        """The value of a node at a place such as `.network.layers[0]`."""
        match node:
            case None | bool() | int() | float() | str():
                return node
            case {"number": "inf" | "-inf" | "nan" as text}:
                return float(text)
            case {"complex": [real, imaginary]}:
                return complex(self.value(real, where), self.value(imaginary, where))
            case {"array": str(name), "dtype": str(dtype), "shape": list(shape)}:
                return self._array(node, name, _DTYPES[dtype], tuple(shape), where)
            case {"dtype": str(name)}:
                return _DTYPES[name]
            case {"type": str(name)}:
                return _DTYPES[name].type
            case {"tuple": list(nodes)}:
                return tuple(self._each(nodes, where))
            case {"list": list(nodes)}:
                return self._each(nodes, where)
            case {"dict": list(pairs)}:
                both = (self._each(pair, f"{where}[{pair[0]!r}]") for pair in pairs)
                return dict(both)
            case {"partial": list(parts)}:
                function, args, keywords = (
                    self.value(x, f"{where}.{name}")
                    for x, name in zip(parts, _PARTIAL, strict=True)
                )
                return functools.partial(function, *args, **keywords)
            case {"function": str(name)}:
                return self._names.function(name, f"`model{where}`")
            case {"class": str(name), "fields": dict(fields)}:
                return self._module(name, fields, where)
        raise self._damaged(where)

    def _damaged(self, where: str) -> ValueError:
        return ValueError(
            f"load: the file's description of `model{where}` makes no sense. {_DAMAGED}"
        )

    def _each(self, nodes: list[Any], where: str) -> list[Any]:
        return [self.value(x, f"{where}[{k}]") for k, x in enumerate(nodes)]

    def _module(self, name: str, nodes: dict[str, Any], where: str) -> eqx.Module:
        kind = self._names.module_class(name, f"`model{where}`")
        fields = dataclasses.fields(kind)
        required = {f.name for f in fields if f.init and _without_default(f)}
        for names, what in (
            (nodes.keys() - {f.name for f in fields}, "which the class has not"),
            (required - nodes.keys(), "which the file lacks"),
        ):
            if names:
                raise ValueError(
                    f"load: `model{where}` is of class {name}, with fields "
                    f"{', '.join(sorted(names))}, {what}: the class has changed since "
                    "the model was saved."
                )
        made = object.__new__(kind)
        for field, node in nodes.items():
            place = f"{where}.{field}"
            if isinstance(node, dict) and node.keys() == {"default"}:
                value = _default(kind, field)
                if value is None:
                    raise self._damaged(place)
            else:
                value = self.value(node, place)
            object.__setattr__(made, field, value)
        return made

    def _array(
        self, node: dict[str, Any], name: str, dtype: Any, shape: Any, where: str
    ) -> Any:
        if name not in self._arrays:
            raise ValueError(
                f"load: the file lacks arrays of its model: {name}. {_DAMAGED}"
            )
        array = self._arrays[name]
        self.used.add(name)
        if dtype.name not in _KEPT.split() and array.dtype == np.uint8:
            array = array.view(dtype)[..., 0]
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"load: `model{where}` must be an array of shape {shape} and dtype "
                f"{dtype}, but the file holds one of shape {array.shape} and dtype "
                f"{array.dtype}. {_DAMAGED}"
            )
        if "numpy" in node:
            return array[()] if node["numpy"] == "scalar" else array
        # JAX warns of what it would cut, beside cutting it.
        if jax.dtypes.canonicalize_dtype(dtype) != dtype:
            raise ValueError(
                f"load: `model{where}` is {dtype}, but JAX runs in 32 bits and would "
                'cut it. Call jax.config.update("jax_enable_x64", True) at the start '
                "of the program, or load within hybrid_nds.double_precision()."
            )
        if "random_key" in node:
            return jr.wrap_key_data(jnp.asarray(array), impl=node["random_key"])
        return _weak(array) if node.get("weak") else jnp.asarray(array)


def _weak(array: np.ndarray) -> jax.Array:
    """An array whose type yields to others in arithmetic: one of Python numbers."""
    numbers = [jnp.asarray(x) for x in array.ravel().tolist()]
    made = jnp.stack(numbers).reshape(array.shape) if numbers else jnp.asarray(array)
    return made if made.dtype == array.dtype else jnp.asarray(array)


def _without_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _default(kind: type, name: str) -> Any:
    """The default of the argument of a class that has a field's name, a function."""
    found = inspect.signature(kind.__init__).parameters.get(name)
    return found.default if found and inspect.isfunction(found.default) else None
