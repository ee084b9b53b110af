"""The solver stacks: the two of this package, and those that other packages install."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any

from ..problems import KindName
from ._faults import Stack
from ._method import BOTH, Method

GROUP = "hybrid_nds.backends"
"""The entry points under which other packages register their backends."""


Catalogue = Callable[[Any, KindName], Method]
"""What finds the row of a method that no table has, by a name with a dot or by an
object of the stack's own."""
_CATALOGUES: dict[Stack, Catalogue] = {}


def register_catalogue(stack: Stack, catalogue: Catalogue) -> None:
    """Have a stack's own catalogue looked at beside the table."""
    _CATALOGUES[stack] = catalogue


def catalogue_of(stack: Stack, solver: Any) -> Catalogue | None:
    """The catalogue that a solver is looked up in, `None` where it is the table."""
    dotted = isinstance(solver, str) and "." in solver
    foreign = type(solver).__module__.split(".")[0] == "juliacall"
    return _CATALOGUES.get(stack) if dotted or foreign else None


def stack_names() -> tuple[str, ...]:
    """The names that `backend=` takes."""
    return (*BOTH, *_points())


@functools.cache
def installed_stack(name: str) -> Any:
    """The backend that another package registered under a name, made once.

    **Raises:** `TypeError` for one that does not have that name, or no methods.
    """
    made = _points()[name].load()()
    if getattr(made, "name", None) != name or not hasattr(made, "methods"):
        raise TypeError(
            f"the entry point {name!r} of the group {GROUP!r} must be the class of a "
            f"backend with `name` {name!r} and its `methods`, got {made!r}."
        )
    return made


@functools.cache
def _points() -> Mapping[str, importlib.metadata.EntryPoint]:
    found = importlib.metadata.entry_points(group=GROUP)
    return {point.name: point for point in found if point.name not in BOTH}
