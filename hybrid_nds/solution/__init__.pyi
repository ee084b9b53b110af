from ._solution import (
    UNSTABLE as UNSTABLE,
    Outcome as Outcome,
    Provenance as Provenance,
    Solution as Solution,
    SolveError as SolveError,
    outcome_name as outcome_name,
)
