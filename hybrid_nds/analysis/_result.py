"""What every analysis returns."""

from __future__ import annotations

import abc
import dataclasses
import importlib.metadata
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np

from .._core import PortableError, PortableResult, save_figure
from ..solution import Provenance

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

_PACKAGES = ("hybrid_nds", "jax", "diffrax")


class AnalysisResult(PortableResult, abc.ABC):
    """A small typed result: figures with their errors, settings, provenance.

    Every analysis has a frozen dataclass of its own that implements `variables`,
    `summary` and `draw`; what is done with them is here.

    **Fields** that all of them have: `settings`, what the figures depend on beside the
    problem, by name; `provenance`, a [`Provenance`][hybrid_nds.Provenance].
    """

    settings: Mapping[str, Any]
    provenance: Provenance

    estimate: ClassVar[tuple[str, ...]] = ()
    """The names of the figures it is about, and of the ends of their interval or of
    the bound on their error: `("mean", "low", "high")`, `("period", "period_error")`.
    Without them it has no [`interval`][hybrid_nds.analysis.AnalysisResult.interval].
    """

    @abc.abstractmethod
    def variables(self) -> Mapping[str, tuple[tuple[str, ...], Any]]:
        """The figures: by name, the names of their axes and the numbers."""

    @abc.abstractmethod
    def summary(self) -> str:
        """A few lines for people: every figure with its error."""

    @abc.abstractmethod
    def draw(self, figure: Figure) -> None:
        """Draw the result into an empty figure."""

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """The figures it is about, and half the widths of their intervals.

        **Returns:** both of shape `(k,)`; half widths are NaN where the analysis says
        that it has not converged.

        **Raises:** `TypeError` for a result that is not about figures with intervals.
        """
        if not self.estimate:
            raise TypeError(
                f"{type(self).__name__} has no interval: it is about more than figures "
                "with one error each; see `variables`."
            )
        values, *ends = (
            np.atleast_1d(np.asarray(getattr(self, name), float))
            for name in self.estimate
        )
        half = ends[0] if len(ends) == 1 else (ends[1] - ends[0]) / 2
        return values, half if getattr(self, "converged", True) else half * np.nan

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """The result as a figure.

        **Arguments:** `path`, where to write it (PNG, or by its suffix), whole or not
        at all; `None` writes none.

        **Returns:** the matplotlib figure.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        self.draw(figure)
        save_figure(figure, path)
        return figure

    def to_xarray(self) -> xarray.Dataset:
        """The result as a dataset, with settings and provenance as attributes.

        **Raises:** `ImportError` without xarray.
        """
        try:
            import xarray
        except ImportError as error:
            raise ImportError(
                "to_xarray needs xarray: pip install 'hybrid_nds[xarray]'."
            ) from error
        attributes = {name: _plain(value) for name, value in self.settings.items()}
        attributes["provenance"] = json.dumps(self.provenance.as_dict())
        data = {n: (axes, np.asarray(x)) for n, (axes, x) in self.variables().items()}
        return xarray.Dataset(data, attrs=attributes)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain, JSON-ready data."""
        return {
            "analysis": type(self).__name__,
            "settings": {n: _plain(value) for n, value in self.settings.items()},
            "provenance": self.provenance.as_dict(),
            **{n: np.asarray(x).tolist() for n, (_, x) in self.variables().items()},
        }

    def __str__(self) -> str:
        return self.summary()


def analysis_provenance(
    backend: str,
    method: str,
    *,
    field: str = "jax",
    rtol: float | None = None,
    atol: float | None = None,
    dt: float | None = None,
    versions: Mapping[str, str] | None = None,
) -> Provenance:
    """The provenance of a result that no single solve stands behind.

    **Arguments:** `backend`, `"jax"`, `"diffrax"` or `"julia"`; the method or solver;
    how the field was reached; tolerances and step; versions beside those of this
    package, JAX and Diffrax.
    """
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    found |= dict(versions or {})
    return Provenance(
        backend, method, tuple(sorted(found.items())), rtol, atol, dt, field
    )


def _plain(value: Any) -> Any:
    """A setting as a number, a text, or a list of them."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    if isinstance(value, str | int | float | list):
        return value
    if dataclasses.is_dataclass(value) or value is None:
        return str(value)
    return list(value) if isinstance(value, tuple) else str(value)


class AnalysisError(PortableError, RuntimeError):
    """An analysis that ran and found no figure to stand by.

    **Fields:** `result`, what there is of it, `None` for nothing.
    """

    def __init__(self, message: str, result: AnalysisResult | None = None):
        super().__init__(message)
        self.result = result
