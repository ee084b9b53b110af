"""Stationary densities, slowest eigenvalues and exit times from a sparse generator."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...analysis import AnalysisError
from ._plane_mesh import PlaneMesh

_EPSILON = float(np.finfo(np.float64).eps)
# Eigenvalues that are found, and the shift, as a share of the largest rate.
_MODES = 8
_SHIFT = 1e-6


class PlaneSolution(NamedTuple):
    mesh: PlaneMesh
    stationary: np.ndarray | None
    eigenvalues: np.ndarray
    gap: float
    round_off: float
    exit_times: np.ndarray | None


def solve_plane(mesh: PlaneMesh) -> PlaneSolution:
    generator = mesh.generator
    largest = float(np.abs(generator.diagonal()).max())
    absorbed = bool(np.any(mesh.absorption != 0))
    _check_classes(mesh)
    density = exits = stationary = None
    shift = 0.0
    if not absorbed:
        shift = _SHIFT * largest
        density = _kernel(mesh, shift)
        stationary = _spread(mesh, density / (mesh.widths[0] * mesh.widths[1]))
    factors = _factors(generator, shift, mesh.positive)
    if absorbed:
        exits = _spread(mesh, -factors.solve(np.ones(generator.shape[0]), trans="T"))
    eigenvalues = _slowest(factors, shift, density)
    gap = -float(np.max(np.real(eigenvalues)))
    return PlaneSolution(mesh, stationary, eigenvalues, gap, _EPSILON * largest, exits)


def _spread(mesh: PlaneMesh, values: np.ndarray) -> np.ndarray:
    whole = np.full(mesh.inside.shape, np.nan)
    whole[mesh.inside] = values
    return whole


def _check_classes(mesh: PlaneMesh) -> None:
    """Refuse processes whose long run is not one: with several closed classes, or with
    one from which nothing is absorbed although something is elsewhere."""
    from scipy.sparse.csgraph import connected_components

    matrix = mesh.generator.tocoo()
    many, label = connected_components(matrix.T, directed=True, connection="strong")
    closed = np.ones(many, bool)
    leaves = label[matrix.row] != label[matrix.col]
    closed[label[matrix.col[leaves]]] = False
    closed[label[mesh.absorption != 0]] = False
    allowed = 0 if np.any(mesh.absorption != 0) else 1
    if closed.sum() > allowed:
        what = (
            "from some of which nothing is absorbed"
            if allowed == 0
            else "and no one stationary density"
        )
        raise ValueError(
            f"fokker_planck_plane: `problem` has {closed.sum()} parts of `domain` that "
            f"nothing leaves, {what}; take a `domain` or a `region` with one of them."
        )


def _factors(generator: Any, shift: float, positive: bool) -> Any:
    from scipy.sparse import eye_array
    from scipy.sparse.linalg import splu

    shifted = (generator - shift * eye_array(generator.shape[0])).tocsc()
    if not positive:
        return splu(shifted, permc_spec="MMD_AT_PLUS_A")
    # The diagonal outweighs its column: without pivots nothing grows, nor cancels.
    return splu(
        shifted,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )


def _kernel(mesh: PlaneMesh, shift: float) -> np.ndarray:
    """The stationary probabilities, from those of one cell that has many."""
    generator = mesh.generator
    states = generator.shape[0]
    first = _factors(generator, shift, mesh.positive).solve(np.ones(states))
    pinned = int(np.argmax(np.abs(first)))
    others = np.flatnonzero(np.arange(states) != pinned)
    inner = generator[others][:, others].tocsc()
    onward = -generator[others][:, [pinned]].toarray().ravel()
    found = np.ones(states)
    found[others] = _factors(inner, 0.0, mesh.positive).solve(onward)
    return found / found.sum()


def _slowest(factors: Any, shift: float, density: np.ndarray | None) -> np.ndarray:
    """Eigenvalues nearest to the shift, the slowest first, without that of the
    stationary density."""
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigs

    states = factors.shape[0]

    def apply(v: np.ndarray) -> np.ndarray:
        solved = factors.solve(np.ravel(v))
        return solved if density is None else solved - density * solved.sum()

    # Its constructor is typed as that of its subclasses.
    make: Any = LinearOperator
    operator = make((states, states), matvec=apply, dtype=float)
    start = np.random.default_rng(0).normal(size=states)
    many = min(_MODES, states - 2)
    try:
        inverse: Any = eigs(operator, k=many, v0=start, return_eigenvectors=False)
    except ArpackError as error:
        raise AnalysisError(
            "fokker_planck_plane: the slowest eigenvalues of the generator were not "
            f"found ({error}); take other `cells`."
        ) from error
    found = shift + 1 / inverse
    return found[np.lexsort((found.imag, -found.real))]
