"""Which method an equation gets: what suits it, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..problems import Kind
from ._faults import Stack
from ._method import Method
from ._table import suitable

STIFF_SOLVERS: Mapping[Stack, str] = MappingProxyType(
    {"diffrax": "Kvaerno5", "julia": "Rodas5P"}
)
"""The method for stiff ordinary equations, by stack."""

PRECISE_SOLVERS: Mapping[Stack, str] = MappingProxyType(
    {"diffrax": "Dopri8", "julia": "Vern9"}
)
"""The method for tight tolerances, of order eight and more, by stack."""


def check_suits(method: Method, kind: Kind, stack: Stack) -> None:
    """Refuse a method that does not take equations of a kind, or that would converge to
    the other interpretation.

    **Raises:** `ValueError` with the methods that suit, or the conversion that helps.
    """
    reason = method.suits(kind, stack)
    if reason is None:
        return
    able = ", ".join(one.name for one in suitable(kind, stack))
    if "interpretation" in reason:
        other = "stratonovich" if kind.interpretation == "ito" else "ito"
        raise ValueError(
            f"solve: {method.name} {reason}, and `problem` has "
            f"interpretation={kind.interpretation!r}. Solve "
            f"hybrid_nds.to_{other}(problem), which has the same solution, or take one "
            f"of {able}."
        )
    made = (
        "; make the problem by hybrid_nds.underdamped_langevin, or take one of "
        if "Langevin" in reason
        else f"; on the {stack} backend these do: "
    )
    raise ValueError(f"solve: {method.name} {reason}{made}{able}.")


def default_method(kind: Kind, stack: Stack, *, adaptive: bool) -> Method:
    """The method of a solve that names none, of a stochastic equation.

    **Arguments:** the kind of the equation; the stack; whether the solve holds
    tolerances.

    **Returns:** that with the alias `"default"`, else in fixed steps SRA1 for additive
    noise, Euler for an Itô and Heun for a Stratonovich equation, which are twins on the
    two stacks; with tolerances a method of the stack that estimates its error.

    **Raises:** `ValueError` where the stack has none.
    """
    able = {
        name: one
        for one in suitable(kind, stack, adaptive=adaptive)
        for name in (one.name, *one.aliases)
    }
    if adaptive:
        order = ("SRA1", "SOSRI", "RKMil", "SPaRK", "LambaEM", "LambaEulerHeun")
    else:
        order = ("SRA1", "Euler", "Heun")
    for name in ("default", *order):
        if name in able:
            return able[name]
    other = "stratonovich" if kind.interpretation == "ito" else "ito"
    raise ValueError(
        f"solve: no solver of the {stack} backend controls its error on an equation in "
        f"the {kind.interpretation!r} interpretation; pass `dt` alone for fixed "
        f"steps, or solve hybrid_nds.to_{other}(problem), which has the same solution."
    )
