"""Classes and functions by name: which a saved model may mention, and none besides.

A name is looked up in modules that are there already, the models of this package among
them. Nothing is imported and nothing is called on a file's word.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

# Imported to be there when a name is looked up.
import diffrax  # noqa: F401
import equinox as eqx
import jax
import jax.nn
import jax.numpy
import jax.scipy.special

# Where functions of fields come from; the first that has a function names it.
_FUNCTIONS = (
    "jax.numpy",
    "jax.nn",
    "jax.lax",
    "jax.scipy.special",
    "equinox.nn",
    "hybrid_nds.models",
)
# Modules of these packages may be named: to make one, no code of it runs.
_CLASSES = ("equinox", "diffrax", "hybrid_nds")
# What reads or writes files has no place in a field, wherever it lives.
_REFUSED = frozenset({"fromfile", "load", "save", "savez"})


class Names:
    """The names that one file may use.

    **Arguments:** `trust`: classes, functions and modules beside those of JAX, Equinox,
    Diffrax and this package; a mapping gives names that files know them by. `like`: a
    model whose classes and functions are trusted.

    **Raises:** `TypeError` for anything else in `trust`.
    """

    def __init__(self, owner: str, trust: Any = (), like: Any = None):
        self._owner = owner
        self._known: dict[str, Any] = {}
        self._modules: list[str] = []
        if isinstance(trust, Mapping):
            for name, value in trust.items():
                self._add(value, name)
        else:
            for value in trust if isinstance(trust, Iterable) else (trust,):
                self._add(value)
        for value in _mentioned(like):
            self._known.setdefault(name_of(value), value)

    def _add(self, value: Any, name: str | None = None) -> None:
        if isinstance(value, types.ModuleType) and name is None:
            self._modules.append(value.__name__)
        elif callable(value) and (name or name_of(value)):
            self._known[name or name_of(value)] = value
        else:
            raise TypeError(
                f"{self._owner}: `trust` must hold modules, and classes and functions "
                "that a module has by name, or map names to classes and functions; got "
                f"{value!r}."
            )

    def module_class(self, name: str, where: str) -> type:
        """The class of that name, a kind of Equinox module."""
        found = self._find(name, where, "class")
        if not (isinstance(found, type) and issubclass(found, eqx.Module)):
            raise ValueError(
                f"{self._owner}: {where} is said to be of class {name!r}, which is no "
                "Equinox module here."
            )
        if inspect.isabstract(found):
            raise ValueError(
                f"{self._owner}: {where} is said to be of class {name!r}, which is "
                "abstract here."
            )
        return found

    def function(self, name: str, where: str) -> Any:
        """The function of that name."""
        found = self._find(name, where, "function")
        if not callable(found):
            raise ValueError(
                f"{self._owner}: {where} is said to be the function {name!r}, which "
                "cannot be called here."
            )
        return found

    def _find(self, name: str, where: str, kind: str) -> Any:
        if name in self._known:
            return self._known[name]
        module, found = _looked_up(name)
        if module is None or not self._allowed(module, found, kind):
            raise ValueError(
                f"{self._owner}: {where} is of the {kind} {name!r}, which is unknown. "
                "If the file is from where you trust, import it and pass it: "
                f"trust=[{name.rpartition('.')[2]}], or trust={{{name!r}: …}} if it "
                "has another name now."
            )
        return found

    def _allowed(self, module: str, found: Any, kind: str) -> bool:
        # Not what a module has merely imported from elsewhere.
        home = getattr(found, "__module__", None) or module
        if any(_within(module, one) and _within(home, one) for one in self._modules):
            return True
        if kind == "class":
            roots = [root for root in _CLASSES if _within(module, root)]
            return bool(roots) and isinstance(found, type) and _within(home, roots[0])
        inside = any(_within(module, one) for one in _FUNCTIONS)
        name = getattr(found, "__name__", "")
        own = home.partition(".")[0] == module.partition(".")[0]
        return inside and own and name not in _REFUSED


def name_of(value: Any) -> str:
    """The name of a class or function: that of the outermost module that has it.

    Empty for what has no name, such as a lambda or what is made within a function.
    """
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(name, str) or "<" in name:
        return ""
    home = getattr(value, "__module__", None) or ""
    if not isinstance(value, type):
        for module in _FUNCTIONS:
            if getattr(sys.modules.get(module), name, None) is value:
                return f"{module}.{name}"
    parts = home.split(".")
    for k in range(1, len(parts) + 1):
        module = ".".join(parts[:k])
        if _attribute(sys.modules.get(module), name) is value:
            return f"{module}.{name}"
    return ""


def _mentioned(tree: Any) -> list[Any]:
    """Every class and function in a model."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, eqx.Module):
            found.append(type(node))
            for value in vars(node).values():
                visit(value)
        elif isinstance(node, tuple | list):
            for value in node:
                visit(value)
        elif isinstance(node, Mapping):
            for value in node.values():
                visit(value)
        elif hasattr(node, "func") and hasattr(node, "keywords"):
            visit(node.func)
        elif callable(node) and not isinstance(node, jax.Array) and name_of(node):
            found.append(node)

    visit(tree)
    return found


def _looked_up(name: str) -> tuple[str | None, Any]:
    """The module, of those that are there, and what it has of that name."""
    parts = name.split(".")
    for k in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:k])
        if module in sys.modules:
            found = _attribute(sys.modules[module], ".".join(parts[k:]))
            return (None, None) if found is None else (module, found)
    return None, None


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
