"""Pictures of many trajectories, of one component at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, PyTree

from .._core import COLORS, QUIET, Panels
from ..problems import FlatState

_PATHS = 30
_SHOWN = 6


def draw_band(
    axes: Any,
    ts: Float[np.ndarray, " time"],
    mean: Float[np.ndarray, " time"],
    deviation: Float[np.ndarray, " time"],
) -> None:
    """A mean over time, within a standard deviation on both sides."""
    (line,) = axes.plot(ts, mean, label="mean ± standard deviation")
    color = line.get_color()
    if len(ts) == 1:
        axes.errorbar(ts, mean, deviation, fmt="o", capsize=3, color=color)
    axes.fill_between(
        ts, mean - deviation, mean + deviation, color=color, alpha=0.25, lw=0
    )
    axes.set_xlabel("time")


def draw_paths(
    axes: Any,
    ts: Float[np.ndarray, " time"],
    values: Float[np.ndarray, "trajectory time"],
) -> None:
    """Some trajectories over time."""
    axes.plot(ts, values[:_PATHS].T, lw=0.8, alpha=0.7)
    axes.set_xlabel("time")


def draw_quantiles(
    axes: Any,
    ts: Float[np.ndarray, " time"],
    probabilities: Float[np.ndarray, " probability"],
    values: Float[np.ndarray, "time probability"],
) -> None:
    """Quantiles over time, the outer ones paler."""
    for p, line in sorted(zip(probabilities, values.T, strict=True), key=_probability):
        alpha = 0.35 + 1.3 * min(p, 1 - p)
        axes.plot(ts, line, color=COLORS[0], alpha=alpha)
        axes.annotate(
            f"{p:g}",
            (ts[-1], line[-1]),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=QUIET,
        )
    axes.set_xlabel("time")


def _probability(pair: tuple[float, np.ndarray]) -> float:
    return float(pair[0])


def draw_density(
    axes: Any, edges: Float[np.ndarray, " edge"], density: Float[np.ndarray, " bin"]
) -> None:
    """A histogram, normalized."""
    axes.stairs(density, edges, fill=True, color=COLORS[0], alpha=0.8)
    axes.set_ylabel("density")


def pick(tree: PyTree, component: int, lead: int) -> np.ndarray:
    """One component of a state with axes in front.

    **Arguments:** the arrays; the component, in the order of `ravel_pytree`; how many
    axes lead those of the state.

    **Raises:** `ValueError` for a component that is not there.
    """
    flat = FlatState.below(tree, lead).flatten(tree)
    if not 0 <= component < flat.shape[-1]:
        raise ValueError(
            f"Ensemble.plot: `component` must be from 0 to {flat.shape[-1] - 1}, got "
            f"{component}."
        )
    return flat[..., component]


def each(tree: PyTree, lead: int, panels: Panels) -> Any:
    """Panels one above the other, each with its component of a state.

    **Returns:** pairs of axes and component, for the first few components.
    """
    count = min(FlatState.below(tree, lead).dimension, _SHOWN)
    size = (6.4, 1.2 + (3.0 if count == 1 else 1.7 * count))
    found = np.ravel(panels.subplots(count, sharex=True, size=size))
    for k, axes in enumerate(found):
        axes.set_ylabel(f"component {k}")
    return [(axes, k) for k, axes in enumerate(found)]


def label_last(axes: Any, label: str) -> None:
    """Label the time axis of the lowest panel alone."""
    for one in axes:
        one.set_xlabel("")
    axes[-1].set_xlabel(label)
