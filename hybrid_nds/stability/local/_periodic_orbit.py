"""Periodic orbits by shooting, with their Floquet multipliers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Complex, Float, PyTree

from ..._core import QUIET, Axis, Panels, check_positive, precision_of
from ...analysis import AnalysisError, AnalysisResult, analysis_provenance
from ...methods import PRECISE_SOLVERS
from ...problems import ODEProblem
from ...solution import Provenance
from ._field import check_problem, flat_field, flat_state, spectrum
from ._jacobian_spectrum import complex_text, draw_eigenvalues
from ._shooting import Shot, Target, estimate_period, shoot

_SHOWN = 8
# Of the orbit that is kept, so that half, a third, … of a period is a point of it.
_POINTS = 120


@dataclasses.dataclass(frozen=True)
class PeriodicOrbit(AnalysisResult):
    """A periodic orbit and its stability.

    **Fields:**

    - `period`, and `period_error`, by how much it changed with ten times tighter
        tolerances.
    - `point`: a flat state on it, shape `(n,)`, and `point_error`, in norm; `state`,
        the same as a pytree.
    - `multipliers`: the Floquet multipliers by falling modulus, without the trivial one
        of an autonomous field, shape `(n - 1,)` or `(n,)`; `multiplier_errors`, what
        the change of the monodromy matrix with the tolerances moves each by.
    - `trivial_multiplier`: the multiplier that should be 1; its distance from 1 is a
        measure of all errors. `None` for a field that depends on time.
    - `monodromy`: the monodromy matrix, shape `(n, n)`.
    - `times`, `orbit`: the orbit over one period, shapes `(m,)` and `(m, n)`.
    - `residuals`: $\\|\\varphi_T(y) - y\\|$ after each shot of the search.
    """

    estimate: ClassVar = ("period", "period_error")

    period: float
    period_error: float
    point: Float[np.ndarray, " component"]
    point_error: float
    state: PyTree[np.ndarray]
    multipliers: Complex[np.ndarray, " multiplier"]
    multiplier_errors: Float[np.ndarray, " multiplier"]
    trivial_multiplier: complex | None
    monodromy: Float[np.ndarray, "row column"]
    times: Axis[Float[np.ndarray, " time"]]
    orbit: Float[np.ndarray, "time component"]
    residuals: Float[np.ndarray, " shot"]
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def exponents(self) -> Complex[np.ndarray, " multiplier"]:
        """The Floquet exponents $\\log(m)/T$, their imaginary parts up to multiples of
        $2\\pi/T$."""
        # A multiplier of zero is one below round-off.
        least = np.finfo(float).tiny
        sizes = np.where(self.multipliers == 0, least, self.multipliers)
        return np.log(sizes) / self.period

    @property
    def stability(self) -> str:
        """`"stable"` or `"unstable"`; `"undecided"` where a modulus is 1 within its
        error and no other is above."""
        sizes = np.abs(self.multipliers)
        if np.any(sizes - self.multiplier_errors > 1):
            return "unstable"
        stable = np.all(sizes + self.multiplier_errors < 1)
        return "stable" if stable else "undecided"

    def summary(self) -> str:
        lines = [
            f"{self.stability} periodic orbit, period {self.period:.12g} ± "
            f"{self.period_error:.1e}, point ± {self.point_error:.1e}, "
            f"{len(self.residuals)} shots, residual {self.residuals[-1]:.1e}"
        ]
        if self.trivial_multiplier is not None:
            off = abs(self.trivial_multiplier - 1)
            lines.append(f"trivial multiplier off from 1 by {off:.1e}")
        pairs = zip(self.multipliers, self.multiplier_errors, strict=True)
        for value, error in list(pairs)[:_SHOWN]:
            lines.append(f"  multiplier {complex_text(value)} ± {error:.1e}")
        if len(self.multipliers) > _SHOWN:
            lines.append(f"  … and {len(self.multipliers) - _SHOWN} more")
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        left, right = panels.subplots(1, 2)
        if self.orbit.shape[1] == 1:
            left.plot(self.times, self.orbit[:, 0])
            left.set_xlabel("time")
            left.set_ylabel("component 0")
        else:
            left.plot(self.orbit[:, 0], self.orbit[:, 1])
            left.plot(*self.point[:2], "o")
            left.set_xlabel("component 0")
            left.set_ylabel("component 1")
        left.set_title(f"period {self.period:.6g}")
        draw_eigenvalues(right, self.multipliers, label="multipliers")
        if self.trivial_multiplier is not None:
            draw_eigenvalues(
                right, np.array([self.trivial_multiplier]), label="trivial"
            )
        angle = np.linspace(0, 2 * np.pi, 200)
        right.plot(np.cos(angle), np.sin(angle), color=QUIET, linewidth=1)
        right.set_aspect("equal")
        reach = 1.15 * max(1.0, float(np.max(np.abs(self.multipliers), initial=0)))
        right.set_xlim(-reach, reach)
        right.set_ylim(-reach, reach)
        right.set_title(self.stability)
        # The circle leaves no corner free.
        right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def periodic_orbit(
    problem: ODEProblem,
    guess: PyTree = None,
    period: float | None = None,
    *,
    backend: str = "diffrax",
    solver: Any = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_shots: int = 100,
    **options: Any,
) -> PeriodicOrbit:
    """Find a periodic orbit by shooting.

    A point $y$ and the period $T$ solve $\\varphi_T(y) = y$ together with the phase
    condition $f(\\hat y) \\cdot (y - \\hat y) = 0$ at the guess $\\hat y$ (Seydel 2010,
    sections 7.3 and 7.4), by Powell's hybrid method with the derivative from the
    variational equation, whose matrix over a period is the monodromy matrix; its
    eigenvalues are the Floquet multipliers. Of a field that depends on time, $T$ is
    that of the field, and only $y$ is looked for. An orbit that closes after a half to
    a sixth of the period is found again with that.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem].
    - `guess`: a state near the orbit, in the structure of `problem.y0`, which is the
        default.
    - `period`: a guess of the period; of a field that depends on time, its period.
        `None` solves the problem over its span, and takes guess and period from the
        return of its second half: for orbits that attract.
    - `backend`, `solver`, `options`: what integrates, as of
        [`solve`][hybrid_nds.solve]; by default Dopri8 on Diffrax and Vern9 on Julia.
    - `rtol`, `atol`: tolerances of the search, by default 1e-9 and 1e-11 in float64,
        1e-5 and 1e-6 in float32, `atol` times the size of the guess. The result is of
        ten times tighter ones, to which the errors are the differences.
    - `max_shots`: the most integrations over a period in the search.

    **Returns:** a [`PeriodicOrbit`][hybrid_nds.stability.PeriodicOrbit].

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] where shooting does not
    converge, the orbit diverges, or the search ends in an equilibrium.
    """
    caller = "periodic_orbit"
    check_problem(caller, problem)
    double = problem.dtype == np.float64
    relative, absolute = (1e-9, 1e-11) if double else (1e-5, 1e-6)
    relative = check_positive(caller, "rtol", relative if rtol is None else rtol)
    if atol is not None:
        check_positive(caller, "atol", atol)
    least = 40 * float(np.finfo(problem.dtype).eps)
    if relative < least:
        raise ValueError(
            f"{caller}: `rtol` must be at least {least:.1e}, since the result takes a "
            f"tenth of it; got {relative:.1e}."
        )
    chosen = PRECISE_SOLVERS.get(backend) if solver is None else solver
    with precision_of(problem):
        start = flat_state(caller, problem, guess)
        unit = _unit(problem, start, period)
        absolute = absolute * unit if atol is None else float(atol)
        target = Target(problem, backend, chosen, relative, absolute, options, unit)
        if period is None:
            start, length = estimate_period(target, start)
        else:
            length = check_positive(caller, "period", period)
        shot, residuals = shoot(target, start, length, max_shots)
        divisor = _repetition(target, shot)
        if divisor > 1:
            again = (shot.point, shot.period / divisor)
            shot, more = shoot(target, *again, max_shots)
            residuals = [*residuals, *more]
        tight = target.tightened()
        loose = target.newton(target.newton(shot))
        shot = tight.newton(tight.newton(loose))
        orbit = target.orbit(shot, _POINTS)
    return _result(target, loose, shot, orbit, residuals)


def _unit(problem: ODEProblem, start: np.ndarray, period: Any) -> float:
    """A power of two near the size of the state: of the guess and of `y0`, or where
    these are zero, of how far the field takes the guess in a period or the span."""
    size = float(np.max(np.abs([start, flat_state("periodic_orbit", problem, None)])))
    if size == 0:
        span = float(problem.t1) - float(problem.t0) if period is None else period
        rate = np.asarray(flat_field(problem, problem.t0, start), float)
        size = abs(float(span)) * float(np.max(np.abs(rate)))
    known = math.isfinite(size) and size > 0
    return 2.0 ** math.ceil(math.log2(size)) if known else 1.0


def _repetition(target: Target, shot: Shot) -> int:
    """How many times the orbit goes round within what was taken for its period."""
    if target.forced:
        return 1
    orbit = target.orbit(shot, _POINTS)
    extent = float(np.max(np.ptp(orbit, axis=0)))
    for divisor in (6, 5, 4, 3, 2):
        back = orbit[_POINTS // divisor] - orbit[0]
        if np.max(np.abs(back)) < 1e-5 * extent:
            return divisor
    return 1


def _result(
    target: Target,
    loose: Shot,
    shot: Shot,
    orbit: np.ndarray,
    residuals: list[float],
) -> PeriodicOrbit:
    change = float(np.linalg.norm(shot.monodromy - loose.monodromy))
    extent = float(np.max(np.ptp(orbit, axis=0)))
    size = float(np.max(np.abs(orbit)))
    point_error = float(np.linalg.norm(shot.point - loose.point))
    if extent <= 1e-6 * size + 10 * point_error:
        raise AnalysisError(
            "periodic_orbit: the search ended in an equilibrium, where every period is "
            f"one: {shot.point.tolist()}. Give a `guess` farther from it, or a "
            "`period` nearer to that of the orbit."
        )
    precision = float(np.finfo(target.problem.dtype).eps)
    found = spectrum(shot.monodromy, precision, change)
    order = np.argsort(-np.abs(found.eigenvalues), kind="stable")
    values, errors = found.eigenvalues[order], found.errors[order]
    trivial = None
    if not target.forced:
        nearest = int(np.argmin(np.abs(values - 1)))
        trivial = complex(values[nearest])
        values, errors = np.delete(values, nearest), np.delete(errors, nearest)
    round_off = precision * shot.period
    # Two runs may agree by chance: no better than a tenth of the tighter tolerance.
    change_of_period = max(
        abs(shot.period - loose.period), 0.01 * target.rtol * shot.period
    )
    return PeriodicOrbit(
        period=shot.period,
        period_error=change_of_period + round_off,
        point=shot.point,
        point_error=point_error + precision * size,
        state=target.problem.flat_state.unflatten(shot.point),
        multipliers=values,
        multiplier_errors=errors,
        trivial_multiplier=trivial,
        monodromy=shot.monodromy,
        times=float(target.problem.t0) + np.linspace(0, shot.period, _POINTS + 1),
        orbit=orbit,
        residuals=np.array([*residuals, shot.residual]),
        settings={"rtol": target.rtol, "atol": target.atol, "forced": target.forced},
        provenance=analysis_provenance(
            target.backend,
            shot.provenance.solver,
            field=shot.provenance.field,
            rtol=target.rtol / 10,
            atol=target.atol / 10,
            versions=dict(shot.provenance.versions),
        ),
    )
