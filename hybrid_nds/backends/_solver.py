"""The solver of a solve: checked against the kind of the problem."""

from __future__ import annotations

from typing import Any

import diffrax

from ..methods import (
    Method,
    Stack,
    check_suits,
    default_method,
    find_solver,
    suitable,
)
from ..noise import LevyArea
from ..problems import Kind


def check_solver(
    solver: Any, kind: Kind, stack: Stack, adaptive: bool
) -> tuple[Any, LevyArea]:
    """The method in the table's spelling, or a Diffrax solver; its Lévy area."""
    if solver is None:
        info = default_method(kind, stack, adaptive=adaptive)
        return info.name, info.levy_area
    if isinstance(solver, str):
        info = find_solver(solver, stack, kind.name)
        check_suits(info, kind, stack)
        if adaptive and stack not in info.adaptive:
            able = suitable(kind, stack, adaptive=True)
            listing = ", ".join(one.name for one in able) or "none for this problem"
            raise ValueError(
                f"solve: {info.name} has no error estimate on the {stack} backend and "
                "cannot hold `rtol` and `atol`; pass `dt` alone for fixed steps, or "
                f"take one of {listing}."
            )
        return info.name, info.levy_area
    if stack == "diffrax" and isinstance(solver, diffrax.AbstractSolver):
        return solver, _check_diffrax_solver(solver, kind, adaptive)
    kinds = "a name or a Diffrax solver" if stack == "diffrax" else "a name"
    raise TypeError(
        f"solve: `solver` must be {kinds} for a stochastic problem, got "
        f"{type(solver).__name__}."
    )


def check_adapts(solver: Any, stack: Stack, kind: Kind) -> None:
    """Refuse a solver without an error estimate where the steps are to adapt."""
    if solver is not None and not isinstance(solver, str):
        return
    info = find_solver(solver, stack, kind.name)
    if not info.adaptive:
        raise ValueError(
            f"solve: {info.name} has no error estimate and cannot hold `rtol` and "
            "`atol`; pass `dt` alone for fixed steps, or take another solver."
        )


def _check_diffrax_solver(
    solver: diffrax.AbstractSolver, kind: Kind, adaptive: bool
) -> LevyArea:
    inner = solver
    while isinstance(inner, diffrax.HalfSolver):
        inner = inner.solver
    info = _row(inner)
    if info is not None:
        check_suits(info, kind, "diffrax")
        if adaptive and inner is solver and "diffrax" not in info.adaptive:
            raise ValueError(
                f"solve: {info.name} has no error estimate and cannot hold `rtol` and "
                "`atol`; pass `dt` alone for fixed steps, or wrap it in "
                "diffrax.HalfSolver."
            )
        return info.levy_area
    marked = {
        "ito": diffrax.AbstractItoSolver,
        "stratonovich": diffrax.AbstractStratonovichSolver,
    }
    other = "stratonovich" if kind.interpretation == "ito" else "ito"
    wrong = isinstance(inner, marked[other])
    if wrong and kind.noise != "additive":
        raise ValueError(
            f"solve: {type(inner).__name__} converges to the solution in the {other!r} "
            "interpretation, and `problem` has "
            f"interpretation={kind.interpretation!r}. Solve "
            f"hybrid_nds.to_{other}(problem), which has the same solution."
        )
    # Diffrax itself warns of solvers that it marks as neither.
    known: dict[Any, LevyArea] = {
        diffrax.AbstractSpaceTimeLevyArea: "space-time",
        diffrax.AbstractSpaceTimeTimeLevyArea: "space-time-time",
    }
    return known.get(getattr(inner, "minimal_levy_area", None), "none")


def _row(solver: diffrax.AbstractSolver) -> Method | None:
    name = type(solver).__name__
    try:
        info = find_solver(name, "diffrax", "sde")
    except ValueError:
        return None
    return info if info.diffrax == name else None
