"""The Fokker–Planck equation in the plane, by finite volumes in sparse matrices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Complex, Float

from ..._core import Axis, Panels, precision_of, whole_memory
from ...analysis import AnalysisResult, analysis_provenance
from ...problems import SDEProblem, check_kind, forward_problem, to_ito
from ...solution import Provenance
from ._exit_steps import region_levels
from ._plane_mesh import Interval, plane_mesh
from ._plane_solution import solve_plane

# The two factors of a five-point matrix of n rows have about 31 n log₂(n) / 4 entries
# each (George 1973), of twelve bytes.
_BYTES = 2 * 12 * 31 / 4

Boundary = Literal["reflecting", "absorbing"]


@dataclasses.dataclass(frozen=True, eq=False)
class FokkerPlanckPlane(AnalysisResult):
    """The long run of a diffusion in the plane.

    **Fields:**

    - `x`, `y`: the centres of the cells in the first and the second state.
    - `region`: which cells the process lives in, shape `(x, y)`.
    - `stationary`: the mean stationary density in each cell, shape `(x, y)`; `None`
        where something is absorbed. `stationary_error`: how far it may be off, in the
        L¹ norm.
    - `eigenvalues`: those of the generator nearest to zero, zero itself left out, the
        slowest first.
    - `gap`: the slowest rate of decay among them: to the stationary density, or of the
        mass where something is absorbed; `gap_error`.
    - `exit_times`: the mean time to absorption from each cell, shape `(x, y)`, NaN out
        of the region; `None` where nothing is absorbed. `exit_time_errors`.
    - `positive`: whether all rates between cells are positive, so that densities are.
    - `settings`, `provenance`: see
        [`AnalysisResult`][hybrid_nds.analysis.AnalysisResult].

    Errors are the whole change from cells twice as wide: about the error itself where
    the method is of first order, three times as much where it is of second.
    """

    x: Axis[Float[np.ndarray, " x_cell"]]
    y: Axis[Float[np.ndarray, " y_cell"]]
    region: Bool[np.ndarray, "x_cell y_cell"]
    stationary: Float[np.ndarray, "x_cell y_cell"] | None
    stationary_error: float | None
    eigenvalues: Complex[np.ndarray, " mode"]
    gap: float
    gap_error: float
    exit_times: Float[np.ndarray, "x_cell y_cell"] | None
    exit_time_errors: Float[np.ndarray, "x_cell y_cell"] | None
    positive: bool
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def mean(self) -> Float[np.ndarray, " component"] | None:
        """The mean of the stationary density, shape `(2,)`; `None` without one."""
        return None if self.stationary is None else self._moments(self.stationary)[0]

    @property
    def covariance(self) -> Float[np.ndarray, "component other"] | None:
        """The covariance of the stationary density, shape `(2, 2)`; `None` without
        one."""
        return None if self.stationary is None else self._moments(self.stationary)[1]

    def _moments(self, density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        widths = np.array([self.x[1] - self.x[0], self.y[1] - self.y[0]])
        weights = density * widths.prod()
        mean = np.array([weights.sum(1) @ self.x, weights.sum(0) @ self.y])
        dx, dy = self.x - mean[0], self.y - mean[1]
        mixed = dx @ weights @ dy
        # The density is constant in each cell, whose own variance is added.
        squares = [weights.sum(1) @ dx**2, weights.sum(0) @ dy**2] + widths**2 / 12
        return mean, np.array([[squares[0], mixed], [mixed, squares[1]]])

    def summary(self) -> str:
        absorbed = self.stationary is None
        what = "slowest decay of the mass" if absorbed else "gap"
        kept = "positive" if self.positive else "mass kept, not all rates positive"
        lines = [
            f"Fokker–Planck in the plane, {self.x.size} × {self.y.size} cells, {kept}",
            f"{what}: {self.gap:.8g} ± {self.gap_error:.1g}",
        ]
        if self.stationary is not None:
            (mx, my), covariance = self._moments(self.stationary)
            lines.append(
                f"stationary: mean ({mx:.6g}, {my:.6g}), variances "
                f"{covariance[0, 0]:.6g} and {covariance[1, 1]:.6g}, covariance "
                f"{covariance[0, 1]:.6g}, L¹ error about {self.stationary_error:.1g}"
            )
        if self.exit_times is not None:
            lines.append(f"longest mean exit time: {np.nanmax(self.exit_times):.6g}")
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        shown, label = self.stationary, "stationary density"
        if shown is None:
            shown, label = self.exit_times, "mean exit time"
        image = axes.pcolormesh(self.x, self.y, np.asarray(shown).T, shading="nearest")
        image.set_rasterized(True)
        # Within the axes that were asked for, which may be the caller's.
        beside = axes.inset_axes((1.02, 0.0, 0.04, 1.0))
        axes.figure.colorbar(image, cax=beside, label=label)
        axes.set_xlabel("first state")
        axes.set_ylabel("second state")


def fokker_planck_plane(
    problem: SDEProblem,
    domain: tuple[Interval, Interval],
    *,
    cells: tuple[int, int] = (100, 100),
    boundary: Boundary | tuple[Boundary, Boundary] = "reflecting",
    region: Any = None,
) -> FokkerPlanckPlane:
    """Solve the stationary Fokker–Planck equation of a problem of two states.

    $0 = -\\sum_i \\partial_i(f_i p) + \\sum_{ij} \\partial_i \\partial_j(D_{ij} p)$
    with $D = \\tfrac12 g g^\\top$, in finite volumes on a rectangle: the stationary
    density, the slowest eigenvalues of the generator, and mean exit times. Fluxes
    through the sides of cells are those of Scharfetter & Gummel (1969), of second
    order, and upwind differences, of first, in a direction without diffusion. Mixed
    derivatives are jumps along the diagonals of cells, which take their share of the
    diffusion along the axes. Probability is kept, to round-off. The scheme is the
    generator of a jump process, and its densities are positive, wherever $|D_{12}|
    \\le D_{11} h_2/h_1$ and $|D_{12}| \\le D_{22} h_1/h_2$ with the widths $h$ of
    cells; elsewhere some rates are negative, and the result's `positive` is false.

    **Arguments:**

    - `problem`: an [`SDEProblem`][hybrid_nds.SDEProblem] whose state is two numbers and
        whose drift and diffusion do not depend on time, with any noise, degenerate too,
        in either interpretation.
    - `domain`: an interval for each state.
    - `cells`: how many cells in each state, even, at least 8.
    - `boundary`: `"reflecting"` (no flux) or `"absorbing"` (what arrives is gone), for
        all sides or one for the ends of each state.
    - `region`: where the process lives, as for
        [`mean_exit_time`][hybrid_nds.stability.mean_exit_time]: a pair `(low, high)`,
        or a JAX function of the state that is positive inside. What leaves is absorbed.
        Its border is that of cells, which is of first order.

    **Returns:** a [`FokkerPlanckPlane`][hybrid_nds.stability.FokkerPlanckPlane]. The
    error of cutting the plane to `domain` is not in its error estimates.

    **Raises:** `ValueError` or `TypeError`, naming the argument; `MemoryError` for more
    cells than memory holds the factors of;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] where eigenvalues are not
    found.
    """
    _check(problem, domain, cells)
    sides = (boundary, boundary) if isinstance(boundary, str) else tuple(boundary)
    if len(sides) != 2 or any(s not in ("reflecting", "absorbing") for s in sides):
        raise ValueError(
            'fokker_planck_plane: `boundary` must be "reflecting", "absorbing", or a '
            f"pair of these, one for the ends of each state, got {boundary!r}."
        )
    with precision_of(problem):
        levels = None
        if region is not None:
            levels = region_levels("fokker_planck_plane", region, problem)
        problem = to_ito(forward_problem(problem))
        fine, coarse = (
            solve_plane(plane_mesh(problem, domain, many, sides, levels))
            for many in (cells, (cells[0] // 2, cells[1] // 2))
        )
    mesh = fine.mesh
    stationary_error = exit_errors = None
    if fine.stationary is not None and coarse.stationary is not None:
        change = np.abs(_pooled(fine.stationary) - coarse.stationary)
        stationary_error = float(change.sum() * 4 * mesh.widths[0] * mesh.widths[1])
    if fine.exit_times is not None and coarse.exit_times is not None:
        # Where only one of both meshes has a cell, it is the time itself.
        means = _pooled(np.where(mesh.inside, fine.exit_times, 0.0))
        means /= np.maximum(_pooled(mesh.inside.astype(float)), 0.25)
        before = np.where(coarse.mesh.inside, coarse.exit_times, 0.0)
        wide = np.kron(np.abs(means - before), np.ones((2, 2)))
        exit_errors = np.where(mesh.inside, wide, np.nan)
    return FokkerPlanckPlane(
        x=mesh.x,
        y=mesh.y,
        region=mesh.inside,
        stationary=fine.stationary,
        stationary_error=stationary_error,
        eigenvalues=fine.eigenvalues,
        gap=fine.gap,
        gap_error=abs(fine.gap - coarse.gap) + fine.round_off,
        exit_times=fine.exit_times,
        exit_time_errors=exit_errors,
        positive=mesh.positive,
        settings={
            "cells": tuple(cells),
            "domain": tuple(tuple(ends) for ends in domain),
            "boundary": "/".join(sides),
        },
        provenance=analysis_provenance("jax", "Scharfetter–Gummel"),
    )


def _pooled(values: np.ndarray) -> np.ndarray:
    """Means over two by two cells."""
    rows, columns = values.shape
    return values.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))


def _check(problem: Any, domain: Any, cells: Any) -> None:
    check_kind("fokker_planck_plane", problem, "sde")
    if problem.dimension != 2:
        other = "fokker_planck" if problem.dimension == 1 else "invariant_law"
        raise ValueError(
            "fokker_planck_plane: `problem` must have a state of two numbers, got "
            f"{problem.dimension}; take {other}."
        )
    ends = np.asarray(domain, dtype=object)
    shaped = ends.shape == (2, 2)
    ends = ends.astype(float) if shaped else np.zeros((2, 2))
    if not np.all(np.isfinite(ends)) or not np.all(ends[:, 0] < ends[:, 1]):
        raise ValueError(
            "fokker_planck_plane: `domain` must be two pairs of finite increasing "
            f"numbers, one for each state, got {domain!r}."
        )
    pair = isinstance(cells, tuple) and len(cells) == 2
    whole = pair and all(isinstance(n, int) and n >= 8 and n % 2 == 0 for n in cells)
    if not whole:
        raise ValueError(
            "fokker_planck_plane: `cells` must be a pair of even numbers, 8 or more, "
            f"got {cells!r}."
        )
    count = math.prod(cells)
    needed = _BYTES * count * math.log2(count)
    there = whole_memory()
    if there is not None and needed > there:
        raise MemoryError(
            f"fokker_planck_plane: `cells`, {cells[0]} × {cells[1]}, would take about "
            f"{needed / 2**30:,.0f} GiB, and there are {there / 2**30:,.1f} GiB; take "
            "fewer."
        )
