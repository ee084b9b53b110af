"""Times of work-precision curves at an equal error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from contenders import (
    ARRAY,
    CALLBACK,
    DIFFRAX,
    HAND,
    PROBLEMS,
    SCALAR,
    SCIPY_JAX,
    SCIPY_NUMPY,
)

Points = list[Mapping]
TARGET = 1e-7
KVAERNO = "Kvaerno5"


def front(points: Iterable[Mapping]) -> list[tuple[float, float]]:
    """The points that no other beats in both: (error, seconds), by falling error."""
    kept: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (p["seconds"], p["error"])):
        if not kept or point["error"] < kept[-1][0]:
            kept.append((point["error"], point["seconds"]))
    return kept


def seconds_at(points: Iterable[Mapping], error: float) -> float | None:
    """The time to reach an error, by log-log interpolation along the front.

    **Returns:** `None` for an error that no point reaches; the fastest time for one
    that every point is better than.
    """
    curve = front(points)
    if not curve or curve[-1][0] > error:
        return None
    errors = np.log([max(e, 1e-300) for e, _ in curve])[::-1]
    times = np.log([t for _, t in curve])[::-1]
    return math.exp(np.interp(math.log(error), errors, times))


def matched_error(points: Points) -> float:
    """1e-7, or the smallest error that every family reaches if that is larger."""
    families = {point["family"] for point in points}
    reached = (
        min(p["error"] for p in points if p["family"] == family) for family in families
    )
    return max(TARGET, *reached)


def _curves(points: Points) -> dict[tuple[str, str], Points]:
    curves: dict[tuple[str, str], Points] = {}
    for point in points:
        curves.setdefault((point["family"], point["solver"]), []).append(point)
    return curves


def best(
    points: Points, error: float, wanted: Callable[[str, str], bool]
) -> tuple[str, float] | None:
    """The fastest curve of those wanted at an error: its name and its time."""
    found = [
        (f"{solver}, scalar form" if family == SCALAR else solver, seconds)
        for (family, solver), curve in _curves(points).items()
        if wanted(family, solver) and (seconds := seconds_at(curve, error)) is not None
    ]
    return min(found, key=lambda pair: pair[1], default=None)


def table(curves: Mapping[str, Points], machine: Mapping) -> str:
    """The ratios as markdown."""
    lines = [
        "# Work and precision",
        "",
        f"{machine['cores']} shared cores, one thread each, load average "
        f"{min(machine['load'])} to {max(machine['load'])}; minima of repeats in "
        f"{machine['rounds']} rounds. Milliseconds of processor time, warm, called "
        "from Python; by-hand times are those of a loop inside Julia.",
        "",
    ]
    for name, points in curves.items():
        error = matched_error(points)
        lines += [f"## {PROBLEMS[name]}, at error {error:.1e}", ""]
        lines += [*_against_hand(points, error), "", *_against_all(points, error), ""]
    return "\n".join(lines)


def _against_hand(points: Points, error: float) -> list[str]:
    rows = [
        "| solver | by hand | array form | ratio | excess over 1.2 × | scalar form "
        "| ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    by_curve = _curves(points)
    for family, solver in by_curve:
        if family != HAND:
            continue
        hand = seconds_at(by_curve[HAND, solver], error)
        array = seconds_at(by_curve.get((ARRAY, solver), []), error)
        scalar = seconds_at(by_curve.get((SCALAR, solver), []), error)
        excess = None if hand is None or array is None else array - 1.2 * hand
        cells = (hand, array, _over(array, hand), excess, scalar, _over(scalar, hand))
        shown = [
            _ratio(cell) if k in (2, 5) else _milliseconds(cell)
            for k, cell in enumerate(cells)
        ]
        rows.append(f"| {solver} | {' | '.join(shown)} |")
    return rows


def _against_all(points: Points, error: float) -> list[str]:
    ours = best(points, error, lambda family, _: family in (ARRAY, SCALAR))
    array = best(points, error, lambda family, _: family == ARRAY)
    others = [
        ("hybrid_nds, the best", ours),
        ("hybrid_nds, array form", array),
        ("Julia by hand", best(points, error, lambda family, _: family == HAND)),
        ("callback into JAX", best(points, error, lambda f, _: f == CALLBACK)),
        ("SciPy, NumPy field", best(points, error, lambda f, _: f == SCIPY_NUMPY)),
        ("SciPy, JAX field", best(points, error, lambda f, _: f == SCIPY_JAX)),
        ("Diffrax Kvaerno5", best(points, error, lambda _, s: s.startswith(KVAERNO))),
        (
            "Diffrax, explicit",
            best(points, error, lambda f, s: f == DIFFRAX and KVAERNO not in s),
        ),
    ]
    rows = ["| | by | ms | ratio to array form |", "|---|---|---|---|"]
    for label, found in others:
        if found is None:
            continue
        method = found[0]
        ratio = _over(found[1], array[1] if array else None)
        rows.append(
            f"| {label} | {method} | {_milliseconds(found[1])} | {_ratio(ratio)} |"
        )
    return rows


def _over(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.3g}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
