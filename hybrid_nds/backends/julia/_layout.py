"""Numbers that Julia reads and writes: `julia/src/report.jl` has them, too."""

from __future__ import annotations

import ctypes
from typing import Any

from ...runtime import Session

STATS = (
    "num_steps",
    "num_accepted_steps",
    "num_rejected_steps",
    "num_field_evaluations",
    "num_jacobian_evaluations",
    "num_linear_solves",
)
# What a compiled program gets of a trajectory: outcome, event, statistics, and the
# number of its failure.
COUNTS = len(STATS) + 3
# What a solve keeps beside its end.
KEEP = {"end": 0, "times": 1, "stops": 2, "steps": 3, "dense": 4}


class Report(ctypes.Structure):
    """What a solve in Julia tells.

    **Fields:** `outcome`, a code of [`Outcome`][hybrid_nds.Outcome]; `event`, which one
    fired; the statistics; `count`, how many times were saved, and the addresses of
    these and of their `states`, or of the logarithms of growth instead.
    """

    outcome: int
    event: int
    num_steps: int
    count: int
    times: int
    states: int

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("outcome", "event", *STATS, "count", "times", "states")
    )

    @property
    def statistics(self) -> dict[str, int]:
        """The statistics by their names."""
        return {name: getattr(self, name) for name in STATS}


def report_of(session: Session, handle: Any) -> Report:
    """The report of a prepared problem, where it lies: the caller keeps `handle`."""
    return Report.from_address(int(session.module.address(handle.report)))
