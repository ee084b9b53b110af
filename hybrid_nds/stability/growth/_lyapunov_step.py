"""The discretization error of Lyapunov exponents, from a second run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from ...analysis import AnalysisError
from ...backends import Integration
from ...methods import ODE_METHODS

# By how much the tolerances of the second run differ; none is above the largest.
_RATIO = 100.0
_LARGEST = 0.1
# With fewer steps an interval, its end is what limits them.
_STEPS = 4.0
# Orders above that are not relied on: they show only at steps that are short enough.
_ORDER = 4.0
# The difference of two runs is looked at beyond so many of its standard errors.
_ERRORS = 2.0
# Roundings of a logarithm of growth: of the steps of an interval, and of the
# decomposition at its end.
_ROUNDINGS = 8.0


@dataclasses.dataclass(frozen=True)
class SecondRun:
    """How to run once more, and what the difference says.

    **Fields:** `options` of the flow, in place of those of the first run; `division`,
    into how many parts an interval is cut; `factor`, so many times the difference is a
    bound of the error of the first run; `what` differs, in words.
    """

    options: dict[str, Any]
    division: int
    factor: float
    what: str


def second_runs(
    method: str,
    interval: float,
    integration: Integration,
    steps: float,
    precision: float,
) -> tuple[SecondRun, SecondRun]:
    """A cheaper run to compare with, and a dearer one where the cheaper fails.

    In fixed steps the error is taken to fall with the order of the method; under error
    control at least with the square root of the tolerances, or the order where steps
    are as long as an interval. The result is doubled.

    **Arguments:** the name of the method; the length of an interval; the first run's
    step, or its tolerances; how many steps an interval takes; the precision of the
    state.
    """
    orders = [row.order for row in ODE_METHODS if method in (row.diffrax, row.julia)]
    order = min(_ORDER, next((p for p in orders if p is not None), 1.0))
    # Of what half as long steps leave of an error.
    halved = 2 / (1 - 2.0**-order)
    if integration.dt is not None:
        count = round(interval / integration.dt)

        def fixed(count: int) -> dict[str, Any]:
            return {"dt": interval / count, "rtol": None, "atol": None}

        dear = SecondRun(fixed(2 * count), 1, halved, "steps half as long")
        if count == 1:
            return dear, dear
        fewer = (count + 1) // 2
        share = 2 / ((count / fewer) ** order - 1)
        return SecondRun(fixed(fewer), 1, share, "longer steps"), dear
    rtol, atol, root = integration.rtol, integration.atol, math.sqrt(_RATIO)
    # Below some roundings no step is accepted.
    tight = max(rtol / _RATIO, min(rtol, 16 * precision))
    dear = SecondRun(
        {"dt": None, "rtol": tight, "atol": atol / _RATIO},
        2,
        max(halved, 2 / (1 - 1 / root)),
        "smaller tolerances and shorter steps",
    )
    if steps < _STEPS or _RATIO * rtol > _LARGEST:
        return dear, dear
    loose = {"dt": None, "rtol": _RATIO * rtol, "atol": _RATIO * atol}
    return SecondRun(loose, 1, 2 / (root - 1), "larger tolerances"), dear


@dataclasses.dataclass(frozen=True)
class StepCheck:
    """A second run, to compare with.

    **Fields:** `growth` over its intervals, as many to each of the first run's as
    `second.division` says, without the transient; `second`, how it was run; `roundoff`,
    of a logarithm of growth.
    """

    growth: Float[np.ndarray, "chains intervals k"]
    second: SecondRun
    roundoff: float

    def error(self, one: Any, other: Any, error: Any, other_error: Any) -> Any:
        """A bound of the error of the discretization of a figure.

        Of the difference of the runs only a share is the error of the first. But where
        it is more than chance makes it, all of it counts: errors of both may cancel in
        a run in longer steps.

        **Arguments:** the figure by the first run, by the second, and their standard
        errors.
        """
        apart = np.abs(np.asarray(one) - other)
        seen = apart - _ERRORS * np.hypot(error, other_error)
        return np.fmax(self.second.factor * apart, seen)


def step_check(
    runs: tuple[SecondRun, SecondRun],
    follow: Callable[[SecondRun], Float[np.ndarray, "chains intervals k"]],
    precision: float,
) -> StepCheck:
    """The second run.

    **Arguments:** how to run again; what does so; the precision of the state.

    **Raises:** [`AnalysisError`][hybrid_nds.analysis.AnalysisError] where the dearer
    run fails as well.
    """
    cheap, dear = runs
    try:
        used, growth = cheap, follow(cheap)
    except AnalysisError:
        # Longer steps may be unstable where those of the first run are not.
        if cheap is dear:
            raise
        used, growth = dear, follow(dear)
    return StepCheck(growth, used, _ROUNDINGS * precision)
