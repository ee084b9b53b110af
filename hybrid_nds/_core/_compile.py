"""How JAX compiles what is run once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

QUICKLY: Mapping[str, int | bool] = MappingProxyType(
    {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    }
)
"""Options of `jax.jit` for a program that takes longer to compile than to run."""
