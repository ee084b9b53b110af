"""What is stored with a Julia session: compiled functions and prepared problems."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import jax.tree_util as jtu

from ..._core import LRU, is_concrete
from ...problems import Event, Problem, entries_of
from ...runtime import Reference, Session
from ._fields import FunctionCache
from ._prepared import Approach, PreparedProblem
from ._shared import SharedSolve
from ._structure import structure_key

T = TypeVar("T")

# A prepared problem holds Julia's copy of its state and parameters, little more.
_KEPT_PROBLEMS = 128
_KEPT_ALGORITHMS = 256


class Context:
    """Every function compiled in a Julia session, and every problem prepared there, of
    which the ones that were used longest ago are let go."""

    def __init__(self):
        self.functions = FunctionCache()
        self.algorithms: LRU[Reference] = LRU(_KEPT_ALGORITHMS)
        self.models: LRU[Reference] = LRU(_KEPT_PROBLEMS)
        self.stochastic_version: str | None = None
        self._by_structure: LRU[PreparedProblem] = LRU(_KEPT_PROBLEMS)
        self._shared: LRU[SharedSolve] = LRU(_KEPT_PROBLEMS)
        self._by_identity: dict[Any, tuple[Any, list[Any], Any]] = {}

    def prepared(
        self,
        session: Session,
        problem: Problem,
        events: tuple[Any, ...],
        approach: Approach,
    ) -> Any:
        """The prepared form of a problem.

        The same problem object is recognized without looking at its structure, unless a
        container within it was changed in place. Each thread has its own: one solve at
        a time can be in a prepared problem's memory.
        """
        thread = threading.get_ident()

        def find() -> PreparedProblem:
            structure = structure_of(problem, events, approach)
            key = None if structure is None else (structure, thread)
            make = lambda: PreparedProblem(
                session, self.functions, problem, events, approach
            )
            return self._by_structure.get(key, make)

        return self._found(problem, events, (approach, thread), find)

    def shared(
        self,
        problem: Problem,
        events: tuple[Any, ...],
        settings: Any,
        structure: Callable[[], Any],
        make: Callable[[], SharedSolve],
    ) -> SharedSolve:
        """The solve of a problem that all threads share.

        **Arguments:** the problem and its events; what else decides the solve, to be
        hashed; what makes the key of their structure, and what makes the solve.
        """

        def find() -> SharedSolve:
            key = structure()
            return self._shared.get(None if key is None else (key, settings), make)

        if not all(is_concrete(leaf) for leaf in jtu.tree_leaves((problem, events))):
            # A traced problem will not come again, and must not be stored.
            return find()
        return self._found(problem, events, settings, find)

    def _found(
        self,
        problem: Problem,
        events: tuple[Any, ...],
        settings: Any,
        find: Callable[[], T],
    ) -> T:
        """What was prepared for a problem object and the same leaves before."""
        leaves = jtu.tree_leaves((problem, events))
        near = (id(problem), tuple(map(id, events)), settings)
        known = self._by_identity.get(near)
        if known is not None and _same(known[1], leaves):
            return known[2]
        made = find()
        # The list keeps the leaves alive, so that their identities stay theirs; the
        # events are stored with it. When the problem goes, so does the entry.
        if known is None:
            weakref.finalize(problem, self._by_identity.pop, near, None)
        self._by_identity[near] = (events, leaves, made)
        if len(self._by_identity) > _KEPT_PROBLEMS:
            with contextlib.suppress(KeyError, RuntimeError, StopIteration):
                # Another thread may be doing the same.
                self._by_identity.pop(next(iter(self._by_identity)))
        return made


def context_of(session: Session) -> Context:
    """What is stored with a Julia session."""
    return session.context(Context)


def _same(known: list[Any], leaves: list[Any]) -> bool:
    return len(known) == len(leaves) and all(
        a is b for a, b in zip(known, leaves, strict=True)
    )


def structure_of(problem: Problem, events: tuple[Any, ...], approach: Approach) -> Any:
    """What decides how a problem is prepared; `None` where it cannot be hashed."""
    conditions = tuple(e if isinstance(e, Event) else type(e) for e in events)
    key = structure_key((problem.y0, problem.functions, problem.args, conditions))
    if key is None:
        return None
    mass = getattr(problem, "mass_matrix", None)
    return (
        key,
        problem.kind,
        tuple(term.columns for term in problem.terms),
        None if mass is None else tuple(x.tobytes() for x in entries_of(mass)),
        approach,
    )
