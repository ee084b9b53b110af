"""Whether JAX traces a solve, and what it then cannot do."""

from __future__ import annotations

from typing import Any

import jax.tree_util as jtu

from ..._core import is_concrete
from ...problems import Problem
from .._options import Options


def is_traced(problem: Problem, options: Options) -> bool:
    """Whether a solve depends on values that JAX traces."""
    given = (problem, options.path, options.rtol, options.atol, options.dt)
    leaves = jtu.tree_leaves((given, options.saveat, options.event))
    return not all(is_concrete(leaf) for leaf in leaves)


def check_traced(problem: Any, options: Options) -> None:
    """Refuse what a traced solve cannot do.

    **Raises:** `ValueError` or `TypeError`, naming the option.
    """
    if isinstance(options.saveat, str):
        raise ValueError(
            f'solve: `saveat="{options.saveat}"` keeps as much as there are steps, '
            "which JAX cannot know when it compiles: inside jax.jit and jax.vmap give "
            "the times to save, or None for the end."
        )
    if options.extra.get("rhs", "lowered") == "callback":
        raise ValueError(
            'solve: `rhs="callback"` calls JAX while a compiled program of JAX waits: '
            "leave it out inside jax.jit and jax.vmap, or solve outside of them."
        )
    if options.progress:
        raise ValueError(
            "solve: `progress` cannot be shown by a compiled program on the Julia "
            "backend; leave it out inside jax.jit and jax.vmap."
        )
    mass = getattr(problem, "mass_matrix", None)
    if mass is not None and not is_concrete(mass):
        raise TypeError(
            "solve: `mass_matrix` must be concrete on the Julia backend: close over it "
            "rather than pass it through jax.jit or jax.vmap."
        )
