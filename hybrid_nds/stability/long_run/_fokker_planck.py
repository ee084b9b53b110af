"""The Fokker–Planck equation on the line, by the finite volumes of Chang and Cooper."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..._core import Axis, Panels, precision_of
from ...analysis import AnalysisResult, analysis_provenance
from ...problems import SDEProblem, check_kind, forward_problem, to_ito
from ...solution import Provenance
from ._birth_death import BirthDeathChain

_EPSILON = float(np.finfo(np.float64).eps)
# A cell may be √2 standard deviations of a normal layer wide: so far intervals of
# rates hold wherever the layer lies within its cells.
_NORMAL_LAYER = math.sqrt(2)
# An exponential layer at an end may be so many times thinner than a cell: its shape is
# that which fluxes are made of, and estimates hold further than within.
_END_LAYER = 4.0
_SMALL_CHANGE = 0.3
_SMALLEST = float(np.finfo(np.float64).tiny)

Boundary = Literal["reflecting", "absorbing"]


@dataclasses.dataclass(frozen=True, eq=False)
class FokkerPlanck(AnalysisResult):
    """The density of a one-dimensional diffusion.

    **Fields:**

    - `x`: the centres of the cells, shape `(cells,)`; `edges`, `(cells + 1,)`.
    - `times`: shape `(times,)`.
    - `density`: the mean density in each cell, shape `(times, cells)`, in one over the
        unit of the state.
    - `density_errors`: how far the density may be off, in the L¹ norm, shape
        `(times,)`: a third of its distance from that on cells twice as wide (the
        method is of second order), and round-off.
    - `mass`: the probability left in the domain, shape `(times,)`; one, to round-off,
        between reflecting ends.
    - `stationary`: the stationary density, `None` with an absorbing end.
    - `gap`: the slowest rate of decay: to the stationary distribution (the spectral
        gap), or of the mass, with an absorbing end; `gap_error`, by the same
        comparison, with the round-off of the field. However small, a rate has the same
        relative accuracy.
    - `exit_times`: the mean time to an absorbing end from each cell, shape `(cells,)`;
        `None` without one; `exit_time_errors`.
    - `settings`, `provenance`: see
        [`AnalysisResult`][hybrid_nds.analysis.AnalysisResult].
    """

    x: Axis[Float[np.ndarray, " cell"]]
    edges: Float[np.ndarray, " edge"]
    times: Axis[Float[np.ndarray, " time"]]
    density: Float[np.ndarray, "time cell"]
    density_errors: Float[np.ndarray, " time"]
    mass: Float[np.ndarray, " time"]
    stationary: Float[np.ndarray, " cell"] | None
    gap: float
    gap_error: float
    exit_times: Float[np.ndarray, " cell"] | None
    exit_time_errors: Float[np.ndarray, " cell"] | None
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def mean(self) -> Float[np.ndarray, " time"]:
        """The mean of the distribution within the domain at each time, shape
        `(times,)`."""
        return self._moment(1)

    @property
    def variance(self) -> Float[np.ndarray, " time"]:
        """The variance of the distribution within the domain at each time,
        `(times,)`."""
        return self._moment(2) - self.mean**2

    def _moment(self, power: int) -> np.ndarray:
        # Exact for a density that is constant in each cell.
        left, right = self.edges[:-1], self.edges[1:]
        cells = (right ** (power + 1) - left ** (power + 1)) / (power + 1)
        return self.density @ cells / self.mass

    def summary(self) -> str:
        what = "gap" if self.stationary is not None else "slowest decay of the mass"
        lines = [
            f"Fokker–Planck on [{self.edges[0]:.6g}, {self.edges[-1]:.6g}], "
            f"{self.x.size} cells, {self.settings['boundary']} ends",
            f"{what}: {self.gap:.8g} ± {self.gap_error:.1g}",
        ]
        lines += [
            f"t = {t:.6g}: mean {m:.6g}, variance {v:.6g}, mass {p:.12g}, "
            f"L¹ error about {e:.1g}"
            for t, m, v, p, e in zip(
                self.times,
                self.mean,
                self.variance,
                self.mass,
                self.density_errors,
                strict=True,
            )
        ]
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        for t, p in zip(self.times, self.density, strict=True):
            axes.plot(self.x, p, label=f"t = {t:.4g}")
        if self.stationary is not None:
            axes.plot(self.x, self.stationary, "k--", linewidth=1, label="stationary")
        axes.set_xlabel("x")
        axes.set_ylabel("density")
        axes.set_ylim(bottom=0)
        axes.legend()


def fokker_planck(
    problem: SDEProblem,
    domain: tuple[float, float],
    *,
    cells: int = 400,
    times: Sequence[float] | np.ndarray | None = None,
    initial: Callable[[Any], Any] | None = None,
    boundary: Boundary | tuple[Boundary, Boundary] = "reflecting",
) -> FokkerPlanck:
    """Solve the Fokker–Planck equation of a one-dimensional problem.

    $\\partial_t p = -\\partial_x(f p) + \\partial_x^2(D p)$ with $D = \\tfrac12\\sum_j
    g_j^2$, in finite volumes whose fluxes are exact where flux and coefficients are
    constant over a cell (Chang & Cooper 1970, equations 10–18; Scharfetter & Gummel
    1969). What results is the generator of a jump process between
    neighbouring cells: densities stay positive and mass is conserved whatever the step,
    and time is integrated exactly, by the exponential of the generator. No step of the
    computation subtracts: rates and times of rare exits are as accurate as others, over
    barriers of hundreds of $D$ too.

    **Arguments:**

    - `problem`: an [`SDEProblem`][hybrid_nds.SDEProblem] whose state is one number and
        whose drift and diffusion do not depend on time, in either interpretation.
    - `domain`: its ends, in the unit of the state.
    - `cells`: how many cells, even, at least 8; the error falls with their square.
    - `times`: at which the density is requested, increasing, from `problem.t0` on; by
        default `problem.t1` alone.
    - `initial`: the density at `t0`, a JAX function of one number that need not be
        normalised; by default all mass is at `problem.y0`, in the cell around it.
    - `boundary`: `"reflecting"` (no flux) or `"absorbing"` (what arrives is gone), for
        both ends or a pair.

    **Returns:** a [`FokkerPlanck`][hybrid_nds.stability.FokkerPlanck]. The error of
    cutting the line to `domain` is not in its error estimates.

    **Raises:** `ValueError` or `TypeError`, naming the argument; for `cells` that are
    wider than a layer of the density too.
    """
    _check(problem, domain, cells)
    ends = (boundary, boundary) if isinstance(boundary, str) else tuple(boundary)
    if len(ends) != 2 or any(e not in ("reflecting", "absorbing") for e in ends):
        raise ValueError(
            'fokker_planck: `boundary` must be "reflecting", "absorbing", or a pair of '
            f"these, got {boundary!r}."
        )
    with precision_of(problem):
        requested = _times(problem, times)
        problem = to_ito(forward_problem(problem))
        edges = np.linspace(*domain, cells + 1)
        drift, diffusion, rounding = _coefficients(problem, edges)
        meshes = [
            _mesh(edges[::n], drift[::n], diffusion[::n], rounding[::n], ends)
            for n in (1, 2, 4)
            if cells % n == 0
        ]
        _check_resolved(meshes[0], ends)
        fine, coarse = (
            _solve(problem, mesh, requested, initial, ends) for mesh in meshes[:2]
        )
    # A change of sign of the error may hide it from two meshes: what it was on the
    # wider ones falls by a factor of four.
    before = np.asarray(0.0)
    if len(meshes) == 3:
        before = _change(coarse.gap, meshes[2].chain.slowest_rate()) / 4
    pairs = fine.density.reshape(len(requested), -1, 2).mean(axis=2)
    width = (domain[1] - domain[0]) / (cells // 2)
    exit_errors = None
    if fine.exit_times is not None and coarse.exit_times is not None:
        middle = fine.exit_times.reshape(-1, 2).mean(axis=1)
        share = _share(_change(middle, coarse.exit_times), before, fine.round_off)
        exit_errors = np.repeat(share, 2) * fine.exit_times
    gap_error = fine.gap * float(
        _share(_change(fine.gap, coarse.gap), before, fine.round_off)
    )
    return FokkerPlanck(
        x=(edges[:-1] + edges[1:]) / 2,
        edges=edges,
        times=requested,
        density=fine.density,
        density_errors=np.abs(pairs - coarse.density).sum(axis=1) * width / 3
        + _curvature_error(fine.density) * width / 2
        + fine.density_errors,
        mass=fine.density.sum(axis=1) * width / 2,
        stationary=fine.stationary,
        gap=fine.gap,
        # A rate below the smallest number is not known to be zero.
        gap_error=gap_error if fine.gap > 0 else _SMALLEST,
        exit_times=fine.exit_times,
        exit_time_errors=exit_errors,
        settings={"cells": cells, "domain": tuple(domain), "boundary": "/".join(ends)},
        provenance=analysis_provenance("jax", "Chang–Cooper"),
    )


def _change(fine: Any, coarse: Any) -> np.ndarray:
    """What a positive number may be off by, in its logarithm: a third of the change
    from cells twice as wide; the whole of one that is not small, where the order of the
    method does not show yet."""
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.abs(np.log(fine) - np.log(coarse))
    change = np.where(np.isnan(change), np.inf, change)
    return np.where(change < _SMALL_CHANGE, change / 3, change)


def _curvature_error(density: np.ndarray) -> np.ndarray:
    """By how much means over cells and values in their middles differ, summed: $h^2
    p''/24$, which two meshes with all mass in the same few cells do not show."""
    padded = np.pad(density, ((0, 0), (1, 1)), mode="edge")
    return np.abs(np.diff(padded, 2, axis=1)).sum(axis=1) / 24


def _share(change: np.ndarray, before: np.ndarray, round_off: float) -> np.ndarray:
    """The error of a number as a share of it."""
    return np.expm1(np.minimum(np.maximum(change, before), 700.0)) + round_off


def _check(problem: Any, domain: Any, cells: Any) -> None:
    check_kind("fokker_planck", problem, "sde")
    if problem.dimension != 1:
        raise ValueError(
            "fokker_planck: `problem` must have a state of one number, got "
            f"{problem.dimension}; take invariant_law, which samples."
        )
    ordered = len(domain) == 2 and bool(np.all(np.isfinite(domain)))
    if not ordered or not domain[0] < domain[1]:
        raise ValueError(
            "fokker_planck: `domain` must be two finite increasing numbers, got "
            f"{domain!r}."
        )
    if isinstance(cells, bool) or not isinstance(cells, int) or cells < 8 or cells % 2:
        raise ValueError(
            f"fokker_planck: `cells` must be an even number, 8 or more, got {cells!r}."
        )


def _times(problem: SDEProblem, times: Any) -> np.ndarray:
    given = [float(problem.t1)] if times is None else times
    requested = np.asarray(given, np.float64)
    if requested.ndim != 1 or requested.size == 0 or not np.all(np.isfinite(requested)):
        raise ValueError(
            f"fokker_planck: `times` must be one or more finite numbers, got {times!r}."
        )
    if requested[0] < float(problem.t0) or np.any(np.diff(requested) <= 0):
        raise ValueError(
            "fokker_planck: `times` must increase from no earlier than t0 = "
            f"{float(problem.t0):.6g}, got {requested.tolist()}."
        )
    return requested


@dataclasses.dataclass(frozen=True)
class _Solved:
    """On one mesh. `round_off`: relative, of `gap` and `exit_times`; `density_errors`:
    of round-off alone, in the L¹ norm."""

    density: np.ndarray
    density_errors: np.ndarray
    stationary: np.ndarray | None
    gap: float
    exit_times: np.ndarray | None
    round_off: float


class _Mesh(NamedTuple):
    """The chain on the cells of a mesh; `log_ratio`, of the stationary densities above
    and below each edge; `round_off`, relative, of rates and times of the chain."""

    edges: np.ndarray
    width: float
    chain: BirthDeathChain
    log_ratio: np.ndarray
    round_off: float


def _mesh(
    edges: np.ndarray,
    drift: np.ndarray,
    diffusion: np.ndarray,
    rounding: np.ndarray,
    ends: tuple[str, ...],
) -> _Mesh:
    width = (edges[-1] - edges[0]) / (len(edges) - 1)
    up, down, log_ratio = jump_rates(drift, diffusion, width)
    # A wall is half a cell away.
    walls = jump_rates(drift[[0, -1]], diffusion[[0, -1]], width / 2)
    down[0] = 0.0 if ends[0] == "reflecting" else walls[1][0] / 2
    up[-1] = 0.0 if ends[1] == "reflecting" else walls[0][1] / 2
    chain = BirthDeathChain(up, down)
    # A rate is off by no more than the logarithm of the ratio of two is.
    relative = float(2 * np.sum(rounding * width / diffusion)) + chain.round_off
    return _Mesh(edges, width, chain, log_ratio, math.expm1(min(relative, 700.0)))


def _check_resolved(mesh: _Mesh, ends: tuple[str, ...]) -> None:
    """Refuse cells that are wider than a layer, where no error estimate would hold.

    Rates and densities are made where the logarithm of the stationary density has its
    extrema. There a normal layer of standard deviation $\\sigma$ has the second
    difference $h^2/\\sigma^2$ over cells of width $h$, and an exponential one at an
    end, of length $\\ell$, the first difference $h/\\ell$.
    """
    steps = mesh.log_ratio[1:-1]
    x = mesh.edges[1:-1]
    turns = np.flatnonzero(steps[1:] * steps[:-1] <= 0)
    curved = np.sqrt(np.abs(np.diff(steps))) / _NORMAL_LAYER
    layers = [(curved[k], x[k]) for k in turns]
    # At a reflecting end where the density is least nothing happens.
    if ends[0] == "absorbing" or steps[0] < 0:
        layers.append((abs(steps[0]) / _END_LAYER, mesh.edges[0]))
    if ends[1] == "absorbing" or steps[-1] > 0:
        layers.append((abs(steps[-1]) / _END_LAYER, mesh.edges[-1]))
    worst, where = max(layers, default=(0.0, 0.0))
    if worst > 1:
        enough = 2 * math.ceil(len(mesh.edges[1:]) * worst / 2)
        raise ValueError(
            f"fokker_planck: `cells`, {mesh.width:.3g} wide, must be narrower than "
            f"the layer at x = {where:.6g}; take cells={enough} or more, or a smaller "
            "`domain`."
        )


def _solve(
    problem: SDEProblem,
    mesh: _Mesh,
    times: np.ndarray,
    initial: Callable[[Any], Any] | None,
    ends: tuple[str, ...],
) -> _Solved:
    edges, width, chain = mesh.edges, mesh.width, mesh.chain
    cells = chain.states
    x = (edges[:-1] + edges[1:]) / 2
    stationary = exits = None
    if ends == ("reflecting", "reflecting"):
        logs = np.concatenate([[0.0], np.cumsum(mesh.log_ratio[1:-1])])
        weights = np.exp(logs - logs.max())
        stationary = weights / weights.sum() / width
    else:
        exits = chain.exit_times()
    density = [_start(problem, edges, x, initial)]
    errors = [0.0]
    cached: dict[float, np.ndarray] = {}
    now = float(problem.t0)
    for time in times:
        step = float(time) - now
        moved, error = density[-1], errors[-1]
        if step > 0:
            if step not in cached:
                cached[step] = chain.transition(step)[:cells, :cells]
            moved = cached[step] @ moved
            # One rounding of a sum over the cells in each product.
            error += (20 + chain.squarings(step)) * cells * _EPSILON
        density.append(moved)
        errors.append(error)
        now = float(time)
    return _Solved(
        np.stack(density[1:]),
        np.array(errors[1:]),
        stationary,
        chain.slowest_rate(),
        exits,
        mesh.round_off,
    )


def _coefficients(
    problem: SDEProblem, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The drift less the slope of $D$, and $D$, at the edges of the cells; and what the
    first may be off by, for round-off in the field and in where the edges are."""
    drift, diffusion = problem.flat_drift(), problem.flat_diffusion()

    def at(t: Any, x: Any) -> Any:
        return drift(t, x[None])[0], 0.5 * jnp.sum(diffusion(t, x[None]) ** 2)

    def everything(t: Any, x: Any) -> Any:
        (f, d), slopes = jax.jvp(lambda x: at(t, x), (x,), (jnp.ones_like(x),))
        # At another time, too: an even function of it is at rest at zero.
        changes = [
            jax.jvp(lambda t: at(t, x), (time,), (jnp.ones_like(time),))[1]
            for time in (t, t + between)
        ]
        moved = jnp.max(jnp.abs(jnp.asarray(changes)))
        return f, d, *slopes, moved

    between = 0.37 * (problem.t1 - problem.t0)
    points = jnp.asarray(edges, problem.dtype)
    spacing = np.diff(np.asarray(points, np.float64))
    if not np.all(spacing > 0.5 * (edges[1] - edges[0])):
        raise ValueError(
            f"fokker_planck: `cells`, {edges[1] - edges[0]:.3g} wide, must be "
            f"wider than the last place of its ends in {problem.dtype}; take fewer "
            "`cells`, a wider `domain`, or a state that is measured from its middle."
        )
    found = jax.jit(jax.vmap(everything, (None, 0)))(problem.t0, points)
    f, d, curvature, slope, moved = (np.asarray(part, np.float64) for part in found)
    if np.any(moved != 0):
        raise ValueError(
            "fokker_planck: `problem` must not depend on time, but its drift or "
            "diffusion changes with t."
        )
    if not all(np.all(np.isfinite(part)) for part in (f, d, slope)):
        raise ValueError(
            "fokker_planck: drift or diffusion of `problem` is not finite somewhere in "
            f"`domain`, [{edges[0]:.6g}, {edges[-1]:.6g}]; take a smaller one."
        )
    if np.any(d <= 0):
        where = edges[np.argmin(d)]
        raise ValueError(
            "fokker_planck: the diffusion of `problem` must not vanish in `domain`, "
            f"but it does at x = {where:.6g}; end the domain before that point."
        )
    size = (
        np.abs(f)
        + np.abs(slope)
        + np.abs(edges) * (np.abs(curvature) + np.abs(f / d * slope))
    )
    return f - slope, d, float(np.finfo(problem.dtype).eps) * size


def jump_rates(
    drift: np.ndarray, diffusion: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates of jumps over edges, upward and downward, and the logarithm of the ratio
    of the stationary densities above and below."""
    peclet = drift * width / diffusion
    scale = diffusion / width**2
    return scale * _bernoulli(-peclet), scale * _bernoulli(peclet), peclet


def _bernoulli(w: np.ndarray) -> np.ndarray:
    """$w / (e^w - 1)$."""
    small = np.abs(w) < 1e-8
    safe = np.where(small, 1.0, w)
    # In this form nothing overflows.
    large = np.where(safe > 0, safe * np.exp(-np.abs(safe)), -safe) / -np.expm1(
        -np.abs(safe)
    )
    return np.where(small, 1 - w / 2, large)


def _start(
    problem: SDEProblem,
    edges: np.ndarray,
    x: np.ndarray,
    initial: Callable[[Any], Any] | None,
) -> np.ndarray:
    width = (edges[-1] - edges[0]) / x.size
    if initial is None:
        y0 = float(np.ravel(np.asarray(jax.tree_util.tree_leaves(problem.y0)[0]))[0])
        if not edges[0] < y0 < edges[-1]:
            raise ValueError(
                f"fokker_planck: y0 = {y0:.6g} of `problem` is not within `domain`, "
                f"[{edges[0]:.6g}, {edges[-1]:.6g}]."
            )
        # Shared between the two nearest centres, so that the mean is exact.
        position = np.clip((y0 - x[0]) / width, 0, x.size - 1)
        low = min(int(position), x.size - 2)
        density = np.zeros(x.size)
        density[low : low + 2] = (low + 1 - position) / width, (position - low) / width
        return density
    # Five-point Gauss–Legendre in each cell.
    nodes, weights = np.polynomial.legendre.leggauss(5)
    points = jnp.asarray(x[:, None] + nodes * width / 2, problem.dtype)
    values = np.asarray(jax.vmap(jax.vmap(initial))(points), np.float64)
    if values.shape != points.shape or not np.all(values >= 0) or not values.any():
        raise ValueError(
            "fokker_planck: `initial` must return one number that is not negative for "
            "each point, and not zero everywhere."
        )
    density = values @ weights
    return density / density.sum() / width
