"""Mean-square stability of linear stochastic equations, and of schemes on them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Complex

from ..._core import BAD, QUIET, Panels, check_positive, precision_of
from ...analysis import AnalysisResult, analysis_provenance
from ...problems import ODEProblem, SDEProblem, check_kind
from ...solution import Provenance
from ._linear_noise import (
    Leading,
    LinearNoise,
    check_lifted,
    leading_eigenvalue,
    linear_noise,
    on_symmetric,
    second_moment_operator,
)
from ._lyapunov_plan import check_lyapunov_problem
from ._mean_square_schemes import (
    factor_size,
    lifted_factor,
    quadrature_factor,
    resolve_scheme,
)

# Its exponential is the largest of double precision.
_LARGEST = math.log(np.finfo(float).max)


@dataclasses.dataclass(frozen=True)
class MeanSquareAbscissa(AnalysisResult):
    """The rate at which the second moment of a linear equation grows.

    **Fields:** `value`, with $E|X_t|^2 \\sim e^{\\text{value}\\,t}$; `error`, from
    round-off; `spectrum`, all eigenvalues of the operator on second moments;
    `settings`; `provenance`.
    """

    value: float
    error: float
    spectrum: Complex[np.ndarray, " eigenvalue"]
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def stable(self) -> bool:
        """Whether second moments decay, by more than the error."""
        return bool(self.value < -self.error)

    def summary(self) -> str:
        word = "decays: mean-square stable" if self.stable else "does not decay"
        return (
            f"mean-square abscissa {self.value:.9g} ± {self.error:.1g}: the second "
            f"moment {word}"
        )

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        axes.axvline(0, color=QUIET, linewidth=0.8)
        axes.plot(np.real(self.spectrum), np.imag(self.spectrum), "o", markersize=4)
        axes.plot([self.value], [0], "o", color=BAD, markersize=6)
        axes.set_xlabel("real part")
        axes.set_ylabel("imaginary part")
        axes.set_title(f"second moments: abscissa {self.value:.5g}")


@dataclasses.dataclass(frozen=True)
class MeanSquareFactor(AnalysisResult):
    """How much second moments grow in one step of a scheme on a linear equation.

    **Fields:** `value`, the spectral radius of $E[\\Phi\\otimes\\Phi]$, with
    $\\Phi$ the map of one step; `error`, from round-off and quadrature; `exact`, what
    the equation itself does in that time, $e^{h\\cdot\\text{abscissa}}$, and
    `exact_error`, from round-off; `scheme`; `dt`; `settings`; `provenance`.
    """

    value: float
    error: float
    exact: float
    exact_error: float
    scheme: str
    dt: float
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def stable(self) -> bool:
        """Whether second moments of the scheme decay, by more than the error."""
        return bool(self.value < 1 - self.error)

    @property
    def exact_stable(self) -> bool:
        """Whether those of the equation do, by more than the error."""
        return bool(self.exact < 1 - self.exact_error)

    def summary(self) -> str:
        verdict = {True: "stable", False: "not stable"}
        return (
            f"{self.scheme} with steps of {self.dt:g}: second moments times "
            f"{self.value:.9g} ± {self.error:.1g} in each step, the equation's times "
            f"{self.exact:.9g} ± {self.exact_error:.1g}; the scheme is "
            f"{verdict[self.stable]}, the equation {verdict[self.exact_stable]}, in "
            "mean square"
        )

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        steps = np.arange(31)
        times = steps * self.dt
        for name, base in ((self.scheme, self.value), ("equation", self.exact)):
            axes.plot(times, steps * math.log10(max(base, 1e-300)), label=name)
        axes.axhline(0, color=QUIET, linewidth=0.8)
        axes.set_xlabel("time")
        axes.set_ylabel("log$_{10}$ of the second moment")
        axes.legend()


def mean_square_abscissa(problem: ODEProblem | SDEProblem) -> MeanSquareAbscissa:
    """The growth rate of the second moment of a linear stochastic equation.

    For $dX = AX\\,dt + \\sum_j B_jX\\,dW_j$ (Itô) it is the spectral abscissa of
    $I\\otimes A + A\\otimes I + \\sum_j B_j\\otimes B_j$ (Arnold 1974, Stochastic
    Differential Equations, section 11.3), taken on symmetric matrices. A problem in
    Stratonovich's interpretation is converted.

    **Arguments:** `problem`, linear with constant coefficients: its own drift and
    diffusion are tested for that, and their matrices found by JAX.

    **Returns:** a
    [`MeanSquareAbscissa`][hybrid_nds.stability.MeanSquareAbscissa].

    **Raises:** `ValueError` for a problem that is not linear, depends on time, or has
    more than 64 dimensions.
    """
    caller = "mean_square_abscissa"
    check_lyapunov_problem(caller, problem)
    with precision_of(problem):
        linear = linear_noise(caller, problem)
    found = _abscissa(caller, linear)
    spectrum = np.linalg.eigvals(second_moment_operator(caller, linear)).astype(complex)
    return MeanSquareAbscissa(
        found.value,
        found.error,
        spectrum[np.argsort(-np.real(spectrum))],
        {"dimension": problem.dimension, "brownian_motions": len(linear.b)},
        analysis_provenance("jax", "second-moment operator"),
    )


def _abscissa(caller: str, linear: LinearNoise) -> Leading:
    operator = second_moment_operator(caller, linear)
    return leading_eigenvalue(operator, "abscissa", 4 * linear.precision * linear.rate)


def mean_square_factor(
    problem: SDEProblem, scheme: str, dt: ArrayLike, *, theta: float | None = None
) -> MeanSquareFactor:
    """How much the second moment grows in one step of a scheme on a linear equation.

    The map $\\Phi$ of one step is a random matrix, and $E[XX^T]$ is carried by
    $E[\\Phi\\otimes\\Phi]$: the scheme is mean-square stable exactly where the spectral
    radius of that is below one (Buckwar & Sickenberger 2012, Appl. Numer. Math. 62).
    Euler's, Milstein's and the implicit schemes have closed forms; for any other
    solver of the Diffrax backend its own step is integrated over the increments by
    Gauss and Hermite's rule, which is exact for the polynomials they are.

    **Arguments:**

    - `problem`: linear with constant coefficients.
    - `scheme`: `"EulerMaruyama"` (or `"Euler"`), `"Milstein"` (`"ItoMilstein"`),
        `"ThetaMaruyama"` and `"ThetaMilstein"` with `theta`, `"ImplicitEM"`
        ($\\theta=1$), `"STrapezoid"` ($\\theta=\\frac12$), `"SplitStep"` (`"ISSEM"`),
        or a stochastic solver of the Diffrax backend; one that converges to the other
        interpretation steps the converted problem.
    - `dt`: the step.
    - `theta`: how implicit the two theta schemes are, from 0 to 1.

    **Returns:** a [`MeanSquareFactor`][hybrid_nds.stability.MeanSquareFactor].

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    caller = "mean_square_factor"
    check_kind(caller, problem, "sde")
    check_lyapunov_problem(caller, problem)
    h = check_positive(caller, "dt", dt)
    name, implicitness, closed = resolve_scheme(caller, scheme, theta)
    check_lifted(caller, problem.dimension**2)
    with precision_of(problem):
        linear = linear_noise(caller, problem)
        if closed:
            lifted = lifted_factor(caller, name, implicitness, linear, h)
            rough = lifted
        else:
            lifted = np.asarray(quadrature_factor(caller, name, problem, h))
            rough = np.asarray(quadrature_factor(caller, name, problem, h, nodes=10))
    rounding = 4 * linear.precision * factor_size(name, implicitness, linear, h)
    found = leading_eigenvalue(on_symmetric(lifted), "radius", rounding)
    again = leading_eigenvalue(on_symmetric(rough), "radius", rounding)
    abscissa = _abscissa(caller, linear)
    exact = float(np.exp(min(abscissa.value * h, _LARGEST)))
    shown = name if implicitness is None else f"{name}(θ={implicitness:g})"
    return MeanSquareFactor(
        found.value,
        found.error + abs(found.value - again.value),
        exact,
        exact * float(np.expm1(min(abscissa.error * h, _LARGEST))),
        shown,
        h,
        {"theta": implicitness, "dimension": problem.dimension},
        analysis_provenance(
            "jax", f"{shown}, {'closed form' if closed else 'quadrature'}", dt=h
        ),
    )
