"""L0: the vector fields, and how far round-off lets two stacks differ.

u is the unit round-off 2⁻⁵³ throughout.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..lowering import expression_depth
from ..problems import ODEProblem
from ._parts import FieldPoints, directions, run_once
from ._plan import Plan
from ._report import Figure, RungResult
from ._sparse_parts import sparse_depths, sparse_magnitudes
from ._stacks import Stack

UNIT = 2.0**-53


def field_rung(plan: Plan, a: Stack, b: Stack) -> RungResult:
    """L0: each field, its Jacobian applied to vectors, and its time gradient."""
    figures = []
    for label, field in plan.fields.items():
        figures += _field_figures(label, field, a, b)
    return RungResult("L0", tuple(figures))


def _field_figures(label: str, field: FieldPoints, a: Stack, b: Stack) -> list[Figure]:
    question = field.question(label)
    magnitudes, depths = part_magnitudes(field), part_depths(field)
    derivation = (
        "Each stack rounds every operation once: its result is off by at most d·u·m, d "
        "the longest chain of roundings in the expression and m = |f| + Σ|yₖ∂f/∂yₖ| + "
        "Σ|aₖ∂f/∂aₖ| + |t∂f/∂t| the condition of f; two stacks, twice that."
    )
    prefix = f"{label}: " if label else ""
    figures = []
    for part, first, second in zip(
        field.parts, a.ask(question), b.ask(question), strict=True
    ):
        difference = np.abs(first - second)
        allowed = 2 * depths[part] * UNIT * magnitudes[part]
        # An expression that is zero by structure must be zero.
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(difference == 0, 0.0, difference / allowed)
        position = np.unravel_index(
            np.argmax(np.nan_to_num(ratio, nan=np.inf)), ratio.shape
        )
        figures.append(
            Figure(
                f"{prefix}{part}, {a.name} against {b.name}",
                float(difference[position]),
                float(allowed[position]),
                derivation,
            )
        )
    return figures


def part_depths(field: FieldPoints) -> Mapping[str, int]:
    """The longest chain of roundings in each part."""
    flat = field.problem.flat_field()
    n = field.points.shape[1]
    t, u = jnp.asarray(field.times[0]), jnp.asarray(field.points[0])
    if field.pattern is not None:
        return sparse_depths(flat, field.pattern, t, u)
    depths = {"field": expression_depth(lambda t, u: [flat(t, u)], t, u)}
    for name, v in directions(n).items():

        def applied(t, u, v=v):
            tangent = jnp.asarray(v)
            return [jax.jvp(lambda u: flat(t, u), (u,), (tangent,))[1]]

        # Julia's side multiplies a whole Jacobian by the vector: n more roundings.
        depths[name] = expression_depth(applied, t, u) + n
    depths["time gradient"] = expression_depth(
        lambda t, u: [jax.jacfwd(flat, argnums=0)(t, u)], t, u
    )
    return depths


@functools.lru_cache(maxsize=16)
def part_magnitudes(field: FieldPoints) -> Mapping[str, np.ndarray]:
    """The condition of each part at the field's points, shaped as its values."""
    dynamic, static = eqx.partition(field.problem, eqx.is_inexact_array)
    pattern = field.pattern

    def all_parts(dynamic: Any, ts: Any, us: Any) -> dict[str, Any]:
        problem = eqx.combine(dynamic, static)
        if pattern is None:
            return jax.vmap(functools.partial(_magnitudes, problem))(ts, us)
        leaves, rebuild = _weights(problem)
        at = functools.partial(
            sparse_magnitudes,
            lambda t, u, leaves: rebuild(leaves).flat_field()(t, u),
            pattern,
            leaves,
        )
        # One point after another: memory is that of one.
        return jax.lax.map(lambda point: at(*point), (ts, us))

    magnitudes = run_once(all_parts)(dynamic, field.times, field.points)
    return {name: np.asarray(values) for name, values in magnitudes.items()}


def _magnitudes(problem: ODEProblem, t: Any, u: Any) -> dict[str, Any]:
    """The condition of each part at one point, shape `(n,)`."""
    leaves, rebuild = _weights(problem)

    def field(t: Any, u: Any, leaves: Any) -> Any:
        return rebuild(leaves).flat_field()(t, u)

    def magnitude(function: Any) -> Any:
        # function(t, u, leaves) -> (n,)
        value = jnp.abs(function(t, u, leaves))
        value += jnp.abs(jax.jacfwd(function, 1)(t, u, leaves)) @ jnp.abs(u)
        value += jnp.abs(jax.jacfwd(function, 0)(t, u, leaves) * t)
        slopes = jax.jacfwd(function, 2)(t, u, leaves) if leaves else ()
        for slope, leaf in zip(slopes, leaves, strict=True):
            flat_slope = jnp.abs(slope.reshape(value.shape[0], -1))
            value += flat_slope @ jnp.abs(leaf.reshape(-1))
        return value

    magnitudes = {"field": magnitude(field)}
    rows = jnp.abs(jax.jacfwd(field, argnums=1)(t, u, leaves))
    for name, v in directions(u.shape[0]).items():

        def applied(t: Any, u: Any, leaves: Any, v: Any = v) -> Any:
            tangent = jnp.asarray(v)
            return jax.jvp(lambda u: field(t, u, leaves), (u,), (tangent,))[1]

        # The tangent's own terms may cancel: count them by their size.
        magnitudes[name] = magnitude(applied) + rows @ jnp.abs(jnp.asarray(v))
    magnitudes["time gradient"] = magnitude(
        lambda t, u, leaves: jax.jacfwd(field, 0)(t, u, leaves)
    )
    return magnitudes


def _weights(problem: ODEProblem) -> tuple[list[Any], Any]:
    dynamic, static = eqx.partition((problem.field, problem.args), eqx.is_inexact_array)
    leaves, tree = jax.tree_util.tree_flatten(dynamic)

    def rebuild(leaves: Any) -> ODEProblem:
        field, args = eqx.combine(jax.tree_util.tree_unflatten(tree, leaves), static)
        return eqx.tree_at(
            lambda p: (p.field, p.args),
            problem,
            (field, args),
            is_leaf=lambda x: x is None,
        )

    return leaves, rebuild
