"""What to solve: initial value problems, and never how to solve them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._core import concrete_array, is_concrete, require_precision
from ._checks import (
    VectorField,
    check_field,
    check_parameters,
    check_span,
    check_state,
    check_time,
)
from ._kind import Kind, Term
from ._problem import Problem
from ._sparse_matrix import SparseMatrix


class ODEProblem(Problem):
    """The initial value problem $M\\,\\dot y = f(t, y, a)$, $y(t_0) = y_0$.

    **Arguments:**

    - `field`: a callable `field(t, y, args)`, usually an Equinox module whose
        arrays are its parameters. It returns a pytree of the structure, shapes
        and dtypes of `y0`.
    - `y0`: the initial state, any pytree of real floating-point arrays of one
        dtype.
    - `t0`: where the integration starts, in the problem's unit of time.
    - `t1`: where it ends; `t1 < t0` integrates backward, and `inf` is allowed
        together with a steady-state event.
    - `args`: anything else the field needs; its arrays are parameters too.
    - `mass_matrix`: $M$, of shape `(n, n)` with `n` the number of scalars in
        `y0` in the order of `jax.flatten_util.ravel_pytree`. It may be singular
        (a differential-algebraic equation in mass-matrix form). Of a matrix of
        `scipy.sparse` only the entries are kept. `None` is the identity.

    **Raises:** `ValueError` or `TypeError`, naming the argument, for a state that
    is not real floating point, mixes dtypes or holds NaN or infinities; a span
    that is empty or not finite; a field that fails or returns another structure,
    shape or dtype than the state; float64 data while JAX runs in 32 bits.
    """

    field: VectorField
    y0: PyTree[Array]
    t0: Float[Array, ""]
    t1: Float[Array, ""]
    args: PyTree
    mass_matrix: Float[Array, "n n"] | SparseMatrix | None

    def __init__(
        self,
        field: VectorField,
        y0: PyTree[ArrayLike],
        t0: ArrayLike,
        t1: ArrayLike,
        args: PyTree = None,
        *,
        mass_matrix: Any = None,
    ):
        if not callable(field):
            raise TypeError(
                "ODEProblem: `field` must be a callable field(t, y, args), "
                f"got {type(field).__name__}."
            )
        check_parameters("ODEProblem", "field", field)
        check_parameters("ODEProblem", "args", args)
        self.field = field
        self.y0 = check_state("ODEProblem", y0)
        dtype = jtu.tree_leaves(self.y0)[0].dtype
        self.t0 = check_time("ODEProblem", "t0", t0, dtype, finite=True)
        self.t1 = check_time("ODEProblem", "t1", t1, dtype, finite=False)
        check_span("ODEProblem", t0, t1, dtype)
        self.args = args
        self.mass_matrix = _check_mass_matrix(mass_matrix, self.y0)
        check_field("ODEProblem", "field", field, self.t0, self.y0, args)

    @property
    def kind(self) -> Kind:
        return Kind("ode", mass_matrix=self.mass_matrix is not None)

    @property
    def terms(self) -> tuple[Term, ...]:
        return (Term("field", self.field),)

    @property
    def noise_dimension(self) -> int:  # pyright: ignore
        """The number of Brownian motions: none."""
        return 0

    def flat_field(self) -> Callable[[Any, Any], Array]:
        """The field on flat states in the order of `ravel_pytree`: `(t, u) -> (n,)`."""
        state = self.flat_state
        return lambda t, u: state.flatten(self.field(t, state.unflatten(u), self.args))


def _check_mass_matrix(mass_matrix: Any, y0: PyTree) -> Array | SparseMatrix | None:
    if mass_matrix is None:
        return None
    if hasattr(mass_matrix, "tocoo"):
        return _entries(mass_matrix, y0)
    require_precision("ODEProblem: `mass_matrix`", mass_matrix)
    leaves = jtu.tree_leaves(y0)
    n = sum(leaf.size for leaf in leaves)
    array = concrete_array(mass_matrix)
    if array.shape != (n, n):
        raise ValueError(
            f"ODEProblem: `mass_matrix` must have shape ({n}, {n}) for a state of "
            f"{n} scalars, got {array.shape}."
        )
    if not (
        jnp.issubdtype(array.dtype, jnp.floating)
        or jnp.issubdtype(array.dtype, jnp.integer)
    ):
        raise TypeError(
            f"ODEProblem: `mass_matrix` must be real, got dtype {array.dtype}."
        )
    if is_concrete(mass_matrix) and not np.all(np.isfinite(np.asarray(mass_matrix))):
        raise ValueError(
            "ODEProblem: `mass_matrix` must be finite, but contains NaN or infinity."
        )
    return concrete_array(array, leaves[0].dtype)


def _entries(matrix: Any, y0: PyTree) -> SparseMatrix:
    """A mass matrix of SciPy's sparse ones, checked as a dense one is."""
    sorted_once = matrix.tocsc()
    sorted_once.sum_duplicates()
    entries = sorted_once.tocoo()
    # Of entries alone the checks of a dense matrix hold, too.
    n = sum(leaf.size for leaf in jtu.tree_leaves(y0))
    if entries.shape != (n, n):
        raise ValueError(
            f"ODEProblem: `mass_matrix` must have shape ({n}, {n}) for a state of "
            f"{n} scalars, got {entries.shape}."
        )
    require_precision("ODEProblem: `mass_matrix`", entries.data)
    if entries.data.dtype.kind not in "iuf":
        raise TypeError(
            f"ODEProblem: `mass_matrix` must be real, got dtype {entries.data.dtype}."
        )
    if not np.all(np.isfinite(entries.data)):
        raise ValueError(
            "ODEProblem: `mass_matrix` must be finite, but contains NaN or infinity."
        )
    kept = entries.data != 0
    values = concrete_array(entries.data[kept], jtu.tree_leaves(y0)[0].dtype)
    rows, columns = (np.asarray(x[kept], np.int64) for x in (entries.row, entries.col))
    return SparseMatrix(values, rows, columns, n)
