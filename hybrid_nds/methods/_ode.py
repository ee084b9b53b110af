"""The solvers both stacks know: one table of names.

A row is one method. Where the two stacks hold the same Butcher tableau under two
names (Dopri5 and DP5), it is one row with an alias, and either name works on either
backend. Where they hold different coefficients under one name, the row is no twin and
its note says what differs. The coefficients of both stacks were compared one by one.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from . import _faults as known
from ._faults import SolverFault, Stack as Stack


@dataclasses.dataclass(frozen=True)
class SolverInfo:
    """One method.

    **Fields:**

    - `name`: its name here; names are matched without regard to case.
    - `order`: its order of convergence; `None` for variable order and for
        automatic choice.
    - `implicit`: whether it solves equations, so that it can take stiff problems.
    - `embedded`: whether it estimates its error, so that it can adapt its steps.
    - `diffrax`: the class in Diffrax, `None` if there is none.
    - `julia`: the constructor in Julia, `None` if there is none.
    - `julia_package`: the Julia package that exports it.
    - `aliases`: other names for the same method.
    - `twin`: whether both stacks hold the same tableau, so that fixed steps agree to
        round-off (implicit ones: to the tolerance of the stage equations).
    - `mass_matrix`: whether Julia's takes a mass matrix, singular ones included.
    - `note`: what to know before comparing the two stacks' results.
    - `faults`: what it is known to get wrong in one stack, and what is done about it.
    """

    name: str
    order: int | None
    implicit: bool
    embedded: bool
    diffrax: str | None
    julia: str | None
    julia_package: str | None
    aliases: tuple[str, ...] = ()
    twin: bool = False
    mass_matrix: bool = False
    note: str = ""
    faults: tuple[SolverFault, ...] = ()

    def on(self, stack: Stack) -> str | None:
        """Its name in one stack, `None` if that stack lacks it."""
        return self.diffrax if stack == "diffrax" else self.julia


_WITHOUT_ESTIMATE = ("Euler", "ImplicitMidpoint")


def _explicit(name, order, diffrax, julia, package, *aliases, faults=()):
    return SolverInfo(
        name=name,
        order=order,
        implicit=False,
        embedded=name not in _WITHOUT_ESTIMATE,
        diffrax=diffrax,
        julia=julia,
        julia_package=package,
        aliases=aliases,
        twin=diffrax is not None and julia is not None,
        faults=faults,
    )


def _implicit(name, order, diffrax, julia, package, *, mass=False, note="", faults=()):
    return SolverInfo(
        name=name,
        order=order,
        implicit=True,
        embedded=name not in _WITHOUT_ESTIMATE,
        diffrax=diffrax,
        julia=julia,
        julia_package=package,
        twin=diffrax is not None and julia is not None and not note,
        mass_matrix=mass,
        note=note,
        faults=faults,
    )


_LOW = "OrdinaryDiffEqLowOrderRK"
_HIGH = "OrdinaryDiffEqHighOrderRK"
_VERNER = "OrdinaryDiffEqVerner"
_ROSENBROCK = "OrdinaryDiffEqRosenbrock"
_BDF = "OrdinaryDiffEqBDF"
_SDIRK = "OrdinaryDiffEqSDIRK"
_FIRK = "OrdinaryDiffEqFIRK"
_STABILIZED = "OrdinaryDiffEqStabilizedRK"

SOLVERS: tuple[SolverInfo, ...] = (
    # Diffrax has no method that switches by stiffness: its default is Tsit5.
    SolverInfo(
        name="default",
        order=None,
        implicit=True,
        embedded=True,
        diffrax="Tsit5",
        julia="DefaultODEAlgorithm",
        julia_package="OrdinaryDiffEqDefault",
        aliases=("auto", "DefaultODEAlgorithm"),
        mass_matrix=True,
    ),
    _explicit("Euler", 1, "Euler", "Euler", _LOW),
    _explicit("Heun", 2, "Heun", "Heun", _LOW),
    _explicit("Midpoint", 2, "Midpoint", "Midpoint", _LOW),
    _explicit("Ralston", 2, "Ralston", "Ralston", _LOW),
    _explicit("Bosh3", 3, "Bosh3", "BS3", _LOW, "BS3"),
    _explicit("RK4", 4, None, "RK4", _LOW),
    _explicit("Dopri5", 5, "Dopri5", "DP5", _LOW, "DP5"),
    _explicit("Tsit5", 5, "Tsit5", "Tsit5", "OrdinaryDiffEqTsit5"),
    # Prince and Dormand's 8(7) pair of 13 stages, and Hairer's 8(5,3) pair of 12: both
    # of order eight, and not the same method.
    _explicit("Dopri8", 8, "Dopri8", None, None, faults=(known.COARSE_OUTPUT_DIFFRAX,)),
    _explicit("DP8", 8, None, "DP8", _HIGH, faults=(known.COARSE_OUTPUT_JULIA,)),
    _explicit("Vern6", 6, None, "Vern6", _VERNER),
    _explicit("Vern7", 7, None, "Vern7", _VERNER),
    _explicit("Vern8", 8, None, "Vern8", _VERNER),
    _explicit("Vern9", 9, None, "Vern9", _VERNER),
    _explicit("ROCK2", 2, None, "ROCK2", _STABILIZED),
    _explicit("ROCK4", 4, None, "ROCK4", _STABILIZED),
    _explicit("ReversibleHeun", 2, "ReversibleHeun", None, None),
    _implicit(
        "ImplicitEuler",
        1,
        "ImplicitEuler",
        "ImplicitEuler",
        _SDIRK,
        mass=True,
        faults=(known.CHORD,),
    ),
    _implicit("ImplicitMidpoint", 2, None, "ImplicitMidpoint", _SDIRK),
    _implicit("Trapezoid", 2, None, "Trapezoid", _SDIRK, mass=True),
    _implicit("TRBDF2", 2, None, "TRBDF2", _SDIRK, mass=True),
    *(
        _implicit(
            name,
            order,
            name,
            name,
            _SDIRK,
            mass=True,
            faults=(known.CHORD_STALLS, known.IMEX_PRECISION),
        )
        for name, order in (("KenCarp3", 3), ("KenCarp4", 4))
    ),
    _implicit(
        "KenCarp5",
        5,
        "KenCarp5",
        "KenCarp5",
        _SDIRK,
        mass=True,
        note="one coefficient (a76) differs by 2e-12: its published denominator "
        "ends in 749, Diffrax's in 719",
        faults=(
            known.CHORD_STALLS,
            known.IMEX_PRECISION,
            known.KENCARP5_COEFFICIENT,
            known.COARSE_OUTPUT_DIFFRAX,
            known.COARSE_OUTPUT_JULIA,
        ),
    ),
    _implicit(
        "Kvaerno3",
        3,
        "Kvaerno3",
        "Kvaerno3",
        _SDIRK,
        mass=True,
        faults=(known.CHORD, known.STAGE_TIME),
    ),
    _implicit(
        "Kvaerno4",
        4,
        "Kvaerno4",
        "Kvaerno4",
        _SDIRK,
        mass=True,
        note="two members of one family: the diagonal is 0.5728 in Diffrax and "
        "0.4359 in Julia",
        faults=(known.CHORD, known.STAGE_TIME),
    ),
    _implicit(
        "Kvaerno5",
        5,
        "Kvaerno5",
        "Kvaerno5",
        _SDIRK,
        mass=True,
        faults=(
            known.CHORD,
            known.COARSE_OUTPUT_DIFFRAX,
            known.COARSE_OUTPUT_JULIA,
            known.STAGE_TIME,
            known.FALSE_SUCCESS,
        ),
    ),
    _implicit("Rosenbrock23", 2, None, "Rosenbrock23", _ROSENBROCK, mass=True),
    _implicit("Rodas4", 4, None, "Rodas4", _ROSENBROCK, mass=True),
    _implicit("Rodas5P", 5, None, "Rodas5P", _ROSENBROCK, mass=True),
    _implicit(
        "RadauIIA3",
        3,
        None,
        "RadauIIA3",
        _FIRK,
        mass=True,
        faults=(known.SCALAR_TOLERANCE,),
    ),
    _implicit(
        "RadauIIA5",
        5,
        None,
        "RadauIIA5",
        _FIRK,
        mass=True,
        faults=(
            known.COARSE_OUTPUT_JULIA,
            known.TIME_DEPENDENT_CONSTRAINTS,
            known.SCALAR_TOLERANCE,
        ),
    ),
    _implicit("FBDF", None, None, "FBDF", _BDF, mass=True),
    _implicit("QNDF", None, None, "QNDF", _BDF, mass=True),
)


def _key(name: str) -> str:
    return name.casefold()


_BY_NAME: dict[str, SolverInfo] = {
    _key(name): info for info in SOLVERS for name in (info.name, *info.aliases)
}


def solver_names(stack: Stack) -> tuple[str, ...]:
    """The solvers one stack has, aliases included.

    **Arguments:** `stack`, `"diffrax"` or `"julia"`.

    **Returns:** the names `solver=` takes there, in alphabetical order.
    """
    names = {
        name
        for info in SOLVERS
        if info.on(stack) is not None
        for name in (info.name, *info.aliases)
    }
    return tuple(sorted(names, key=_key))


def find_solver(solver: Any, stack: Stack) -> SolverInfo:
    """The method a name stands for, on one stack.

    **Arguments:**

    - `solver`: a name; `None` for the stack's default; or a Diffrax solver, which
        stands for the method of its class's name.
    - `stack`: `"diffrax"` or `"julia"`.

    **Returns:** a [`SolverInfo`][hybrid_nds.SolverInfo] that this stack has.

    **Raises:** `ValueError` for a name that does not exist, listing those of the
    stack, and for a method that only the other stack has, saying so.
    """
    if solver is None:
        name = "default"
    elif isinstance(solver, str):
        name = solver
    else:
        name = type(solver).__name__
    info = _BY_NAME.get(_key(name))
    if info is not None and info.on(stack) is not None:
        return info
    listing = ", ".join(solver_names(stack))
    if info is None:
        raise ValueError(
            f"solve: `solver` must be one that the {stack} backend has, got {name!r}. "
            f"It has: {listing}."
        )
    other = "julia" if stack == "diffrax" else "diffrax"
    raise ValueError(
        f"solve: the solver {info.name!r} exists only on the {other} backend; "
        f'pass backend="{other}", or one that the {stack} backend has: {listing}.'
    )
