"""The methods for stochastic differential equations.

A row is one method, as in [`SolverInfo`][hybrid_nds.SolverInfo]. Where both
stacks give one name to two schemes, the row is no twin and its note says what differs.
The steps of both stacks were compared line by line; orders are those the stacks'
authors state, and for additive noise those of the scheme's own expansion.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..problems import Interpretation, NoiseKind
from . import _faults as known
from ._method import BOTH, Method

_ITO: tuple[Interpretation, ...] = ("ito",)
_STRATONOVICH: tuple[Interpretation, ...] = ("stratonovich",)
_BOTH: tuple[Interpretation, ...] = ("ito", "stratonovich")


def _orders(
    additive: float,
    diagonal: float | None = None,
    commutative: float | None = None,
    general: float | None = None,
) -> Mapping[NoiseKind, float]:
    """Strong orders by kind of noise; `diagonal` stands for scalar noise too."""
    given: dict[NoiseKind, float | None] = {
        "additive": additive,
        "scalar": diagonal,
        "diagonal": diagonal,
        "commutative": commutative,
        "general": general,
    }
    return MappingProxyType({k: v for k, v in given.items() if v is not None})


# Methods whose steps are Runge–Kutta ones along the path: not those that draw numbers
# of their own, nor stabilized ones, whose number of stages follows from the field.
_DIFFERENTIATED = (
    *("EM", "EulerHeun", "LambaEM", "RKMil", "RKMilCommute", "SRA1", "SOSRA", "SRIW1"),
    *("ImplicitEM", "STrapezoid", "ISSEM", "ImplicitEulerHeun", "ISSEulerHeun"),
    "ImplicitRKMil",
)

_HALF = _orders(1.0, 0.5, 0.5, 0.5)
_MILSTEIN = _orders(1.0, 1.0, 1.0, 0.5)
# The difference quotient is off by √h g''g²/2, which half of dW² does not average away.
_BIASED = "for Stratonovich's equations of strong order 1/2"


def _method(
    name: str,
    interpretations: tuple[Interpretation, ...],
    strong: Mapping[NoiseKind, float],
    weak: float,
    **columns: Any,
) -> Method:
    columns.setdefault("noise", tuple(strong))
    return Method(
        name=name,
        kind="sde",
        interpretations=interpretations,
        strong_order=strong,
        order=weak,
        newton=columns.get("implicit", False),
        derivatives=columns.get("julia") in _DIFFERENTIATED,
        scalar_as_matrix=known.SCALAR_NOISE in columns.get("faults", ()),
        **columns,
    )


def _diffrax(name: str, *columns: Any, **more: Any) -> Method:
    if more.pop("embedded", False):
        more["adaptive"] = ("diffrax",)
    return _method(name, *columns, diffrax=name, **more)


def _julia(name: str, *columns: Any, **more: Any) -> Method:
    if more.pop("embedded", False):
        more["adaptive"] = ("julia",)
    return _method(name, *columns, julia=name, **more)


SDE_METHODS: tuple[Method, ...] = (
    _method(
        "Euler",
        _ITO,
        _HALF,
        1.0,
        diffrax="Euler",
        julia="EM",
        twin=True,
        aliases=("EM", "EulerMaruyama"),
        note="in Julia EM(false); its default, EM(true), takes the diffusion after the "
        "drift's step, another scheme",
        faults=(known.SPLIT_EULER,),
    ),
    _method(
        "Heun",
        _STRATONOVICH,
        _MILSTEIN,
        1.0,
        diffrax="Heun",
        julia="EulerHeun",
        adaptive=("diffrax",),
        twin=True,
        note="Julia calls it EulerHeun",
    ),
    _method(
        "EulerHeun",
        _STRATONOVICH,
        _MILSTEIN,
        1.0,
        diffrax="EulerHeun",
        julia="EulerHeun",
        note="one name for two schemes: Diffrax's predictor leaves the drift out, and "
        "its corrector takes the drift once; Julia's is Heun's method, whose twin is "
        "Diffrax's Heun",
    ),
    _method(
        "SRA1",
        _BOTH,
        _orders(1.5),
        2.0,
        diffrax="SRA1",
        julia="SRA1",
        levy_area="space-time",
        adaptive=BOTH,
        twin=True,
        note="twins where the diffusion does not depend on time: in the second stage "
        "Diffrax takes it at the start of the step, Julia at its end",
    ),
    *(
        _diffrax(
            name,
            interpretations,
            _orders(1.0, 1.0, 1.0),
            1.0,
            note="with exact derivatives of the diffusion, where Julia's RKMil and "
            "RKMilCommute take differences",
            faults=faults,
        )
        for name, interpretations, faults in (
            ("ItoMilstein", _ITO, (known.MILSTEIN_PYTREES, known.MILSTEIN_PRECISION)),
            ("StratonovichMilstein", _STRATONOVICH, ()),
        )
    ),
    _diffrax("Midpoint", _STRATONOVICH, _MILSTEIN, 1.0, embedded=True),
    _diffrax("Ralston", _STRATONOVICH, _MILSTEIN, 1.0, embedded=True),
    # Kidger et al. (2021) prove order 1/2, and 1 for additive noise; where the noise
    # commutes, its expansion gives 1, and that is what it shows.
    _diffrax("ReversibleHeun", _STRATONOVICH, _MILSTEIN, 1.0, embedded=True),
    _diffrax(
        "ShARK",
        _BOTH,
        _orders(1.5),
        2.0,
        levy_area="space-time",
        embedded=True,
        note="near SRA1, with other nodes",
    ),
    _diffrax("SEA", _BOTH, _orders(1.0), 1.0, levy_area="space-time"),
    *(
        _diffrax(
            name,
            _STRATONOVICH,
            _orders(1.5, commuting, commuting, 0.5),
            1.0,
            levy_area="space-time",
            embedded=name == "SPaRK",
        )
        for name, commuting in (("SPaRK", 1.0), ("GeneralShARK", 1.0), ("SlowRK", 1.5))
    ),
    _diffrax(
        "ALIGN",
        _BOTH,
        _orders(2.0),
        2.0,
        levy_area="space-time",
        langevin=True,
        embedded=True,
    ),
    _diffrax(
        "ShOULD", _BOTH, _orders(3.0), 3.0, levy_area="space-time-time", langevin=True
    ),
    _diffrax(
        "QUICSORT", _BOTH, _orders(3.0), 3.0, levy_area="space-time-time", langevin=True
    ),
    _julia("LambaEM", _ITO, _HALF, 1.0, embedded=True),
    _julia("LambaEulerHeun", _STRATONOVICH, _MILSTEIN, 1.0, embedded=True),
    *(
        _julia(
            name,
            _BOTH,
            orders,
            1.0,
            embedded=True,
            matrix_noise="commutative" in orders,
            note="takes differences where Diffrax's Milstein methods take derivatives; "
            + _BIASED,
            faults=(known.BIASED_DIFFERENCES,),
        )
        for name, orders in (
            ("RKMil", _orders(1.0, 1.0)),
            ("RKMilCommute", _orders(1.0, 1.0, 1.0)),
        )
    ),
    _julia(
        "RKMilGeneral",
        _BOTH,
        _orders(1.0, 1.0, 1.0, 1.0),
        1.0,
        embedded=True,
        samples_area=True,
        note="samples the Lévy area between the components of matrix noise; " + _BIASED,
        faults=(known.BIASED_DIFFERENCES, known.AREA_DRAWN_ANEW),
    ),
    *(
        _julia(
            name,
            _ITO,
            _orders(1.5, 1.5),
            2.0,
            levy_area="space-time",
            embedded=True,
            matrix_noise=False,
        )
        for name in ("SRIW1", "SOSRI")
    ),
    _julia("SOSRA", _BOTH, _orders(1.5), 2.0, levy_area="space-time", embedded=True),
    _julia(
        "SKenCarp",
        _BOTH,
        _orders(1.5),
        2.0,
        levy_area="space-time",
        implicit=True,
        embedded=True,
        faults=(known.ESTIMATE_SHAPE,),
    ),
    *(
        _julia(
            name,
            interpretations,
            orders,
            1.0,
            implicit=True,
            embedded=True,
            theta=name != "STrapezoid",
            faults=faults,
        )
        for name, interpretations, orders, faults in (
            ("ImplicitEM", _ITO, _HALF, (known.ADAPTS_UNASKED,)),
            ("STrapezoid", _ITO, _HALF, ()),
            (
                "ISSEM",
                _ITO,
                _HALF,
                (known.ADAPTS_UNASKED, known.LOST_NOISE, known.SCALAR_NOISE),
            ),
            ("ImplicitEulerHeun", _STRATONOVICH, _MILSTEIN, (known.OUT_OF_PLACE,)),
            (
                "ISSEulerHeun",
                _STRATONOVICH,
                _MILSTEIN,
                (known.LESS_ACCURATE_IN_PLACE, known.SCALAR_NOISE),
            ),
        )
    ),
    _julia(
        "ImplicitRKMil",
        _BOTH,
        _orders(1.0, 1.0),
        1.0,
        implicit=True,
        theta=True,
        embedded=True,
        matrix_noise=False,
        note=_BIASED,
        faults=(known.BIASED_DIFFERENCES,),
    ),
    _julia(
        "SROCK1",
        _BOTH,
        _orders(1.0, 1.0, 0.5, 0.5),
        1.0,
        note="stabilized, for moderately stiff drift; for commutative noise in "
        "Stratonovich's interpretation of strong order 1",
    ),
    _julia(
        "SROCK2",
        _ITO,
        _orders(1.0, 1.0, 1.0, 0.5),
        2.0,
        samples_area=True,
        note="stabilized, for moderately stiff drift; draws signs of its own for "
        "matrix noise",
        faults=(known.SCALAR_NOISE,),
    ),
    *(
        _julia(
            name,
            _ITO,
            MappingProxyType({}),
            2.0,
            noise=tuple(_HALF),
            levy_area="space-time",
            embedded=name == "DRI1",
            samples_area=name == "PL1WM",
            note="turns increments into discrete random variables: converges in "
            f"distribution alone{extra}",
            faults=faults,
        )
        for name, extra, faults in (
            ("DRI1", "", (known.NO_ESTIMATE, known.SCALAR_NOISE)),
            (
                "PL1WM",
                "; for m Brownian motions of matrix noise it wants m(m-1)/2 more",
                (known.LOST_TERMS, known.SCALAR_NOISE),
            ),
        )
    ),
)
