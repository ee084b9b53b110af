"""The work-precision diagram."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
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
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator
from ratios import TARGET, Points, front

# Okabe and Ito's colours, told apart by every eye; line styles say the same in grey.
STYLES: Mapping[str, tuple[str, str, str]] = {
    ARRAY: ("#0072B2", "-", "hybrid_nds, lowered"),
    SCALAR: ("#56B4E9", "-", "hybrid_nds, lowered, scalar form"),
    HAND: ("#000000", "--", "Julia by hand, timed inside Julia"),
    CALLBACK: ("#CC79A7", "-", "hybrid_nds, callback into JAX"),
    SCIPY_NUMPY: ("#E69F00", "-", "SciPy, NumPy field"),
    SCIPY_JAX: ("#D55E00", ":", "SciPy, jitted JAX field"),
    DIFFRAX: ("#009E73", "-.", "Diffrax"),
}
HOLLOW = (HAND, SCIPY_JAX)
MARKERS = {
    "Rodas5P": "o",
    "FBDF": "s",
    "RadauIIA5": "^",
    "Tsit5": "D",
    "Vern7": "v",
    "LSODA": "P",
    "Radau": "<",
    "BDF": ">",
    "RK45": "1",
    "DOP853": "2",
    "Kvaerno5": "X",
    "Kvaerno5, PI control": "p",
    "Dopri8": "*",
}


def draw(curves: Mapping[str, Points], file: Path) -> None:
    """Draw a panel a problem: points for solvers, a line for the best of a family."""
    with plt.rc_context({"font.size": 8, "font.family": "DejaVu Sans"}):
        figure, axes = plt.subplots(2, 2, figsize=(7.2, 7.0), layout="constrained")
        for k, (name, points) in enumerate(curves.items()):
            _panel(axes.flat[k], points)
            axes.flat[k].set_title(
                f"({'abcd'[k]})  {PROBLEMS[name]}", loc="left", fontsize=8.5
            )
        for unused in axes.flat[len(curves) :]:
            unused.set_visible(False)
        for row in axes:
            row[0].set_ylabel("processor time of one solve / s")
        for panel in axes[-1]:
            panel.set_xlabel("largest relative error of a component at the end")
        _legends(figure, curves)
        partial = file.with_suffix(".partial.png")
        figure.savefig(partial, dpi=300)
        partial.replace(file)
        plt.close(figure)


def _panel(axes: Axes, points: Points) -> None:
    for family, (colour, line, _) in STYLES.items():
        own = [point for point in points if point["family"] == family]
        best = front(own)
        for point in own:
            place = (point["error"], point["seconds"])
            leads = place in best
            axes.plot(
                *place,
                linestyle="none",
                marker=MARKERS[point["solver"]],
                markersize=4.0 if leads else 2.6,
                markerfacecolor="white" if family in HOLLOW else colour,
                markeredgecolor=colour,
                markeredgewidth=0.8 if leads else 0.6,
                alpha=1.0 if leads else 0.22,
                zorder=4 if leads else 2,
            )
        axes.plot(
            [error for error, _ in best],
            [seconds for _, seconds in best],
            color=colour,
            linestyle=line,
            linewidth=1.3,
            zorder=3,
        )
    axes.axvline(TARGET, color="0.75", linewidth=0.8, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    errors = [point["error"] for point in points]
    axes.set_xlim(min(3e-2, 3 * max(errors)), max(1e-13, min(errors) / 3))
    axes.xaxis.set_major_locator(LogLocator(base=100))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(which="major", color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legends(figure, curves: Mapping[str, Points]) -> None:
    everything = [point for points in curves.values() for point in points]
    families = {point["family"] for point in everything}
    solvers = {point["solver"] for point in everything}
    lines = [
        Line2D([], [], color=colour, linestyle=line, linewidth=1.5, label=label)
        for family, (colour, line, label) in STYLES.items()
        if family in families
    ]
    marks = [
        Line2D(
            [],
            [],
            color="0.35",
            linestyle="none",
            marker=marker,
            markersize=4,
            label=solver,
        )
        for solver, marker in MARKERS.items()
        if solver in solvers
    ]
    figure.legend(
        handles=lines, loc="outside lower center", ncols=3, frameon=False, fontsize=7.5
    )
    figure.legend(
        handles=marks, loc="outside upper center", ncols=7, frameon=False, fontsize=7.5
    )
