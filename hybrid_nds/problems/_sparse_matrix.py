"""Mass matrices of which only the entries that are not zero are kept."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float


class SparseMatrix(eqx.Module):
    """A square matrix by its entries.

    **Fields:** the values of the entries; their rows and columns, counted from zero;
    the number of rows.
    """

    values: Float[Array, " entries"]
    rows: np.ndarray
    columns: np.ndarray
    size: int = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        return self.size, self.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.asarray(self.values, dtype)
        full = np.zeros(self.shape, values.dtype)
        np.add.at(full, (self.rows, self.columns), values)
        return full


def entries_of(matrix: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and values of the entries of a matrix that are not zero."""
    if isinstance(matrix, SparseMatrix):
        return matrix.rows, matrix.columns, np.asarray(matrix.values)
    values = np.asarray(matrix)
    rows, columns = np.nonzero(values)
    return rows, columns, values[rows, columns]
