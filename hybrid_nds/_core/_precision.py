"""Double precision for a segment of code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.experimental
import numpy as np


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Run JAX in 64 bits within a `with` block, and as before after it.

    JAX's own setting is global, and changing it is the user's business: code that
    needs double precision itself, such as a comparison at round-off, takes it here.
    Arrays made before the block keep their precision.

    !!! example

        ```python
        with hybrid_nds.double_precision():
            problem = ODEProblem(field, np.array([1.0]), 0.0, 1.0)
        ```
    """
    # Older JAX has it under jax.experimental.
    module: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
    switch = module.enable_x64
    with switch(True):
        yield


@runtime_checkable
class _Typed(Protocol):
    @property
    def dtype(self) -> np.dtype: ...


def precision_of(problem: _Typed) -> contextlib.AbstractContextManager[None]:
    """Double precision for a problem that is of it, and JAX as it is for others."""
    double = problem.dtype == np.float64
    return double_precision() if double else contextlib.nullcontext()
