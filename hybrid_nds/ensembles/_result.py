"""What an ensemble returns."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import jax.tree_util as jtu
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from .._core import (
    Axis,
    Panels,
    PortableError,
    Records,
    Result,
    Variable,
    check_component,
    derived_variables,
    drawn,
    plain,
)
from ..solution import OUTCOME_NAMES, Provenance
from ._histogram import HistogramResult
from ._moments import MomentsResult
from ._plot import draw_band, draw_density, draw_paths, pick

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Failure:
    """A trajectory that did not reach its end.

    **Fields:** its index; its outcome by name; the time it stopped, or the first saved
    time at which it was not finite.
    """

    index: int
    outcome: str
    time: float

    def __str__(self) -> str:
        return f"trajectory {self.index}: {self.outcome} at t = {self.time:.6g}"


class EnsembleError(PortableError, RuntimeError):
    """An ensemble with failed trajectories, where `throw` asked for an error.

    **Fields:** `ensemble`, the [`Ensemble`][hybrid_nds.Ensemble] as it is.
    """

    def __init__(self, message: str, ensemble: Ensemble):
        super().__init__(message)
        self.ensemble = ensemble


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble(Result):
    """The trajectories of an ensemble, or what they were reduced to.

    **Fields:**

    - `ts`: the saved times, shape `(times,)`.
    - `ys`: the states, the pytree of `y0` with leading axes of trajectories and times;
        a failed trajectory is NaN from its first bad time on. `None` where states were
        reduced.
    - `reduced`: what came of `reduce`: one result, or a dict of them; `None` without.
    - `n`: how many trajectories were solved.
    - `outcomes`: codes of shape `(n,)`, the positions of the outcomes in
        [`Outcome`][hybrid_nds.Outcome].
    - `failures`: the trajectories that failed, in order.
    - `provenance`: a [`Provenance`][hybrid_nds.Provenance], that of each solve; `None`
        where everything was read from disk.
    - `runner`: what ran the trajectories, such as `"lean kernel"`.
    - `paths`: `"shared"` Brownian paths, those of both backends, or `"native"` ones of
        Julia's own; empty for an ordinary differential equation.
    """

    ts: Axis[Float[np.ndarray, " time"]]
    ys: PyTree[Float[np.ndarray, "trajectory time ..."]] | None
    reduced: Any
    n: int
    outcomes: Int[np.ndarray, " trajectory"]
    failures: Annotated[tuple[Failure, ...], Records("failure")]
    provenance: Provenance | None
    runner: str
    paths: str

    @property
    def succeeded(self) -> Bool[np.ndarray, " trajectory"]:
        """Which trajectories reached their end, shape `(n,)`."""
        failed = np.array([one.index for one in self.failures], np.int64)
        flags = np.ones(self.n, bool)
        flags[failed] = False
        return flags

    def __repr__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        good = self.n - len(self.failures)
        where = f"t from {self.ts[0]:.6g} to {self.ts[-1]:.6g}, {self.ts.size} saved"
        if self.ts.size == 1:
            where = f"t = {self.ts[0]:.6g}"
        lines = [f"Ensemble of {self.n} trajectories, {good} of them whole; {where}"]
        if self.provenance is not None:
            one = self.provenance
            how = [f"{one.solver} of {one.backend}"]
            how += [f"dt={one.dt:.6g}"] if one.dt is not None else []
            how += [f"rtol={one.rtol:.3g}"] if one.rtol is not None else []
            lines.append(f"  solved by {', '.join(how)}; {self.runner}")
        if self.paths:
            lines.append(f"  along {self.paths} Brownian paths")
        if self.ys is not None:
            lines.append(f"  ys: {_shapes(self.ys)}")
        elif isinstance(self.reduced, dict):
            for name, value in self.reduced.items():
                lines.append(f"  reduced[{name!r}]: {type(value).__name__}")
        else:
            lines.append(f"  reduced: {type(self.reduced).__name__}")
        lines += [f"  failed: {one}" for one in self.failures[:_SHOWN]]
        if len(self.failures) > _SHOWN:
            lines.append(f"  … and {len(self.failures) - _SHOWN} more")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The ensemble as plain data: lists, numbers and strings, ready for JSON.

        NaN stays NaN, which JSON proper does not have.
        """
        counts = np.bincount(self.outcomes, minlength=len(OUTCOME_NAMES)).tolist()
        pairs = zip(OUTCOME_NAMES, counts, strict=True)
        outcomes = {name: count for name, count in pairs if count}
        reduced = plain(self.reduced)
        return super().to_dict() | {"outcomes": outcomes, "reduced": reduced}

    def variables(self) -> Mapping[str, Variable]:
        """The numbers: by name, the names of their dimensions and the values.

        Those of a reduction have its own names; those of one of several reductions,
        its name, a point and theirs.
        """
        found = dict(derived_variables(self))
        many = self.reduced if isinstance(self.reduced, Mapping) else {"": self.reduced}
        for name, one in many.items():
            if isinstance(one, Result):
                start = f"{name}." if name else ""
                for inner, variable in one.variables().items():
                    if inner != "ts":
                        found[start + inner] = variable
        return found

    def plot(
        self,
        component: int = 0,
        *,
        kind: str = "band",
        ax: Any = None,
        path: str | os.PathLike[str] | None = None,
    ) -> Axes:
        """Draw one component of the state.

        **Arguments:** the component, in the order of `ravel_pytree`; `"band"` for mean
        and standard deviation, `"paths"` for some trajectories, `"histogram"` for the
        last time; matplotlib's axes, new ones of pyplot by default; where to write the
        figure, if anywhere.

        **Returns:** the axes.

        **Raises:** `ValueError` where the ensemble has not kept what the picture shows.
        """
        check_component("Ensemble", component)
        kinds = {"band": self._band, "paths": self._paths, "histogram": self._histogram}
        if kind not in kinds:
            raise ValueError(
                f"Ensemble.plot: `kind` must be one of {', '.join(kinds)}, got "
                f"{kind!r}."
            )
        # What is missing is said before an empty figure is there.
        put = kinds[kind](component)

        def draw(panels: Panels) -> None:
            axes = panels.subplots()
            axes.set_xlabel(f"component {component} at t = {self.ts[-1]:.4g}")
            axes.set_ylabel(f"component {component}")
            put(axes)

        return drawn("Ensemble", draw, ax=ax, path=path, managed=True).axes[0]

    def _band(self, component: int) -> Callable[[Axes], None]:
        if self.ys is not None:
            values = pick(self.ys, component, 2)[self.succeeded]
            mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=1)
        else:
            found = self._reduction(MomentsResult, "Moments()")
            mean = pick(found.mean, component, 1)
            deviation = np.sqrt(pick(found.variance, component, 1))

        def put(axes: Axes) -> None:
            draw_band(axes, self.ts, mean, deviation)
            axes.legend()

        return put

    def _paths(self, component: int) -> Callable[[Axes], None]:
        if self.ys is None:
            raise ValueError(
                'Ensemble.plot: kind="paths" needs states, which `reduce` did not '
                'keep; take kind="band", or an ensemble without `reduce`.'
            )
        values = pick(self.ys, component, 2)[self.succeeded]
        return lambda axes: draw_paths(axes, self.ts, values)

    def _histogram(self, component: int) -> Callable[[Axes], None]:
        if self.ys is not None:
            values = pick(self.ys, component, 2)[self.succeeded, -1]
            density, edges = np.histogram(values, bins="auto", density=True)
        else:
            found = self._reduction(HistogramResult, "Histogram(edges)")
            density, edges = pick(found.density, component, 2)[-1], found.edges
        return lambda axes: draw_density(axes, edges, density)

    def _reduction(self, kind: type, needed: str) -> Any:
        many = self.reduced if isinstance(self.reduced, dict) else {"": self.reduced}
        found = [one for one in many.values() if isinstance(one, kind)]
        if not found:
            raise ValueError(
                f"Ensemble.plot: this picture needs {needed} among the reductions, or "
                "an ensemble without `reduce`."
            )
        return found[0]


def _shapes(tree: PyTree) -> str:
    shapes = jtu.tree_map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)
    return str(shapes).replace("'", "")
