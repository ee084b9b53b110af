from ._outcome import (
    INTERRUPTED as INTERRUPTED,
    OUTCOME_NAMES as OUTCOME_NAMES,
    STAGE_FAILED as STAGE_FAILED,
    STEP_TOO_SMALL as STEP_TOO_SMALL,
    SUCCESS as SUCCESS,
    SUCCESSES as SUCCESSES,
    UNSTABLE as UNSTABLE,
    Outcome as Outcome,
    code_of as code_of,
    outcome_name as outcome_name,
    outcome_of as outcome_of,
)
from ._solution import (
    Provenance as Provenance,
    Solution as Solution,
    SolveError as SolveError,
    package_versions as package_versions,
)
