"""Matrix measures, or logarithmic norms."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from ..._core import double_precision, is_concrete

Norm = Literal[1, 2] | float
"""`1`, `2` or `inf`."""


def matrix_measure(
    A: Num[ArrayLike, "*stack n n"],
    norm: Norm = 2,
    weight: Num[ArrayLike, " n"] | Num[ArrayLike, "n n"] | None = None,
) -> Float[Array, ...]:
    """The matrix measure, or logarithmic norm, of a matrix.

    $$\\mu(A) = \\lim_{h \\to 0^+} \\frac{\\|I + hA\\| - 1}{h},$$

    the smallest number with $\\|e^{At}\\| \\le e^{\\mu t}$ for all $t \\ge 0$
    (Dahlquist 1958; Söderlind 2006, BIT 46, section 2):

    - $\\mu_1 = \\max_j (a_{jj} + \\sum_{i \\ne j} |a_{ij}|)$,
    - $\\mu_2 = \\lambda_{\\max}((A + A^\\top) / 2)$,
    - $\\mu_\\infty = \\max_i (a_{ii} + \\sum_{j \\ne i} |a_{ij}|)$.

    It can be transformed by `jax.jit`, `jax.vmap` and `jax.grad`.

    **Arguments:**

    - `A`: real square matrices, shape `(..., n, n)`.
    - `norm`: `1`, `2` or `inf`.
    - `weight`: $P$ of the norm $|x|_P = |Px|$, shape `(n, n)`, invertible; or its
        diagonal, shape `(n,)`, positive. Then $\\mu_P(A) = \\mu(PAP^{-1})$.

    **Returns:** the measures, shape `(...)`, in the dtype of `A`.

    **Raises:** `ValueError` or `TypeError`, naming the argument, for a norm that is
    none of the three, a matrix that is not square, real and finite, or a weight of
    another shape, not positive, or singular.
    """
    check_norm("matrix_measure", norm)
    with _precision_of(A, weight):
        matrices = _real("A", A)
        if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
            raise ValueError(
                "matrix_measure: `A` must have shape (..., n, n), got "
                f"{matrices.shape}."
            )
        P = check_weight("matrix_measure", weight, matrices.shape[-1], matrices.dtype)
        return measure(matrices, norm, P)


def measure(A: Array, norm: Norm, weight: Array | None) -> Array:
    """The measure of matrices that were checked, by traceable operations alone."""
    if weight is not None and weight.ndim == 1:
        A = weight[:, None] * A / weight
    elif weight is not None:
        # P A P⁻¹ = (P⁻ᵀ (P A)ᵀ)ᵀ.
        moved = jnp.swapaxes(weight @ A, -1, -2)
        inverse = jnp.linalg.inv(weight)
        A = jnp.swapaxes(inverse.T @ moved, -1, -2)
    if norm == 2:
        symmetric = (A + jnp.swapaxes(A, -1, -2)) / 2
        return jnp.linalg.eigvalsh(symmetric)[..., -1]
    diagonal = jnp.diagonal(A, axis1=-2, axis2=-1)
    others = jnp.abs(A) * (1 - jnp.eye(A.shape[-1], dtype=A.dtype))
    return jnp.max(diagonal + jnp.sum(others, axis=-2 if norm == 1 else -1), axis=-1)


def check_norm(caller: str, norm: Any) -> None:
    """Refuse a norm that is none of the three."""
    if isinstance(norm, bool) or norm not in (1, 2, math.inf):
        raise ValueError(f"{caller}: `norm` must be 1, 2 or inf, got {norm!r}.")


def check_weight(caller: str, weight: Any, n: int, dtype: Any) -> Array | None:
    """A weight as an array, `None` for none."""
    if weight is None:
        return None
    P = jnp.asarray(weight, dtype)
    if P.shape not in ((n,), (n, n)):
        raise ValueError(
            f"{caller}: `weight` must have shape ({n},) or ({n}, {n}), got {P.shape}."
        )
    if not is_concrete(weight):
        return P
    values = np.asarray(P)
    if P.ndim == 1 and not np.all((values > 0) & np.isfinite(values)):
        raise ValueError(
            f"{caller}: `weight` must be finite and positive, got {values.tolist()}."
        )
    if P.ndim == 2:
        finite = bool(np.all(np.isfinite(values)))
        condition = np.linalg.cond(values) if finite else np.inf
        if condition > 1 / np.finfo(dtype).eps:
            raise ValueError(
                f"{caller}: `weight` must be a finite invertible matrix, got one of "
                f"condition number {condition:.1e}."
            )
    return P


def _real(name: str, value: Any) -> Array:
    array = jnp.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.integer):
        array = array.astype(float)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"matrix_measure: `{name}` must be real, got {array.dtype}.")
    if is_concrete(value) and not np.all(np.isfinite(np.asarray(array))):
        raise ValueError(
            f"matrix_measure: `{name}` must be finite, but contains NaN or infinity."
        )
    return array


@contextlib.contextmanager
def _precision_of(A: Any, weight: Any) -> Iterator[None]:
    """Double precision for double-precision data, and for plain Python numbers."""
    traced = not (is_concrete(A) and is_concrete(weight))
    single = not traced and np.asarray(A).dtype == np.float32
    with contextlib.nullcontext() if traced or single else double_precision():
        yield
