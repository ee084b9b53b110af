"""The kind of an equation, as a value: what a solver must know before it starts."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ._checks import VectorField

NoiseKind = Literal["additive", "scalar", "diagonal", "general", "commutative"]
Interpretation = Literal["ito", "stratonovich"]
KindName = Literal["ode", "sde"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """The kind of a differential equation.

    **Fields:**

    - `name`: `"ode"` or `"sde"`.
    - `noise`, `interpretation`, `matrix_noise`: of a stochastic equation, as of
        [`SDEProblem`][hybrid_nds.SDEProblem].
    - `langevin`: whether it is an
        [`underdamped_langevin`][hybrid_nds.underdamped_langevin] equation.
    - `mass_matrix`: whether its derivatives stand behind a mass matrix.
    """

    name: KindName
    noise: NoiseKind | None = None
    interpretation: Interpretation | None = None
    matrix_noise: bool = False
    langevin: bool = False
    mass_matrix: bool = False

    @property
    def follows_path(self) -> bool:
        """Whether its solutions follow a Brownian path."""
        return self.name == "sde"


@dataclasses.dataclass(frozen=True)
class Term:
    """One function of an equation.

    **Fields:** its `name`, as the problem's argument is called; the `function` of
    `(t, y, args)`; how many `columns` its values have, zero where they have the shape
    of the state.
    """

    name: str
    function: VectorField
    columns: int = 0
