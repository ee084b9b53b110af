"""Double precision for a stretch of code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.experimental


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
