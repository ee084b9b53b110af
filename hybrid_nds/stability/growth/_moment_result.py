"""A moment exponent, with what it rests on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from ..._core import BAD, Axis, Panels
from ...analysis import AnalysisResult
from ...solution import Provenance


@dataclasses.dataclass(frozen=True)
class MomentExponent(AnalysisResult):
    """The rate at which the p-th moment of a tangent vector grows.

    **Fields:**

    - `p`; `value`, with $E|v_t|^p \\sim e^{\\text{value}\\,t}$.
    - `standard_error`: from the samples, or for an exact one from round-off.
    - `low`, `high`: the interval that holds it with probability `level`; of samples
        it is that of the scheme's moments, without the error of the step.
    - `method`: `"exact"` or `"monte-carlo"`.
    - `times`, shape `(times,)`; there `logarithms`, of the sampled moment, and
        `effective`, how many trajectories carry it; empty for an exact one.
    - `tail_index`: of the weights at the end, a Pareto distribution's shape; NaN for
        exact.
    - `trajectories`: how many; 0 for exact.
    - `converged`: whether the moment grows at one rate over the two halves of the
        time. Where not, `notes` say so.
    - `settings`, `provenance`.
    """

    estimate: ClassVar = ("value", "low", "high")

    p: float
    value: float
    standard_error: float
    low: float
    high: float
    level: float
    method: str
    times: Axis[Float[np.ndarray, " time"]]
    logarithms: Float[np.ndarray, " time"]
    effective: Float[np.ndarray, " time"]
    tail_index: float
    trajectories: int
    converged: bool
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def stable(self) -> bool:
        """Whether the moment decays: the whole interval lies below zero."""
        return bool(self.high < 0)

    def summary(self) -> str:
        lines = [
            f"moment exponent of p = {self.p:g}: {self.value:.9g} ± "
            f"{self.standard_error:.2g}, {self.level:.4g} interval "
            f"[{self.low:.6g}, {self.high:.6g}]"
        ]
        if not self.converged:
            lines += ["NOT CONVERGED:", *(f"  {note}" for note in self.notes)]
            shown = np.unique(np.linspace(0, len(self.times) - 1, 6).astype(int))
            lines.append("logarithm of the moment over time:")
            lines += [
                f"  t = {self.times[i]:>9.4g}: {self.logarithms[i]:.6g}" for i in shown
            ]
        if self.method == "exact":
            lines.append("exact: the leading eigenvalue of the generator on moments")
        else:
            lines.append(
                f"{self.trajectories} trajectories, of which {self.effective[-1]:.0f} "
                f"carry the mean at the end; tail index {self.tail_index:.2f}; the "
                "error of the step is not in the interval"
            )
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        if self.method == "exact":
            axes = panels.subplots()
            times = np.linspace(0, 1 / max(abs(self.value), 1e-12), 2)
            axes.plot(times, self.value * times)
            axes.set_xlabel("time")
            axes.set_ylabel(f"log E|v|$^{{{self.p:g}}}$, less its start")
            axes.set_title(f"exact: {self.value:.6g}")
            return
        upper, lower = panels.subplots(2, 1, sharex=True)
        upper.plot(self.times, self.logarithms, linewidth=1.2, label="sampled")
        shift = self.logarithms[-1] - self.value * self.times[-1]
        upper.plot(
            self.times,
            shift + self.value * self.times,
            "--",
            linewidth=1,
            label=f"slope {self.value:.4g} ± {self.standard_error:.1g}",
        )
        upper.axvspan(0, self.settings["transient"], color="0.9", linewidth=0)
        upper.set_ylabel(f"log E|v|$^{{{self.p:g}}}$")
        upper.legend()
        verdict = "" if self.converged else ": NOT CONVERGED"
        upper.set_title(f"moment exponent{verdict}")
        lower.semilogy(self.times, self.effective, linewidth=1.2)
        lower.axhline(self.settings["least_effective"], color=BAD, linewidth=0.9)
        lower.set_ylabel("trajectories\nthat carry it")
        lower.set_xlabel("time")
        low = 0.5 * min(self.settings["least_effective"], self.effective.min())
        lower.set_ylim(max(low, 0.5), 2 * max(self.trajectories, 1))


def exact_result(
    p: float,
    value: float,
    error: float,
    level: float,
    settings: Mapping[str, Any],
    provenance: Provenance,
) -> MomentExponent:
    """A moment exponent that was not sampled."""
    none = np.zeros(0)
    return MomentExponent(
        p=p,
        value=value,
        standard_error=error,
        low=value - error,
        high=value + error,
        level=level,
        method="exact",
        times=none,
        logarithms=none,
        effective=none,
        tail_index=math.nan,
        trajectories=0,
        converged=True,
        notes=(),
        settings=settings,
        provenance=provenance,
    )
