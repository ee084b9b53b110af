"""Stiffness along a trajectory."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, ArrayLike, Float

from ..._core import Panels, check_whole, precision_of
from ...analysis import AnalysisError, AnalysisResult, analysis_provenance
from ...backends import default_absolute, default_tolerances
from ...methods import STIFF_SOLVERS
from ...problems import ODEProblem
from ...solution import Provenance, Solution, SolveError
from ...solving import solve
from ._field import (
    check_problem,
    flat_field,
    spectrum,
)


@dataclasses.dataclass(frozen=True)
class Stiffness(AnalysisResult):
    """How stiff a problem is along its solution.

    **Fields**, the first axis that of `m` steps of the implicit solver:

    - `times`: the starts of the steps.
    - `ratios`: the stiffness ratio, the fastest rate of decay over the slowest rate of
        decay or growth, $\\max_{\\mathrm{Re}\\,\\lambda < 0}|\\mathrm{Re}\\,\\lambda| /
        \\min|\\mathrm{Re}\\,\\lambda|$, over the eigenvalues of the Jacobian whose real
        part is not zero within its error; NaN where none decays. `ratio_errors`.
    - `radii`: the largest modulus of a decaying eigenvalue, $\\rho$, 0 where there is
        none; `radius_errors`.
    - `implicit_step_radii`: $h\\rho$ of these steps.
    - `explicit_times`, `explicit_step_radii`: starts of the explicit solver's steps,
        as far as it came, and their $h\\rho$, with $\\rho$ interpolated.
    - `implicit_steps`, `explicit_steps`: how many steps each solver tried at the same
        tolerances.
    - `explicit_finished`: whether the explicit one came to the end.
    - `stability_steps`: how many steps stability alone asks of the explicit solver,
        $\\int\\rho\\,dt$ over its stability limit; `stability_steps_error`, the change
        with half of the points.
    - `stability_limited`: the share of the explicit solver's time in steps whose
        $h\\rho$ is above half of its limit, so that stability rules them.
    - `stability_limit`: of the explicit solver on the negative real axis.
    """

    times: Float[np.ndarray, " step"]
    ratios: Float[np.ndarray, " step"]
    ratio_errors: Float[np.ndarray, " step"]
    radii: Float[np.ndarray, " step"]
    radius_errors: Float[np.ndarray, " step"]
    implicit_step_radii: Float[np.ndarray, " step"]
    explicit_times: Float[np.ndarray, " explicit_step"]
    explicit_step_radii: Float[np.ndarray, " explicit_step"]
    implicit_steps: int
    explicit_steps: int
    explicit_finished: bool
    stability_steps: float
    stability_steps_error: float
    stability_limited: float
    stability_limit: float
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def ratio(self) -> float:
        """The largest stiffness ratio, NaN where nothing decays."""
        known = np.isfinite(self.ratios)
        return float(np.max(self.ratios[known])) if np.any(known) else math.nan

    @property
    def ratio_error(self) -> float:
        """The error of the largest stiffness ratio: that of its eigenvalues, and what
        every other point alone would have missed of it. Where a rate goes through zero
        the ratio has a pole, and this is as large as the ratio itself."""
        known = np.isfinite(self.ratios)
        if not np.any(known):
            return math.nan
        values = np.where(known, self.ratios, -math.inf)
        # The larger one of both halves has the largest ratio.
        halves = [float(np.max(values[k::2], initial=-math.inf)) for k in (0, 1)]
        missed = self.ratio - min(halves) if math.isfinite(min(halves)) else 0.0
        return max(float(self.ratio_errors[np.argmax(values)]), missed)

    @property
    def stiff(self) -> bool:
        """Whether stability rules most of the explicit solver's time, and not
        accuracy."""
        return self.stability_limited > 0.5

    def summary(self) -> str:
        ratio = "stiffness ratio: nothing decays, so there is none"
        if math.isfinite(self.ratio):
            ratio = f"stiffness ratio up to {self.ratio:.6g} ± {self.ratio_error:.1e}"
        reach = "" if self.explicit_finished else ", and did not come to the end"
        largest = int(np.argmax(self.radii))
        return (
            f"{'stiff' if self.stiff else 'not stiff'}: stability rules "
            f"{self.stability_limited:.0%} of the explicit solver's time\n"
            f"{ratio}\n"
            f"spectral radius up to {self.radii[largest]:.6g} ± "
            f"{self.radius_errors[largest]:.1e}\n"
            f"{self.settings['implicit']} tried {self.implicit_steps} steps, "
            f"{self.settings['explicit']} {self.explicit_steps}{reach}\n"
            f"stability alone asks {self.settings['explicit']} for "
            f"{self.stability_steps:.4g} ± {self.stability_steps_error:.1g} steps"
        )

    def draw(self, panels: Panels) -> None:
        upper, lower = panels.subplots(2, 1, sharex=True)
        upper.semilogy(self.times, self.ratios, ".-", label="stiffness ratio")
        upper.semilogy(self.times, _shown(self.radii), ".-", label="spectral radius")
        upper.legend()
        lower.semilogy(
            self.times,
            _shown(self.implicit_step_radii),
            ".-",
            label=self.settings["implicit"],
        )
        lower.semilogy(
            self.explicit_times,
            _shown(self.explicit_step_radii),
            label=self.settings["explicit"],
        )
        limit = f"limit {self.stability_limit:.3g}"
        lower.axhline(self.stability_limit, color="0.5", linestyle="--", label=limit)
        lower.set_xlabel("time")
        lower.set_ylabel("step × spectral radius")
        lower.legend(loc="lower right", ncols=3)


def stiffness(
    problem: ODEProblem,
    *,
    backend: str = "diffrax",
    solver: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    samples: int = 256,
    max_steps: int = 10_000,
) -> Stiffness:
    """Measure how stiff a problem is, along its solution.

    The problem is solved by an implicit solver and by Tsit5 at the same tolerances,
    and the Jacobian's eigenvalues are taken at steps of the first. A problem is stiff
    where the steps of the explicit solver are ruled by its stability, $h\\rho$ near
    its limit, and not by accuracy (Hairer & Wanner 1996, section IV.2); the ratio of
    rates alone (Lambert 1991, section 6.2) says less.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem] of finite, forward span.
    - `backend`: what solves, `"diffrax"` or `"julia"`.
    - `solver`: the implicit solver, by default Kvaerno5 on Diffrax and Rodas5P on
        Julia.
    - `rtol`, `atol`: as of [`solve`][hybrid_nds.solve].
    - `samples`: at how many steps, at most, to take eigenvalues.
    - `max_steps`: the most steps to try, of either solver; the explicit one may fail by
        it, which is part of the result.

    **Returns:** a [`Stiffness`][hybrid_nds.stability.Stiffness].

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] where the implicit solve fails,
    or a Jacobian along the solution is not finite.
    """
    caller = "stiffness"
    check_problem(caller, problem)
    check_whole(caller, "samples", samples, 2)
    check_whole(caller, "max_steps", max_steps)
    span = float(problem.t1) - float(problem.t0)
    if not (math.isfinite(span) and span > 0):
        raise ValueError(
            f"{caller}: `problem` must have a finite, forward span, got "
            f"t0={float(problem.t0):g} and t1={float(problem.t1):g}."
        )
    relative = default_tolerances(problem.dtype)[0] if rtol is None else rtol
    absolute = default_absolute(problem, relative) if atol is None else atol
    implicit = STIFF_SOLVERS.get(backend) if solver is None else solver
    shared: dict[str, Any] = {
        "rtol": relative,
        "atol": absolute,
        "saveat": "steps",
        "max_steps": max_steps,
    }
    with precision_of(problem):
        try:
            smooth = solve(problem, backend, solver=implicit, **shared)
        except SolveError as error:
            raise AnalysisError(
                f"{caller}: the implicit solve failed: {error} Loosen the tolerances, "
                "raise `max_steps`, shorten the span, or take another `solver`."
            ) from error
        rough = solve(problem, backend, solver="Tsit5", throw=False, **shared)
        clock = np.asarray(smooth.ts, float)
        requested = np.unique(np.linspace(0, len(clock) - 2, samples).astype(int))
        states = np.asarray(problem.flat_state.flatten(smooth.ys))[requested]
        matrices = np.asarray(
            _jacobians_along(problem, clock[requested].astype(problem.dtype), states)
        )
    if not np.all(np.isfinite(matrices)):
        bad = int(np.argmin(np.isfinite(matrices).all(axis=(1, 2))))
        raise AnalysisError(
            f"{caller}: the field or its Jacobian is not finite at t = "
            f"{clock[requested[bad]]:g}; check "
            "that the field is differentiable along the solution."
        )
    precision = float(np.finfo(problem.dtype).eps)
    figures = np.array([_decay(matrix, precision) for matrix in matrices])
    return _result(
        clock, requested, figures, smooth, rough, implicit, backend, relative, absolute
    )


def _result(
    clock: np.ndarray,
    requested: np.ndarray,
    figures: np.ndarray,
    smooth: Solution,
    rough: Solution,
    implicit: Any,
    backend: str,
    rtol: float,
    atol: float,
) -> Stiffness:
    times, steps, radii = clock[requested], np.diff(clock)[requested], figures[:, 2]
    limit = stability_limit()
    needed = _integral(times, radii, clock[-1])
    coarse = _integral(times[::2], radii[::2], clock[-1])
    # As far as it came; one that failed may end in states that are not finite.
    own = np.asarray(rough.ts, float)
    own = own[np.isfinite(own)]
    lengths = np.diff(own)
    explicit_radii = lengths * np.interp(own[:-1], times, radii)
    limited = lengths[explicit_radii > limit / 2].sum() / max(lengths.sum(), 1e-300)
    return Stiffness(
        times=times,
        ratios=figures[:, 0],
        ratio_errors=figures[:, 1],
        radii=radii,
        radius_errors=figures[:, 3],
        implicit_step_radii=steps * radii,
        explicit_times=own[:-1],
        explicit_step_radii=explicit_radii,
        implicit_steps=int(smooth.stats["num_steps"]),
        explicit_steps=int(rough.stats["num_steps"]),
        explicit_finished=bool(rough.succeeded),
        stability_steps=needed / limit,
        stability_steps_error=abs(needed - coarse) / limit,
        stability_limited=float(limited),
        stability_limit=limit,
        settings={"implicit": str(implicit), "explicit": "Tsit5"},
        provenance=analysis_provenance(
            backend,
            smooth.provenance.solver,
            field=smooth.provenance.field,
            rtol=rtol,
            atol=atol,
            versions=dict(smooth.provenance.versions),
        ),
    )


def _integral(times: np.ndarray, values: np.ndarray, end: float) -> float:
    """The trapezoidal rule up to an end, where the last value goes on."""
    whole = np.trapezoid(values, times) if len(times) > 1 else 0.0
    return float(whole + values[-1] * (end - times[-1]))


def _decay(matrix: np.ndarray, precision: float) -> tuple[float, float, float, float]:
    """The stiffness ratio and its error, the radius of the decaying part and its."""
    found = spectrum(matrix, precision)
    values = found.eigenvalues
    falling = np.real(values) < -found.errors
    if not np.any(falling):
        return math.nan, math.nan, 0.0, float(np.max(found.errors))
    rates = np.abs(np.real(values))
    known = rates > found.errors
    fast = int(np.argmax(np.where(falling, rates, -1)))
    slow = int(np.argmin(np.where(known, rates, np.inf)))
    ratio = rates[fast] / rates[slow]
    share = found.errors[fast] / rates[fast] + found.errors[slow] / rates[slow]
    sizes = np.where(falling, np.abs(values), -1)
    largest = int(np.argmax(sizes))
    # Of one rate alone the ratio is 1, whatever its error.
    error = ratio * share if fast != slow else 0.0
    return ratio, error, sizes[largest], found.errors[largest]


@eqx.filter_jit
def _jacobians_along(problem: ODEProblem, times: ArrayLike, states: ArrayLike) -> Array:
    """Jacobians at times and flat states, a few at once: there may be many."""
    return jax.lax.map(
        lambda x: jax.jacfwd(lambda u: flat_field(problem, x[0], u))(x[1]),
        (jnp.asarray(times), jnp.asarray(states)),
        batch_size=32,
    )


@functools.cache
def stability_limit() -> float:
    """How far Tsit5 is stable on the negative real axis: the least $x > 0$ with
    $|R(-x)| = 1$, where $R(z) = 1 + z b^\\top (I - zA)^{-1} 1$ is its stability
    function."""
    tableau = diffrax.Tsit5.tableau
    b = np.asarray(tableau.b_sol)
    A = np.zeros((len(b), len(b)))
    for i, row in enumerate(tableau.a_lower):
        A[i + 1, : len(row)] = row
    ones = np.ones(len(b))

    def growth(x: float) -> float:
        stages = np.linalg.solve(np.eye(len(b)) + x * A, ones)
        return abs(1 - x * float(b @ stages)) - 1

    # Stable near zero, and a polynomial that leaves the unit disc but once before 5.
    return cast(float, scipy.optimize.brentq(growth, 1.0, 5.0))


def _shown(values: np.ndarray) -> np.ndarray:
    """Values for a logarithmic axis, which has no zero."""
    return np.where(values > 0, values, np.nan)
