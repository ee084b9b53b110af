"""Brownian paths that both solver stacks can read."""

from ._grid import (
    Blocks as Blocks,
    LevyArea as LevyArea,
    grid_steps as grid_steps,
)
from ._native import NativePath as NativePath
from ._path import BrownianPath as BrownianPath
from ._stored import (
    StoredPath as StoredPath,
    blocks_of as blocks_of,
    coarsened as coarsened,
)
