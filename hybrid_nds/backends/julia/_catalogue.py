"""Algorithms of Julia's packages beside those of the table, for ordinary equations.

What a row of the table says of a method is here what SciML's traits say of it.
"""

from __future__ import annotations

import re
from typing import Any

from ... import runtime
from ..._core import LRU
from ...methods import Method
from ...problems import KindName

# A package and an algorithm of it: names in Julia, and nothing else.
_NAME = re.compile(r"[A-Za-z]\w*\.[A-Za-z]\w*", re.ASCII)
_NAMED: LRU[Method] = LRU(256)
# With the object itself, so that no other can have its address.
_MADE: LRU[tuple[Any, runtime.Reference, Method]] = LRU(64)


def catalogued(solver: Any, kind: KindName) -> Method:
    """The row of an algorithm by the name of its package and its own, or of an object
    that was made in Julia.

    **Raises:** `ValueError` for a name that Julia's environment does not have, or for a
    stochastic problem; `TypeError` for an object that is no algorithm.
    """
    if kind != "ode":
        raise ValueError(
            "solve: for a stochastic problem `solver` must be one of the table, got "
            f"{solver!r}: whether another one follows a stated path is not among the "
            "traits that it declares. See hybrid_nds.solver_names."
        )
    session = runtime.session()
    if isinstance(solver, str):
        return _NAMED.get(solver, lambda: _named(session, solver))
    return _MADE.get(id(solver), lambda: _made(session, solver))[2]


def installed() -> tuple[str, ...]:
    """The names of the algorithms in the packages that Julia has loaded, sorted."""
    return tuple(runtime.session().bridge.text("catalogue").splitlines())


def _named(session: runtime.Session, name: str) -> Method:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "solve: `solver` must be a name of the table, or that of a Julia package "
            "and of an algorithm in it with a dot between, as "
            f"'OrdinaryDiffEqRosenbrock.Rodas6P', got {name!r}."
        )
    try:
        instance = session.bridge.make("catalogued", name)
    except runtime.JuliaExecutionError as error:
        raise ValueError(f"solve: `solver` {name!r}: {error}") from error
    return _row(session, instance, name, name)


def _made(
    session: runtime.Session, algorithm: Any
) -> tuple[Any, runtime.Reference, Method]:
    number = int(session.module.refer_b(algorithm))
    instance = session.bridge.adopt(number)
    try:
        name = session.bridge.text("algorithm_name", instance)
        row = _row(session, instance, name, f"#{number}")
    except runtime.JuliaExecutionError as error:
        raise TypeError(f"solve: `solver`: {error}") from error
    return algorithm, instance, row


def _row(
    session: runtime.Session, algorithm: runtime.Reference, name: str, constructor: str
) -> Method:
    traits = session.bridge.text("capabilities", algorithm).split()
    order = [float(trait[6:]) for trait in traits if trait.startswith("order=")]
    return Method(
        name,
        "ode",
        julia=constructor,
        julia_package=name.partition(".")[0] if "." in name else None,
        order=order[0] if order else None,
        implicit="implicit" in traits,
        newton="newton" in traits,
        adaptive=("julia",) if "adaptive" in traits else (),
        # Where it takes none, Julia says so.
        mass_matrix=True,
        derivatives="derivative" in traits,
    )
