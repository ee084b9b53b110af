"""A branch on disk, to go on with after an interruption."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...analysis import SavedProgress
from ._arclength import CurvePoint, Walk, Walker

# Points between two writes: the file is written whole each time.
_EVERY = 25


class SavedBranch:
    """The walks of a continuation, by name, kept in one file.

    **Arguments:** the file; the walker, to look again at points that were read; what to
    call for every new point, with the count.
    """

    def __init__(
        self, saved: SavedProgress, walker: Walker, advance: Callable[[int], None]
    ):
        self._saved, self._walker, self._advance = saved, walker, advance
        self._arrays = dict(saved.read() or {})

    def walk(
        self,
        name: str,
        start: CurvePoint,
        ends: tuple[float, float],
        step: float,
        most: int,
    ) -> Walk:
        """A walk from a start to its end, from where it was when it was cut off."""
        begun = self._restored(name)
        if begun is None:
            begun = Walk([start], step, "")
        if begun.ended:
            return begun
        walk = self._walker.walk(begun, ends, most, lambda so: self._seen(name, so))
        self._write(name, walk)
        return walk

    def _seen(self, name: str, walk: Walk) -> None:
        self._advance(1)
        if len(walk.points) % _EVERY == 0:
            self._write(name, walk)

    def _write(self, name: str, walk: Walk) -> None:
        self._arrays[f"{name}_points"] = np.array([p.w for p in walk.points])
        self._arrays[f"{name}_tangents"] = np.array([p.tangent for p in walk.points])
        self._arrays[f"{name}_step"] = np.array(walk.step)
        self._arrays[f"{name}_ended"] = np.array(walk.ended)
        self._saved.write(self._arrays)

    def _restored(self, name: str) -> Walk | None:
        if f"{name}_points" not in self._arrays:
            return None
        pairs = zip(
            self._arrays[f"{name}_points"],
            self._arrays[f"{name}_tangents"],
            strict=True,
        )
        # What else belongs to a point follows from it, to the last bit.
        points = [self._walker.point(w, tangent, 0) for w, tangent in pairs]
        self._advance(len(points))
        return Walk(
            [point for point in points if point is not None],
            float(self._arrays[f"{name}_step"]),
            str(self._arrays[f"{name}_ended"]),
        )
