"""Continuous models of deep learning and dynamics, one family a file."""

from ._base import (
    ContinuousModel as ContinuousModel,
    StochasticModel as StochasticModel,
)
