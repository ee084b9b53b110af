"""What all analyses share: typed results, saved progress, progress bars."""

from ._bar import progress_bar as progress_bar
from ._progress import SavedProgress as SavedProgress
from ._result import (
    AnalysisError as AnalysisError,
    AnalysisResult as AnalysisResult,
    analysis_provenance as analysis_provenance,
)
