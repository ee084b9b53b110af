"""The variational flow: a problem together with tangent vectors along its solution."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._core import concrete_array, is_concrete, with_forward_rule
from ._checks import VectorField
from ._ode import ODEProblem
from ._problem import check_kind
from ._sde import NoiseKind, SDEProblem

_ADDED: dict[NoiseKind, NoiseKind] = {
    # One Brownian motion still drives everything. Of independent ones, each drives a
    # component of the state and all tangents of it: a matrix, whose columns commute
    # where those of the state do: brackets of tangent lifts are lifts of brackets.
    "scalar": "scalar",
    "diagonal": "commutative",
    "commutative": "commutative",
    "additive": "additive",
    "general": "general",
}


class Segment(NamedTuple):
    """Many intervals of many orbits.

    **Fields:** `growth`, shape `(chains, intervals, k)`; `states`, shape `(chains, n)`;
    `directions`, shape `(chains, n, k)`; `steps`, how many were tried; `failed`, the
    chains whose solve failed in the last interval; intervals after a failure are
    missing from `growth`.
    """

    growth: np.ndarray
    states: np.ndarray
    directions: np.ndarray
    steps: int
    failed: np.ndarray


class TangentField(eqx.Module):
    """A field together with its derivative along tangent vectors."""

    field: VectorField

    def __call__(
        self, t: Any, state: tuple[PyTree[Array], Array], args: PyTree
    ) -> tuple[PyTree[Array], Array]:
        y, tangents = state
        flat, unravel = ravel_pytree(y)
        field = with_forward_rule(self.field, t, y, args)

        def along(tangent: Array) -> tuple[PyTree[Array], Array]:
            moved = lambda u: field(t, unravel(u), args)
            value, derivative = jax.jvp(moved, (flat,), (tangent,))
            return value, ravel_pytree(derivative)[0]

        return jax.vmap(along, out_axes=(None, 0))(tangents)


class TangentDiffusion(eqx.Module):
    """A diffusion together with its derivative along tangent vectors: of the shape of
    the state for scalar noise, a matrix for every other."""

    diffusion: VectorField
    noise: NoiseKind = eqx.field(static=True)
    matrix_noise: bool = eqx.field(static=True)

    def __call__(
        self, t: Any, state: tuple[PyTree[Array], Array], args: PyTree
    ) -> tuple[PyTree[Array], Array]:
        y, tangents = state
        flat, unravel = ravel_pytree(y)
        full = self.noise != "scalar" and not self.matrix_noise
        diffusion = with_forward_rule(self.diffusion, t, y, args)
        moved = lambda u: self._flat(diffusion, t, unravel(u), args)
        g = moved(flat)
        if full:
            g = jnp.diag(g)
        if self.noise == "additive":
            zeros = jnp.zeros((len(tangents), *g.shape), g.dtype)
            return self._shaped(g, y, unravel), zeros

        def along(tangent: Array) -> Array:
            derivative = jax.jvp(moved, (flat,), (tangent,))[1]
            return jnp.diag(derivative) if full else derivative

        return self._shaped(g, y, unravel), jax.vmap(along)(tangents)

    def _flat(
        self, diffusion: VectorField, t: Any, y: PyTree[Array], args: PyTree
    ) -> Array:
        g = diffusion(t, y, args)
        if not self.matrix_noise:
            return ravel_pytree(g)[0]
        leaves = jtu.tree_leaves(g)
        count = leaves[0].shape[-1]
        return jnp.concatenate([leaf.reshape(-1, count) for leaf in leaves])

    def _shaped(self, g: Array, y: PyTree[Array], unravel: Any) -> PyTree[Array]:
        if g.ndim == 1:
            return unravel(g)
        if isinstance(y, jax.Array):
            return g.reshape(*y.shape, g.shape[-1])
        return jax.vmap(unravel, in_axes=1, out_axes=-1)(g)


def tangent_problem(
    problem: ODEProblem | SDEProblem, directions: Float[ArrayLike, "n k"]
) -> ODEProblem | SDEProblem:
    """A problem together with `k` tangent vectors along its solution.

    The state is `(y, V)`, with `V` of shape `(k, n)`: its rows are the tangent vectors
    in the order of `jax.flatten_util.ravel_pytree`, so that they are the columns of a
    Julia matrix of size `(n, k)`. With $f$ the field, or drift, and $g_j$ the columns
    of the diffusion,

    $$dV = Df(y)\\,V\\,dt + \\sum_j Dg_j(y)\\,V\\,dW_j,$$

    along the same Brownian motions as $y$ (Arnold 1998, Random Dynamical Systems,
    section 2.3). An Itô equation has an Itô equation for its tangent, and a
    Stratonovich equation a Stratonovich one. The derivatives are JAX's own.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem] without mass matrix, or an
        [`SDEProblem`][hybrid_nds.SDEProblem].
    - `directions`: the tangent vectors at the start, in the columns of a matrix of
        shape `(n, k)`; they take the precision of the problem.

    **Returns:** a problem of the same kind, span and interpretation, with the same
    `args`. Scalar and additive noise stay so, diagonal noise becomes commutative noise
    with a matrix diffusion.

    **Raises:** `TypeError` for what is no problem; `ValueError` for a mass matrix, or
    directions of another shape or that are not finite.
    """
    check_kind("tangent_problem", problem, "ode", "sde")
    start = concrete_array(directions, problem.dtype)
    n = problem.dimension
    if start.ndim != 2 or start.shape[0] != n or start.shape[1] == 0:
        raise ValueError(
            f"tangent_problem: `directions` must have shape ({n}, k), a tangent vector "
            f"in each column, got {start.shape}."
        )
    if is_concrete(start) and not np.all(np.isfinite(np.asarray(start))):
        raise ValueError(
            "tangent_problem: `directions` must be finite, but contains NaN or "
            "infinity."
        )
    state = (problem.y0, start.T)
    span = (problem.t0, problem.t1, problem.args)
    if isinstance(problem, ODEProblem):
        if problem.mass_matrix is not None:
            raise ValueError(
                "tangent_problem: `problem` must have no mass matrix; multiply the "
                "field by its inverse, where it has one. Where it is singular, solve "
                "for the algebraic components within the field."
            )
        return ODEProblem(TangentField(problem.field), state, *span)
    scalar = problem.noise == "scalar"
    tangent = SDEProblem(
        TangentField(problem.drift),
        TangentDiffusion(problem.diffusion, problem.noise, problem.matrix_noise),
        state,
        *span,
        noise="scalar" if scalar else "general",
        interpretation=problem.interpretation,
    )
    # What was claimed of the problem holds of its tangent: to check that again would
    # take the derivative of a matrix of n k m entries.
    object.__setattr__(tangent, "noise", _ADDED[problem.noise])
    return tangent
