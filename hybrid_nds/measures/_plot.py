"""The figure of a comparison of laws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._core import save_figure


def plot_intervals(
    intervals: Sequence[Any], level: float, same: bool, path: Any = None
) -> Any:
    """Differences of moments with their intervals, one row each, in standard errors.

    **Arguments:** the intervals, the level, the verdict, and where to save the figure.

    **Returns:** the matplotlib figure.
    """
    from matplotlib.figure import Figure

    rows = len(intervals)
    figure = Figure(figsize=(6.4, 1.2 + 0.34 * rows), layout="constrained")
    axes = figure.subplots()
    for row, one in enumerate(intervals):
        inside = one.low <= 0 <= one.high
        colour = "#0072b2" if inside else "#d55e00"
        ends = [one.low / one.standard_error, one.high / one.standard_error]
        axes.plot(ends, [row, row], color=colour, linewidth=2.2)
        axes.plot(one.difference / one.standard_error, row, "o", color=colour)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_yticks(range(rows), [one.name for one in intervals])
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xlabel("difference, in standard errors")
    verdict = "not told apart" if same else "different"
    axes.set_title(f"Laws {verdict} at level {level:g}", fontsize=11, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    save_figure(figure, path)
    return figure
