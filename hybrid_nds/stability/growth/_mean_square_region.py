"""Regions of mean-square stability on the scalar test equation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Bool, Float

from ..._core import BAD, QUIET, Axis, Panels, double_precision
from ...analysis import AnalysisResult, analysis_provenance
from ...problems import SDEProblem
from ...solution import Provenance
from ._mean_square_schemes import quadrature_factor, resolve_scheme, scalar_factor

_CALLER = "mean_square_stability"


@dataclasses.dataclass(frozen=True)
class MeanSquareRegion(AnalysisResult):
    """Where a scheme is stable in mean square on
    $dX = \\lambda X\\,dt + \\sigma X\\,dW$.

    **Fields:** `lambda_h`, shape `(columns,)`, and `sigma2_h`, shape `(rows,)`: the
    grid of $\\lambda h$ and $\\sigma^2 h$; `factor`, $E|X_1|^2/|X_0|^2$ of one step,
    shape `(rows, columns)`; `error`, of each, from round-off; `scheme`; `settings`;
    `provenance`.
    """

    lambda_h: Axis[Float[np.ndarray, " lambda_h"]]
    sigma2_h: Axis[Float[np.ndarray, " sigma2_h"]]
    factor: Float[np.ndarray, "sigma2_h lambda_h"]
    error: Float[np.ndarray, "sigma2_h lambda_h"]
    scheme: str
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def stable(self) -> Bool[np.ndarray, "sigma2_h lambda_h"]:
        """Where the scheme is: a factor below one, by more than its error."""
        return self.factor < 1 - self.error

    @property
    def exact_stable(self) -> Bool[np.ndarray, "sigma2_h lambda_h"]:
        """Where the equation itself is: $2\\lambda + \\sigma^2 < 0$."""
        return 2 * self.lambda_h[None, :] + self.sigma2_h[:, None] < 0

    def summary(self) -> str:
        stable, exact = self.stable, self.exact_stable
        if self.factor.size == 1:
            word = "stable" if stable.item() else "not stable"
            truth = "is" if exact.item() else "is not"
            return (
                f"{self.scheme} at λh = {self.lambda_h[0]:g}, σ²h = "
                f"{self.sigma2_h[0]:g}: factor {self.factor.item():.9g} ± "
                f"{self.error.item():.1g}, {word} in mean square; the equation {truth}"
            )
        lost, gained = np.sum(exact & ~stable), np.sum(stable & ~exact)
        return (
            f"{self.scheme}: stable in mean square at {np.sum(stable)} of "
            f"{stable.size} points, the equation at {np.sum(exact)}. At {lost} the "
            f"scheme loses a stability that the equation has, at {gained} it shows one "
            "that the equation has not."
        )

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        if min(self.factor.shape) < 2:
            flat = self.sigma2_h if self.factor.shape[0] > 1 else self.lambda_h
            axes.plot(flat, self.factor.ravel(), "o-", markersize=3)
            axes.axhline(1, color=QUIET, linewidth=0.8)
            name = r"$\sigma^2 h$" if self.factor.shape[0] > 1 else r"$\lambda h$"
            axes.set_xlabel(name)
            axes.set_ylabel("factor")
            axes.set_title(self.scheme)
            return
        levels = [-1.0, 0.5, 1.5]
        axes.contourf(
            self.lambda_h,
            self.sigma2_h,
            self.stable.astype(float),
            levels=levels,
            colors=["white", "#9ecae1"],
        )
        inside = np.clip(self.factor, 0, 4)
        if inside.min() < 1 < inside.max():
            axes.contour(
                self.lambda_h, self.sigma2_h, inside, levels=[1.0], colors="#08519c"
            )
        axes.plot(
            self.lambda_h,
            np.clip(-2 * self.lambda_h, None, 1.2 * self.sigma2_h.max()),
            "--",
            color=BAD,
            label="the equation is stable below",
        )
        axes.set_xlim(self.lambda_h.min(), self.lambda_h.max())
        axes.set_ylim(self.sigma2_h.min(), self.sigma2_h.max())
        axes.set_xlabel(r"$\lambda h$")
        axes.set_ylabel(r"$\sigma^2 h$")
        axes.set_title(f"{self.scheme}: stable in mean square")
        axes.legend()


def mean_square_stability(
    scheme: str,
    lambda_h: ArrayLike,
    sigma2_h: ArrayLike,
    *,
    theta: float | None = None,
) -> MeanSquareRegion:
    """Where a scheme is stable in mean square on the scalar test equation
    $dX = \\lambda X\\,dt + \\sigma X\\,dW$ (Itô).

    With $z = \\lambda h$ and $s = \\sigma^2 h$ a step multiplies the second moment by

    - Euler and Maruyama: $(1+z)^2 + s$;
    - Milstein: $(1+z)^2 + s + s^2/2$;
    - theta-Maruyama: $((1+(1-\\theta)z)^2 + s)/(1-\\theta z)^2$, so that it is stable
        exactly where $2\\lambda + \\sigma^2 + (1-2\\theta)h\\lambda^2 < 0$;
    - split-step backward Euler: $(1+s)/(1-z)^2$

    (Higham 2000, SIAM J. Numer. Anal. 38; Saito & Mitsui 1996). For any other solver
    of the Diffrax backend its own step is integrated over the increments by Gauss and
    Hermite's rule, which is exact for the polynomials they are.

    **Arguments:**

    - `scheme`, `theta`: as for
        [`mean_square_factor`][hybrid_nds.stability.mean_square_factor].
    - `lambda_h`: real values of $\\lambda h$, a number or shape `(columns,)`.
    - `sigma2_h`: values of $\\sigma^2 h \\ge 0$, a number or shape `(rows,)`.

    **Returns:** a [`MeanSquareRegion`][hybrid_nds.stability.MeanSquareRegion] over the
    grid of both.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    columns = _values("lambda_h", lambda_h)
    rows = _values("sigma2_h", sigma2_h)
    if np.any(rows < 0):
        raise ValueError(
            f"{_CALLER}: `sigma2_h` must not be negative, got {rows.min():g}."
        )
    name, implicitness, closed = resolve_scheme(_CALLER, scheme, theta)
    z, s = np.meshgrid(columns, rows)
    if closed:
        if implicitness is not None and np.any(implicitness * z == 1):
            raise ValueError(
                f"{_CALLER}: `lambda_h` of {1 / implicitness:g} makes the implicit "
                f"step singular at theta={implicitness:g}."
            )
        if name == "SplitStep" and np.any(z == 1):
            raise ValueError(
                f"{_CALLER}: `lambda_h` of 1 makes the implicit step singular."
            )
        factor = scalar_factor(name, implicitness, z, s)
    else:
        factor = _by_quadrature(name, z, s)
    shown = name if implicitness is None else f"{name}(θ={implicitness:g})"
    # A handful of operations on numbers up to 1 + z² + s².
    error = 32 * np.finfo(float).eps * (1 + np.abs(factor) + z**2 + s)
    return MeanSquareRegion(
        columns,
        rows,
        factor,
        error,
        shown,
        {"theta": implicitness},
        analysis_provenance(
            "jax", f"{shown}, {'closed form' if closed else 'quadrature'}"
        ),
    )


def _by_quadrature(solver: str, z: np.ndarray, s: np.ndarray) -> np.ndarray:
    with double_precision():

        def at(z: Any, s: Any) -> Any:
            problem = SDEProblem(
                lambda t, y, args: z * y,
                lambda t, y, args: jnp.sqrt(s) * y,
                jnp.ones(1),
                0.0,
                1.0,
                noise="scalar",
            )
            return quadrature_factor(_CALLER, solver, problem, 1.0)[0, 0]

        flat = jax.jit(jax.vmap(at))(jnp.asarray(z.ravel()), jnp.asarray(s.ravel()))
        return np.asarray(flat).reshape(z.shape)


def _values(name: str, given: Any) -> np.ndarray:
    try:
        values = np.atleast_1d(np.asarray(given, float))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{_CALLER}: `{name}` must be real numbers, got {given!r}."
        ) from error
    if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values)):
        raise ValueError(
            f"{_CALLER}: `{name}` must be a finite number or a one-dimensional array "
            f"of them, got shape {values.shape}."
        )
    return values
