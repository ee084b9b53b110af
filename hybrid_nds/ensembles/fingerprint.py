"""What tells one ensemble from another: its mathematics, not the names of its parts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ..stochastic_problem import SDEProblem
from .plan import Plan

# Functions inside a jaxpr are printed with their addresses.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_PACKAGES = ("hybrid_nds", "jax", "jaxlib", "equinox", "diffrax")


def fingerprint(plan: Plan, given: PyTree) -> dict[str, str]:
    """The fingerprint of an ensemble, by what it covers.

    Fields enter as the operations JAX traces them to and the numbers these hold, so
    that the same field written in another file is the same field, and one changed
    weight makes another.

    **Arguments:** the plan, and initial states given as arrays, or `None`.

    **Returns:** for each part of the plan a digest, or the value itself.
    """
    problem = plan.problem
    t, y, args = problem.t0, problem.y0, problem.args
    if isinstance(problem, SDEProblem):
        fields = (problem.drift, problem.diffusion)
        kind = f"SDE {problem.noise} {problem.interpretation}"
        extra: Any = None
    else:
        fields, kind, extra = (problem.field,), "ODE", problem.mass_matrix
    parts = [kind, _arrays((t, problem.t1, y, args, extra))]
    parts += [_traced(field, t, y, args) for field in fields]
    start = "y0"
    if plan.initial is not None:
        start = _digest([_traced(plan.initial, plan.key)])
    elif given is not None:
        start = _digest([_arrays(given)])
    # Only so many trajectories share a program; another size may round differently.
    return {
        "n": str(plan.n),
        "key": _digest([plan.key_kind, _arrays(plan.key_data)]),
        "problem": _digest(parts),
        "initial states": start,
        "backend": plan.backend,
        "paths": plan.paths,
        "options": _digest([_arrays(dict(plan.options))]),
        "saveat": _digest([_arrays(plan.saveat)]),
        "reductions": _digest([_reductions(plan)]),
        "block": str(plan.block),
        "versions of the libraries": ", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES
        ),
    }


def _reductions(plan: Plan) -> str:
    if plan.reductions is None:
        return "all states"
    words = []
    for name in sorted(plan.reductions):
        one = plan.reductions[name]
        seen = "" if one.of is None else _traced(one.of, plan.problem.y0)
        words.append(f"{name}: {type(one).__name__} {one.describe()} {seen}")
    return "\n".join(words)


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _arrays(tree: PyTree) -> str:
    """The structure of a pytree, and a digest of every leaf."""
    leaves, treedef = jtu.tree_flatten(tree)
    return f"{_ADDRESS.sub('', str(treedef))} {[_leaf(leaf) for leaf in leaves]}"


def _leaf(leaf: Any) -> str:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, np.ndarray | np.generic | jax.Array | float | int):
        array = np.asarray(leaf)
        head = f"{array.dtype}{array.shape}".encode()
        return hashlib.sha256(head + array.tobytes()).hexdigest()
    return _ADDRESS.sub("", repr(leaf))


def _traced(function: Callable, *arguments: Any) -> str:
    dynamic, static = eqx.partition((function, arguments), eqx.is_array)

    def call(dynamic: PyTree) -> PyTree:
        own, given = eqx.combine(dynamic, static)
        return eqx.filter(own(*given), eqx.is_array)

    closed = jax.make_jaxpr(call)(dynamic)
    return f"{_ADDRESS.sub('', str(closed))} {_arrays((dynamic, closed.consts))}"
