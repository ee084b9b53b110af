"""What a distance between two distributions is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from .._core import COLORS, QUIET, Along, DrawnResult, Panels


@dataclasses.dataclass(frozen=True)
class Distance(DrawnResult):
    """A distance between two distributions, estimated from samples.

    **Fields:**

    - `name`: which distance.
    - `value`: its estimate.
    - `p_value`: how often samples of one distribution, put into two groups at random,
        lie at least as far apart (exact at every sample size: Phipson & Smyth 2010);
        `None` where no null level was asked for.
    - `samples`: how many of each were used.
    - `settings`: what else the number depends on.
    """

    name: str
    value: float
    p_value: float | None
    samples: Annotated[tuple[int, int], Along("sample_set")]
    settings: Mapping[str, Any]

    def __float__(self) -> float:
        return self.value

    def summary(self) -> str:
        level = "" if self.p_value is None else f", p = {self.p_value:.3g}"
        settings = ", ".join(
            f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}"
            for k, v in self.settings.items()
        )
        suffix = f" ({settings})" if settings else ""
        n, m = self.samples
        return f"{self.name} = {self.value:.6g}{level}, {n} against {m} samples{suffix}"

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots(size=(6.4, 1.6))
        axes.plot([0, self.value], [0, 0], linewidth=2.2, color=COLORS[0])
        axes.plot(self.value, 0, "o", markersize=7, color=COLORS[0])
        axes.axvline(0, color=QUIET, linewidth=0.8)
        axes.set_yticks([])
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(self.name)
        n, m = self.samples
        level = "" if self.p_value is None else f", p = {self.p_value:.3g}"
        axes.set_title(f"{self.value:.4g}{level}, {n} against {m} samples")
