"""Table and figure of `ensemble.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from ensemble_contenders import KERNEL

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def table(everything: Mapping[str, Any]) -> str:
    """The ratios as markdown."""
    low, high = min(everything["load"]), max(everything["load"])
    lines = [
        "# Ensembles of SDE trajectories",
        "",
        f"Euler–Maruyama, {everything['steps']} steps, double precision, one core of a "
        f"shared machine (load average {low} to {high}); processor time, minima over "
        "rounds.",
        "",
    ]
    for name, found in everything["results"].items():
        own = found[KERNEL]["ns"]
        lines += [
            f"## {name}",
            "",
            "| | ns a step | ratio to the kernel | trajectories |",
            "|---|---|---|---|",
        ]
        for label, row in sorted(found.items(), key=lambda item: item[1]["ns"]):
            lines.append(
                f"| {label} | {row['ns']:.3g} | {row['ns'] / own:.2f} | "
                f"{row['trajectories']} |"
            )
        lines.append("")
    peak = everything["memory"]
    lines += [
        "## Memory",
        "",
        f"{peak['trajectories']} trajectories of GBM with moments at ten times: the "
        f"peak grows by {peak['growth_mb']:.0f} MB to {peak['peak_mb']:.0f} MB, in "
        f"{peak['seconds']:.1f} s.",
        "",
    ]
    return "\n".join(lines)


def draw(everything: Mapping[str, Any], path: Path) -> None:
    """Bars of nanoseconds a step, on a logarithmic axis."""
    results = everything["results"]
    figure, axes = plt.subplots(
        1, len(results), figsize=(6.2 * len(results), 3.6), layout="constrained"
    )
    for axis, (name, found) in zip(axes, results.items(), strict=True):
        ordered = sorted(found.items(), key=lambda item: -item[1]["ns"])
        labels = [label for label, _ in ordered]
        values = [row["ns"] for _, row in ordered]
        colours = ["C0" if label.startswith(KERNEL) else "0.7" for label in labels]
        bars = axis.barh(labels, values, color=colours)
        axis.bar_label(bars, fmt="{:.3g}", padding=3)
        axis.set(xscale="log", title=name, xlabel="nanoseconds a step and trajectory")
        axis.set_xlim(min(values) / 2, max(values) * 3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
