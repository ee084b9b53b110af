"""What tells problems apart: their mathematics, not the names of their parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ._problem import Problem

# Functions inside a jaxpr are printed with their addresses.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def problem_fingerprint(problem: Problem) -> str:
    """The digest of a problem.

    Fields enter as the operations JAX traces them to and the numbers these hold, so
    that the same field written in another file is the same field, and one changed
    weight makes another.
    """
    t, y, args = problem.t0, problem.y0, problem.args
    mass_matrix = getattr(problem, "mass_matrix", None)
    parts = [str(problem.kind), arrays_text((t, problem.t1, y, args, mass_matrix))]
    traced = [traced_text(term.function, t, y, args) for term in problem.terms]
    return digest(parts + traced)


def digest(parts: Sequence[str]) -> str:
    """One digest of several texts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def arrays_text(tree: PyTree) -> str:
    """The structure of a pytree, and a digest of every leaf."""
    leaves, treedef = jtu.tree_flatten(tree)
    return f"{_ADDRESS.sub('', str(treedef))} {[_leaf(leaf) for leaf in leaves]}"


def traced_text(function: Callable, *arguments: Any) -> str:
    """The operations and the numbers of a function at arguments of given shapes."""
    dynamic, static = eqx.partition((function, arguments), eqx.is_array)

    def call(dynamic: PyTree) -> PyTree:
        own, given = eqx.combine(dynamic, static)
        return eqx.filter(own(*given), eqx.is_array)

    closed = jax.make_jaxpr(call)(dynamic)
    return f"{_ADDRESS.sub('', str(closed))} {arrays_text((dynamic, closed.consts))}"


def _leaf(leaf: Any) -> str:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, np.ndarray | np.generic | jax.Array | float | int):
        array = np.asarray(leaf)
        head = f"{array.dtype}{array.shape}".encode()
        return hashlib.sha256(head + array.tobytes()).hexdigest()
    return _ADDRESS.sub("", repr(leaf))
