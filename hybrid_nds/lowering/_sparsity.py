"""The sparsity pattern of a Jacobian, and the colours of its columns."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from .._core import COLORS, DrawnResult, Panels

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

# Of more entries a picture shows the number in each of this many squares a side.
_FINEST_PICTURE = 512


@dataclasses.dataclass(frozen=True, eq=False)
class Sparsity(DrawnResult):
    """The sparsity pattern of a Jacobian, with a colouring of its columns.

    Columns of one colour have no row in common, so that one product of the Jacobian
    with the sum of their unit vectors gives all their entries.

    **Fields:**

    - `rows`, `columns`: where the Jacobian may be other than zero, counted from zero,
        column by column and downwards in each.
    - `colors`: the colour of each column, counted from zero.
    - `source`: where the pattern comes from: `"jaxpr"`, `"asdex"` or `"given"`.
    """

    rows: Int[np.ndarray, " nonzero"]
    columns: Int[np.ndarray, " nonzero"]
    colors: Int[np.ndarray, " state"]
    source: str

    @property
    def states(self) -> int:
        """The number of rows, and of columns."""
        return len(self.colors)

    @property
    def nonzeros(self) -> int:
        """The number of entries that may be other than zero."""
        return len(self.rows)

    @property
    def products(self) -> int:
        """The number of colours: of products that give the whole Jacobian."""
        return int(self.colors.max(initial=-1)) + 1

    @property
    def fill(self) -> float:
        """The share of the entries that may be other than zero."""
        return self.nonzeros / self.states**2

    @property
    def starts(self) -> Int[np.ndarray, " boundary"]:
        """Where each column begins among the entries, and where the last one ends."""
        counts = np.bincount(self.columns, minlength=self.states)
        return np.concatenate([[0], np.cumsum(counts)])

    def matrix(self) -> csc_matrix:
        """The pattern as a boolean matrix of SciPy."""
        from scipy.sparse import csc_matrix

        shape = (self.states, self.states)
        values = np.ones(self.nonzeros, bool)
        return csc_matrix((values, self.rows, self.starts), shape)

    def joined(self, rows: np.ndarray, columns: np.ndarray) -> Sparsity:
        """The pattern with the diagonal and further entries, colours anew."""
        diagonal = np.arange(self.states)
        return colored(
            np.concatenate([self.rows, rows, diagonal]),
            np.concatenate([self.columns, columns, diagonal]),
            self.states,
            self.source,
        )

    @functools.cached_property
    def _digest(self) -> bytes:
        digest = hashlib.sha256()
        for array in (self.rows, self.columns, self.colors):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, np.int64).tobytes())
        return digest.digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sparsity) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"<{self.summary()}>"

    def summary(self) -> str:
        """A line for people: size, entries, fill and colours."""
        return (
            f"Sparsity of {self.states:,} × {self.states:,}: {self.nonzeros:,} entries "
            f"({100 * self.fill:.3g} %), {self.products} colours, by {self.source}"
        )

    def draw(self, panels: Panels) -> None:
        """Draw the pattern; of a large one, the number of entries in each square."""
        axes = panels.subplots(size=(5.0, 5.0))
        n = self.states
        cells = min(n, _FINEST_PICTURE)
        counts, *_ = np.histogram2d(
            self.rows + 0.5, self.columns + 0.5, cells, [[0, n], [0, n]]
        )
        y, x = np.nonzero(counts)
        scale = n / cells
        axes.scatter(
            (x + 0.5) * scale - 0.5,
            (y + 0.5) * scale - 0.5,
            s=max(0.2, min(40.0, (250 / cells) ** 2)),
            marker="s",
            linewidths=0,
            color=COLORS[0],
        )
        axes.set(
            xlim=(-0.5, n - 0.5),
            ylim=(n - 0.5, -0.5),
            aspect="equal",
            xlabel="state",
            ylabel="equation",
            title=f"{self.nonzeros:,} entries, {self.products} colours",
        )


def colored(rows: Any, columns: Any, states: int, source: str) -> Sparsity:
    """A pattern with its columns coloured greedily.

    **Arguments:** rows and columns of the entries, in any order and perhaps repeated;
    the number of states; where they come from.
    """
    rows, columns = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
    columns, rows = np.divmod(np.unique(columns * states + rows), max(states, 1))
    return Sparsity(
        rows.astype(np.int32),
        columns.astype(np.int32),
        _greedy_colors(rows, columns, states),
        source,
    )


def _greedy_colors(rows: np.ndarray, columns: np.ndarray, states: int) -> np.ndarray:
    """The smallest colour that no column with a common row has, for one column after
    the other, the fullest first (Curtis, Powell & Reid 1974; Gebremedhin et al. 2005).
    """
    counts = np.bincount(columns, minlength=states)
    of_column = np.split(rows, np.cumsum(counts)[:-1]) if states else []
    # The colours that each row has met, as the bits of a whole number of any length.
    taken = [0] * states
    colors = np.zeros(states, np.int32)
    for column in np.argsort(-counts, kind="stable").tolist():
        own = of_column[column].tolist()
        met = 0
        for row in own:
            met |= taken[row]
        color = (~met & (met + 1)).bit_length() - 1
        colors[column] = color
        for row in own:
            taken[row] |= 1 << color
    return colors
