"""Brownian paths that both solver stacks can read."""

from ._path import (
    BrownianPath as BrownianPath,
    LevyArea as LevyArea,
    grid_steps as grid_steps,
)
from ._stored import StoredPath as StoredPath, coarsened as coarsened
