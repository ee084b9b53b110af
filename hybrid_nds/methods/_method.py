"""A method: one row of the table of solvers, every capability a column."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from ..noise import LevyArea
from ..problems import Interpretation, Kind, KindName, NoiseKind
from ._faults import SolverFault, Stack

BOTH: tuple[Stack, ...] = ("diffrax", "julia")


@dataclasses.dataclass(frozen=True)
class Method:
    """A method for one kind of equation.

    **Fields:**

    - `name`: its name here; names are matched without regard to case.
    - `kind`: of the equations it solves, `"ode"` or `"sde"`.
    - `diffrax`: the class in Diffrax, `None` if there is none.
    - `julia`: the constructor in Julia, `None` if there is none.
    - `julia_package`: the Julia package that exports it.
    - `elsewhere`: its names in stacks that other packages install.
    - `aliases`: other names for the same method.
    - `order`: of convergence; the weak order, the lowest over its noise kinds, of a
        method for stochastic equations. `None` for variable order and for automatic
        choice.
    - `implicit`: whether it solves equations, so that it can take a stiff drift.
    - `newton`: whether Julia's solves them by Newton's iteration, to a tolerance.
    - `adaptive`: the stacks on which it estimates its error, so that its steps adapt.
    - `twin`: whether both stacks take the same step, so that fixed steps agree to
        round-off (implicit ones: to the tolerance of the stage equations).
    - `coarse_output`: the stacks on which it is less accurate between steps than at
        them, so that steps end at the saved times.
    - `mass_matrix`: whether Julia's takes a mass matrix, singular ones included;
        `diagonal_mass`, whether it must be diagonal.
    - `component_tolerances`: whether Julia's takes an absolute tolerance for each
        component.
    - `matrix_free`: whether Julia's takes products with the Jacobian in its place.
    - `derivatives`: whether solves by Julia's can be differentiated.
    - `note`: what to know before comparing the two stacks' results.
    - `faults`: what it is known to get wrong in one stack, and what is done about it.

    Of methods for stochastic equations:

    - `interpretations`: of the equations whose solutions it converges to.
    - `noise`: the kinds of noise it takes.
    - `strong_order`: its strong order of convergence for each kind of noise; empty for
        a method that converges in distribution alone. For Itô equations; the note says
        where it differs for Stratonovich's.
    - `levy_area`: what it wants to know of the path in a step beside the increment.
    - `matrix_noise`: whether it takes a diffusion that is a matrix.
    - `scalar_as_matrix`: whether Julia's wants scalar noise as a matrix of one column.
    - `samples_area`: whether, for matrix noise, it draws random numbers of its own
        beside the path, so that the same path gives other solutions.
    - `theta`: whether Julia's weighs the drift at the end of the step by a parameter.
    - `langevin`: whether it is for
        [`underdamped_langevin`][hybrid_nds.underdamped_langevin] alone.
    """

    name: str
    kind: KindName
    diffrax: str | None = None
    julia: str | None = None
    julia_package: str | None = None
    elsewhere: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: MappingProxyType({})
    )
    aliases: tuple[str, ...] = ()
    order: float | None = None
    implicit: bool = False
    newton: bool = False
    adaptive: tuple[Stack, ...] = ()
    twin: bool = False
    coarse_output: tuple[Stack, ...] = ()
    mass_matrix: bool = False
    diagonal_mass: bool = False
    component_tolerances: bool = True
    derivatives: bool = False
    matrix_free: bool = False
    note: str = ""
    faults: tuple[SolverFault, ...] = ()
    interpretations: tuple[Interpretation, ...] = ()
    noise: tuple[NoiseKind, ...] = ()
    strong_order: Mapping[NoiseKind, float] = dataclasses.field(
        default_factory=lambda: MappingProxyType({})
    )
    levy_area: LevyArea = "none"
    matrix_noise: bool = True
    scalar_as_matrix: bool = False
    samples_area: bool = False
    theta: bool = False
    langevin: bool = False

    def on(self, stack: Stack) -> str | None:
        """Its name in one stack, `None` if that stack lacks it."""
        own = {"diffrax": self.diffrax, "julia": self.julia}
        return own[stack] if stack in own else self.elsewhere.get(stack)

    def takes(self, kind: Kind) -> bool:
        """Whether it takes the noise of a kind of stochastic equations."""
        return kind.noise in self.noise and (self.matrix_noise or not kind.matrix_noise)

    def converges_to(self, kind: Kind) -> bool:
        """Whether it converges to the solution in the interpretation of a kind."""
        return kind.noise == "additive" or kind.interpretation in self.interpretations

    def suits(self, kind: Kind, stack: Stack) -> str | None:
        """The reason why it does not solve equations of a kind, `None` if it does.

        **Arguments:** the kind of an equation; the name of the stack.

        **Returns:** the reason, of which the method is the subject.
        """
        if self.kind != kind.name:
            return f"solves {self.kind.upper()}s alone"
        if self.on(stack) is None:
            return f"is not there on the {stack} backend"
        if kind.mass_matrix and (not self.mass_matrix or stack == "diffrax"):
            return "takes no `mass_matrix`"
        if not kind.follows_path:
            return None
        if not self.takes(kind):
            form = " in the form of a matrix" if kind.noise == "additive" else ""
            return f"takes no {kind.noise!r} noise{form}"
        if not self.converges_to(kind):
            other = "stratonovich" if kind.interpretation == "ito" else "ito"
            return f"converges to the solution in the {other!r} interpretation"
        if self.langevin and not kind.langevin:
            return "is for underdamped Langevin dynamics alone"
        return None
