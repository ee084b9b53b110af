"""The solver stacks: the two of this package, and those that other packages install."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from ._method import BOTH

GROUP = "hybrid_nds.backends"
"""The entry points under which other packages register their backends."""


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
