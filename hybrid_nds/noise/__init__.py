"""Brownian paths that both solver stacks can read."""

from ._path import BrownianPath as BrownianPath, LevyArea as LevyArea
from ._stored import StoredPath as StoredPath
