"""Whether JAX traces a solve, and what it then cannot do."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from ..._core import is_concrete
from ...problems import Problem
from .._options import Options

P = TypeVar("P", bound=Problem)


def is_traced(problem: Problem, options: Options) -> bool:
    """Whether a solve depends on values that JAX traces."""
    inputs = (problem, options.path, options.rtol, options.atol, options.dt)
    leaves = jtu.tree_leaves((inputs, options.saveat, options.event))
    return not all(is_concrete(leaf) for leaf in leaves)


def without_idle_integers(problem: P) -> P:
    """The problem with zeros for traced integers that none of its functions reads, such
    as counters of a model: what they would read is compiled in, and must be known."""
    leaves, treedef = jtu.tree_flatten(problem)
    traced = [k for k, leaf in enumerate(leaves) if _is_traced_integer(leaf)]
    if not traced:
        return problem

    def values(integers: list[Any]) -> Any:
        own = list(leaves)
        for k, integer in zip(traced, integers, strict=True):
            own[k] = integer
        moved = jtu.tree_unflatten(treedef, own)
        at = moved.t0, moved.y0, moved.args
        return [term.function(*at) for term in moved.terms]

    jaxpr = jax.make_jaxpr(values)([leaves[k] for k in traced]).jaxpr
    read = {id(x) for equation in jaxpr.eqns for x in equation.invars}
    read |= {id(x) for x in jaxpr.outvars}
    for k, variable in zip(traced, jaxpr.invars, strict=True):
        if id(variable) not in read:
            leaves[k] = np.zeros(leaves[k].shape, leaves[k].dtype)
    return jtu.tree_unflatten(treedef, leaves)


def _is_traced_integer(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array) or is_concrete(leaf):
        return False
    return any(jnp.issubdtype(leaf.dtype, kind) for kind in (jnp.integer, jnp.bool_))


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
