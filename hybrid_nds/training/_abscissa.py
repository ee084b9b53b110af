"""Rates of matrices as functions that are smooth enough to train with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy.linalg
from jaxtyping import Array, Float, Int

from ..stability.local import Norm

# Halvings of the bracket; doublings of the time that the integral is taken over.
_HALVINGS, _DOUBLINGS = 44, 32


@jax.custom_jvp
def smoothed_abscissa(
    A: Float[Array, "n n"], smoothing: Float[Array, ""]
) -> Float[Array, ""]:
    """The smoothed spectral abscissa $s > \\max\\operatorname{Re}\\lambda(A)$ with
    $\\int_0^\\infty \\|e^{(A - sI)t}\\|_F^2\\,dt = 1/\\varepsilon$.

    It is differentiable everywhere, multiple eigenvalues included, and falls to the
    abscissa with $\\varepsilon$; for a normal matrix of one repeated real part it is
    $n\\varepsilon/2$ above (Vanbiervliet et al. 2009, The smoothed spectral abscissa
    for robust stability optimization, SIAM J. Optim. 20).
    """
    n = A.shape[-1]
    low = jnp.trace(A) / n
    # There the integral is at most n / (2 (s - μ₂)), thus less than 1 / ε.
    high = jnp.linalg.eigvalsh((A + A.T) / 2)[-1] + n * smoothing / 2
    unit = jnp.eye(n, dtype=A.dtype)

    def halve(_: Int[Array, ""], ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        enough = jnp.trace(_gramian(A - middle * unit)) <= 1 / smoothing
        # Not a number, from a middle below the abscissa, is not enough.
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    return jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))[1]


@smoothed_abscissa.defjvp
def _slope(primals, tangents):  # pyright: ignore
    A, smoothing = primals
    s = smoothed_abscissa(A, smoothing)
    moved = A - s * jnp.eye(A.shape[-1], dtype=A.dtype)
    # d tr P = 2 tr(P Q dM) with P the Gramian, Q that of the transpose, and tr P stays.
    product = _gramian(moved.T) @ _gramian(moved)
    return s, jnp.sum(product * tangents[0]) / jnp.trace(product)


def _gramian(M: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """$\\int_0^\\infty e^{Mt}e^{M^\\top t}\\,dt$ for a stable matrix, by doublings of
    the time; not finite, or huge, for others."""
    n = M.shape[0]
    h = 1 / jnp.maximum(jnp.linalg.norm(M), jnp.finfo(M.dtype).tiny)
    # Van Loan 1978: both the exponential and the integral over a first, short time,
    # which is the unit, so that all entries are of order one.
    unit, M = jnp.eye(n, dtype=M.dtype), M * h
    block = jnp.block([[-M, unit], [jnp.zeros_like(M), M.T]])
    whole = jax.scipy.linalg.expm(block)
    flow = whole[n:, n:].T
    integral = flow @ whole[:n, n:]

    def double(_: Int[Array, ""], both: tuple[Array, Array]) -> tuple[Array, Array]:
        flow, integral = both
        return flow @ flow, integral + flow @ integral @ flow.T

    return h * jax.lax.fori_loop(0, _DOUBLINGS, double, (flow, integral))[1]


def measures(A: Float[Array, "n n"], norm: Norm) -> Float[Array, " n"]:
    """What the matrix measure is the largest of: the eigenvalues of the symmetric part,
    or the row or column sums."""
    if norm == 2:
        return jnp.linalg.eigvalsh((A + A.T) / 2)
    others = jnp.abs(A) * (1 - jnp.eye(A.shape[0], dtype=A.dtype))
    return jnp.diagonal(A) + jnp.sum(others, axis=0 if norm == 1 else 1)


def excess(A: Float[Array, "n n"], norm: Norm) -> Float[Array, ""]:
    """$\\sum_i \\max(0, \\mu_i)^2$ over these: zero where the matrix measure is not
    above zero, and differentiable, for the norm 2 at multiple eigenvalues too."""
    if norm == 2:
        return _symmetric_excess((A + A.T) / 2)
    return jnp.sum(jnp.maximum(measures(A, norm), 0) ** 2)


@jax.custom_jvp
def _symmetric_excess(S: Float[Array, "n n"]) -> Float[Array, ""]:
    return jnp.sum(jnp.maximum(jnp.linalg.eigvalsh(S), 0) ** 2)


@_symmetric_excess.defjvp
def _symmetric_slope(primals, tangents):  # pyright: ignore
    values, vectors = jnp.linalg.eigh(primals[0])
    # JAX's own rule divides by differences of eigenvalues, this one does not.
    over = jnp.maximum(values, 0)
    slope = (vectors * (2 * over)) @ vectors.T
    return jnp.sum(over**2), jnp.sum(slope * tangents[0])
