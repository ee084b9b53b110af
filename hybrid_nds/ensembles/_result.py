"""What an ensemble returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from .._core import PortableError
from ..solution import Outcome, Provenance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES = tuple(Outcome._name_to_item)
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
class Ensemble:
    """The trajectories of an ensemble, or what they were reduced to.

    **Fields:**

    - `ts`: the saved times, shape `(times,)`.
    - `ys`: the states, the pytree of `y0` with leading axes of trajectories and times;
        a failed trajectory is NaN from its first bad time on. `None` where states were
        reduced.
    - `reduced`: what came of `reduce`: one result, or a dict of them; `None` without.
    - `n`: how many trajectories were solved.
    - `outcomes`: codes of shape `(n,)`, the places of the outcomes in
        [`Outcome`][hybrid_nds.Outcome].
    - `failures`: the trajectories that failed, in order.
    - `provenance`: a [`Provenance`][hybrid_nds.Provenance], that of each solve; `None`
        where everything was read from disk.
    - `runner`: what ran the trajectories, such as `"lean kernel"`.
    - `paths`: `"shared"` Brownian paths, those of both backends, or `"native"` ones of
        Julia's own; empty for an ordinary differential equation.
    """

    ts: np.ndarray
    ys: PyTree[np.ndarray] | None
    reduced: Any
    n: int
    outcomes: np.ndarray
    failures: tuple[Failure, ...]
    provenance: Provenance | None
    runner: str
    paths: str

    @property
    def succeeded(self) -> np.ndarray:
        """Which trajectories reached their end, shape `(n,)`."""
        failed = np.array([one.index for one in self.failures], np.int64)
        flags = np.ones(self.n, bool)
        flags[failed] = False
        return flags

    def __repr__(self) -> str:
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
        return {
            "n": self.n,
            "ts": self.ts.tolist(),
            "ys": _plain(self.ys),
            "reduced": _plain(self.reduced),
            "outcomes": {
                name: int(count)
                for name, count in zip(
                    _NAMES,
                    np.bincount(self.outcomes, minlength=len(_NAMES)),
                    strict=True,
                )
                if count
            },
            "failures": [dataclasses.asdict(one) for one in self.failures],
            "provenance": self.provenance and self.provenance.as_dict(),
            "runner": self.runner,
            "paths": self.paths,
        }

    def plot(self, component: int = 0, *, kind: str = "band", ax: Any = None) -> Axes:
        """Draw one component of the state.

        **Arguments:** the component, in the order of `ravel_pytree`; `"band"` for mean
        and standard deviation, `"paths"` for some trajectories, `"histogram"` for the
        last time; Matplotlib's axes, new ones by default.

        **Returns:** the axes.

        **Raises:** `ValueError` where the ensemble has not kept what the picture shows.
        """
        from ._plot import draw

        return draw(self, component, kind, ax)


def _shapes(tree: PyTree) -> str:
    shapes = jtu.tree_map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)
    return str(shapes).replace("'", "")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value
