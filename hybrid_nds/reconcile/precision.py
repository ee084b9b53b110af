"""Double precision for as long as it is needed."""

from contextlib import AbstractContextManager

import jax


def double_precision() -> AbstractContextManager:
    """A context in which JAX computes in 64 bits, whatever its global flag says.

    **Returns:** a context manager. Inside, new arrays are float64 and functions are
    traced for it; outside, nothing has changed. Arrays made inside keep their
    precision after it.
    """
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # the name before JAX 0.8

    return enable_x64(True)
