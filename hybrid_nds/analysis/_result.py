"""What every analysis returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .._core import DrawnResult, PortableError, PortableResult
from ..solution import Provenance, package_versions


class AnalysisResult(PortableResult, DrawnResult):
    """A small typed result: figures with their errors, settings, provenance.

    Every analysis has a frozen dataclass of its own that implements `summary` and
    `draw`, and whose annotations tell the shapes of its arrays.

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

    def to_dict(self) -> dict[str, Any]:
        """The result as plain, JSON-ready data."""
        return {"analysis": type(self).__name__, **super().to_dict()}


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
    found = dict(package_versions("diffrax")) | dict(versions or {})
    return Provenance(
        backend, method, tuple(sorted(found.items())), rtol, atol, dt, field
    )


class AnalysisError(PortableError, RuntimeError):
    """An analysis that ran and found no figure to stand by.

    **Fields:** `result`, what there is of it, `None` for nothing.
    """

    def __init__(self, message: str, result: AnalysisResult | None = None):
        super().__init__(message)
        self.result = result
