"""Prepared problems, found again by the problem itself or by its structure."""

from __future__ import annotations

import collections
import weakref
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ...problems import Event, ODEProblem
from ...runtime import Session
from ._fields import FunctionCache
from ._prepared import Approach, PreparedProblem

# A prepared problem holds Julia's copy of its state and parameters, little more.
_KEPT_PROBLEMS = 128


class PreparedCache:
    """Prepared problems, of which the oldest unused are let go."""

    def __init__(self):
        self._functions = FunctionCache()
        self._by_structure: collections.OrderedDict[Any, PreparedProblem] = (
            collections.OrderedDict()
        )
        self._by_identity: collections.OrderedDict[
            Any, tuple[Any, list[Any], PreparedProblem]
        ] = collections.OrderedDict()

    def get(
        self,
        session: Session,
        problem: ODEProblem,
        events: tuple[Any, ...],
        approach: Approach,
    ) -> PreparedProblem:
        """The prepared form of a problem.

        The same problem object is found without looking at its structure, unless a
        container within it was changed in place.
        """
        leaves = jtu.tree_leaves((problem, events))
        near = (id(problem), tuple(map(id, events)), approach)
        known = self._by_identity.get(near)
        if known is not None and _same(known[1], leaves):
            return known[2]
        prepared = self._by_structure_or_new(session, problem, events, approach)
        # The list keeps the leaves alive, so that their identities stay theirs; the
        # events are kept with it. When the problem goes, so does the entry.
        kept = (events, leaves, prepared)
        if known is None:
            weakref.finalize(problem, self._by_identity.pop, near, None)
        self._by_identity[near] = kept
        if len(self._by_identity) > _KEPT_PROBLEMS:
            self._by_identity.popitem(last=False)
        return prepared

    def _by_structure_or_new(
        self,
        session: Session,
        problem: ODEProblem,
        events: tuple[Any, ...],
        approach: Approach,
    ) -> PreparedProblem:
        mass = problem.mass_matrix
        trees = (problem.y0, problem.field, problem.args)
        conditions = tuple(e if isinstance(e, Event) else type(e) for e in events)
        key = structure_key((trees, conditions))
        if key is None:
            return PreparedProblem(session, self._functions, problem, events, approach)
        key = (key, None if mass is None else np.asarray(mass).tobytes(), approach)
        if key not in self._by_structure:
            made = PreparedProblem(session, self._functions, problem, events, approach)
            self._by_structure[key] = made
            if len(self._by_structure) > _KEPT_PROBLEMS:
                self._by_structure.popitem(last=False)
        self._by_structure.move_to_end(key)
        return self._by_structure[key]


def _same(known: list[Any], leaves: list[Any]) -> bool:
    return len(known) == len(leaves) and all(
        a is b for a, b in zip(known, leaves, strict=True)
    )


def structure_key(tree: PyTree) -> Any:
    """What of a pytree decides its lowered source: all but the values of its arrays.

    **Returns:** a hashable key, or `None` where some static part cannot be hashed.
    """
    leaves, treedef = jtu.tree_flatten(tree)
    parts = []
    for leaf in leaves:
        if eqx.is_inexact_array(leaf):
            parts.append((leaf.shape, np.dtype(leaf.dtype).str))
        elif isinstance(leaf, np.ndarray | jax.Array):
            # Integer arrays are compiled in.
            array = np.asarray(leaf)
            parts.append((array.shape, array.dtype.str, array.tobytes()))
        elif isinstance(leaf, float):
            # By representation: 0.0 equals -0.0, and NaN does not equal itself.
            parts.append((float, leaf.hex()))
        else:
            parts.append((type(leaf), leaf))
    key = (treedef, tuple(parts))
    try:
        hash(key)
    except TypeError:
        return None
    return key
