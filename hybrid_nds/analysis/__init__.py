"""What all results and analyses share: their base, saved progress, progress bars."""

from .._core import (
    Along as Along,
    Axis as Axis,
    DrawnResult as DrawnResult,
    Panels as Panels,
    Records as Records,
    Result as Result,
    Unit as Unit,
    Variable as Variable,
)
from ._bar import progress_bar as progress_bar
from ._progress import SavedProgress as SavedProgress
from ._result import (
    AnalysisError as AnalysisError,
    AnalysisResult as AnalysisResult,
    analysis_provenance as analysis_provenance,
)
