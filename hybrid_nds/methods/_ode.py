"""The methods for ordinary differential equations.

A row is one method. Where the two stacks hold the same Butcher tableau under two
names (Dopri5 and DP5), it is one row with an alias, and either name works on either
backend. Where they hold different coefficients under one name, the row is no twin and
its note says what differs. The coefficients of both stacks were compared one by one.
"""

from __future__ import annotations

from typing import Any

from . import _faults as known
from ._method import BOTH, Method

_WITHOUT_ESTIMATE = ("Euler", "ImplicitMidpoint")


def _method(name, order, diffrax, julia, package, **columns: Any) -> Method:
    columns.setdefault("twin", diffrax is not None and julia is not None)
    return Method(
        name=name,
        kind="ode",
        order=order,
        diffrax=diffrax,
        julia=julia,
        julia_package=package,
        adaptive=() if name in _WITHOUT_ESTIMATE else BOTH,
        derivatives=package in _DIFFERENTIATED,
        **columns,
    )


def _explicit(name, order, diffrax, julia, package, *aliases, **columns: Any) -> Method:
    return _method(name, order, diffrax, julia, package, aliases=aliases, **columns)


def _implicit(
    name, order, diffrax, julia, package, *, mass=False, note="", **columns: Any
) -> Method:
    return _method(
        name,
        order,
        diffrax,
        julia,
        package,
        implicit=True,
        newton=package in (_BDF, _FIRK, _SDIRK),
        matrix_free=package != _FIRK,
        component_tolerances=package != _FIRK,
        twin=diffrax is not None and julia is not None and not note,
        mass_matrix=mass,
        note=note,
        **columns,
    )


_LOW = "OrdinaryDiffEqLowOrderRK"
_HIGH = "OrdinaryDiffEqHighOrderRK"
_VERNER = "OrdinaryDiffEqVerner"
_TSIT = "OrdinaryDiffEqTsit5"
_ROSENBROCK = "OrdinaryDiffEqRosenbrock"
_BDF = "OrdinaryDiffEqBDF"
_SDIRK = "OrdinaryDiffEqSDIRK"
_FIRK = "OrdinaryDiffEqFIRK"
_STABILIZED = "OrdinaryDiffEqStabilizedRK"

# Methods of one step and one tableau: not of several steps, and not where the number of
# stages follows from the field.
_DIFFERENTIATED = (_LOW, _HIGH, _VERNER, _TSIT, _ROSENBROCK, _SDIRK, _FIRK)

ODE_METHODS: tuple[Method, ...] = (
    # Diffrax has no method that switches by stiffness: its default is Tsit5.
    Method(
        name="default",
        kind="ode",
        implicit=True,
        adaptive=BOTH,
        diffrax="Tsit5",
        julia="DefaultODEAlgorithm",
        julia_package="OrdinaryDiffEqDefault",
        aliases=("auto", "DefaultODEAlgorithm"),
        mass_matrix=True,
        matrix_free=True,
    ),
    _explicit("Euler", 1, "Euler", "Euler", _LOW),
    _explicit("Heun", 2, "Heun", "Heun", _LOW),
    _explicit("Midpoint", 2, "Midpoint", "Midpoint", _LOW),
    _explicit("Ralston", 2, "Ralston", "Ralston", _LOW),
    _explicit("Bosh3", 3, "Bosh3", "BS3", _LOW, "BS3"),
    _explicit("RK4", 4, None, "RK4", _LOW),
    _explicit("Dopri5", 5, "Dopri5", "DP5", _LOW, "DP5"),
    _explicit("Tsit5", 5, "Tsit5", "Tsit5", _TSIT),
    # Prince and Dormand's 8(7) pair of 13 stages, and Hairer's 8(5,3) pair of 12: both
    # of order eight, and not the same method.
    _explicit(
        "Dopri8",
        8,
        "Dopri8",
        None,
        None,
        coarse_output=("diffrax",),
        faults=(known.COARSE_OUTPUT_DIFFRAX,),
    ),
    _explicit(
        "DP8",
        8,
        None,
        "DP8",
        _HIGH,
        coarse_output=("julia",),
        faults=(known.COARSE_OUTPUT_JULIA,),
    ),
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
    _implicit(
        "TRBDF2",
        2,
        None,
        "TRBDF2",
        _SDIRK,
        mass=True,
        faults=(known.SMOOTHED_ESTIMATE,),
    ),
    *(
        _implicit(
            name,
            order,
            name,
            name,
            _SDIRK,
            mass=True,
            faults=(known.CHORD_STALLS, known.IMEX_PRECISION, known.SMOOTHED_ESTIMATE),
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
        coarse_output=BOTH,
        note="one coefficient (a76) differs by 2e-12: its published denominator "
        "ends in 749, Diffrax's in 719",
        faults=(
            known.CHORD_STALLS,
            known.IMEX_PRECISION,
            known.KENCARP5_COEFFICIENT,
            known.SMOOTHED_ESTIMATE,
            known.COARSE_OUTPUT_DIFFRAX,
            known.COARSE_EVENTS,
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
        faults=(known.CHORD, known.SMOOTHED_ESTIMATE, known.STAGE_TIME),
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
        faults=(known.CHORD, known.SMOOTHED_ESTIMATE, known.STAGE_TIME),
    ),
    _implicit(
        "Kvaerno5",
        5,
        "Kvaerno5",
        "Kvaerno5",
        _SDIRK,
        mass=True,
        coarse_output=BOTH,
        faults=(
            known.CHORD,
            known.SMOOTHED_ESTIMATE,
            known.COARSE_OUTPUT_DIFFRAX,
            known.COARSE_OUTPUT_JULIA,
            known.STAGE_TIME,
            known.FALSE_SUCCESS,
        ),
    ),
    _implicit(
        "Rosenbrock23",
        2,
        None,
        "Rosenbrock23",
        _ROSENBROCK,
        mass=True,
        diagonal_mass=True,
    ),
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
        coarse_output=("julia",),
        faults=(
            known.COARSE_OUTPUT_JULIA,
            known.ALGEBRAIC_RESIDUAL,
            known.TIME_DEPENDENT_CONSTRAINTS,
            known.SCALAR_TOLERANCE,
        ),
    ),
    _implicit("FBDF", None, None, "FBDF", _BDF, mass=True),
    _implicit("QNDF", None, None, "QNDF", _BDF, mass=True),
)
