"""What is compared of a large vector field: its Jacobian entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..backends.julia import LoweredEvaluator
from ..lowering import Sparsity, expression_depth
from ..problems import ODEProblem

SPARSE_PARTS = ("field", "jacobian entries", "jacobian on waves", "time gradient")

Function = Callable[[Any, Any, Any], Any]
"""Of time, flat state and parameters."""


def waves(n: int) -> np.ndarray:
    """A vector that Jacobians are applied to: any wrong entry shows in the product."""
    return np.cos(1.0 + np.arange(n))


def traced_parts(
    flat: Callable[[Any, Any], Any], pattern: Sparsity, t: Any, u: Any
) -> dict[str, Any]:
    """Each of `SPARSE_PARTS` at one point, by JAX: the products without the pattern."""
    along = jnp.asarray(waves(pattern.states))
    return {
        "field": flat(t, u),
        "jacobian entries": _entries(lambda t, u, _: flat(t, u), pattern)(t, u, None),
        "jacobian on waves": jax.jvp(lambda u: flat(t, u), (u,), (along,))[1],
        "time gradient": jax.jacfwd(flat, argnums=0)(t, u),
    }


def lowered_parts(
    problem: ODEProblem, pattern: Sparsity, points: np.ndarray, times: np.ndarray
) -> Mapping[str, np.ndarray]:
    """Each of `SPARSE_PARTS` at the points, from Julia."""
    evaluate = LoweredEvaluator(problem, pattern)
    values = [evaluate(u, float(t)) for t, u in zip(times, points, strict=True)]
    along = waves(pattern.states)[pattern.columns]
    return {
        "field": np.stack([f for f, _, _ in values]),
        "jacobian entries": np.stack([entries for _, entries, _ in values]),
        "jacobian on waves": np.stack(
            [_by_rows(entries * along, pattern) for _, entries, _ in values]
        ),
        "time gradient": np.stack([g for _, _, g in values]),
    }


def sparse_depths(
    flat: Callable[[Any, Any], Any], pattern: Sparsity, t: Any, u: Any
) -> Mapping[str, int]:
    """The longest chain of roundings in each of `SPARSE_PARTS`."""

    def product(t: Any, u: Any) -> Any:
        along = jnp.asarray(waves(pattern.states))
        return [jax.jvp(lambda u: flat(t, u), (u,), (along,))[1]]

    depth = expression_depth(product, t, u)
    longest = int(np.bincount(pattern.rows, minlength=1).max())
    return {
        "field": expression_depth(lambda t, u: [flat(t, u)], t, u),
        "jacobian entries": depth,
        # Julia's entries are multiplied by the vector: as many more as a row has.
        "jacobian on waves": depth + longest,
        "time gradient": expression_depth(
            lambda t, u: [jax.jacfwd(flat, argnums=0)(t, u)], t, u
        ),
    }


def sparse_magnitudes(
    field: Function, pattern: Sparsity, leaves: Sequence[Any], t: Any, u: Any
) -> dict[str, Any]:
    """The condition of each of `SPARSE_PARTS` at one point.

    No derivative by the states is formed as a matrix: one component of the field, and
    so each of its derivatives, depends on one state of each colour at the most.
    """

    def condition(function: Function) -> Any:
        value = jnp.abs(function(t, u, leaves))

        def by_color(total: Any, color: Any) -> tuple[Any, None]:
            tangent = jnp.where(jnp.asarray(pattern.colors) == color, u, 0.0)
            pushed = jax.jvp(lambda u: function(t, u, leaves), (u,), (tangent,))[1]
            return total + jnp.abs(pushed), None

        value = jax.lax.scan(by_color, value, jnp.arange(pattern.products))[0]
        value += jnp.abs(jax.jacfwd(function, 0)(t, u, leaves) * t)
        for place, leaf in enumerate(leaves):
            value += _by_leaf(function, t, u, leaves, place, leaf, value.size)
        return value

    entries = condition(_entries(field, pattern))
    along = jnp.abs(jnp.asarray(waves(pattern.states)[pattern.columns]))
    on_waves = jnp.zeros(pattern.states).at[pattern.rows].add(entries * along)
    return {
        "field": condition(field),
        "jacobian entries": entries,
        "jacobian on waves": on_waves,
        "time gradient": condition(lambda t, u, ls: jax.jacfwd(field, 0)(t, u, ls)),
    }


def _by_leaf(
    function: Function,
    t: Any,
    u: Any,
    leaves: Sequence[Any],
    place: int,
    leaf: Any,
    outputs: int,
) -> Any:
    """Σ |aₖ ∂f/∂aₖ| over one array of parameters, by columns or by rows, whichever are
    fewer."""

    def of(a: Any) -> Any:
        others = [*leaves]
        others[place] = a.reshape(leaf.shape)
        return function(t, u, others)

    flat = leaf.reshape(-1)
    if flat.size <= outputs:

        def column(total: Any, k: Any) -> tuple[Any, None]:
            tangent = jnp.zeros_like(flat).at[k].set(flat[k])
            return total + jnp.abs(jax.jvp(of, (flat,), (tangent,))[1]), None

        start = jnp.zeros(outputs, u.dtype)
        return jax.lax.scan(column, start, jnp.arange(flat.size))[0]
    pull = jax.vjp(of, flat)[1]

    def row(k: Any) -> Any:
        cotangent = jnp.zeros(outputs, u.dtype).at[k].set(1.0)
        return jnp.sum(jnp.abs(pull(cotangent)[0] * flat))

    return jax.lax.map(row, jnp.arange(outputs))


def _entries(field: Function, pattern: Sparsity) -> Function:
    """The entries of a Jacobian by a product a colour (Curtis, Powell & Reid 1974).

    Not those of `lowering`, which are what the other stack is lowered from.
    """
    colors = jnp.asarray(pattern.colors)
    of_entry = jnp.asarray(pattern.colors[pattern.columns])

    def entries(t: Any, u: Any, leaves: Any) -> Any:
        def product(color: Any) -> Any:
            seed = (colors == color).astype(u.dtype)
            return jax.jvp(lambda u: field(t, u, leaves), (u,), (seed,))[1]

        products = jax.lax.map(product, jnp.arange(pattern.products))
        return products[of_entry, jnp.asarray(pattern.rows)]

    return entries


def _by_rows(entries: np.ndarray, pattern: Sparsity) -> np.ndarray:
    return np.bincount(pattern.rows, entries, minlength=pattern.states)
