"""Equilibria: where a field is zero, found from many starts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, ArrayLike, Complex, Float, Int, PRNGKeyArray, PyTree

from ..._core import Along, Panels, check_positive, check_whole, precision_of
from ...analysis import AnalysisError, AnalysisResult, analysis_provenance
from ...problems import ODEProblem
from ...solution import Provenance
from ._field import (
    Spectrum,
    check_problem,
    classify,
    field_values,
    flat_box,
    flat_field,
    frozen_time,
    jacobians,
    point_text,
    spectrum,
    uniform_points,
)
from ._jacobian_spectrum import complex_text, draw_eigenvalues
from ._sparse import (
    SparseJacobian,
    check_part,
    eigenvalues_near,
    matrix_norm,
    newton,
    smallest_singular,
    sparse_jacobian,
)

_SHOWN = 20
_LAST = 40


@dataclasses.dataclass(frozen=True)
class Equilibria(AnalysisResult):
    """The equilibria that were found in a region, with their stability.

    **Fields**, the first axis that of the `k` equilibria, in the order of their
    components:

    - `points`: the equilibria as flat vectors, shape `(k, n)`; `states`, the same as a
        pytree of the structure of `y0` with a leading axis of `k`.
    - `errors`: how far a point may be from the zero, $\\|J^{-1}\\|(\\|f\\| +
        \\varepsilon\\|J\\|\\|y\\|)$: Newton's step and round-off, to first order;
        infinite where $J$ is singular, so that the zero need not be isolated.
    - `residuals`: $\\|f\\|$ at the points.
    - `eigenvalues`, `eigenvalue_errors`: of the Jacobian, by falling real part, shape
        `(k, n)`, or `(k, number)` where it is sparse; the errors are those of
        `jacobian_spectrum`.
    - `kinds`: `"stable node"`, `"stable focus"`, `"unstable node"`,
        `"unstable focus"`, `"saddle"`, or `"non-hyperbolic"` where the error of a real
        part reaches zero, so that the linearisation does not decide; by the
        eigenvalues that are found.
    - `unstable`: how many of these have a positive real part, beyond their errors.
    - `hits`: how many starts led there.
    - `starts`, `converged`, `outside`: how many starts there were, how many led to an
        equilibrium, and how many of these to one outside the region.
    """

    points: Float[np.ndarray, "equilibrium component"]
    states: PyTree[np.ndarray]
    errors: Float[np.ndarray, " equilibrium"]
    residuals: Float[np.ndarray, " equilibrium"]
    eigenvalues: Complex[np.ndarray, "equilibrium eigenvalue"]
    eigenvalue_errors: Float[np.ndarray, "equilibrium eigenvalue"]
    kinds: Annotated[tuple[str, ...], Along("equilibrium")]
    unstable: Int[np.ndarray, " equilibrium"]
    hits: Int[np.ndarray, " equilibrium"]
    starts: int
    converged: int
    outside: int
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def spectral_abscissas(self) -> Float[np.ndarray, " equilibrium"]:
        """The largest real part of an eigenvalue of each."""
        return np.real(self.eigenvalues[:, 0])

    @property
    def unseen(self) -> float:
        """The chance that one more start leads to an equilibrium not found yet: the
        share of those that one start alone led to (Good 1953)."""
        return float(np.sum(self.hits == 1) / max(1, np.sum(self.hits)))

    def __len__(self) -> int:
        return len(self.points)

    def summary(self) -> str:
        word = "equilibrium" if len(self) == 1 else "equilibria"
        lines = [
            f"{len(self)} {word} from {self.starts} starts ({self.converged} "
            f"converged, {self.outside} of them outside the region); one more start "
            f"finds another with probability {self.unseen:.2g}"
        ]
        for i in range(min(len(self), _SHOWN)):
            leading = complex_text(self.eigenvalues[i, 0])
            lines.append(
                f"  {point_text(self.points[i])} ± {self.errors[i]:.1e}  "
                f"{self.kinds[i]}, leading eigenvalue {leading} ± "
                f"{self.eigenvalue_errors[i, 0]:.1e}, {self.hits[i]} starts"
            )
        if len(self) > _SHOWN:
            lines.append(f"  … and {len(self) - _SHOWN} more")
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        for i in range(min(len(self), _SHOWN)):
            label = f"{point_text(self.points[i], 3)}, {self.kinds[i]}"
            draw_eigenvalues(axes, self.eigenvalues[i], label=label)
        axes.set_title("eigenvalues of the equilibria")
        axes.legend()


def equilibria(
    problem: ODEProblem,
    *,
    region: tuple[Any, Any],
    starts: int = 64,
    key: PRNGKeyArray | None = None,
    t: Any = None,
    rtol: float | None = None,
    atol: float | None = None,
    merge: float | None = None,
    max_steps: int = 256,
    jacobian: Any = "auto",
    number: int | None = None,
    near: complex | None = None,
) -> Equilibria:
    """Find the equilibria of a field in a region, and classify them.

    Levenberg and Marquardt's method (Nocedal & Wright 2006, section 10.3) by
    Optimistix, from all starts at once under `jax.vmap`. Where it ends in a minimum of
    $\\|f\\|$ that is no zero, the start is not counted as converged. What lies closer
    together than `merge`, or than its errors, is one equilibrium. With a sparse
    Jacobian it is Newton's method with a line search, from one start after the other.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem]; its span is not looked at.
    - `region`: `(low, high)`, the box to look in; each a number, or numbers in the
        structure of `problem.y0`.
    - `starts`: how many starts, uniform in the region.
    - `key`: the JAX random key of the starts, by default that of zero.
    - `t`: the time at which to freeze a field that depends on time.
    - `rtol`, `atol`: of the last step, by default 1e-12 in float64 and 1e-5 in
        float32, `atol` in units of the largest side of the region.
    - `merge`: distance below which two are one, as a share of the sides of the region;
        by default ten times the root of the precision.
    - `max_steps`: the most steps from one start.
    - `jacobian`, `number`, `near`: whether the Jacobian is sparse, and how many of its
        eigenvalues to find then and near what, as in
        [`jacobian_spectrum`][hybrid_nds.stability.jacobian_spectrum].

    **Returns:** [`Equilibria`][hybrid_nds.stability.Equilibria].

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] where none is found, with what
    was tried.
    """
    caller = "equilibria"
    check_problem(caller, problem)
    check_whole(caller, "starts", starts)
    check_whole(caller, "max_steps", max_steps)
    precision = float(np.finfo(problem.dtype).eps)
    default = 1e-12 if problem.dtype == np.float64 else 1e-5
    relative = check_positive(caller, "rtol", default if rtol is None else rtol)
    absolute = check_positive(caller, "atol", default if atol is None else atol)
    close = 10 * precision**0.5 if merge is None else merge
    check_positive(caller, "merge", close)
    with precision_of(problem):
        sparse = sparse_jacobian(caller, problem, jacobian)
        part = check_part(caller, problem, sparse is not None, number, near)
        box = flat_box(caller, problem, region)
        start_key = jax.random.key(0) if key is None else key
        begun = uniform_points(start_key, *box, starts, caller)
        time = frozen_time(caller, problem, t, begun)
        tolerances = (relative, absolute * float(np.max(box[1] - box[0])))
        found = _Search(problem, time, box, precision, close, sparse, part)
        if sparse is None:
            rate = np.asarray(found.rate(begun))
            ends = _descend(problem, time, begun, rate, tolerances, max_steps)
            ends = np.asarray(ends)
        else:
            walk = lambda start: newton(sparse, time, start, tolerances, max_steps)
            ends = np.stack([walk(start) for start in begun])
        groups = found.groups(begun, ends)
    inside = [group for group in groups if found.holds(group.point)]
    if not inside:
        raise AnalysisError(_none_found(found, begun, ends, groups, max_steps))
    inside.sort(key=lambda group: tuple(group.point))
    points = np.stack([group.point for group in inside])
    kinds = [classify(group.spectrum) for group in inside]
    everywhere = sum(group.hits for group in groups)
    hits = np.array([group.hits for group in inside])
    return Equilibria(
        points=points,
        states=problem.flat_state.unflatten(points),
        errors=np.array([group.error for group in inside]),
        residuals=np.array([group.residual for group in inside]),
        eigenvalues=np.stack([group.spectrum.eigenvalues for group in inside]),
        eigenvalue_errors=np.stack([group.spectrum.errors for group in inside]),
        kinds=tuple(kind for kind, _ in kinds),
        unstable=np.array([count for _, count in kinds]),
        hits=hits,
        starts=starts,
        converged=everywhere,
        outside=everywhere - int(hits.sum()),
        settings={
            "low": box[0],
            "high": box[1],
            "t": float(time),
            "rtol": relative,
            "atol": absolute,
            "merge": close,
            "max_steps": max_steps,
            **({} if sparse is None else {"number": part[0], "near": part[1]}),
        },
        provenance=analysis_provenance(
            "jax",
            "LevenbergMarquardt" if sparse is None else "Newton, sparse",
            rtol=relative,
            atol=tolerances[1],
        ),
    )


class _Group(NamedTuple):
    point: np.ndarray
    residual: float
    error: float
    spectrum: Spectrum
    hits: int


class _Search(NamedTuple):
    """What a search looks at, and how it tells equilibria apart."""

    problem: ODEProblem
    time: np.ndarray
    box: tuple[np.ndarray, np.ndarray]
    precision: float
    merge: float
    sparse: SparseJacobian | None
    part: tuple[int, complex]

    def values(self, states: np.ndarray) -> np.ndarray:
        times = np.full(len(states), self.time)
        # In double precision: squares of float32 overflow from 2e19, vanish at 1e-23.
        return np.asarray(field_values(self.problem, times, states), float)

    def rate(self, states: np.ndarray) -> float:
        """A power of two near the rate at which the field crosses the region, in whose
        unit of time a tolerance of states is one of the field."""
        sizes = np.max(np.abs(self.values(states)), axis=1)
        known = sizes[np.isfinite(sizes) & (sizes > 0)]
        across = float(np.max(self.box[1] - self.box[0]))
        if not len(known):
            return 1.0
        return 2.0 ** round(math.log2(float(np.median(known)) / across))

    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(np.max(np.abs(a - b) / (self.box[1] - self.box[0])))

    def holds(self, point: np.ndarray) -> bool:
        slack = self.merge * (self.box[1] - self.box[0])
        low, high = self.box[0] - slack, self.box[1] + slack
        return bool(np.all((low <= point) & (point <= high)))

    def groups(self, begun: np.ndarray, ends: np.ndarray) -> list[_Group]:
        """The different zeros among the ends of the search."""
        sizes = np.linalg.norm(self.values(begun), axis=1)
        known = sizes[np.isfinite(sizes)]
        typical = float(np.median(known)) if len(known) else 0.0
        residuals = np.linalg.norm(self.values(ends), axis=1)
        usable = np.isfinite(residuals) & np.all(np.isfinite(ends), axis=1)
        # The best of those close together stands for them.
        lots: list[list[int]] = []
        for i in np.argsort(residuals):
            if not usable[i]:
                continue
            near = [
                lot
                for lot in lots
                if self.distance(ends[lot[0]], ends[i]) <= self.merge
            ]
            near[0].append(int(i)) if near else lots.append([int(i)])
        judged = [self._judge(ends[lot[0]], typical, len(lot)) for lot in lots]
        groups: list[_Group] = []
        for new in sorted(
            (group for group in judged if group is not None), key=lambda g: g.error
        ):
            same = [i for i, old in enumerate(groups) if self._same(old, new)]
            if same:
                old = groups[same[0]]
                groups[same[0]] = old._replace(hits=old.hits + new.hits)
            else:
                groups.append(new)
        return groups

    def _same(self, one: _Group, other: _Group) -> bool:
        """Whether two zeros lie within their errors, of which those past a thousandth
        of the region say nothing."""
        limit = 1e-3 * float(np.max(self.box[1] - self.box[0]))
        if max(one.error, other.error) > limit:
            return False
        gap = float(np.linalg.norm(one.point.astype(float) - other.point))
        return bool(gap <= 3 * (one.error + other.error))

    def _judge(self, point: np.ndarray, typical: float, hits: int) -> _Group | None:
        """A point with its error and its spectrum, `None` where it is no zero."""
        J = self._jacobian(point)
        sparse, entries = self.sparse, J if self.sparse is None else J.data
        if not np.all(np.isfinite(entries)):
            return None
        value = self.values(point[None])[0]
        residual = float(np.linalg.norm(value))
        state = point.astype(float)
        norm = float(np.linalg.norm(J, 2)) if sparse is None else matrix_norm(J)
        plain = norm * float(np.linalg.norm(state))
        if residual > 1e4 * self.precision * (plain + typical):
            return None
        # In units of the region, in which components of unlike units are alike.
        units = np.asarray(self.box[1] - self.box[0], float)
        if sparse is None:
            J = J * units / units[:, None]
            _, singular, directions = np.linalg.svd(J)
            largest, smallest, direction = singular[0], singular[-1], directions[-1]
        else:
            J = sparse.in_units(J, units)
            largest, (smallest, direction) = matrix_norm(J), smallest_singular(J)
        off = float(np.linalg.norm(value / units))
        round_off = self.precision * largest * float(np.linalg.norm(state / units))
        error, moved = np.inf, 0.0
        if smallest > self.precision * largest:
            error = (off + round_off) / smallest
            # How much else the Jacobian may be where the zero really is. Newton's step
            # is half of the way to a double zero, a third of that to a triple one.
            other = state + 4 * error * direction * units
            there = self._jacobian(other.astype(point.dtype))
            if sparse is None:
                change = there * units / units[:, None] - J
            else:
                change = sparse.in_units(there, units).data - J.data
            moved = float(np.linalg.norm(change))
        moved = moved if np.isfinite(moved) else 0.0
        found = (
            spectrum(J, self.precision, moved)
            if sparse is None
            else eigenvalues_near("equilibria", J, *self.part, self.precision, moved)
        )
        return _Group(point, residual, error * float(np.max(units)), found, hits)

    def _jacobian(self, point: np.ndarray) -> Any:
        if self.sparse is not None:
            return self.sparse(self.time, point)
        J = jacobians(self.problem, self.time[None], point[None])
        return np.asarray(J[0], float)


@eqx.filter_jit
def _descend(
    problem: ODEProblem,
    time: ArrayLike,
    starts: ArrayLike,
    rate: ArrayLike,
    tolerances: tuple[float, float],
    max_steps: int,
) -> Array:
    """Where the search ends from each start, shape `(starts, n)`."""
    descent = optx.LevenbergMarquardt(*tolerances)
    newton = optx.Newton(*tolerances)

    # Levenberg and Marquardt's method wants JAX's default precision, whatever the
    # state's own is.
    wide = jnp.asarray(starts, float)

    def field(u: Array, _: None) -> Array:
        value = flat_field(problem, time, u.astype(problem.dtype))
        return value.astype(u.dtype) / rate

    def one(start: Array) -> Array:
        end = optx.root_find(field, descent, start, max_steps=max_steps, throw=False)
        # At a multiple zero the damping holds the descent up; Newton's method goes on,
        # though slowly.
        last = optx.root_find(field, newton, end.value, max_steps=_LAST, throw=False)
        residuals = [jnp.linalg.norm(field(u, None)) for u in (end.value, last.value)]
        return jnp.where(residuals[1] < residuals[0], last.value, end.value)

    return jax.vmap(one)(wide).astype(problem.dtype)


def _none_found(
    search: _Search,
    begun: np.ndarray,
    ends: np.ndarray,
    groups: list[_Group],
    max_steps: int,
) -> str:
    """What was tried, and what to change."""
    lines = [
        f"equilibria: no equilibrium found in the region from {len(begun)} starts of "
        f"up to {max_steps} steps each."
    ]
    residuals = np.linalg.norm(search.values(ends), axis=1)
    usable = np.isfinite(residuals)
    if not np.any(usable):
        lines.append("The field was not finite where they ended; shrink `region`.")
        return " ".join(lines)
    if groups:
        middle = (search.box[0] + search.box[1]) / 2
        nearest = min(groups, key=lambda g: search.distance(g.point, middle))
        lines.append(
            f"{sum(g.hits for g in groups)} starts led to {len(groups)} equilibria "
            f"outside it, the nearest {point_text(nearest.point)}: enlarge `region` "
            "to see them."
        )
        return " ".join(lines)
    best = int(np.nanargmin(residuals))
    lines.append(
        f"The smallest |f| reached is {residuals[best]:.3g}, at "
        f"{point_text(ends[best])}. The field may have none there; else give another "
        "`region`, more `starts`, or more `max_steps`."
    )
    return " ".join(lines)
