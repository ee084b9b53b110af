"""The structure of a model as plain data, and back.

Every node is a JSON value: `null`, a boolean, an integer, a text and a finite number
stand for themselves; anything else is an object with one key that says what it is.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._core import is_concrete
from ._saving_names import Names, name_of

# What safetensors keeps as it is; other types travel as the integers of their bits.
_KEPT = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
}
_BITS = {"bfloat16": "uint16", "complex64": "uint64", "complex128": "float64"}
_DTYPES: dict[str, Any] = {
    **{name: np.dtype(name) for name in (*_KEPT, "complex64", "complex128")},
    "bfloat16": np.dtype(jnp.bfloat16),
}


class Encoder:
    """Takes a model apart into nodes and arrays."""

    def __init__(self, owner: str):
        self._owner = owner
        self.arrays: dict[str, np.ndarray] = {}

    def node(self, value: Any, where: str) -> Any:
        """The node of a value at a place such as `.network.layers[0]`."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"number": repr(value)}
        if type(value) is complex:
            return {"complex": [self.node(x, where) for x in (value.real, value.imag)]}
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            return self._array(value, where)
        if isinstance(value, np.dtype):
            return {"dtype": self._dtype(value, where)}
        if isinstance(value, type) and issubclass(value, np.generic):
            return {"type": self._dtype(np.dtype(value), where)}
        if isinstance(value, tuple | list) and type(value) in (tuple, list):
            nodes = [self.node(x, f"{where}[{k}]") for k, x in enumerate(value)]
            return {type(value).__name__: nodes}
        if type(value) is dict:
            return {
                "dict": [
                    [self.node(k, where), self.node(x, f"{where}[{k!r}]")]
                    for k, x in value.items()
                ]
            }
        if isinstance(value, eqx.Module):
            return self._module(value, where)
        if type(value) is functools.partial:
            return {
                "partial": self.node(value.func, f"{where}.func"),
                "arguments": self.node(value.args, f"{where}.args"),
                "keywords": self.node(value.keywords, f"{where}.keywords"),
            }
        if callable(value) and name_of(value):
            return {"function": name_of(value)}
        what = "a function without a name of its own" if callable(value) else "a value"
        raise TypeError(
            f"{self._owner}: `model{where}` is {what} that cannot be saved, {value!r}. "
            "A model is saved by structure: arrays, numbers, texts, tuples, lists, "
            "dictionaries, Equinox modules, and functions that a module has by name. "
            "Define the function at the top of a module, or keep it out of the model."
        )

    def _module(self, module: eqx.Module, where: str) -> Any:
        kind = type(module)
        name = name_of(kind)
        if not name:
            raise TypeError(
                f"{self._owner}: `model{where}` is of class {kind.__qualname__}, which "
                "no module has by that name: it was made within a function, or "
                "replaced. Define the class at the top of a module."
            )
        fields = {}
        for field in dataclasses.fields(kind):
            if not hasattr(module, field.name):
                continue
            value = getattr(module, field.name)
            nameless = callable(value) and not isinstance(value, eqx.Module)
            nameless = nameless and not name_of(value)
            if nameless and value is _default(kind, field.name):
                # Such as the identity of `equinox.nn.MLP`, a lambda.
                fields[field.name] = {"default": field.name}
            else:
                fields[field.name] = self.node(value, f"{where}.{field.name}")
        return {"class": name, "fields": fields}

    def _array(self, value: Any, where: str) -> Any:
        if not is_concrete(value):
            raise TypeError(
                f"{self._owner}: `model{where}` is traced; save outside of jax.jit, "
                "jax.vmap and jax.grad."
            )
        node: dict[str, Any] = {"array": where.lstrip(".") or "model"}
        if isinstance(value, jax.Array) and jnp.issubdtype(
            value.dtype, jax.dtypes.prng_key
        ):
            node["random_key"] = str(jr.key_impl(value))
            value = jr.key_data(value)
        elif isinstance(value, jax.Array):
            if value.weak_type:
                node["weak"] = True
        else:
            node["numpy"] = "scalar" if isinstance(value, np.generic) else "array"
        # Not `ascontiguousarray`, which gives a scalar an axis.
        array = np.array(value, order="C")
        node |= {"dtype": self._dtype(array.dtype, where), "shape": list(array.shape)}
        self.arrays[node["array"]] = as_stored(array)
        return node

    def _dtype(self, dtype: Any, where: str) -> str:
        if dtype.name not in _DTYPES or not dtype.isnative:
            raise TypeError(
                f"{self._owner}: `model{where}` has dtype {dtype}, which cannot be "
                f"saved; use one of {', '.join(sorted(_DTYPES))}."
            )
        return dtype.name


class Decoder:
    """Puts a model together from nodes and arrays.

    **Arguments:** the arrays as stored; the names that may be used.
    """

    def __init__(self, owner: str, arrays: Mapping[str, np.ndarray], names: Names):
        self._owner, self._arrays, self._names = owner, arrays, names
        self._used: set[str] = set()

    def model(self, node: Any) -> Any:
        """The model, once all its arrays are known to be there."""
        wanted = {one["array"]: one for one in array_nodes(node)}
        missing = sorted(wanted.keys() - self._arrays.keys())
        extra = sorted(self._arrays.keys() - wanted.keys())
        for names, what in ((missing, "lacks arrays"), (extra, "has extra arrays")):
            if names:
                raise ValueError(
                    f"{self._owner}: the file {what} of its own model: "
                    f"{', '.join(names[:8])}{', …' if len(names) > 8 else ''}. It is "
                    "damaged, or was changed by other hands."
                )
        return self._value(node, "")

    def _value(self, node: Any, where: str) -> Any:
        if node is None or isinstance(node, bool | int | float | str):
            return node
        match node:
            case {"number": "inf" | "-inf" | "nan" as text}:
                return float(text)
            case {"complex": [real, imaginary]}:
                return complex(self._value(real, where), self._value(imaginary, where))
            case {"array": str()}:
                return self._array(node, where)
            case {"dtype": str(name)} if name in _DTYPES:
                return _DTYPES[name]
            case {"type": str(name)} if name in _DTYPES:
                return _DTYPES[name].type
            case {"tuple": list(nodes)}:
                return tuple(self._each(nodes, where))
            case {"list": list(nodes)}:
                return self._each(nodes, where)
            case {"dict": list(pairs)}:
                return {
                    self._value(key, where): self._value(x, f"{where}[{key!r}]")
                    for key, x in pairs
                }
            case {"partial": inner, "arguments": arguments, "keywords": keywords}:
                function = self._value(inner, f"{where}.func")
                if not callable(function):
                    raise self._damaged(where)
                return functools.partial(
                    function,
                    *self._value(arguments, f"{where}.args"),
                    **self._value(keywords, f"{where}.keywords"),
                )
            case {"function": str(name)}:
                return self._names.function(name, f"`model{where}`")
            case {"class": str(name), "fields": dict(fields)}:
                return self._module(name, fields, where)
        raise self._damaged(where)

    def _each(self, nodes: list[Any], where: str) -> list[Any]:
        return [self._value(x, f"{where}[{k}]") for k, x in enumerate(nodes)]

    def _module(self, name: str, fields: dict[str, Any], where: str) -> eqx.Module:
        kind = self._names.module_class(name, f"`model{where}`")
        known = {field.name for field in dataclasses.fields(kind)}
        required = {
            field.name
            for field in dataclasses.fields(kind)
            if field.init
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        }
        for names, what in (
            (sorted(fields.keys() - known), "which the class has not"),
            (sorted(required - fields.keys()), "which the file lacks"),
        ):
            if names:
                raise ValueError(
                    f"{self._owner}: `model{where}` is of class {name}, with fields "
                    f"{', '.join(names)}, {what}: the class has changed since the "
                    "model was saved."
                )
        made = object.__new__(kind)
        for field, node in fields.items():
            if isinstance(node, dict) and node.keys() == {"default"}:
                value = _default(kind, field)
                if not callable(value):
                    raise self._damaged(f"{where}.{field}")
            else:
                value = self._value(node, f"{where}.{field}")
            object.__setattr__(made, field, value)
        return made

    def _array(self, node: dict[str, Any], where: str) -> Any:
        stored, dtype = self._arrays[node["array"]], node.get("dtype")
        shape = tuple(node.get("shape", ()))
        if dtype not in _DTYPES:
            raise self._damaged(where)
        array = as_given(stored, _DTYPES[dtype])
        if array is None or array.shape != shape:
            raise ValueError(
                f"{self._owner}: `model{where}` must be an array of shape {shape} and "
                f"dtype {dtype}, but the file holds one of shape {stored.shape} and "
                f"dtype {stored.dtype}. It is damaged, or was changed by other hands."
            )
        if "numpy" in node:
            return array[()] if node["numpy"] == "scalar" else array
        if "random_key" in node:
            return jr.wrap_key_data(jnp.asarray(array), impl=node["random_key"])
        # JAX warns of what it would cut, beside cutting it.
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise ValueError(
                f"{self._owner}: `model{where}` is {dtype}, but JAX runs in 32 bits "
                'and would cut it. Call jax.config.update("jax_enable_x64", True) at '
                "the start of the program, or load within "
                "hybrid_nds.double_precision()."
            )
        return _weak(array) if node.get("weak") else jnp.asarray(array)

    def _damaged(self, where: str) -> ValueError:
        return ValueError(
            f"{self._owner}: the file's description of `model{where}` makes no sense; "
            "it is damaged, or was changed by other hands."
        )


def as_stored(array: np.ndarray) -> np.ndarray:
    """An array of a type that safetensors has, of the same bits."""
    bits = _BITS.get(array.dtype.name)
    return array if bits is None else array[..., None].view(bits)


def as_given(stored: np.ndarray, dtype: Any) -> np.ndarray | None:
    """The array of a type that was stored, `None` where the types do not fit."""
    bits = _BITS.get(dtype.name)
    if bits is None:
        return stored if stored.dtype == dtype else None
    width = dtype.itemsize // np.dtype(bits).itemsize
    if stored.dtype != bits or stored.shape[-1:] != (width,):
        return None
    return stored.view(dtype)[..., 0]


def array_nodes(node: Any) -> list[dict[str, Any]]:
    """Every node of an array."""
    if isinstance(node, dict):
        own = [node] if isinstance(node.get("array"), str) else []
        return own + [one for x in node.values() for one in array_nodes(x)]
    if isinstance(node, list):
        return [one for x in node for one in array_nodes(x)]
    return []


def _weak(array: np.ndarray) -> jax.Array:
    """An array whose type yields to others in arithmetic, as it was."""
    made = jnp.asarray(array)
    if array.ndim == 0:
        weak = jnp.asarray(array.item())
        return weak if weak.dtype == made.dtype else made
    # Of Python numbers alone come such arrays.
    zero = jnp.asarray(array.dtype.type(0).item())
    if zero.dtype != made.dtype or not array.size:
        return made
    parts = [jnp.asarray(x) for x in array.ravel().tolist()]
    return jnp.stack(parts).reshape(array.shape)


def _default(kind: type, name: str) -> Any:
    """The default of the argument of a class that has a field's name."""
    found = inspect.signature(kind.__init__).parameters.get(name)
    default = inspect.Parameter.empty if found is None else found.default
    return None if default is inspect.Parameter.empty else default
