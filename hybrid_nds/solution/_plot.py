"""The figure of a solution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.tree_util as jtu
import numpy as np

from .._core import Panels

_NAMED = 10
_POINTS = 500


def draw(solution: Any, component: int | Sequence[int] | None, panels: Panels) -> None:
    """Draw components of a solution over time.

    **Arguments:** the solution; one component, several, or `None` for all; where to.

    **Raises:** `ValueError` for a component that is not there.
    """
    ts, ys = np.asarray(solution.ts), solution.ys
    span = getattr(solution.interpolation, "span", None)
    if span is not None and ts.ndim == 1:
        ts = np.linspace(float(span[0]), float(span[1]), _POINTS)
        ys = solution.evaluate(ts)
    names, values = _flat(ys, ts.ndim)
    chosen = _chosen(component, len(names))
    axes = panels.subplots()
    lines = ts.reshape(-1, ts.shape[-1]), values.reshape(-1, *values.shape[-2:])
    for k in chosen:
        color = None
        for member, states in zip(*lines, strict=True):
            # What a solve within jax.vmap did not reach is infinite.
            reached = np.isfinite(member)
            (line,) = axes.plot(
                member[reached],
                states[reached, k],
                color=color,
                marker="o" if reached.sum() == 1 else None,
                alpha=1.0 if len(lines[0]) == 1 else 0.6,
                label=names[k] if color is None else None,
            )
            color = line.get_color()
    axes.set_xlabel("time")
    axes.set_ylabel(names[chosen[0]] if len(chosen) == 1 else "state")
    if not np.all(solution.succeeded):
        axes.set_title("NOT SOLVED TO THE END")
    if 1 < len(chosen) <= _NAMED:
        axes.legend()


def _flat(ys: Any, lead: int) -> tuple[list[str], np.ndarray]:
    """The components in the order of `ravel_pytree`, along the last axis, and their
    names."""
    names, parts = [], []
    for path, leaf in jtu.tree_leaves_with_path(ys):
        array = np.asarray(leaf)
        own = jtu.keystr(path, simple=True, separator=".")
        shape = array.shape[lead:]
        for index in np.ndindex(*shape):
            at = ", ".join(map(str, index))
            bare = f"component {at}" if at else "state"
            names.append(f"{own}[{at}]" if own and at else own or bare)
        parts.append(array.reshape(*array.shape[:lead], -1))
    return names, np.concatenate(parts, axis=-1)


def _chosen(component: int | Sequence[int] | None, count: int) -> list[int]:
    if component is None:
        return list(range(count))
    chosen = [int(k) for k in np.atleast_1d(np.asarray(component))]
    if not chosen or not all(0 <= k < count for k in chosen):
        raise ValueError(
            f"Solution.plot: `component` must be from 0 to {count - 1}, or several of "
            f"these, got {component!r}."
        )
    return chosen
