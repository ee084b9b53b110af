"""Shots over one period, and the search for one that comes back."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
import scipy.optimize
from jaxtyping import Array, PyTree

from ..._core import check_whole
from ...analysis import AnalysisError
from ...problems import ODEProblem, VectorField, tangent_problem
from ...solution import Provenance, SolveError
from ...solving import solve
from ._field import field_values, flat_field, time_slopes

_SAMPLES = 2000


class Scaled(eqx.Module):
    """A field in units of a period and of the state, the first of its arguments: so
    one tolerance suits the state and tangent vectors, which are of order one."""

    field: VectorField

    def __call__(self, s: Any, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        period, unit, start, own = args
        state = jtu.tree_map(lambda leaf: unit * leaf, y)
        rate = self.field(start + s * period, state, own)
        return jtu.tree_map(lambda leaf: period * (leaf / unit), rate)


class Shot(NamedTuple):
    """**Fields:** a flat state and a period; where the flow takes the state over the
    period, and the derivative of that; how far it is from coming back."""

    point: np.ndarray
    period: float
    end: np.ndarray
    monodromy: np.ndarray
    residual: float
    provenance: Provenance


@dataclasses.dataclass(frozen=True)
class Target:
    """What to shoot with, and the `unit` of the state in which it is of order one."""

    problem: ODEProblem
    backend: str
    solver: Any
    rtol: float
    atol: float
    options: Mapping[str, Any]
    unit: float

    @functools.cached_property
    def forced(self) -> bool:
        """Whether the field depends on time."""
        u = np.asarray(self.problem.flat_state.flatten(self.problem.y0))
        # At several states and times: the derivative may vanish at one.
        span = float(self.problem.t1) - float(self.problem.t0)
        span = span if np.isfinite(span) else 1.0
        steps = np.linspace(0, 1, 5) ** 2
        times = (float(self.problem.t0) + steps * span).astype(u.dtype)
        states = np.stack([u * (1 + s) + s * self.unit for s in steps]).astype(u.dtype)
        slopes = np.asarray(time_slopes(self.problem, times, states))
        return bool(np.any(slopes[np.isfinite(slopes)] != 0))

    def tightened(self) -> Target:
        """The same with ten times tighter tolerances."""
        return dataclasses.replace(self, rtol=self.rtol / 10, atol=self.atol / 10)

    def scaled(self, point: np.ndarray, period: float) -> ODEProblem:
        dtype = self.problem.dtype
        units = np.asarray(period, dtype), np.asarray(self.unit, dtype)
        own = (*units, self.problem.t0, self.problem.args)
        # A power of two, by which nothing is rounded.
        y0 = self.problem.flat_state.unflatten((point / self.unit).astype(dtype))
        return ODEProblem(Scaled(self.problem.field), y0, 0.0, 1.0, own)

    def shot(self, point: np.ndarray, period: float) -> Shot:
        """Where the flow takes a state over a period, with the derivative.

        **Raises:** `AnalysisError` where it diverges.
        """
        n = len(point)
        made = tangent_problem(
            self.scaled(point, period), np.eye(n, dtype=self.problem.dtype)
        )
        solution = self._solve(made, period)
        state, tangents = jtu.tree_map(lambda leaf: np.asarray(leaf)[-1], solution.ys)
        end = self.problem.flat_state.flatten(state).astype(float) * self.unit
        return Shot(
            point=point,
            period=period,
            end=end,
            # The rows are the tangent vectors.
            monodromy=np.asarray(tangents, float).T,
            residual=float(np.linalg.norm(end - point)),
            provenance=solution.provenance,
        )

    def orbit(self, shot: Shot, points: int) -> np.ndarray:
        """The orbit at equal times over the period, shape `(points + 1, n)`."""
        times = np.linspace(0, 1, points + 1).astype(self.problem.dtype)
        made = self.scaled(shot.point, shot.period)
        solution = self._solve(made, shot.period, saveat=times)
        return (
            np.asarray(self.problem.flat_state.flatten(solution.ys), float) * self.unit
        )

    def _solve(self, made: Any, period: float, **more: Any) -> Any:
        try:
            return solve(
                made,
                self.backend,
                solver=self.solver,
                rtol=self.rtol,
                atol=self.atol / self.unit,
                **more,
                **self.options,
            )
        except SolveError as error:
            raise AnalysisError(
                f"periodic_orbit: an orbit could not be followed over a period of "
                f"{period:.6g}: {error} Give a `guess` nearer to the orbit, a shorter "
                "`period`, or an implicit solver for a stiff field."
            ) from error

    def speed(self, point: np.ndarray) -> np.ndarray:
        """The field at a flat state, at the start of the period."""
        u = point.astype(self.problem.dtype)
        return np.asarray(flat_field(self.problem, self.problem.t0, u), float)

    def equations(
        self, shot: Shot, phase: np.ndarray, anchor: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What a periodic orbit makes zero, and its derivative by state and period: all
        in units of the state and of the period, so that nothing hangs on those of the
        problem."""
        gap = (shot.end - shot.point) / self.unit
        matrix = shot.monodromy - np.eye(len(shot.point))
        if self.forced:
            return gap, matrix
        normal = phase / np.linalg.norm(phase)
        gap = np.append(gap, normal @ (shot.point - anchor) / self.unit)
        moved = self.speed(shot.end) * shot.period / self.unit
        corner = np.zeros((1, 1))
        return gap, np.block([[matrix, moved[:, None]], [normal[None], corner]])

    def newton(self, shot: Shot) -> Shot:
        """One step of Newton's method from a shot, with these tolerances."""
        shot = self.shot(shot.point, shot.period)
        phase = self.speed(shot.point)
        gap, matrix = self.equations(shot, phase, shot.point)
        # Where the matrix is singular, as at a fold of orbits, the shortest step.
        step = np.linalg.lstsq(matrix, -gap, rcond=None)[0]
        n = len(shot.point)
        moved = 0.0 if self.forced else float(step[n])
        return self.shot(shot.point + step[:n] * self.unit, shot.period * (1 + moved))


def shoot(
    target: Target, start: np.ndarray, period: float, max_shots: int
) -> tuple[Shot, list[float]]:
    """Search for a periodic orbit.

    **Returns:** the last shot, and the residuals of all.

    **Raises:** `AnalysisError` where the search does not converge.
    """
    check_whole("periodic_orbit", "max_shots", max_shots)
    anchor = start.astype(float)
    phase = target.speed(anchor)
    if not target.forced and not np.any(phase):
        raise AnalysisError(
            "periodic_orbit: the field is zero at `guess`, which is an equilibrium; "
            "give a state near the orbit."
        )
    if target.forced:
        _check_forcing(target, start, period)
    residuals: list[float] = []
    largest = 0.0
    slope = np.zeros((0, 0))

    # State and time in units of their own, so that all unknowns are of one size.
    def equations(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal largest, slope
        length = period if target.forced else float(x[-1]) * period
        try:
            if length <= 0:
                raise AnalysisError("periodic_orbit: a period below zero.")
            shot = target.shot(x[: len(anchor)] * target.unit, length)
        except AnalysisError:
            if not residuals:
                raise
            # A step too far: a large value makes the method take a shorter one.
            residuals.append(np.inf)
            return np.full(len(x), 100 * largest), slope
        residuals.append(shot.residual)
        gap, slope = target.equations(shot, phase, anchor)
        if not target.forced:
            slope[:, -1] *= period / length
        largest = max(largest, shot.residual / target.unit)
        return gap, slope

    x = anchor / target.unit
    x = x if target.forced else np.append(x, 1.0)
    options = {"maxfev": max_shots, "xtol": max(10 * target.rtol, 1e-12)}
    found = scipy.optimize.root(equations, x, jac=True, method="hybr", options=options)
    x = found.x
    length = period if target.forced else float(x[-1]) * period
    if not target.forced and length < 1e-3 * period:
        raise AnalysisError(
            "periodic_orbit: the period shrank to zero, where every state comes back. "
            "Give a `period` nearer to that of the orbit, or a `guess` nearer to it."
        )
    shot = target.shot(x[: len(anchor)] * target.unit, length)
    residuals.append(shot.residual)
    size = float(np.max(np.abs(shot.point))) + float(np.max(np.abs(shot.end)))
    # The method says itself when it is stuck, but also where round-off stops it.
    if not shot.residual <= 1e3 * (target.rtol * size + target.atol):
        first = ", ".join(f"{r:.2g}" for r in residuals[:3])
        last = ", ".join(f"{r:.2g}" for r in residuals[-3:])
        raise AnalysisError(
            f"periodic_orbit: shooting did not converge in {len(residuals)} shots: "
            f"|y(T) - y(0)| went {first}, …, {last}, with T = {length:.6g} at the end. "
            "Give a `guess` nearer to the orbit and a `period` nearer to its own (for "
            "an orbit that attracts, leave both out and let the problem run to it), "
            "or raise `max_shots`."
        )
    return shot, residuals


def _check_forcing(target: Target, start: np.ndarray, period: float) -> None:
    """Refuse a period that is none of the field's dependence on time."""
    first = float(target.problem.t0)
    steps = first + period * np.linspace(0, 1, 9)[:-1]
    states = np.tile(start, (8, 1)).astype(target.problem.dtype)
    now, later = (
        np.asarray(field_values(target.problem, t.astype(states.dtype), states), float)
        for t in (steps, steps + period)
    )
    slack = float(np.finfo(target.problem.dtype).eps) ** 0.5
    if np.max(np.abs(now - later)) > slack * np.max(np.abs([now, later])):
        raise ValueError(
            "periodic_orbit: `period` must be one of the field where this depends on "
            f"time: f(t + {period:.6g}, y) differs from f(t, y)."
        )


def estimate_period(target: Target, start: np.ndarray) -> tuple[np.ndarray, float]:
    """A state on the attractor and its return time, from a run over the span."""
    problem = target.problem
    span = float(problem.t1) - float(problem.t0)
    if target.forced or not np.isfinite(span) or span < 0:
        raise ValueError(
            "periodic_orbit: give `period`: without it the field must not depend on "
            "time, and the span must be finite and forward, to run to the orbit in its "
            "first half and around it in its second."
        )
    run = target.scaled(start, span)
    times = np.linspace(0, 1, _SAMPLES + 1).astype(problem.dtype)
    solution = target._solve(run, span, saveat=times)
    states = target.problem.flat_state.flatten(solution.ys)
    states = np.asarray(states, float)[_SAMPLES // 2 :] * target.unit
    gaps = np.linalg.norm(states - states[0], axis=1)
    far = float(gaps.max())
    away = int(np.argmax(gaps > far / 2))
    inner = np.arange(max(away, 1), len(gaps) - 1)
    low = (gaps[inner] <= gaps[inner - 1]) & (gaps[inner] <= gaps[inner + 1])
    back = inner[low & (gaps[inner] < far / 10)]
    if far == 0 or not len(back):
        raise AnalysisError(
            "periodic_orbit: the run over the span does not come back to where it is "
            "at its middle; give a later `t1`, so that it reaches the orbit and goes "
            "round it, or `guess` and `period`."
        )
    return states[0], float(back[0]) / _SAMPLES * span
