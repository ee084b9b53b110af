"""Ensembles: many trajectories, kept or reduced as they come."""

from .exits import ExitFlags as ExitFlags, ExitResult as ExitResult
from .histogram import Histogram as Histogram, HistogramResult as HistogramResult
from .moments import Moments as Moments, MomentsResult as MomentsResult
from .quantiles import Quantiles as Quantiles, QuantilesResult as QuantilesResult
from .reduction import Reduction as Reduction
from .result import (
    Ensemble as Ensemble,
    EnsembleError as EnsembleError,
    Failure as Failure,
)
from .verb import ensemble as ensemble
