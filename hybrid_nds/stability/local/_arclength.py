"""Pseudo-arclength continuation: the steps along a branch of equilibria."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike

from ..._core import with_forward_rule
from ...backends.diffrax import ToleranceNewton
from ...problems import ODEProblem
from ._field import Spectrum, spectrum

NEWTON_STEPS = 12
# Of Newton's method: after so few, the next step along the branch is longer.
_EASY_STEPS = 4
# Between the tangents of neighbours: more of a turn is taken in shorter steps.
_LEAST_COSINE = 0.95
# Tolerances that a point may be off by; the last update was within one.
_LEFT = 10.0


class System(eqx.Module):
    """A field with a parameter, in scaled unknowns `w`: the flat state in units of
    `state_scale`, then the parameter in units of `parameter_scale`."""

    problem_of: Callable[[Any], ODEProblem]
    time: Any
    state_scale: float = eqx.field(static=True)
    parameter_scale: float = eqx.field(static=True)
    precision: float = eqx.field(static=True)

    def unscaled(self, w: Any) -> tuple[Any, Any]:
        """The state and the parameter."""
        return w[:-1] * self.state_scale, w[-1] * self.parameter_scale

    def field(self, w: Array) -> Array:
        """The field, also where it has a reverse rule only. The problem is made
        within: no function with a rule of its own may close over the parameter, which
        is traced."""
        own = with_forward_rule(self._made, self.time, w, None)
        return own(self.time, w, None)

    def _made(self, time: Any, w: Array, args: None) -> Array:
        del args
        u, parameter = self.unscaled(w)
        problem = self.problem_of(parameter)
        y = problem.flat_state.unflatten(u)
        return ravel_pytree(problem.field(time, y, problem.args))[0]


@eqx.filter_jit
def _linearised(system: System, w: ArrayLike) -> tuple[Array, Array]:
    """The field and its derivative in the unknowns, shapes `(n,)` and `(n, n + 1)`."""
    w = jnp.asarray(w)
    return system.field(w), jax.jacfwd(system.field)(w)


@eqx.filter_jit
def _fields(system: System, w: ArrayLike) -> Array:
    """The field at many unknowns, shape `(m, n)`."""
    return jax.vmap(system.field)(jnp.asarray(w))


@eqx.filter_jit
def _corrected(
    system: System, guess: ArrayLike, direction: ArrayLike, tolerance: float
) -> tuple[Array, Array, Array]:
    """The zero of the field on the plane through a guess across a direction; the steps
    that took, and whether it was reached."""
    guess, direction = jnp.asarray(guess), jnp.asarray(direction)

    def equations(w: Array, _: None) -> Array:
        return jnp.append(system.field(w), direction @ (w - guess))

    found = optx.root_find(
        equations,
        ToleranceNewton(tolerance, tolerance, kappa=1.0),
        guess,
        max_steps=NEWTON_STEPS,
        throw=False,
    )
    reached = (found.result == optx.RESULTS.successful) & jnp.all(
        jnp.isfinite(found.value)
    )
    return found.value, found.stats["num_steps"], reached


def _shortest(slope: np.ndarray, value: np.ndarray, precision: float) -> np.ndarray:
    return np.linalg.lstsq(slope, value, rcond=precision**0.5)[0]


def off_branch(step: np.ndarray, w: np.ndarray, tolerance: float) -> bool:
    """Whether Newton's method came to rest by its tolerance where no branch is near."""
    return bool(np.linalg.norm(step) > _LEFT * tolerance * (1 + np.linalg.norm(w)))


class CurvePoint(NamedTuple):
    """A point of a branch.

    **Fields:** the scaled unknowns; the unit tangent; the spectrum of the Jacobian; an
    error of the state; the sign of the bordered determinant, which changes at a branch
    point; how many eigenvalues have a positive real part; the Newton steps it took."""

    w: np.ndarray
    tangent: np.ndarray
    spectrum: Spectrum
    error: float
    side: float
    unstable: int
    steps: int


class Walk(NamedTuple):
    """**Fields:** the points of a branch from its start on; the length of the next
    step; why it ended, `"interval"`, `"closed"`, `"points"`, or `"step"` for a failure,
    and empty while it goes on."""

    points: list[CurvePoint]
    step: float
    ended: str


@dataclasses.dataclass(frozen=True)
class Walker:
    """How to walk along a branch."""

    system: System
    dtype: Any
    tolerance: float
    least_step: float
    most_step: float

    def correct(
        self, guess: np.ndarray, direction: np.ndarray
    ) -> tuple[np.ndarray, int] | None:
        w, steps, reached = _corrected(
            self.system,
            guess.astype(self.dtype),
            direction.astype(self.dtype),
            self.tolerance,
        )
        return (np.asarray(w, float), int(steps)) if bool(reached) else None

    def derivative(self, w: np.ndarray) -> tuple[np.ndarray, Any]:
        """The field and its derivative in the unknowns, shapes `(n,)` and
        `(n, n + 1)`."""
        value, slope = _linearised(self.system, w.astype(self.dtype))
        return np.asarray(value, float), np.asarray(slope, float)

    def by_parameter(self, w: np.ndarray) -> np.ndarray:
        """The derivative of the field in the parameter."""
        return self.derivative(w)[1][:, -1]

    def fields(self, w: np.ndarray) -> np.ndarray:
        return np.asarray(_fields(self.system, w.astype(self.dtype)), float)

    def shift(self, w: np.ndarray) -> np.ndarray:
        """How far the branch is from a point, to first order: the shortest step of
        Newton's method, without the directions of a branch point."""
        value, slope = self.derivative(w)
        return _shortest(slope, value, self.system.precision)

    def point(self, w: np.ndarray, along: np.ndarray, steps: int) -> CurvePoint | None:
        """The point of a branch at a zero, oriented along a direction."""
        f, slope = self.derivative(w)
        if not np.all(np.isfinite(slope)):
            return None
        if off_branch(_shortest(slope, f, self.system.precision), w, self.tolerance):
            return None
        n = len(f)
        # The null vector, of the unknowns as columns.
        _, sizes, rows = np.linalg.svd(slope)
        least_size = self.system.precision * sizes[0]
        tangent = rows[-1] * (1 if rows[-1] @ along >= 0 else -1)
        J = slope[:, :-1] / self.system.state_scale
        side = np.linalg.slogdet(np.vstack([slope, tangent]))[0]
        found = spectrum(J, self.system.precision)
        singular = np.linalg.svd(J, compute_uv=False)
        u = self.system.unscaled(w)[0]
        residual = float(np.linalg.norm(f))
        residual += self.system.precision * singular[0] * float(np.linalg.norm(u))
        least = max(singular[-1], np.finfo(float).tiny)
        regular = singular[-1] > self.system.precision * singular[0]
        return CurvePoint(
            w=w,
            tangent=tangent,
            spectrum=found,
            error=residual / least if regular else np.inf,
            side=float(side) if sizes[n - 1] > least_size else 0.0,
            unstable=int(np.sum(np.real(found.eigenvalues) > 0)),
            steps=steps,
        )

    def critical_vectors(
        self, w: np.ndarray, frequency: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The right and left eigenvectors of the eigenvalue nearest to $i\\omega$."""
        A = self.derivative(w)[1][:, :-1] / self.system.state_scale
        values, left, right = cast(Any, scipy.linalg.eig(A, left=True))
        k = int(np.argmin(np.abs(values - 1j * frequency)))
        return right[:, k], left[:, k]

    def shifted_solve(
        self, w: np.ndarray, shift: complex, value: np.ndarray
    ) -> np.ndarray:
        """The solution $x$ of $(\\sigma I - A)x = b$ with the Jacobian $A$."""
        A = self.derivative(w)[1][:, :-1] / self.system.state_scale
        return np.linalg.solve(shift * np.eye(len(A)) - A, value)

    def at(self, point: CurvePoint, length: float) -> CurvePoint | None:
        """The point of the branch a length further along the tangent."""
        corrected = self.correct(point.w + length * point.tangent, point.tangent)
        if corrected is None:
            return None
        return self.point(corrected[0], point.tangent, corrected[1])

    def onto(
        self, parameter: float, one: CurvePoint, other: CurvePoint
    ) -> CurvePoint | None:
        """The point at a parameter between those of two neighbours."""
        share = (parameter - one.w[-1]) / (other.w[-1] - one.w[-1])
        guess = one.w + share * (other.w - one.w)
        guess[-1] = parameter
        across = np.zeros(len(guess))
        across[-1] = 1.0
        corrected = self.correct(guess, across)
        return None if corrected is None else self.point(corrected[0], one.tangent, 0)

    def walk(
        self,
        begun: Walk,
        ends: tuple[float, float],
        most: int,
        seen: Callable[[Walk], None],
    ) -> Walk:
        """On from a walk to the end of the branch.

        **Arguments:** the walk so far, at least its start, whose tangent is the
        direction; the scaled parameters at which to end; the most points; what to call
        after every point.
        """
        points, step = list(begun.points), begun.step
        start = points[0]
        while len(points) < most:
            here = points[-1]
            there = self.at(here, step)
            turned = there is not None and (
                there.tangent @ here.tangent < _LEAST_COSINE
            )
            if there is None or turned:
                if step / 2 >= self.least_step:
                    step /= 2
                    continue
                # A corner that no step is short enough for is walked round.
                if there is None:
                    return Walk(points, step, "step")
            if not ends[0] <= there.w[-1] <= ends[1]:
                edge = ends[0] if there.w[-1] < ends[0] else ends[1]
                last = self.onto(edge, here, there) if here.w[-1] != edge else None
                points += [] if last is None else [last]
                return Walk(points, step, "interval")
            points.append(there)
            if self._closed(points, step):
                return Walk([*points, start], step, "closed")
            if there.steps <= _EASY_STEPS:
                step = min(1.5 * step, self.most_step)
            seen(Walk(points, step, ""))
        return Walk(points, step, "points")

    @staticmethod
    def _closed(points: list[CurvePoint], step: float) -> bool:
        """Whether the last point is just before the first."""
        start, here = points[0], points[-1]
        left = start.w - here.w
        return (
            len(points) > 10
            and bool(np.linalg.norm(left) < step)
            and bool(here.tangent @ start.tangent > _LEAST_COSINE)
            and bool(left @ here.tangent >= 0)
        )

    def bisect(
        self, here: CurvePoint, length: float, passed: Callable[[CurvePoint], bool]
    ) -> tuple[CurvePoint, CurvePoint]:
        """The two points between which a test changes, as near as round-off allows.

        **Arguments:** the point before it; the length within which it changes; the
        test.
        """
        low, high = 0.0, length
        near = here
        far = self.at(here, length)
        if far is None:
            return here, here
        for _ in range(60):
            middle = (low + high) / 2
            if not low < middle < high:
                break
            point = self.at(here, middle)
            if point is None:
                break
            if passed(point):
                high, far = middle, point
            else:
                low, near = middle, point
        return near, far
