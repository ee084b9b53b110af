"""The generator of a diffusion in the plane between cells, a sparse matrix."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...problems import SDEProblem
from ._exit_steps import Levels
from ._fokker_planck import jump_rates

# A diffusion so many times smaller than the drift over a cell is none.
_NO_DIFFUSION = 1e-14
Interval = tuple[float, float]


class PlaneMesh(NamedTuple):
    """The generator between the cells inside, by columns, and their rates of
    absorption."""

    x: np.ndarray
    y: np.ndarray
    widths: tuple[float, float]
    inside: np.ndarray
    generator: Any
    absorption: np.ndarray
    positive: bool


def plane_mesh(
    problem: SDEProblem,
    domain: tuple[Interval, Interval],
    cells: tuple[int, int],
    sides: tuple[str, ...],
    levels: Levels | None,
) -> PlaneMesh:
    from scipy.sparse import coo_array

    edges = [np.linspace(*ends, n + 1) for ends, n in zip(domain, cells, strict=True)]
    x, y = ((e[:-1] + e[1:]) / 2 for e in edges)
    widths = (float(x[1] - x[0]), float(y[1] - y[0]))
    inside = _inside(problem, x, y, levels)
    # An equality in the precision of the problem is one.
    slack = 4 * float(np.finfo(problem.dtype).eps)
    rising, falling = _diagonals(_coefficients(problem, *edges)[1], widths, slack)
    both = rising + falling
    number = np.full(cells, -1)
    number[inside] = np.arange(inside.sum())
    states = int(inside.sum())
    absorption = np.zeros(states)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def connect(first: Any, second: Any, to: Any, back: Any) -> None:
        """Jumps between cells inside; those to cells outside are for good."""
        for here, there, rate in ((first, second, to), (second, first, back)):
            lives = here >= 0
            a, b, r = here[lives], there[lives], rate[lives]
            parts.append((a, a, -r))
            stays = b >= 0
            parts.append((b[stays], a[stays], r[stays]))
            np.add.at(absorption, a[~stays], r[~stays])

    for axis, width in enumerate(widths):
        points = (edges[0], y) if axis == 0 else (x, edges[1])
        drift, diffusion = _coefficients(problem, *points)
        # What the jumps along diagonals do of it already.
        shared = _beside(both, axis).mean(axis=0)
        whole = diffusion[..., axis, axis]
        rest = np.maximum(whole - shared * width**2, 0.0)
        # Beside negative rates nothing is gained by upwind differences.
        mixed = _beside(np.minimum(rising, falling), axis).min(axis=0) < 0
        taken = np.where(mixed, whole, rest)
        less = np.where(mixed, shared, 0.0)
        turned = (drift[..., axis], rest, taken, less, number)
        b, d, most, less, padded = (v if axis == 0 else v.T for v in turned)
        outside = np.full_like(padded[:1], -1)
        padded = np.concatenate([outside, padded, outside])
        first, second = padded[:-1], padded[1:]
        to, back = (rate - less for rate in _rates(b, most, width))
        # A wall is half a cell away.
        wall = (first < 0) != (second < 0)
        walls = _rates(b, d, width / 2)
        to, back = np.where(wall, walls[0] / 2, to), np.where(wall, walls[1] / 2, back)
        if sides[axis] == "reflecting":
            to[[0, -1]] = back[[0, -1]] = 0.0
        connect(first.ravel(), second.ravel(), to.ravel(), back.ravel())
    for rates, first, second in (
        (rising, number[:-1, :-1], number[1:, 1:]),
        (falling, number[:-1, 1:], number[1:, :-1]),
    ):
        rate = rates[1:-1, 1:-1].ravel()
        connect(first.ravel(), second.ravel(), rate, rate)
    rows, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    kept = values != 0
    entries = (values[kept], (rows[kept], columns[kept]))
    generator = coo_array(entries, shape=(states, states)).tocsc()
    positive = bool(np.all(rising >= 0) and np.all(falling >= 0))
    return PlaneMesh(x, y, widths, inside, generator, absorption, positive)


def _beside(corners: np.ndarray, axis: int) -> np.ndarray:
    """The values at both corners of each side of a cell that is across an axis."""
    if axis == 0:
        return np.stack([corners[:, :-1], corners[:, 1:]])
    return np.stack([corners[:-1], corners[1:]])


def _inside(
    problem: SDEProblem, x: np.ndarray, y: np.ndarray, levels: Levels | None
) -> np.ndarray:
    if levels is None:
        return np.ones((x.size, y.size), bool)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    found = jax.vmap(levels)(jnp.asarray(points, problem.dtype))
    inside = np.all(np.asarray(found) > 0, axis=1)
    if not inside.any():
        raise ValueError(
            "fokker_planck_plane: `region` must hold the centre of some cell of "
            f"`domain`, but holds none of {x.size} × {y.size}; take more `cells`, "
            "or a `domain` around it."
        )
    return inside.reshape(x.size, y.size)


def _coefficients(
    problem: SDEProblem, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The drift less the divergence of $D$, and $D$, at all pairs of points."""
    drift, diffusion = problem.flat_drift(), problem.flat_diffusion()

    def tensor(t: Any, u: Any) -> Any:
        g = diffusion(t, u)
        if not problem.matrix_noise:
            scalar = problem.noise_dimension == 1
            g = g[:, None] if scalar else jnp.diag(g)
        return 0.5 * g @ g.T

    def everything(t: Any, u: Any) -> Any:
        slopes = jax.jacfwd(lambda u: tensor(t, u))(u)
        both = lambda t: (drift(t, u), tensor(t, u))
        (f, d), moved = jax.jvp(both, (t,), (jnp.ones_like(t),))
        # At another time, too: an even function of it is at rest at zero.
        later = jax.jvp(both, (t + between,), (jnp.ones_like(t),))[1]
        changes = jax.tree.leaves((moved, later))
        still = jnp.all(jnp.stack([jnp.all(change == 0) for change in changes]))
        return f - jnp.einsum("ijj->i", slopes), d, still

    shape = (x.size, y.size)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    given = jnp.asarray(points, problem.dtype)
    for axis, ends in enumerate((x, y)):
        width = ends[1] - ends[0]
        stored = np.asarray(jnp.asarray(ends, problem.dtype), np.float64)
        if not np.all(np.diff(stored) > 0.5 * width):
            raise ValueError(
                f"fokker_planck_plane: `cells`, {width:.3g} wide in state {axis}, must "
                f"be wider than the last place of `domain` in {problem.dtype}; take "
                "fewer `cells`, a wider `domain`, or a state that is measured from its "
                "middle."
            )
    between = 0.37 * (problem.t1 - problem.t0)
    f, d, still = jax.jit(jax.vmap(everything, (None, 0)))(problem.t0, given)
    f, d = np.asarray(f, np.float64), np.asarray(d, np.float64)
    finite = np.isfinite(f).all(axis=1) & np.isfinite(d).all(axis=(1, 2))
    if not finite.all():
        where = points[np.argmin(finite)]
        raise ValueError(
            "fokker_planck_plane: drift or diffusion of `problem`, or its slope, is "
            f"not finite at ({where[0]:.6g}, {where[1]:.6g}); take another `domain`."
        )
    if not np.all(np.asarray(still)):
        raise ValueError(
            "fokker_planck_plane: `problem` must not depend on time, but its drift or "
            "diffusion changes with t."
        )
    if not d.any():
        raise ValueError(
            "fokker_planck_plane: the diffusion of `problem` must not vanish "
            "everywhere in `domain`; take the tools for an ODEProblem."
        )
    return f.reshape(*shape, 2), d.reshape(*shape, 2, 2)


def _diagonals(
    diffusion: np.ndarray, widths: tuple[float, float], slack: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rates of jumps along rising and falling diagonals through the corners of cells,
    none through those at a side of the domain."""
    h, k = widths
    wanted = diffusion[..., 0, 1] / (h * k)
    most = np.minimum(diffusion[..., 0, 0] / h**2, diffusion[..., 1, 1] / k**2)
    # Where no positive rates do, both diagonals share what is missing.
    missing = np.maximum(np.abs(wanted) - most * (1 + slack), 0.0) / 2
    along, across = np.abs(wanted) - missing, -missing
    rising = np.where(wanted > 0, along, across)
    falling = np.where(wanted > 0, across, along)
    for rates in (rising, falling):
        rates[[0, -1]] = rates[:, [0, -1]] = 0.0
    return rising, falling


def _rates(
    drift: np.ndarray, diffusion: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rates of jumps onward and back; upwind ones without diffusion."""
    least = np.maximum(diffusion, _NO_DIFFUSION * np.abs(drift) * width)
    still = least == 0
    to, back, _ = jump_rates(drift, np.where(still, 1.0, least), width)
    return np.where(still, 0.0, to), np.where(still, 0.0, back)
