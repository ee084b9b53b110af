"""What a training returns, and how it fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree

from .._core import COLORS, Panels, PortableError
from ..analysis import AnalysisResult
from ..solution import Provenance
from ._history import History


@dataclasses.dataclass(frozen=True, eq=False)
class Fit(AnalysisResult):
    """A trained model, and how it came about.

    **Fields:**

    - `model`: after the last step; `best_model`: at its least validation loss, the
        last one without validation.
    - `steps`: how many were taken; `best_step`: how many until `best_model`.
    - `stopped_early`: whether patience ended it before all steps were taken.
    - `history`: a [`History`][hybrid_nds.training.History].
    - `optimizer_state`: after the last step.
    - `checkpoint`: the folder of its checkpoints, `None` for none.
    - `settings`, `provenance`: see
        [`AnalysisResult`][hybrid_nds.analysis.AnalysisResult].
    """

    model: PyTree
    best_model: PyTree
    steps: int
    best_step: int
    stopped_early: bool
    history: History
    optimizer_state: PyTree
    checkpoint: Path | None
    settings: Mapping[str, Any]
    provenance: Provenance

    def summary(self) -> str:
        early = ", stopped early" if self.stopped_early else ""
        lines = [f"{self.steps} steps{early}"]
        if self.steps:
            lines.append(f"loss {self.history.loss[-1]:.6g} at the last of them")
        if len(self.history.validation_loss):
            at = int(np.searchsorted(self.history.validation_steps, self.best_step))
            best, last = self.history.validation_loss[[at, -1]]
            lines.append(
                f"validation {last:.6g} at the end, least {best:.6g} after "
                f"{self.best_step} steps"
            )
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        self.history.draw(panels)
        if len(self.history.validation_steps):
            axes = panels.axes[0]
            axes.axvline(self.best_step, color=COLORS[1], ls=":", label="best model")
            axes.legend()


class TrainingError(PortableError, RuntimeError):
    """A training that met a number that is not finite.

    **Fields:**

    - `step`: the step, from 0; `loss`: its loss.
    - `batch`: which samples its batch holds, `None` for batches from an iterable, whose
        batch it is number `step` of.
    - `model`: before that step; `history`: up to it.
    - `checkpoint`: the folder of the last good checkpoint, `None` for none.
    """

    def __init__(
        self,
        message: str,
        *,
        step: int,
        loss: float,
        batch: np.ndarray | None,
        model: PyTree,
        history: History,
        checkpoint: Path | None,
    ):
        super().__init__(message)
        self.step, self.loss, self.batch = step, loss, batch
        self.model, self.history, self.checkpoint = model, history, checkpoint
