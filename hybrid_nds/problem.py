"""What to solve: initial value problems, and never how to solve them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

VectorField = Callable[[Any, Any, Any], Any]
"""`field(t, y, args) -> dy/dt`, with `dy/dt` of the structure of `y`."""


class ODEProblem(eqx.Module):
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
        (a differential-algebraic equation in mass-matrix form). `None` is the
        identity.

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
    mass_matrix: Float[Array, "n n"] | None

    def __init__(
        self,
        field: VectorField,
        y0: PyTree[ArrayLike],
        t0: ArrayLike,
        t1: ArrayLike,
        args: PyTree = None,
        *,
        mass_matrix: ArrayLike | None = None,
    ):
        if not callable(field):
            raise TypeError(
                "ODEProblem: `field` must be a callable field(t, y, args), "
                f"got {type(field).__name__}."
            )
        _check_parameters("field", field)
        _check_parameters("args", args)
        self.field = field
        self.y0 = _check_state(y0)
        dtype = jtu.tree_leaves(self.y0)[0].dtype
        self.t0 = _check_time("t0", t0, dtype, finite=True)
        self.t1 = _check_time("t1", t1, dtype, finite=False)
        _check_span(t0, t1, dtype)
        self.args = args
        self.mass_matrix = _check_mass_matrix(mass_matrix, self.y0)
        _check_field("ODEProblem", field, self.t0, self.y0, args)

    @property
    def dimension(self) -> int:
        """The number of scalars in the state."""
        return sum(leaf.size for leaf in jtu.tree_leaves(self.y0))

    @property
    def dtype(self) -> np.dtype:
        """The floating-point type of the state."""
        return np.dtype(jtu.tree_leaves(self.y0)[0].dtype)


def is_concrete(x: Any) -> bool:
    """Whether a value is known now, not only when a traced function runs."""
    return not isinstance(x, jax.core.Tracer)


def _path(path: tuple) -> str:
    return jtu.keystr(path)


def require_precision(name: str, leaf: Any) -> None:
    """Refuse float64 arrays that JAX would silently cut to float32.

    NumPy scalars pass, as Python floats do: they are numbers that nobody declared
    to be of double precision.
    """
    if not isinstance(leaf, np.ndarray | jax.Array):
        return
    if leaf.dtype == np.float64 and jnp.result_type(float) != np.float64:
        raise ValueError(
            f"{name} is float64, but JAX runs in 32 bits and would cut it to "
            'float32. Call jax.config.update("jax_enable_x64", True) at the start of '
            "the program, work within hybrid_nds.double_precision(), or pass float32 "
            "data."
        )


def require_real_scalar(name: str, value: Any) -> None:
    """Refuse anything but one real number, traced or not."""
    try:
        # NumPy alone: JAX's own functions would take a text for a dtype.
        dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
        shape = np.shape(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a real number, got {value!r}.") from error
    real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    if shape != () or not real:
        raise TypeError(
            f"{name} must be a real number, got {value!r} of shape {shape} and dtype "
            f"{dtype}."
        )


def _check_state(y0: PyTree) -> PyTree:
    paths, treedef = jtu.tree_flatten_with_path(y0)
    if not paths:
        raise ValueError("ODEProblem: `y0` holds no arrays; give at least one scalar.")
    leaves, dtypes = [], {}
    for path, leaf in paths:
        where = f"ODEProblem: `y0{_path(path)}`"
        require_precision(where, leaf)
        try:
            array = jnp.asarray(leaf)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{where} must be a floating-point array, got {leaf!r}."
            ) from error
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"{where} must be a real floating-point array, got dtype "
                f"{array.dtype}. Write numbers with a decimal point, or cast with "
                ".astype(float); split complex states into real and imaginary parts."
            )
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"{where} must be float32 or float64, got {array.dtype}; cast it, and "
                "let the field compute in lower precision where it wants to."
            )
        # The leaf as given: inside jit, `array` may be traced where the leaf is not.
        if is_concrete(leaf) and not np.all(np.isfinite(np.asarray(leaf))):
            raise ValueError(
                f"{where} must be finite, but contains NaN or infinity: {leaf}."
            )
        dtypes[_path(path)] = array.dtype
        # Weak types would make another compilation of every solve.
        leaves.append(jnp.asarray(array, dtype=array.dtype))
    if len(set(dtypes.values())) > 1:
        listing = ", ".join(f"y0{path}: {dtype}" for path, dtype in dtypes.items())
        raise TypeError(
            f"ODEProblem: `y0` must have one dtype throughout, got {listing}. "
            "Cast the state to float32 or float64."
        )
    return jtu.tree_unflatten(treedef, leaves)


def _check_parameters(name: str, tree: PyTree) -> None:
    for path, leaf in jtu.tree_flatten_with_path(tree)[0]:
        require_precision(f"ODEProblem: `{name}{_path(path)}`", leaf)


def _check_time(name: str, t: ArrayLike, dtype: Any, *, finite: bool) -> Array:
    require_real_scalar(f"ODEProblem: `{name}`", t)
    if is_concrete(t):
        value = float(np.asarray(t))
        if np.isnan(value) or (finite and np.isinf(value)):
            raise ValueError(f"ODEProblem: `{name}` must be finite, got {value}.")
    return jnp.asarray(t, dtype=dtype)


def _check_span(t0: ArrayLike, t1: ArrayLike, dtype: Any) -> None:
    if not (is_concrete(t0) and is_concrete(t1)):
        return
    if np.asarray(t0, dtype) == np.asarray(t1, dtype):
        raise ValueError(
            f"ODEProblem: `t1` must differ from `t0` in {np.dtype(dtype)}, got "
            f"t0={t0} and t1={t1}."
        )


def _check_mass_matrix(mass_matrix: ArrayLike | None, y0: PyTree) -> Array | None:
    if mass_matrix is None:
        return None
    require_precision("ODEProblem: `mass_matrix`", mass_matrix)
    leaves = jtu.tree_leaves(y0)
    n = sum(leaf.size for leaf in leaves)
    array = jnp.asarray(mass_matrix)
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
    return jnp.asarray(array, dtype=leaves[0].dtype)


def _check_field(owner: str, field: VectorField, t0: Array, y0: PyTree, args: PyTree):
    try:
        dy = eqx.filter_eval_shape(field, t0, y0, args)
    except Exception as error:
        raise ValueError(
            f"{owner}: `field` could not be evaluated as field(t, y, args) at the "
            f"initial state: {type(error).__name__}: {error}"
        ) from error
    expected, given = jtu.tree_structure(y0), jtu.tree_structure(dy)
    if expected != given:
        raise ValueError(
            f"{owner}: `field` must return the structure of `y0`, expected "
            f"{expected}, got {given}."
        )
    for (path, y), f in zip(
        jtu.tree_flatten_with_path(y0)[0], jtu.tree_leaves(dy), strict=True
    ):
        shape, dtype = getattr(f, "shape", None), getattr(f, "dtype", None)
        if shape != y.shape or dtype != y.dtype:
            raise ValueError(
                f"{owner}: `field` must return the shapes and dtypes of `y0`; at "
                f"y0{_path(path)} expected {y.dtype}{list(y.shape)}, got "
                f"{dtype}{list(shape) if shape is not None else ''}."
            )
