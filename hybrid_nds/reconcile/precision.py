"""Double precision for as long as it is needed."""

from contextlib import AbstractContextManager

import jax
import jax.experimental


def double_precision() -> AbstractContextManager:
    """A context in which JAX computes in 64 bits, whatever its global flag says.

    **Returns:** a context manager. Inside, new arrays are float64 and functions are
    traced for it; outside, nothing has changed. Arrays made inside keep their
    precision after it.
    """
    # JAX 0.8 moved it out of the experimental module.
    home = jax if hasattr(jax, "enable_x64") else jax.experimental
    return home.enable_x64(True)  # pyright: ignore
