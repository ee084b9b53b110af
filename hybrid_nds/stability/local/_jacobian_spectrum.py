"""The spectrum of a Jacobian."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Complex, Float, PyTree

from ..._core import Panels, precision_of
from ...analysis import AnalysisError, AnalysisResult, analysis_provenance
from ...problems import ODEProblem
from ...solution import Provenance
from ._field import check_problem, flat_state, jacobians, spectrum
from ._sparse import (
    check_part,
    eigenvalues_near,
    numerical_abscissa,
    sparse_jacobian,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class JacobianSpectrum(AnalysisResult):
    """The eigenvalues of the Jacobian of a field at one state.

    **Fields:**

    - `eigenvalues`: by falling real part, shape `(n,)`; of a sparse Jacobian those
        nearest to a point alone, shape `(number,)`, and so in the next two.
    - `eigenvalue_errors`: what round-off in the Jacobian moves each by, shape `(n,)`.
    - `condition_numbers`: of the eigenvalues, 1 for a normal matrix, shape `(n,)`.
    - `numerical_abscissa`: the largest eigenvalue of $(J + J^\\top)/2$, the rate at
        which some perturbation grows at once; `numerical_abscissa_error`.
    - `jacobian`: $J$, shape `(n, n)`, in the order of `ravel_pytree`; `None` for a
        sparse one.
    """

    eigenvalues: Complex[np.ndarray, " eigenvalue"]
    eigenvalue_errors: Float[np.ndarray, " eigenvalue"]
    condition_numbers: Float[np.ndarray, " eigenvalue"]
    numerical_abscissa: float
    numerical_abscissa_error: float
    jacobian: Float[np.ndarray, "row column"] | None
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def spectral_abscissa(self) -> float:
        """The largest real part of an eigenvalue, of those found."""
        return float(np.real(self.eigenvalues[0]))

    @property
    def spectral_abscissa_error(self) -> float:
        """How far the abscissa may be off: by the most that one of the eigenvalues
        whose intervals reach up to it may."""
        ends = np.real(self.eigenvalues) + self.eigenvalue_errors
        return float(np.max(ends) - self.spectral_abscissa)

    @property
    def spectral_radius(self) -> float:
        """The largest modulus of an eigenvalue, of those found."""
        return float(np.max(np.abs(self.eigenvalues)))

    def summary(self) -> str:
        lines = [
            f"spectral abscissa {self.spectral_abscissa:.6g} ± "
            f"{self.spectral_abscissa_error:.1e}, numerical abscissa "
            f"{self.numerical_abscissa:.6g} ± {self.numerical_abscissa_error:.1e}",
            f"{'eigenvalue':>26}{'error':>10}{'condition':>11}",
        ]
        rows = zip(
            self.eigenvalues,
            self.eigenvalue_errors,
            self.condition_numbers,
            strict=True,
        )
        for value, error, condition in list(rows)[:_SHOWN]:
            lines.append(f"{complex_text(value):>26}{error:>10.1e}{condition:>11.3g}")
        if len(self.eigenvalues) > _SHOWN:
            lines.append(f"… and {len(self.eigenvalues) - _SHOWN} more")
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        draw_eigenvalues(axes, self.eigenvalues)
        label = f"numerical abscissa {self.numerical_abscissa:.4g}"
        axes.axvline(self.numerical_abscissa, color="C1", linestyle="--", label=label)
        axes.legend()


def jacobian_spectrum(
    problem: ODEProblem,
    y: PyTree = None,
    t: Any = None,
    *,
    jacobian: Any = "auto",
    number: int | None = None,
    near: complex | None = None,
) -> JacobianSpectrum:
    """The eigenvalues of the Jacobian of a field, with their errors.

    The Jacobian $\\partial f/\\partial y$ is JAX's own. The error of an eigenvalue is
    that of round-off in $J$, by its condition number (Golub & Van Loan 2013, section
    7.2.2), or Elsner's bound (1985) near a multiple one.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem].
    - `y`: the state, in the structure of `problem.y0`; `None` takes `problem.y0`.
    - `t`: the time; `None` takes `problem.t0`.
    - `jacobian`: `"dense"`, for all eigenvalues; `"sparse"`, for a few of them by
        Arnoldi's method on the inverse, or a pattern as of
        [`sparsity`][hybrid_nds.lowering.sparsity]; `"auto"` is sparse from 1000 states
        on, where at most 3 % of the entries can be other than zero.
    - `number`: how many eigenvalues of a sparse Jacobian, by default 6.
    - `near`: the number, real or complex, that these are nearest to, by default zero.

    **Returns:** a [`JacobianSpectrum`][hybrid_nds.stability.JacobianSpectrum].

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] where the Jacobian is not
    finite.
    """
    caller = "jacobian_spectrum"
    check_problem(caller, problem)
    with precision_of(problem):
        sparse = sparse_jacobian(caller, problem, jacobian)
        count, point = check_part(caller, problem, sparse is not None, number, near)
        u = flat_state(caller, problem, y)
        time = np.asarray(problem.t0 if t is None else t, problem.dtype)
        if time.ndim or not np.isfinite(time):
            raise ValueError(f"{caller}: `t` must be a finite number, got {t!r}.")
        J = (
            np.asarray(jacobians(problem, time[None], u[None]))[0]
            if sparse is None
            else sparse(time, u)
        )
    if not np.all(np.isfinite(J if sparse is None else J.data)):
        raise AnalysisError(
            f"{caller}: the field or its Jacobian at t = {float(time):g} is not "
            "finite; check that the field is differentiable at `y` (sqrt, norm and log "
            "are not at zero)."
        )
    precision = float(np.finfo(problem.dtype).eps)
    settings = {"t": float(time), "y": u}
    if sparse is not None:
        found = eigenvalues_near(caller, J, count, point, precision)
        abscissa, error = numerical_abscissa(caller, J, precision)
        return JacobianSpectrum(
            eigenvalues=found.eigenvalues,
            eigenvalue_errors=found.errors,
            condition_numbers=found.conditions,
            numerical_abscissa=abscissa,
            numerical_abscissa_error=error,
            jacobian=None,
            settings={**settings, "number": count, "near": point},
            provenance=analysis_provenance("jax", "ARPACK"),
        )
    found = spectrum(J, precision)
    matrix = J.astype(float)
    return JacobianSpectrum(
        eigenvalues=found.eigenvalues,
        eigenvalue_errors=found.errors,
        condition_numbers=found.conditions,
        numerical_abscissa=float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]),
        # Eigenvalues of symmetric matrices move by no more than the matrix (Weyl).
        numerical_abscissa_error=len(J) * precision * float(np.linalg.norm(matrix)),
        jacobian=J,
        settings=settings,
        provenance=analysis_provenance("jax", "LAPACK geev"),
    )


def complex_text(value: complex) -> str:
    """An eigenvalue in a few characters."""
    if value.imag == 0:
        return f"{value.real:.6g}"
    return f"{value.real:.6g}{value.imag:+.6g}i"


def draw_eigenvalues(axes: Axes, values: np.ndarray, **options: Any) -> None:
    """Eigenvalues as points of the complex plane, with a marker for each set."""
    drawn = max(0, len(axes.lines) - 2)
    if not axes.lines:
        axes.axvline(0, color="0.8", zorder=0)
        axes.axhline(0, color="0.8", zorder=0)
    marker = "os^Dv*"[drawn % 6]
    # Open, so that equal ones show through.
    options = {"fillstyle": "none", "markersize": 6 + 1.5 * (drawn % 6)} | options
    axes.plot(np.real(values), np.imag(values), marker, **options)
    heights = [float(np.max(np.abs(np.asarray(x.get_ydata())))) for x in axes.lines[2:]]
    if max(heights) == 0:
        axes.set_ylim(-1, 1)
    else:
        axes.set_ylim(-1.15 * max(heights), 1.15 * max(heights))
    axes.set_xlabel("real part")
    axes.set_ylabel("imaginary part")
