"""Named experiments with claims, on both backends, and the report of what held."""

from ._claim import Claim as Claim
from ._executor import executor_of as executor_of
from ._findings import Findings as Findings
from ._pages import write_pages as write_pages
from ._registry import find_study as find_study, study_names as study_names
from ._report import write_report as write_report
from ._result import StudyResult as StudyResult
from ._run import run_study as run_study
from ._study import Study as Study, study as study
from ._sweep import Sweep as Sweep
