"""The slope of log error over log step, and its interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import scipy.stats
from jaxtyping import Float

from .._core import Along, Axis, DrawnResult, Panels, check_level

_METHOD = (
    "Least squares of log error over log step. The interval adds the variance from the "
    "paths (infinitesimal jackknife; Efron & Tibshirani 1993, section 21.3), which "
    "keeps the dependence between the steps of one path, and that from the departure "
    "of the errors from a straight line; Student's t with the degrees of freedom of "
    "Welch and Satterthwaite."
)


@dataclasses.dataclass(frozen=True)
class OrderEstimate(DrawnResult):
    """A measured order of convergence.

    **Fields:**

    - `kind`: `"strong"`, `"weak"` or `"deterministic"`.
    - `solver`, `backend`: the method and the stack it ran on.
    - `order`: the slope of log error over log step.
    - `low`, `high`: the interval that holds the slope with probability `level`.
    - `level`: of the interval, such as 0.95.
    - `steps`: the step sizes, longest first; `errors`: the error of each.
    - `standard_errors`: of the errors, from the Monte Carlo sampling alone; zeros where
        nothing was sampled.
    - `paths`: how many independent paths the errors are means of; 1 for none.
    - `reference`: what the errors are measured against, as text.
    """

    kind: str
    solver: str
    backend: str
    order: float
    low: float
    high: float
    level: float
    steps: Axis[Annotated[tuple[float, ...], Along("step")]]
    errors: Annotated[tuple[float, ...], Along("step")]
    standard_errors: Annotated[tuple[float, ...], Along("step")]
    paths: int
    reference: str

    @property
    def resolved(self) -> bool:
        """Whether every error is more than twice its own standard error."""
        return all(
            error > 2 * deviation
            for error, deviation in zip(self.errors, self.standard_errors, strict=True)
        )

    @property
    def method(self) -> str:
        """How the interval was made, with its sources."""
        return _METHOD

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        label = (
            f"slope {self.order:.3f}, {self.level:.4g} interval [{self.low:.3f}, "
            f"{self.high:.3f}]"
        )
        draw_slope(
            axes, self.steps, self.errors, self.standard_errors, self.order, label
        )
        axes.set_xlabel("step")
        axes.set_ylabel(f"{self.kind} error")
        axes.set_title(f"{self.solver} on {self.backend}")

    def summary(self) -> str:
        lines = [
            f"{self.kind} order of {self.solver} on {self.backend}: {self.order:.3f}, "
            f"{self.level:.4g} interval [{self.low:.3f}, {self.high:.3f}]",
            f"against {self.reference}"
            + (f"; {self.paths} paths" if self.paths > 1 else ""),
            f"{'step':>12}{'error':>12}{'± sampling':>12}",
        ]
        rows = zip(self.steps, self.errors, self.standard_errors, strict=True)
        lines += [f"{h:>12.4g}{e:>12.3e}{s:>12.1e}" for h, e, s in rows]
        if not self.resolved:
            lines.append("Some errors are within twice their own sampling error.")
        return "\n".join(lines)


def draw_slope(
    axes: Any,
    sizes: Sequence[float] | np.ndarray,
    errors: Sequence[float] | np.ndarray,
    standard_errors: Sequence[float] | np.ndarray,
    slope: float,
    label: str,
) -> None:
    """Errors over sizes on logarithmic axes, with the line of a slope through them."""
    sizes, errors = np.asarray(sizes, float), np.asarray(errors)
    # A bar to below zero has no place on a logarithmic axis.
    bars = np.minimum(2 * np.asarray(standard_errors), 0.99 * errors)
    axes.errorbar(sizes, errors, bars, fmt="o", capsize=2)
    middle = np.exp(np.mean(np.log(errors)) - slope * np.mean(np.log(sizes)))
    axes.loglog(sizes, middle * sizes**slope, label=label)
    axes.legend()


def fit_order(
    steps: Sequence[float] | np.ndarray,
    errors: Float[np.ndarray, "steps paths"],
    *,
    kind: str = "strong",
    solver: str = "",
    backend: str = "",
    reference: str = "",
    level: float = 0.95,
) -> OrderEstimate:
    """The order of convergence in a table of errors.

    **Arguments:**

    - `steps`: the step sizes, three or more.
    - `errors`: the error of each step on each independent path, shape
        `(steps, paths)`; one column for a deterministic problem. The error of a step is
        the absolute value of their mean.
    - `kind`, `solver`, `backend`, `reference`: text for the report.
    - `level`: of the interval, between 0 and 1.

    **Returns:** an [`OrderEstimate`][hybrid_nds.discretization.OrderEstimate]. Its
    interval is of the slope over these steps, which only tends to the order as they
    shrink.

    **Raises:** `ValueError` for fewer than three steps, steps that do not differ or are
    not positive, errors of another shape, not finite, or of mean zero, or a level that
    is none.
    """
    h, table = np.asarray(steps, float), np.asarray(errors, float)
    if h.ndim != 1 or h.size < 3 or np.any(h <= 0) or len(set(h)) < h.size:
        raise ValueError(
            "fit_order: `steps` must be three or more different positive numbers, got "
            f"{h.tolist()}."
        )
    if table.ndim != 2 or len(table) != h.size or table.shape[1] == 0:
        raise ValueError(
            f"fit_order: `errors` must have shape ({h.size}, paths), got {table.shape}."
        )
    check_level("fit_order", level)
    means = table.mean(axis=1)
    if not np.all(np.isfinite(means)) or np.any(means == 0):
        raise ValueError(
            "fit_order: every step needs a finite error other than zero, got means "
            f"{means.tolist()}: steps too long for the method, or errors below "
            "round-off."
        )
    x, y = np.log(h), np.log(np.abs(means))
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    slope = float(weights @ y)
    residuals = y - y.mean() - slope * (x - x.mean())
    line = (
        float(weights @ weights * (residuals @ residuals) / (h.size - 2)),
        h.size - 2,
    )
    paths = table.shape[1]
    deviations = np.zeros(h.size)
    sampling = (0.0, 1)
    if paths > 1:
        # What one path more adds to the slope, to first order.
        influence = weights @ (table / means[:, None] - 1)
        sampling = (float(influence @ influence) / (paths * (paths - 1)), paths - 1)
        deviations = table.std(axis=1, ddof=1) / math.sqrt(paths)
    variance = line[0] + sampling[0]
    half = 0.0
    if variance > 0:
        freedom = variance**2 / sum(v**2 / k for v, k in (line, sampling))
        half = float(scipy.stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance)
    longest_first = np.argsort(-h)
    return OrderEstimate(
        kind=kind,
        solver=solver,
        backend=backend,
        order=slope,
        low=slope - half,
        high=slope + half,
        level=level,
        steps=tuple(h[longest_first].tolist()),
        errors=tuple(np.abs(means)[longest_first].tolist()),
        standard_errors=tuple(deviations[longest_first].tolist()),
        paths=paths,
        reference=reference,
    )
