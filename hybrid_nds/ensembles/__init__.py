"""Ensembles: many trajectories, kept or reduced as they come."""

from ._checks import check_initial as check_initial
from ._ensemble import ensemble as ensemble
from ._exits import ExitFlags as ExitFlags, ExitResult as ExitResult
from ._histogram import Histogram as Histogram, HistogramResult as HistogramResult
from ._moments import Moments as Moments, MomentsResult as MomentsResult
from ._quantiles import Quantiles as Quantiles, QuantilesResult as QuantilesResult
from ._reduction import Reduction as Reduction
from ._result import (
    Ensemble as Ensemble,
    EnsembleError as EnsembleError,
    Failure as Failure,
)
