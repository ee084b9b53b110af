"""Options of XLA's compiler."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType

import jax

_WANTED: Mapping[str, int | bool] = MappingProxyType(
    {
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
        "xla_cpu_use_fusion_emitters": False,
    }
)


@functools.cache
def quick_options() -> dict[str, int | bool]:
    """Options of `jax.jit` for a program that takes longer to compile than to run:
    those that the installed XLA knows."""
    return {name: value for name, value in _WANTED.items() if _known(name, value)}


def _known(name: str, value: int | bool) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options={name: value}).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
