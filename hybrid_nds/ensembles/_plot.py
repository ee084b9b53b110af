"""Pictures of an ensemble."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ._histogram import HistogramResult
from ._moments import MomentsResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PATHS = 30
_KINDS = ("band", "paths", "histogram")


@runtime_checkable
class Drawable(Protocol):
    """What pictures want of an ensemble."""

    @property
    def ts(self) -> np.ndarray: ...
    @property
    def ys(self) -> PyTree[np.ndarray] | None: ...
    @property
    def reduced(self) -> Any: ...
    @property
    def succeeded(self) -> np.ndarray: ...


def draw(ensemble: Drawable, component: int, kind: str, ax: Any) -> Axes:
    """Draw one component of an ensemble.

    **Arguments:** the ensemble; the component; one of `"band"`, `"paths"` and
    `"histogram"`; Matplotlib's axes, or `None` for new ones.

    **Returns:** the axes.

    **Raises:** `ValueError` where the ensemble has not kept what the picture shows.
    """
    if kind not in _KINDS:
        raise ValueError(
            f"Ensemble.plot: `kind` must be one of {', '.join(_KINDS)}, got {kind!r}."
        )
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots()
    {"band": _band, "paths": _paths, "histogram": _histogram}[kind](
        ensemble, component, ax
    )
    return ax


def _band(ensemble: Drawable, component: int, ax: Axes) -> None:
    if ensemble.ys is not None:
        values = _flat(ensemble.ys, component, 2)[ensemble.succeeded]
        mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=1)
    else:
        found = _one(ensemble, MomentsResult, "Moments()")
        mean = _flat(found.mean, component, 1)
        deviation = np.sqrt(_flat(found.variance, component, 1))
    ts = ensemble.ts
    ax.fill_between(ts, mean - deviation, mean + deviation, alpha=0.3, lw=0)
    ax.plot(ts, mean, label="mean ± standard deviation")
    ax.set_xlabel("t")
    ax.set_ylabel(f"component {component}")
    ax.legend()


def _paths(ensemble: Drawable, component: int, ax: Axes) -> None:
    if ensemble.ys is None:
        raise ValueError(
            'Ensemble.plot: kind="paths" needs states, which `reduce` did not keep; '
            'take kind="band", or an ensemble without `reduce`.'
        )
    values = _flat(ensemble.ys, component, 2)[ensemble.succeeded][:_PATHS]
    ax.plot(ensemble.ts, values.T, lw=0.8, alpha=0.7)
    ax.set_xlabel("t")
    ax.set_ylabel(f"component {component}")


def _histogram(ensemble: Drawable, component: int, ax: Axes) -> None:
    if ensemble.ys is not None:
        values = _flat(ensemble.ys, component, 2)[ensemble.succeeded, -1]
        ax.hist(values, bins="auto", density=True)
    else:
        found = _one(ensemble, HistogramResult, "Histogram(edges)")
        density = _flat(found.density, component, 2)[-1]
        ax.stairs(density, found.edges, fill=True)
    ax.set_xlabel(f"component {component} at t = {ensemble.ts[-1]:.4g}")
    ax.set_ylabel("density")


def _one(ensemble: Drawable, kind: type, wanted: str) -> Any:
    reduced = ensemble.reduced
    many = list(reduced.values()) if isinstance(reduced, dict) else [reduced]
    found = [one for one in many if isinstance(one, kind)]
    if not found:
        raise ValueError(
            f"Ensemble.plot: this picture needs {wanted} among the reductions, or an "
            "ensemble without `reduce`."
        )
    return found[0]


def _flat(tree: PyTree, component: int, axes: int) -> np.ndarray:
    leaves = [leaf.reshape(*leaf.shape[:axes], -1) for leaf in jtu.tree_leaves(tree)]
    flat = np.concatenate(leaves, axis=-1)
    if not 0 <= component < flat.shape[-1]:
        raise ValueError(
            f"Ensemble.plot: `component` must be from 0 to {flat.shape[-1] - 1}, got "
            f"{component}."
        )
    return flat[..., component]
