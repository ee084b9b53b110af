"""The one table of methods: every solver, by the kind of equation and by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._core import check_choice
from ..problems import Kind, KindName
from ._faults import Stack
from ._method import BOTH, Method
from ._ode import ODE_METHODS
from ._sde import SDE_METHODS
from ._stacks import catalogue_of, installed_stack, stack_names

METHODS: tuple[Method, ...] = (*ODE_METHODS, *SDE_METHODS)


def _by_name(methods: Iterable[Method]) -> dict[tuple[str, str], Method]:
    return {
        (one.kind, name.casefold()): one
        for one in methods
        for name in (one.name, *one.aliases)
    }


_BY_NAME = _by_name(METHODS)


def _methods(stack: Stack) -> tuple[Method, ...]:
    """The rows among which one stack finds its methods.

    **Raises:** `ValueError` for a stack that there is not.
    """
    if stack in BOTH:
        return METHODS
    check_choice("solve", "backend", stack, stack_names())
    return tuple(installed_stack(stack).methods)


def solver_names(stack: Stack, kind: KindName = "ode") -> tuple[str, ...]:
    """The solvers one stack has, aliases included.

    **Arguments:** `stack`, its name, as `backend=` takes it; `kind` of equation,
    `"ode"` or `"sde"`.

    **Returns:** the names `solver=` takes there, in alphabetical order.
    """
    names = {
        name
        for one in _methods(stack)
        if one.kind == kind and one.on(stack) is not None
        for name in (one.name, *one.aliases)
    }
    return tuple(sorted(names, key=str.casefold))


def find_solver(solver: Any, stack: Stack, kind: KindName = "ode") -> Method:
    """The method a name stands for, on one stack.

    **Arguments:**

    - `solver`: a name; `None` for the one that the stack names `"default"`; or a
        Diffrax solver, which stands for the method of its class's name. On Julia also
        that of an algorithm of an installed package, with the package's before it, or
        one that was made in Julia; both start Julia.
    - `stack`: its name, as `backend=` takes it.
    - `kind`: of equation, `"ode"` or `"sde"`.

    **Returns:** a [`Method`][hybrid_nds.Method] that this stack has.

    **Raises:** `ValueError` for a name that does not exist, listing those of the
    stack, and for a method that only the other stack has, saying so.
    """
    catalogue = catalogue_of(stack, solver)
    if catalogue is not None:
        return catalogue(solver, kind)
    if solver is None:
        name = "default"
    else:
        name = solver if isinstance(solver, str) else type(solver).__name__
    table = _BY_NAME if stack in BOTH else _by_name(_methods(stack))
    found = table.get((kind, name.casefold()))
    if found is not None and found.on(stack) is not None:
        return found
    listing = ", ".join(solver_names(stack, kind))
    if found is None:
        of = " for stochastic problems" if kind == "sde" else ""
        raise ValueError(
            f"solve: `solver` must be one{of} that the {stack} backend has, got "
            f"{name!r}. It has: {listing}."
        )
    other = "julia" if stack == "diffrax" else "diffrax"
    raise ValueError(
        f"solve: the solver {found.name!r} exists only on the {other} backend; "
        f'pass backend="{other}", or one that the {stack} backend has: {listing}.'
    )


def suitable(kind: Kind, stack: Stack, *, adaptive: bool = False) -> tuple[Method, ...]:
    """The methods of one stack for a kind of equation.

    **Arguments:** the kind; the stack; whether to keep only methods that estimate
    their error there.

    **Returns:** rows of the table, in its order.
    """
    return tuple(
        one
        for one in _methods(stack)
        if one.suits(kind, stack) is None and (stack in one.adaptive or not adaptive)
    )
