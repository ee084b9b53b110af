"""Classes and functions by name: which a saved model may mention, and none besides.

Functions are those of an allow-list. Classes are Equinox modules of Equinox and of this
package, looked up in modules that are there already. Nothing is imported and nothing
is called on a file's word.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import equinox as eqx
import jax.lax
import jax.nn
import jax.numpy
import jax.scipy.special

from .._core import Result
from ._mean_field import linear_unit, tanh_unit

# Functions of arrays, all but a few elementwise: what activations, fields and losses
# are made of. None reads or writes, calls what it is given, or asks for more memory
# than its arguments take.
_JAX = {
    jax.numpy: "abs absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh "
    "cbrt ceil clip cos cosh divide exp exp2 expm1 floor hypot log log10 log1p log2 "
    "logaddexp maximum minimum multiply negative positive power reciprocal round sign "
    "sin sinc sinh sqrt square subtract tan tanh true_divide where",
    jax.nn: "celu elu gelu hard_sigmoid hard_silu hard_swish hard_tanh identity "
    "leaky_relu log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_sign "
    "softmax softplus sparse_plus sparse_sigmoid squareplus standardize swish tanh",
    jax.lax: "abs acos acosh add asin asinh atan atan2 atanh cbrt ceil cos cosh "
    "digamma div erf erf_inv erfc exp exp2 expm1 floor lgamma log log1p logistic max "
    "min mul neg pow rem rsqrt sign sin sinh sqrt square stop_gradient sub tan tanh",
    jax.scipy.special: "digamma entr erf erfc erfinv expit gammaln i0 i0e i1 i1e "
    "log_ndtr logit ndtr ndtri xlog1py xlogy",
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module, names in _JAX.items()
    for name in names.split()
}
"""The functions that any file may name; those of models here are the units of networks
in the limit of many."""
FUNCTIONS |= {f"hybrid_nds.models.{f.__name__}": f for f in (linear_unit, tanh_unit)}
# Where the classes are that any file may name.
_CLASSES = ("equinox.nn", "hybrid_nds")


class Names:
    """The names that one file may use.

    **Arguments:** `trust`: classes, functions and modules beside those of the
    allow-list, Equinox and this package; a mapping gives names that files know them by.
    `mentioned`: what `like` has, by name.

    **Raises:** `TypeError` for anything else in `trust`.
    """

    def __init__(self, trust: Any, mentioned: Mapping[str, Any]):
        self._known: dict[str, Any] = {**FUNCTIONS, **mentioned}
        self._modules: list[str] = []
        if not isinstance(trust, Mapping):
            values = trust if isinstance(trust, Iterable) else (trust,)
            trust = [(None, value) for value in values]
        else:
            trust = list(trust.items())
        for name, value in trust:
            if isinstance(value, types.ModuleType) and name is None:
                self._modules.append(value.__name__)
            elif callable(value) and (name or name_of(value)):
                self._known[name or name_of(value)] = value
            else:
                raise TypeError(
                    "load: `trust` must hold modules, and classes and functions that a "
                    "module has by name, or map names to classes and functions; got "
                    f"{value!r}."
                )

    def module_class(self, name: str, where: str) -> type[eqx.Module]:
        """The class of that name, a concrete kind of Equinox module."""
        found = self._find(name, where, "class", (*self._modules, *_CLASSES))
        what = "no Equinox module"
        if isinstance(found, type) and issubclass(found, eqx.Module):
            what = "abstract"
            if issubclass(found, Result):
                what = "a result and no model"
            elif not inspect.isabstract(found):
                return found
        raise ValueError(
            f"load: {where} is said to be of class {name!r}, which is {what} here."
        )

    def function(self, name: str, where: str) -> Callable[..., Any]:
        """The function of that name."""
        return self._find(name, where, "function", self._modules)

    def _find(self, name: str, where: str, kind: str, roots: Iterable[str]) -> Any:
        if name in self._known:
            return self._known[name]
        module, found = _looked_up(name)
        # Not what a module has merely imported from elsewhere.
        home = str(getattr(found, "__module__", ""))
        if callable(found) and any(
            _within(module, root) and _within(home, root) for root in roots
        ):
            return found
        raise ValueError(
            f"load: {where} is of the {kind} {name!r}, which is unknown. If the file "
            "is from where you trust, import it and pass it: "
            f"trust=[{name.rpartition('.')[2]}], or trust={{{name!r}: …}} if it has "
            "another name now."
        )


def name_of(value: Any) -> str:
    """The name of a class or function: that of the outermost module that has it.

    Empty for what has no name, such as a lambda or what is made within a function.
    """
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(name, str) or "<" in name:
        return ""
    for known, function in FUNCTIONS.items():
        if function is value:
            return known
    parts = str(getattr(value, "__module__", "")).split(".")
    for k in range(1, len(parts) + 1):
        module = ".".join(parts[:k])
        if _attribute(sys.modules.get(module), name) is value:
            return f"{module}.{name}"
    return ""


def _looked_up(name: str) -> tuple[str, Any]:
    """The module, of those that are there, and what it has of that name."""
    parts = name.split(".")
    for k in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:k])
        if module in sys.modules:
            return module, _attribute(sys.modules[module], ".".join(parts[k:]))
    return "", None


def _attribute(module: Any, path: str) -> Any:
    found = module
    for part in path.split("."):
        # Straight from the dictionary: no `__getattr__` that might import.
        held = vars(found) if isinstance(found, type | types.ModuleType) else {}
        found = held.get(part)
        if found is None or isinstance(found, types.ModuleType):
            return None
    return found


def _within(module: str, root: str) -> bool:
    return module == root or module.startswith(root + ".")
