"""Brownian paths that both solver stacks can read."""

from ._native import NativePath as NativePath
from ._path import (
    Blocks as Blocks,
    BrownianPath as BrownianPath,
    LevyArea as LevyArea,
    grid_steps as grid_steps,
)
from ._stored import (
    StoredPath as StoredPath,
    blocks_of as blocks_of,
    coarsened as coarsened,
)
