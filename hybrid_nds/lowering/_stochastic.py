"""Stochastic problems: drift and diffusion as Julia source, of one parameter vector."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from ..problems import SDEProblem, VectorField
from ._lower import lower, parameter_vector
from ._lowered import LoweredField, LoweredFunction


@dataclasses.dataclass(frozen=True, eq=False)
class LoweredStochasticProblem:
    """A stochastic problem's drift, its Jacobian and the diffusion as Julia source.

    All take the same flat vector `p`, of shape `(parameters,)`: the weights of the
    drift, of the diffusion, and of `args`. The diffusion is `(n,)` for scalar and
    diagonal noise, else `(n, m)` in Julia's column-major order.
    """

    drift: LoweredFunction
    jacobian: LoweredFunction
    diffusion: LoweredFunction
    parameters: np.ndarray
    dimension: int
    dtype: np.dtype


class PairedDrift(eqx.Module):
    """The drift of a pair of fields, with the weights of both."""

    fields: tuple[VectorField, VectorField]

    def __call__(self, t: Any, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        return self.fields[0](t, y, args)


class PairedDiffusion(eqx.Module):
    """The diffusion of a pair of fields, with the weights of both, in Julia's order."""

    fields: tuple[VectorField, VectorField]
    matrix_noise: bool = eqx.field(static=True)

    def __call__(self, t: Any, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        g = self.fields[1](t, y, args)
        if not self.matrix_noise:
            return g
        # Column by column: what is row-major here is column-major there.
        rows = [leaf.reshape(-1, leaf.shape[-1]) for leaf in jtu.tree_leaves(g)]
        return jnp.concatenate(rows).T


def paired_fields(problem: SDEProblem) -> tuple[PairedDrift, PairedDiffusion]:
    """Drift and diffusion as functions that hold the same weights.

    **Arguments:** the problem.

    **Returns:** both, to be called as `(t, y, args)`; the diffusion transposed where it
    is a matrix.
    """
    fields = (problem.drift, problem.diffusion)
    return PairedDrift(fields), PairedDiffusion(fields, problem.matrix_noise)


def lower_stochastic_parts(
    problem: SDEProblem,
) -> tuple[LoweredFunction, LoweredFunction, LoweredFunction]:
    """A stochastic problem's drift, the drift's Jacobian and the diffusion as Julia
    source; of the arrays of a problem that may be traced, the shapes alone count.

    **Arguments:** the problem.

    **Returns:** the three, in array form.

    **Raises:** what [`lower`][hybrid_nds.lowering.lower] raises.
    """
    drift, diffusion = _paired(problem)
    point = (problem.t0, problem.y0, problem.args)
    jacobian = lower(drift, *point, part="jacobian")
    return lower(drift, *point), jacobian, lower(diffusion, *point)


def _paired(problem: SDEProblem) -> tuple[VectorField, VectorField]:
    drift, diffusion = problem.drift, problem.diffusion
    if isinstance(drift, LoweredField) and isinstance(diffusion, LoweredField):
        return drift, diffusion
    return paired_fields(problem)


def lower_stochastic_problem(problem: SDEProblem) -> LoweredStochasticProblem:
    """Lower a stochastic problem's drift, drift Jacobian and diffusion, in array form.

    **Arguments:** the problem.

    **Returns:** a
    [`LoweredStochasticProblem`][hybrid_nds.lowering.LoweredStochasticProblem].

    **Raises:** what [`lower`][hybrid_nds.lowering.lower] raises.
    """
    return LoweredStochasticProblem(
        *lower_stochastic_parts(problem),
        parameter_vector(_paired(problem)[0], problem.args, problem.dtype),
        problem.dimension,
        problem.dtype,
    )
