"""One-parameter continuation of equilibria."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Complex, Float, Int, PyTree

from ..._core import Panels, Records, check_positive, check_whole, precision_of
from ...analysis import (
    AnalysisError,
    AnalysisResult,
    SavedProgress,
    analysis_provenance,
    progress_bar,
)
from ...problems import ODEProblem, digest, traced_text
from ...solution import Provenance
from ._arclength import CurvePoint, System, Walker
from ._bifurcations import Bifurcation, bifurcations
from ._field import check_problem, flat_state, frozen_time, point_text
from ._saved_branch import SavedBranch
from ._sparse import check_part
from ._sparse_walk import SparseWalker, parameter_pattern

_ENDS = {
    "interval": "the end of the interval",
    "closed": "a closed curve",
    "points": "max_points",
    "step": "a step that was too short",
}
_SHOWN = 20
_MARKERS = {"fold": "s", "branch point": "D", "hopf": "o"}


@dataclasses.dataclass(frozen=True)
class Branch(AnalysisResult):
    """A branch of equilibria over a parameter, with stability and bifurcations.

    **Fields**, the first axis that of the `m` points along the branch:

    - `parameters`: the values of the parameter, shape `(m,)`.
    - `points`: the flat states, shape `(m, n)`; `states`, the same as a pytree with a
        leading axis of `m`.
    - `errors`: how far a point may be from the equilibrium, as of
        [`equilibria`][hybrid_nds.stability.equilibria], shape `(m,)`.
    - `eigenvalues`, `eigenvalue_errors`: of the Jacobians, by falling real part, shape
        `(m, n)`, or `(m, number)` where they are sparse.
    - `unstable`: how many of these have a positive real part, shape `(m,)`.
    - `bifurcations`: a [`Bifurcation`][hybrid_nds.stability.Bifurcation] each.
    - `ended`: why the branch ends, at its first point and at its last.
    """

    parameters: Float[np.ndarray, " point"]
    points: Float[np.ndarray, "point component"]
    states: PyTree[np.ndarray]
    errors: Float[np.ndarray, " point"]
    eigenvalues: Complex[np.ndarray, "point eigenvalue"]
    eigenvalue_errors: Float[np.ndarray, "point eigenvalue"]
    unstable: Int[np.ndarray, " point"]
    bifurcations: Annotated[tuple[Bifurcation, ...], Records("bifurcation")]
    ended: tuple[str, str]
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def stable(self) -> Bool[np.ndarray, " point"]:
        """Whether all real parts are negative, beyond their errors."""
        return np.all(np.real(self.eigenvalues) + self.eigenvalue_errors < 0, axis=1)

    def find(self, kind: str) -> tuple[Bifurcation, ...]:
        """The bifurcations of one kind: `"fold"`, `"hopf"` or `"branch point"`."""
        if kind not in _MARKERS:
            raise ValueError(
                f"Branch.find: `kind` must be one of {', '.join(_MARKERS)}, got "
                f"{kind!r}."
            )
        return tuple(one for one in self.bifurcations if one.kind == kind)

    def summary(self) -> str:
        first, last = self.parameters[0], self.parameters[-1]
        ends = [_ENDS[why] for why in self.ended]
        both = "both ends: " if ends[0] == ends[1] else ""
        lines = [
            f"{len(self.parameters)} equilibria from parameter {first:.6g} to "
            f"{last:.6g}, {int(np.sum(self.stable))} of them stable; states ± "
            f"{np.median(self.errors):.1e} (median)",
            f"  {both}{ends[0]}" + ("" if both else f"; and {ends[1]}"),
        ]
        found = self.bifurcations[:_SHOWN]
        lines += [f"  {one}, state {point_text(one.point)}" for one in found]
        if len(self.bifurcations) > _SHOWN:
            lines.append(f"  … and {len(self.bifurcations) - _SHOWN} more")
        if not self.bifurcations:
            lines.append("  no bifurcation")
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        heights = self.points[:, 0]
        for stable, style, word in ((True, "-", "stable"), (False, "--", "unstable")):
            # Each piece reaches to the next point, so that the curve has no gaps.
            shown = self.stable == stable
            shown[1:] |= (self.stable == stable)[:-1]
            if np.any(self.stable == stable):
                curve = np.where(shown, heights, np.nan)
                axes.plot(self.parameters, curve, style, color="C0", label=word)
        for kind, marker in _MARKERS.items():
            at = self.find(kind)
            if at:
                where = [b.parameter for b in at], [b.point[0] for b in at]
                axes.plot(*where, marker, color="C3", label=kind, linestyle="none")
        axes.set_xlabel("parameter")
        axes.set_ylabel("component 0")
        axes.legend()


def continue_equilibria(
    problem_of: Callable[[Any], ODEProblem],
    start: float,
    interval: tuple[float, float],
    *,
    guess: PyTree = None,
    step: float = 0.01,
    max_step: float = 0.03,
    min_step: float = 1e-6,
    max_points: int = 2000,
    t: Any = None,
    tolerance: float | None = None,
    jacobian: Any = "auto",
    number: int | None = None,
    near: complex | None = None,
    progress: bool = False,
    save: str | os.PathLike[str] | None = None,
) -> Branch:
    """Follow an equilibrium along a parameter, round its folds.

    Pseudo-arclength continuation (Keller 1977; Seydel 2010, chapter 4) in both
    directions from a first equilibrium: a step along the tangent, and Newton's method
    back to the branch. Steps are in units of the interval for the parameter, and for
    the state of its size: the largest component of the guess, of `y0` and of the first
    equilibrium, or where all of these are zero how far this moves over the interval, to
    first order. So they are the same in every unit. Bifurcations are where a sign
    changes between neighbours, found by bisection along the branch: of the tangent's
    parameter component (fold), of the bordered determinant (branch point); or where a
    pair of eigenvalues crosses the axis (Hopf), with the first Lyapunov coefficient.

    **Arguments:**

    - `problem_of`: a function in JAX of the parameter, that makes the
        [`ODEProblem`][hybrid_nds.ODEProblem]; every one with a state of one structure.
    - `start`: the parameter of the first equilibrium, in the interval.
    - `interval`: `(low, high)`, the parameters to look at.
    - `guess`: a state near the first equilibrium, by default the `y0` of the problem at
        `start`. See [`equilibria`][hybrid_nds.stability.equilibria].
    - `step`, `max_step`, `min_step`: the first step, the longest and the shortest.
    - `max_points`: the most points in each direction.
    - `t`: the time at which to freeze a field that depends on time.
    - `tolerance`: of Newton's method, relative and absolute in scaled units, by default
        1e-10 in float64 and 1e-4 in float32, and quadratic convergence beyond.
    - `jacobian`, `number`, `near`: whether the Jacobian is sparse, and how many of its
        eigenvalues to find then and near what, as in
        [`jacobian_spectrum`][hybrid_nds.stability.jacobian_spectrum]. Folds and branch
        points are found from bordered sparse matrices, whatever the eigenvalues are; a
        Hopf bifurcation only where its pair is among those.
    - `progress`: whether to show a bar, of points out of the most there may be.
    - `save`: a file to keep the branch in as it grows; a run that was cut off goes on
        from it, to the same result.

    **Returns:** a [`Branch`][hybrid_nds.stability.Branch].

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] where there is no equilibrium
    near the guess, or the branch cannot be followed: then `error.result` holds what
    there is of it.
    """
    caller = "continue_equilibria"
    if not callable(problem_of):
        raise TypeError(
            f"{caller}: `problem_of` must be a function of the parameter that makes an "
            f"ODEProblem, got {type(problem_of).__name__}."
        )
    low, high = _check_interval(caller, start, interval)
    check_whole(caller, "max_points", max_points, 2)
    lengths = [
        check_positive(caller, name, value)
        for name, value in (
            ("min_step", min_step),
            ("step", step),
            ("max_step", max_step),
        )
    ]
    if sorted(lengths) != lengths:
        raise ValueError(
            f"{caller}: `min_step`, `step` and `max_step` must rise, got {lengths}."
        )
    problem = problem_of(float(start))
    check_problem(caller, problem)
    default = 1e-10 if problem.dtype == np.float64 else 1e-4
    close = check_positive(
        caller, "tolerance", default if tolerance is None else tolerance
    )
    with precision_of(problem):
        u = flat_state(caller, problem, guess)
        frozen = frozen_time(caller, problem, t, u[None])
        width = high - low
        plain = System(problem_of, frozen, 1.0, width, _precision(problem))
        try:
            pattern = parameter_pattern(caller, problem, plain, jacobian)
            part = check_part(caller, problem, pattern is not None, number, near)

            def walking(system: System) -> Walker:
                common = system, problem.dtype, close, 0.0, math.inf
                if pattern is None:
                    return Walker(*common)
                return SparseWalker(*common, pattern, *part)

            walker, first = _begin(caller, walking, plain, problem, u, float(start))
        except jax.errors.UnexpectedTracerError as error:
            raise TypeError(
                f"{caller}: the field of `problem_of` cannot be differentiated in the "
                "parameter: a function of jax.custom_vjp closes over it, whose rule "
                "says nothing of that derivative. Pass the parameter to that function "
                "as an argument."
            ) from error
        walker = dataclasses.replace(walker, least_step=min_step, most_step=max_step)
        system = walker.system
        ends = (low / (high - low), high / (high - low))
        kept = SavedProgress(
            caller,
            save,
            {
                "problem": digest(
                    [traced_text(system.field, jnp.asarray(first.w, u.dtype))]
                ),
                "settings": repr((u.tolist(), lengths, max_points, close, low, high))
                + ("" if pattern is None else repr((pattern.nonzeros, *part))),
            },
        )
        with progress_bar(progress, caller, 2 * max_points) as advance:
            branches = SavedBranch(kept, walker, advance)
            forward = branches.walk("forward", first, ends, step, max_points)
            points, first_end = forward.points, forward.ended
            if forward.ended != "closed":
                back = _reversed(first)
                backward = branches.walk("backward", back, ends, step, max_points)
                points = [*map(_reversed, backward.points[:0:-1]), *forward.points]
                first_end = backward.ended
        found = bifurcations(walker, points)
    branch = _branch(
        problem,
        system,
        points,
        found,
        (first_end, forward.ended),
        (low, high),
        lengths,
        "dense" if pattern is None else "sparse",
    )
    _raise_if_stuck(branch, min_step)
    return branch


def _check_interval(caller: str, start: Any, interval: Any) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in interval)
        inside = low <= float(start) <= high and low < high
    except (TypeError, ValueError):
        inside = low = high = math.nan
    if not (inside is True and math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"{caller}: `interval` must be a pair (low, high) of finite numbers with "
            f"`start` in it, got {interval!r} and start={start!r}."
        )
    return low, high


def _precision(problem: ODEProblem) -> float:
    return float(np.finfo(problem.dtype).eps)


def _begin(
    caller: str,
    walking: Callable[[System], Walker],
    plain: System,
    problem: ODEProblem,
    u: np.ndarray,
    start: float,
) -> tuple[Walker, CurvePoint]:
    """The first equilibrium, and a walker in units of the size of the state: of the
    guess, of `y0` and of that equilibrium; where all are zero, how far the field lets
    the state go for what the parameter may do over the interval."""

    def at(scale: float) -> tuple[Walker, CurvePoint]:
        size = scale * math.sqrt(len(u))
        walker = walking(dataclasses.replace(plain, state_scale=size))
        return walker, _first(walker, u, start)

    sizes = [u, flat_state(caller, problem, None)]
    given = _binary(max(float(np.max(np.abs(size))) for size in sizes))
    walker, first = at(given or 1.0)
    state = walker.system.unscaled(first.w)[0]
    scale = max(given, _binary(float(np.max(np.abs(state))))) or _reach(walker, first)
    return (walker, first) if scale in (0.0, given) else at(scale)


def _binary(size: float) -> float:
    """The next power of two, in units of which nothing is rounded; zero for zero."""
    return 2.0 ** math.ceil(math.log2(size)) if size > 0 else 0.0


def _reach(walker: Walker, point: CurvePoint) -> float:
    """How far along the branch's tangent the state goes until the field is as large as
    the parameter makes it over the interval; zero where it does neither."""
    direction = point.tangent[:-1]
    made = float(np.linalg.norm(walker.by_parameter(point.w)))
    if made == 0 or not np.any(direction):
        return 0.0
    lengths = 2.0 ** np.arange(-100, 101)
    steps = lengths[:, None] * direction / np.max(np.abs(direction))
    scaled = steps / walker.system.state_scale
    moved = np.tile(point.w, (len(lengths), 1))
    moved[:, :-1] += scaled
    sizes = np.linalg.norm(walker.fields(moved), axis=1)
    reached = np.flatnonzero(sizes >= made)
    return float(lengths[reached[0]]) if len(reached) else 0.0


def _first(walker: Walker, u: np.ndarray, start: float) -> CurvePoint:
    """The first equilibrium, its tangent toward larger parameters."""
    system = walker.system
    guess = np.append(u / system.state_scale, start / system.parameter_scale)
    guess = guess.astype(float)
    across = np.zeros(len(guess))
    across[-1] = 1.0
    corrected = walker.correct(guess, across)
    if corrected is not None:
        guess = corrected[0]
    # At a fold or a branch point Newton's method fails, even where the guess is right.
    exact = corrected is not None or not np.any(walker.derivative(guess)[0])
    point = walker.point(guess, across, 0) if exact else None
    if point is None:
        raise AnalysisError(
            "continue_equilibria: Newton's method found no equilibrium near `guess` at "
            f"the parameter {start:g}. Look for one with hybrid_nds.stability."
            f"equilibria(problem_of({start:g}), region=…), and give it as `guess`."
        )
    if point.side == 0:
        raise AnalysisError(
            "continue_equilibria: more than one branch goes through the equilibrium at "
            f"the parameter {start:g}, a branch point; begin at another `start`."
        )
    return point


def _reversed(point: CurvePoint) -> CurvePoint:
    """A point seen from the other direction."""
    return point._replace(tangent=-point.tangent, side=-point.side)


def _branch(
    problem: ODEProblem,
    system: System,
    points: list[CurvePoint],
    found: list[Bifurcation],
    ended: tuple[str, str],
    interval: tuple[float, float],
    lengths: list[float],
    jacobian: str,
) -> Branch:
    pairs = [system.unscaled(point.w) for point in points]
    states = np.array([u for u, _ in pairs])
    return Branch(
        parameters=np.array([parameter for _, parameter in pairs]),
        points=states,
        states=problem.flat_state.unflatten(states),
        errors=np.array([point.error for point in points]),
        eigenvalues=np.array([point.spectrum.eigenvalues for point in points]),
        eigenvalue_errors=np.array([point.spectrum.errors for point in points]),
        unstable=np.array([point.unstable for point in points]),
        bifurcations=tuple(found),
        ended=ended,
        settings={
            "interval": interval,
            "steps": tuple(lengths),
            "t": float(system.time),
            "state_scale": system.state_scale,
            "jacobian": jacobian,
        },
        provenance=analysis_provenance("jax", "pseudo-arclength"),
    )


def _raise_if_stuck(branch: Branch, min_step: float) -> None:
    """Raise where the branch ends at a step that was too short."""
    stuck = [i for i, why in zip((0, -1), branch.ended, strict=True) if why == "step"]
    if not stuck:
        return
    where = " and ".join(
        f"{branch.parameters[i]:.6g}, state {point_text(branch.points[i])}"
        for i in stuck
    )
    raise AnalysisError(
        f"continue_equilibria: the branch could not be followed past the parameter "
        f"{where}: no step longer than min_step = {min_step:g} led to a point of it. "
        "The field may be rough, blow up or be undefined there; narrow `interval`, "
        "take a shorter `min_step`, or loosen `tolerance`. What there is of the branch "
        "is in the `result` of this error.",
        branch,
    )
