"""The solvers of stochastic problems that both stacks know: one table of names.

A row is one method, as in [`SolverInfo`][hybrid_nds.SolverInfo]. Where both
stacks give one name to two schemes, the row is no twin and its note says what differs.
The steps of both stacks were compared line by line; orders are those the stacks'
authors state, and for additive noise those of the scheme's own expansion.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..noise import LevyArea
from ..problems import Interpretation, NoiseKind, SDEProblem
from . import _faults as known
from ._faults import SolverFault, Stack


@dataclasses.dataclass(frozen=True)
class StochasticSolverInfo:
    """One method for stochastic problems.

    **Fields:**

    - `name`: its name here; names are matched without regard to case.
    - `diffrax`: the class in Diffrax, `None` if there is none.
    - `julia`: the constructor in Julia, `None` if there is none.
    - `interpretations`: of the equations whose solutions it converges to.
    - `noise`: the kinds of noise it takes.
    - `strong_order`: its strong order of convergence for each kind of noise; empty for
        a method that converges in law alone. For Itô equations; the note says where
        it differs for Stratonovich's.
    - `weak_order`: its weak order of convergence, the lowest over its noise kinds.
    - `levy_area`: what it wants to know of the path in a step beside the increment.
    - `implicit`: whether it solves equations, so that it can take stiff drift.
    - `adaptive`: the stacks on which it estimates its error.
    - `matrix_noise`: whether it takes a diffusion that is a matrix.
    - `samples_area`: whether, for matrix noise, it draws random numbers of its own
        beside the path, so that the same path gives other solutions.
    - `langevin`: whether it is for
        [`underdamped_langevin`][hybrid_nds.underdamped_langevin] alone.
    - `twin`: whether both stacks take the same step, so that fixed steps along the
        same path agree to round-off.
    - `aliases`: other names for the same method.
    - `note`: what to know before comparing the two stacks' results.
    - `faults`: what it is known to get wrong in one stack, and what is done about it.
    """

    name: str
    diffrax: str | None
    julia: str | None
    interpretations: tuple[Interpretation, ...]
    noise: tuple[NoiseKind, ...]
    strong_order: Mapping[NoiseKind, float]
    weak_order: float
    levy_area: LevyArea = "none"
    implicit: bool = False
    adaptive: tuple[Stack, ...] = ()
    matrix_noise: bool = True
    samples_area: bool = False
    langevin: bool = False
    twin: bool = False
    aliases: tuple[str, ...] = ()
    note: str = ""
    faults: tuple[SolverFault, ...] = ()

    def on(self, stack: Stack) -> str | None:
        """Its name in one stack, `None` if that stack lacks it."""
        return self.diffrax if stack == "diffrax" else self.julia

    def takes(self, problem: SDEProblem) -> bool:
        """Whether it takes the noise of a problem."""
        return problem.noise in self.noise and (
            self.matrix_noise or not problem.matrix_noise
        )

    def converges_to(self, problem: SDEProblem) -> bool:
        """Whether it converges to the solution of a problem in its interpretation."""
        return (
            problem.noise == "additive"
            or problem.interpretation in self.interpretations
        )


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


_HALF = _orders(1.0, 0.5, 0.5, 0.5)
_MILSTEIN = _orders(1.0, 1.0, 1.0, 0.5)
# The difference quotient is off by √h g''g²/2, which half of dW² does not average away.
_BIASED = "for Stratonovich's equations of strong order 1/2"


def _method(
    name: str,
    interpretations: tuple[Interpretation, ...],
    strong: Mapping[NoiseKind, float],
    weak: float,
    **fields: Any,
) -> StochasticSolverInfo:
    fields.setdefault("noise", tuple(strong))
    fields.setdefault("diffrax", None)
    fields.setdefault("julia", None)
    return StochasticSolverInfo(
        name=name,
        interpretations=interpretations,
        strong_order=strong,
        weak_order=weak,
        **fields,
    )


def _diffrax(name: str, *columns: Any, **fields: Any) -> StochasticSolverInfo:
    if fields.pop("embedded", False):
        fields["adaptive"] = ("diffrax",)
    return _method(name, *columns, diffrax=name, **fields)


def _julia(name: str, *columns: Any, **fields: Any) -> StochasticSolverInfo:
    if fields.pop("embedded", False):
        fields["adaptive"] = ("julia",)
    return _method(name, *columns, julia=name, **fields)


STOCHASTIC_SOLVERS: tuple[StochasticSolverInfo, ...] = (
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
        adaptive=("diffrax", "julia"),
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
            ("ItoMilstein", _ITO, (known.MILSTEIN_PYTREES,)),
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
            note=f"turns increments into discrete random variables: converges in law "
            f"alone{extra}",
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

_BY_NAME: dict[str, StochasticSolverInfo] = {
    name.casefold(): info
    for info in STOCHASTIC_SOLVERS
    for name in (info.name, *info.aliases)
}


def stochastic_solver_names(stack: Stack) -> tuple[str, ...]:
    """The solvers of stochastic problems that one stack has, aliases included.

    **Arguments:** `stack`, `"diffrax"` or `"julia"`.

    **Returns:** the names `solver=` takes there, in alphabetical order.
    """
    found = (info for info in STOCHASTIC_SOLVERS if info.on(stack) is not None)
    names = {name for info in found for name in (info.name, *info.aliases)}
    return tuple(sorted(names, key=str.casefold))


def find_stochastic_solver(name: str, stack: Stack) -> StochasticSolverInfo:
    """The method for stochastic problems that a name stands for, on one stack.

    **Arguments:** `name`, in any case; `stack`, `"diffrax"` or `"julia"`.

    **Returns:** a [`StochasticSolverInfo`][hybrid_nds.StochasticSolverInfo] that this
    stack has.

    **Raises:** `ValueError` for a name that does not exist, listing those of the
    stack, and for a method that only the other stack has, saying so.
    """
    info = _BY_NAME.get(name.casefold())
    if info is not None and info.on(stack) is not None:
        return info
    listing = ", ".join(stochastic_solver_names(stack))
    if info is None:
        raise ValueError(
            f"solve: `solver` must be one for stochastic problems that the {stack} "
            f"backend has, got {name!r}. It has: {listing}."
        )
    other = "julia" if stack == "diffrax" else "diffrax"
    raise ValueError(
        f"solve: the solver {info.name!r} exists only on the {other} backend; "
        f'pass backend="{other}", or one that the {stack} backend has: {listing}.'
    )
