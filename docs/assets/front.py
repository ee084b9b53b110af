"""Makes the figure of the first page anew: `python docs/assets/front.py`.

A trained neural stochastic equation (tests/fixtures/neural_sde), solved now on Diffrax
and, recorded, on Julia: along the same Brownian paths, and up the ladder of agreement.
"""

import io
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from hybrid_nds import double_precision, solve
from hybrid_nds.reconcile import Report, StochasticFixture, load_fixture, reconcile
from hybrid_nds.reconcile._stacks import RECORD, read_record

TARGET = Path(__file__).with_name("front.png")
STEPS, PATHS = 128, 12
DIFFRAX, JULIA, BOUND = "#00796b", "#d84315", "#b71c1c"
MEANING = {
    "L0": "field\nand derivatives",
    "L1": "scheme,\nsame steps",
    "L2": "solution,\norder of error",
    "L3": "law\nof the state",
}


def main() -> None:
    """Solve, compare, draw, and write the picture."""
    fixture = load_fixture("neural_sde")
    assert isinstance(fixture, StochasticFixture)
    with double_precision():
        figure = draw(fixture, reconcile(fixture, julia="recorded"))
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, facecolor="white")
    # A few colours are enough, and a third of the size.
    Image.open(drawn).convert("RGB").quantize(64).save(TARGET, optimize=True)


def draw(fixture: StochasticFixture, report: Report) -> Figure:
    """Paths and their differences on the left, the ladder on the right."""
    plt.rcParams.update({"font.size": 10.5, "axes.spines.top": False})
    plt.rcParams.update({"axes.spines.right": False})
    figure = plt.figure(figsize=(10.4, 4.6), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.25, 1), wspace=0.04)
    left, right = halves
    above, below = left.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _draw_paths(above, below, fixture, report)
    _draw_ladder(right.subplots(), report)
    return figure


def _draw_paths(above: Any, below: Any, fixture: StochasticFixture, report: Report):
    _, rows = read_record(fixture.path / RECORD)
    times = fixture.strong.times
    many = np.reshape(rows["strong", f"Euler {STEPS}"], (-1, times.size, 2))
    # The first path's states are recorded to the last digit, the others' to twelve.
    first = np.asarray(rows["scheme", "Euler"])
    for index in range(PATHS):
        path = fixture.stored_path(index, STEPS)
        found = solve(fixture.problem, solver="Euler", path=path, saveat="steps")
        grid, ys = np.asarray(found.ts), np.asarray(found.ys)
        bold = index == 0
        style = {"lw": 1.8, "zorder": 3} if bold else {"lw": 0.8, "alpha": 0.4}
        above.plot(grid, ys[:, 0], color=DIFFRAX, **style)
        size = {"s": 42, "zorder": 4} if bold else {"s": 14, "alpha": 0.6}
        above.scatter(times, many[index, :, 0], color=JULIA, **size)
    above.plot([], [], color=DIFFRAX, label="Diffrax")
    above.scatter([], [], color=JULIA, label="DifferentialEquations.jl (recorded)")
    above.set_title("A neural SDE along the same Brownian paths", loc="left")
    above.set_ylabel("state")
    above.legend(frameon=False, loc="lower left")
    # At the same steps as above: the times are among them.
    path = fixture.stored_path(0, STEPS)
    saved = solve(fixture.problem, solver="Euler", path=path, saveat=jnp.asarray(times))
    gap = np.abs(np.asarray(saved.ys) - first)
    worst = report.rung("L1").worst
    assert worst is not None
    limit = worst.limit
    for component, marker in enumerate("os"):
        below.scatter(times, gap[:, component], color=JULIA, marker=marker, zorder=3)
    below.axhline(limit, color=BOUND, ls="--", lw=1.2)
    below.text(0.01, limit / 2, "limit", color=BOUND, va="top")
    below.set_yscale("log")
    below.set_ylim(1e-17, 1e-11)
    below.set_ylabel("difference")
    below.set_xlabel("time")


def _draw_ladder(axes: Any, report: Report) -> None:
    rungs = [(one.rung, one.worst) for one in report.rungs if one.worst is not None]
    shares = [worst.measured / worst.limit for _, worst in rungs]
    places = np.arange(len(rungs))
    axes.barh(places, shares, color=DIFFRAX, height=0.55)
    for place, share, (_, worst) in zip(places, shares, rungs, strict=True):
        text = f" {worst.measured:.2g} of {worst.limit:.2g}"
        inside = share > 1e-3
        axes.text(
            share,
            place,
            text.strip() + " " if inside else text,
            va="center",
            ha="right" if inside else "left",
            color="white" if inside else "black",
        )
    axes.axvline(1.0, color=BOUND, ls="--", lw=1.2)
    axes.set_xscale("log")
    axes.set_xlim(1e-5, 3)
    axes.set_yticks(places, [f"{rung}  {MEANING[rung]}" for rung, _ in rungs])
    axes.invert_yaxis()
    axes.set_xlabel("worst figure of the rung, over its limit")
    axes.set_title("The ladder of agreement", loc="left")


if __name__ == "__main__":
    main()
