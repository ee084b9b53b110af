"""Solves that are done again: the same problem object, with the same options.

To check the options of a small solve takes longer than to solve it. What was checked
once holds for as long as nothing has changed that a check looks at: arrays of JAX
cannot change, containers and arrays of NumPy can.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np

from ..backends import Plan
from ..problems import Problem

# Sets of options for which a problem is remembered, and the longest array among them.
_MOST_OPTIONS = 8
_LONGEST = 10_000
_NUMBERS = (bool, float, int, str, type(None))


@dataclasses.dataclass(frozen=True, eq=False)
class _Repeat:
    """One solve: its options, the values that can be looked at but not compared, and
    the leaves of these and of the problem."""

    given: tuple[Any, ...]
    double: bool
    modules: tuple[Any, ...]
    leaves: list[Any]
    plan: Plan


class Repeats:
    """The solves of problems that are still there, for any thread."""

    def __init__(self):
        self._known: dict[int, tuple[_Repeat, ...]] = {}

    def find(self, problem: Any, given: tuple[Any, ...]) -> Plan | None:
        """The solve of a problem with these options, `None` where none is known.

        **Arguments:** the problem, and the options as the user gave them, in order.
        """
        for known in self._known.get(id(problem), ()):
            if (
                len(given) == len(known.given)
                and all(map(_same, known.given, given))
                and known.double == jax.config.jax_enable_x64  # pyright: ignore
            ):
                leaves = jtu.tree_leaves((problem, known.modules))
                if len(leaves) == len(known.leaves) and all(
                    map(_is, leaves, known.leaves)
                ):
                    return known.plan
        return None

    def keep(self, problem: Problem, given: tuple[Any, ...], plan: Plan) -> None:
        """Remember a solve, where nothing that it depends on can change unseen."""
        modules: list[Any] = []
        try:
            frozen = tuple(_frozen(value, modules) for value in given)
        except _CanChange:
            return
        leaves = jtu.tree_leaves((problem, modules))
        if any(isinstance(leaf, np.ndarray) for leaf in leaves):
            return
        double = bool(jax.config.jax_enable_x64)  # pyright: ignore
        repeat = _Repeat(frozen, double, tuple(modules), leaves, plan)
        identity, known = id(problem), self._known.get(id(problem))
        if known is None:
            # With the problem goes what is known of it: its number is another's then.
            weakref.finalize(problem, self._known.pop, identity, None)
        self._known[identity] = (repeat, *(known or ()))[:_MOST_OPTIONS]


class _CanChange(Exception):
    """A value may be another one the next time and look the same."""


def _frozen(value: Any, modules: list[Any]) -> Any:
    """A value to compare later ones with; modules are gathered beside."""
    if isinstance(value, (*_NUMBERS, np.generic, jax.Array)):
        return value
    if type(value) in (tuple, list):
        return type(value)(_frozen(one, modules) for one in value)
    if (
        type(value) is np.ndarray
        and value.size <= _LONGEST
        and value.dtype.kind in "fiu"
    ):
        return value.copy()
    if isinstance(value, eqx.Module):
        modules.append(value)
        return value
    raise _CanChange


def _same(known: Any, value: Any) -> bool:
    kind = type(known)
    if kind is tuple or kind is list:
        return (
            type(value) is kind
            and len(known) == len(value)
            and all(map(_same, known, value))
        )
    if kind is np.ndarray:
        return (
            type(value) is kind
            and known.dtype == value.dtype
            and known.shape == value.shape
            and known.tobytes() == value.tobytes()
        )
    # By type, too: 1 equals True, and 0.1 the nearest number of single precision.
    return known is value or (
        kind in _NUMBERS and type(value) is kind and known == value
    )


def _is(a: Any, b: Any) -> bool:
    return a is b
