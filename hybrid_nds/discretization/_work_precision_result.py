"""A table of errors and of what they cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

from .._core import Panels, Records, Unit
from ..analysis import AnalysisResult
from ..solution import Provenance


@dataclasses.dataclass(frozen=True)
class WorkRow:
    """One method in one setting.

    **Fields:** the backend and the solver; the tolerance, or `None` in fixed steps; the
    number of fixed steps, or `None`; the error and its standard error; steps taken; and
    the processor's seconds of one solve (of one path, for a stochastic problem). The
    error is infinite where the solve failed.
    """

    backend: str
    solver: str
    tolerance: float | None
    fixed_steps: int | None
    error: float
    standard_error: float
    steps: float
    seconds: Annotated[float, Unit("s")]

    @property
    def method(self) -> str:
        """Solver and backend as text."""
        return f"{self.solver} on {self.backend}"

    @property
    def setting(self) -> str:
        """Tolerance or number of steps as text."""
        if self.tolerance is not None:
            return f"rtol {self.tolerance:.0e}"
        return f"{self.fixed_steps} steps"


@dataclasses.dataclass(frozen=True, eq=False)
class WorkPrecision(AnalysisResult):
    """What accuracy costs, by method and setting.

    **Fields:** `rows`, each a [`WorkRow`][hybrid_nds.discretization.WorkRow];
    `reference`, what errors are measured against, as text; `paths`, how many Brownian
    paths errors are means over, 1 for an ordinary problem; `settings` and
    `provenance`.
    """

    rows: Annotated[tuple[WorkRow, ...], Records("row", "")]
    reference: str
    paths: int
    settings: Mapping[str, Any]
    provenance: Provenance

    def cheapest(self, error: float) -> WorkRow:
        """The row of the least time among those that reach an error.

        **Arguments:** `error`, in the unit of the state.

        **Raises:** `ValueError` where none does, with the least error that was reached.
        """
        reached = [row for row in self.rows if row.error <= error]
        if not reached:
            best = min(self.rows, key=lambda row: row.error)
            raise ValueError(
                f"WorkPrecision.cheapest: no row reaches an error of {error:g}; the "
                f"least is {best.error:.3g}, of {best.method} with {best.setting}. Ask "
                "for more, or run with tighter `rtols` or more `steps`."
            )
        return min(reached, key=lambda row: row.seconds)

    def summary(self) -> str:
        mean = f", means over {self.paths} paths" if self.paths > 1 else ""
        lines = [
            f"Work and precision against {self.reference}{mean}",
            f"{'method':<32}{'setting':>12}{'error':>11}{'± sampling':>12}"
            f"{'steps':>10}{'time':>11}",
        ]
        for row in sorted(self.rows, key=lambda r: (r.method, -r.error)):
            lines.append(
                f"{row.method:<32}{row.setting:>12}{row.error:>11.2e}"
                f"{row.standard_error:>12.1e}{row.steps:>10.0f}"
                f"{row.seconds * 1e3:>8.3g} ms"
            )
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        left, right = panels.subplots(1, 2, sharey=True, size=(9, 4.2))
        for method in dict.fromkeys(row.method for row in self.rows):
            own = [r for r in self.rows if r.method == method]
            own = [r for r in own if math.isfinite(r.error) and r.error > 0]
            errors = [row.error for row in own]
            dashes = "o--" if method.endswith("julia") else "s-"
            left.loglog([r.seconds for r in own], errors, dashes, label=method)
            right.loglog([r.steps for r in own], errors, dashes)
        left.set_xlabel("processor time of one solve, seconds")
        right.set_xlabel("steps")
        left.set_ylabel("error")
        left.legend()
