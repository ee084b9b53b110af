"""Bifurcations along a branch of equilibria: where they are, and of which kind."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._arclength import CurvePoint, System, Walker


@dataclasses.dataclass(frozen=True)
class Bifurcation:
    """A point of a branch where its stability or its direction changes.

    **Fields:**

    - `kind`: `"fold"`, where the branch turns back; `"branch point"`, where others
        cross it (pitchfork, transcritical); `"hopf"`, where a pair of complex
        eigenvalues crosses the axis.
    - `parameter`, and `parameter_error`.
    - `point`: the flat state, shape `(n,)`.
    - `index`: the position along the branch, that of the point before it.
    - `frequency`: the imaginary part of a Hopf pair, and 0 for the others; orbits are
        born with the period `2π / frequency`.
    - `lyapunov_coefficient`: of a Hopf bifurcation, the first one (Kuznetsov 2004,
        equation 5.34): where it is negative, stable orbits are born, where positive,
        unstable ones. `None` for the others.
    """

    kind: str
    parameter: float
    parameter_error: float
    point: Float[np.ndarray, " component"]
    index: int
    frequency: float = 0.0
    lyapunov_coefficient: float | None = None

    def __str__(self) -> str:
        text = f"{self.kind} at {self.parameter:.10g} ± {self.parameter_error:.1e}"
        if self.lyapunov_coefficient is None:
            return text
        born = "supercritical" if self.lyapunov_coefficient < 0 else "subcritical"
        return (
            f"{text}, period {2 * math.pi / self.frequency:.6g}, {born} (first "
            f"Lyapunov coefficient {self.lyapunov_coefficient:.4g})"
        )


def bifurcations(walker: Walker, points: list[CurvePoint]) -> list[Bifurcation]:
    """What happens between neighbours of a branch."""
    found = []
    for index, (here, there) in enumerate(itertools.pairwise(points)):
        length = float((there.w - here.w) @ here.tangent)
        if length <= 0:
            continue
        change = abs(there.unstable - here.unstable)
        crossed = here.side * there.side < 0
        # A start may be a fold itself, with a tangent of no parameter at all.
        stands = here.tangent[-1] == 0 and index > 0
        before = points[index - 1] if stands else here
        ways = before.tangent[-1], there.tangent[-1]
        # On a branch that stands upright its sign is noise.
        leans = max(abs(way) for way in ways) > walker.system.precision**0.5
        turned = ways[0] * ways[1] < 0 and leans
        if crossed:
            pair = walker.bisect(here, length, lambda p, s=here.side: p.side * s < 0)
            found.append(_simple(walker, "branch point", index, pair, here, there))
        elif turned:
            way = ways[0]
            pair = walker.bisect(here, length, lambda p, s=way: p.tangent[-1] * s < 0)
            found.append(_simple(walker, "fold", index, pair, here, there))
        if change - int(crossed or turned) >= 2 or (
            change and not crossed and not turned
        ):
            count = here.unstable
            pair = walker.bisect(here, length, lambda p, c=count: p.unstable != c)
            if _crosses(pair, here, there):
                found.append(_crossing(walker, index, pair, here, there))
    return found


def _simple(
    walker: Walker,
    kind: str,
    index: int,
    pair: tuple[CurvePoint, CurvePoint],
    here: CurvePoint,
    there: CurvePoint,
) -> Bifurcation:
    """A fold or a branch point within a bracket."""
    point, parameter = walker.system.unscaled(pair[1].w)
    return Bifurcation(
        kind, float(parameter), _error(walker, pair, here, there), point, index
    )


def _crosses(
    pair: tuple[CurvePoint, CurvePoint], here: CurvePoint, there: CurvePoint
) -> bool:
    """Whether a real part goes to zero between two points. Of the eigenvalues nearest
    to a point alone, an unstable one may also come to be farther than others."""

    def nearest(point: CurvePoint) -> float:
        return float(np.min(np.abs(np.real(point.spectrum.eigenvalues))))

    if pair[1].spectrum.eigenvalues.size == pair[1].w.size - 1:
        return True
    ends = max(nearest(here), nearest(there))
    errors = max(float(np.max(point.spectrum.errors)) for point in pair)
    return all(nearest(point) <= 1e-3 * ends + 10 * errors for point in pair)


def _crossing(
    walker: Walker,
    index: int,
    pair: tuple[CurvePoint, CurvePoint],
    here: CurvePoint,
    there: CurvePoint,
) -> Bifurcation:
    """A Hopf bifurcation; or where several real eigenvalues cross at once."""
    point, parameter = walker.system.unscaled(pair[1].w)
    values, errors = pair[1].spectrum.eigenvalues, pair[1].spectrum.errors
    critical = int(np.argmin(np.abs(np.real(values))))
    frequency = abs(float(np.imag(values[critical])))
    error = _error(walker, pair, here, there)
    if frequency <= errors[critical]:
        return Bifurcation("branch point", float(parameter), error, point, index)
    return Bifurcation(
        kind="hopf",
        parameter=float(parameter),
        parameter_error=error,
        point=point,
        index=index,
        frequency=frequency,
        lyapunov_coefficient=lyapunov_coefficient(walker, pair[1], frequency),
    )


def _error(
    walker: Walker,
    pair: tuple[CurvePoint, CurvePoint],
    here: CurvePoint,
    there: CurvePoint,
) -> float:
    """How far off a parameter may be: the bracket, what the error of the critical
    eigenvalue makes of it, by the change of its real part over the step, and how far
    the point is from the branch."""
    parameters = [point.w[-1] * walker.system.parameter_scale for point in pair]
    found = pair[1].spectrum
    critical = int(np.argmin(np.abs(np.real(found.eigenvalues))))
    step = abs(there.w[-1] - here.w[-1]) * walker.system.parameter_scale
    change = max(
        float(np.min(np.abs(np.real(point.spectrum.eigenvalues))))
        for point in (here, there)
    )
    moved = 2 * float(found.errors[critical]) * step / change if change > 0 else step
    round_off = 4 * walker.system.precision * abs(parameters[1])
    left = abs(float(walker.shift(pair[1].w)[-1])) * walker.system.parameter_scale
    return abs(parameters[1] - parameters[0]) + moved + round_off + left


@eqx.filter_jit
def _forms(
    system: System, w: ArrayLike, a: ArrayLike, b: ArrayLike
) -> tuple[Array, ...]:
    """The second and third derivatives of the field along two directions of the
    state: aa, ab, bb and aaa, aab, abb, bbb."""
    w, a, b = jnp.asarray(w), jnp.asarray(a), jnp.asarray(b)
    u, parameter = system.unscaled(w)

    def field(u: Array) -> Array:
        return system.field(jnp.append(u, parameter) / _units(system, w))

    def along(function: Callable[[Array], Array], direction: Array) -> Any:
        return lambda u: jax.jvp(function, (u,), (direction,))[1]

    first = {"a": along(field, a), "b": along(field, b)}
    second = {
        "aa": along(first["a"], a),
        "ab": along(first["a"], b),
        "bb": along(first["b"], b),
    }
    third = [
        along(second["aa"], a),
        along(second["aa"], b),
        along(second["ab"], b),
        along(second["bb"], b),
    ]
    return tuple(form(u) for form in (*second.values(), *third))


def _units(system: System, w: Array) -> Array:
    units = jnp.full(w.shape, system.state_scale, w.dtype)
    return units.at[-1].set(system.parameter_scale)


def lyapunov_coefficient(walker: Walker, point: CurvePoint, frequency: float) -> float:
    """The first Lyapunov coefficient of a Hopf bifurcation (Kuznetsov 2004, Elements of
    Applied Bifurcation Theory, equation 5.34), with the eigenvector of unit norm."""
    q, p = walker.critical_vectors(point.w, frequency)
    q = q / np.linalg.norm(q)
    p = p / np.conj(np.vdot(p, q))
    a, b = (np.ascontiguousarray(part) for part in (q.real, q.imag))
    forms = _forms(
        walker.system,
        point.w.astype(walker.dtype),
        a.astype(walker.dtype),
        b.astype(walker.dtype),
    )
    aa, ab, bb, aaa, aab, abb, bbb = (np.asarray(form, float) for form in forms)
    flat = aa + bb
    turning = aa - bb + 2j * ab
    cubic = aaa + abb + 1j * (aab + bbb)
    # B(q, h) with h real and complex, by one more derivative each.
    still = walker.shifted_solve(point.w, 0.0, flat)
    turned = walker.shifted_solve(point.w, 2j * frequency, turning)
    mixed = _bilinear(walker, point, q, still) * 2
    double = _bilinear(walker, point, np.conj(q), turned)
    return float(np.real(np.vdot(p, cubic + mixed + double)) / (2 * frequency))


def _bilinear(
    walker: Walker, point: CurvePoint, one: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """The second derivative of the field along two complex directions."""
    total = np.zeros(len(one), complex)
    for x, fx in ((np.real(one), 1), (np.imag(one), 1j)):
        for y, fy in ((np.real(other), 1), (np.imag(other), 1j)):
            arguments = (v.astype(walker.dtype) for v in (point.w, x, y))
            total += fx * fy * np.asarray(_forms(walker.system, *arguments)[1], float)
    return total
