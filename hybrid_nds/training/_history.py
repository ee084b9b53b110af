"""What a training went through: losses by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Shaped

from .._core import COLORS, Axis, DrawnResult, Panels, text_of

if TYPE_CHECKING:
    from rich.table import Table

_PARTS, _LOSS, _VALIDATION = "parts/", "loss", "validation"


@dataclasses.dataclass(frozen=True, eq=False)
class History(DrawnResult):
    """The losses of a training.

    **Fields:**

    - `steps`: from 0, shape `(steps,)`; `loss`: of each step's batch, before the step's
        update.
    - `parts`: what the loss gave beside its value, by name, each of shape `(steps,)`.
    - `validation_steps`: how many steps had been done at each validation;
        `validation_loss`: there.
    """

    steps: Axis[Int[np.ndarray, " step"]]
    loss: Float[np.ndarray, " step"]
    parts: Mapping[str, Shaped[np.ndarray, " step"]]
    validation_steps: Axis[Int[np.ndarray, " validation_step"]]
    validation_loss: Float[np.ndarray, " validation_step"]

    def __len__(self) -> int:
        return len(self.steps)

    def table(self, rows: int = 20) -> Table:
        """The history as a table for the terminal.

        **Arguments:** `rows`, at most so many, evenly spread, the last step among them.

        **Returns:** a `rich.table.Table`. Losses are those of the row's step alone;
        the validation is the last one before or at it.
        """
        from rich.table import Table

        if rows < 1:
            raise ValueError(f"History.table: `rows` must be at least 1, got {rows}.")
        validated = bool(len(self.validation_steps))
        titles = ["step", "loss", *(["validation"] if validated else []), *self.parts]
        table = Table(*titles)
        count = min(rows, len(self))
        ends = np.unique(np.linspace(len(self), 0, count, endpoint=False).round())
        for k in ends.astype(int) - 1:
            cells = [str(self.steps[k]), f"{self.loss[k]:.6g}"]
            if validated:
                last = np.searchsorted(self.validation_steps, k + 1, "right") - 1
                cells.append("" if last < 0 else f"{self.validation_loss[last]:.6g}")
            cells += [f"{values[k]:.6g}" for values in self.parts.values()]
            table.add_row(*cells)
        return table

    def summary(self) -> str:
        return text_of(self.table(), width=100)

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        steps, mean = _smoothed(self.steps, self.loss)
        pale = 0.35 if len(steps) < len(self) else 1.0
        axes.plot(self.steps, self.loss, color=COLORS[0], alpha=pale, label="loss")
        if pale < 1:
            axes.plot(steps, mean, color=COLORS[0], label="loss, running mean")
        for k, (name, values) in enumerate(self.parts.items()):
            color = COLORS[(k + 2) % len(COLORS)]
            axes.plot(self.steps, values, color=color, lw=0.8, label=name)
        if len(self.validation_steps):
            options = {"color": COLORS[1], "marker": ".", "label": "validation"}
            axes.plot(self.validation_steps, self.validation_loss, **options)
        shown = [self.loss, self.validation_loss, *self.parts.values()]
        if all(np.all(values > 0) for values in shown):
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.legend()


def _smoothed(steps: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A running mean over a fiftieth of the steps."""
    window = max(len(loss) // 50, 1)
    mean = np.convolve(loss, np.full(window, 1 / window), "valid")
    return steps[window // 2 :][: len(mean)], mean


class Recorder:
    """The history while it grows.

    Rows are added before the step they belong to counts as done, so an interruption
    can leave rows too many: what is read out ends with the steps that count.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray] | None = None):
        self._rows: list[Mapping[str, np.ndarray]] = []
        self._validations: list[tuple[int, np.ndarray]] = []
        if arrays:
            at = arrays.get(_VALIDATION + "/steps", np.zeros(0, int))
            values = arrays.get(_VALIDATION + "/loss", np.zeros(0))
            self._validations = list(zip(at.tolist(), values, strict=True))
            rows = {n: a for n, a in arrays.items() if not n.startswith(_VALIDATION)}
            self._rows = [rows] if rows else []

    def add(self, loss: np.ndarray, parts: Mapping[str, np.ndarray]) -> None:
        """Add the losses of some steps."""
        self._rows.append({_LOSS: loss} | {_PARTS + n: x for n, x in parts.items()})

    def validated(self, step: int, loss: np.ndarray) -> None:
        """Add a validation after `step` steps."""
        self._validations.append((step, loss))

    def arrays(self, steps: int, validated: int) -> dict[str, np.ndarray]:
        """What is kept on disk: no arrays for what there is none of yet."""
        kept: dict[str, np.ndarray] = {}
        if steps and self._rows:
            for name in self._rows[0]:
                joined = np.concatenate([rows[name] for rows in self._rows])
                kept[name] = joined[:steps]
            # Joined once: the next time is as quick.
            self._rows = [dict(kept)]
        validations = [pair for pair in self._validations if pair[0] <= validated]
        if validations:
            kept[_VALIDATION + "/steps"] = np.array([at for at, _ in validations])
            kept[_VALIDATION + "/loss"] = np.array([x for _, x in validations])
        return kept

    def history(self, steps: int, validated: int) -> History:
        """The history of so many steps."""
        kept = self.arrays(steps, validated)
        return History(
            steps=np.arange(steps),
            loss=kept.get(_LOSS, np.zeros(0)),
            parts={
                name.removeprefix(_PARTS): values
                for name, values in kept.items()
                if name.startswith(_PARTS)
            },
            validation_steps=kept.get(_VALIDATION + "/steps", np.zeros(0, int)),
            validation_loss=kept.get(_VALIDATION + "/loss", np.zeros(0)),
        )
