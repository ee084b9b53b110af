"""Fields on flat states, their Jacobians, and the spectra of these."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, PyTree

from ..._core import is_concrete, require_precision, with_forward_rule
from ...problems import ODEProblem, Problem, check_kind

_COMPONENTS = 4


class Spectrum(NamedTuple):
    """**Fields:** `eigenvalues`, shape `(n,)`, by falling real part; `errors`, what
    round-off in the matrix moves each by; `conditions`, their condition numbers."""

    eigenvalues: np.ndarray
    errors: np.ndarray
    conditions: np.ndarray


def check_problem(caller: str, problem: Any) -> None:
    """Refuse what is no ordinary problem of known numbers and identity mass."""
    if isinstance(problem, Problem) and problem.kind.follows_path:
        raise TypeError(
            f"{caller}: `problem` must be an ODEProblem, got an SDEProblem; for the "
            "equation without its noise take ODEProblem(problem.drift, problem.y0, "
            "problem.t0, problem.t1, problem.args)."
        )
    check_kind(caller, problem, "ode")
    if problem.kind.mass_matrix:
        raise ValueError(
            f"{caller}: `problem` must have no mass matrix; multiply the field by its "
            "inverse, where it has one. Where it is singular, solve for the algebraic "
            "components within the field."
        )
    if not all(is_concrete(leaf) for leaf in jtu.tree_leaves(problem)):
        raise TypeError(
            f"{caller}: `problem` must be concrete: the analysis decides by values, "
            "and cannot be traced by jax.jit, jax.vmap or jax.grad."
        )


def flat_field(problem: ODEProblem, t: Any, u: Any) -> Array:
    """The field on a flat state, in the order of `ravel_pytree`. A tangent can be
    pushed through it, also where the field itself has a reverse rule only."""
    y = ravel_pytree(problem.y0)[1](u)
    field = with_forward_rule(problem.field, t, y, problem.args)
    return ravel_pytree(field(t, y, problem.args))[0]


@eqx.filter_jit
def field_values(problem: ODEProblem, times: ArrayLike, states: ArrayLike) -> Array:
    """The field at many times and flat states, shape `(m, n)`."""
    return jax.vmap(lambda t, u: flat_field(problem, t, u))(times, states)


@eqx.filter_jit
def jacobians(problem: ODEProblem, times: ArrayLike, states: ArrayLike) -> Array:
    """The Jacobians at many times and flat states, shape `(m, n, n)`."""
    return jax.vmap(lambda t, u: jacobian_at(problem, t, u))(times, states)


def jacobian_at(problem: ODEProblem, t: Any, u: Any) -> Array:
    """The Jacobian at a time and a flat state, shape `(n, n)`: NaN where the field is
    not finite, since that of a field that is NaN, and constant, is zero."""

    def field(u: Array) -> tuple[Array, Array]:
        value = flat_field(problem, t, u)
        return value, value

    jacobian, value = jax.jacfwd(field, has_aux=True)(u)
    return jnp.where(jnp.all(jnp.isfinite(value)), jacobian, jnp.nan)


@eqx.filter_jit
def time_slopes(problem: ODEProblem, times: ArrayLike, states: ArrayLike) -> Array:
    """The derivatives of the field in time, shape `(m, n)`."""
    return jax.vmap(jax.jacfwd(lambda t, u: flat_field(problem, t, u)))(times, states)


def spectrum(matrix: np.ndarray, precision: float, moved: float = 0.0) -> Spectrum:
    """The eigenvalues of a matrix with their errors.

    What a perturbation of norm $\\delta$ moves a simple eigenvalue by is
    $\\kappa\\delta$ to first order, with $\\kappa = \\|x\\|\\|y\\|/|y^*x|$ of its right
    and left eigenvector (Golub & Van Loan 2013, section 7.2.2); of any by at most
    $(2\\|A\\| + \\delta)^{1-1/n}\\delta^{1/n}$ (Elsner 1985), which counts near a
    multiple one. Here $\\delta = 10n\\varepsilon\\|A\\|_F$ and what is given: LAPACK
    states its backward error as a modestly growing function of $n$ (Anderson et al.
    1999, section 4.8); the factor 10 is chosen.

    **Arguments:** a square matrix; the precision of its entries, $\\varepsilon$; by how
    much the matrix may be off beside that, in norm.
    """
    matrix = np.asarray(matrix, float)
    n = len(matrix)
    # Entries of one size, since squares of very small ones underflow.
    scale = float(np.max(np.abs(matrix))) or 1.0
    unit = matrix / scale
    values, left, right = cast(Any, scipy.linalg.eig(unit, left=True))
    # Columns come with norm one.
    overlap = np.abs(np.sum(left.conj() * right, axis=0))
    conditions = 1 / np.maximum(overlap, np.finfo(float).tiny)
    size = float(np.linalg.norm(unit))
    moved = moved / scale + 10 * n * precision * size
    elsner = (2 * size + moved) ** (1 - 1 / n) * moved ** (1 / n)
    order = np.lexsort((-np.imag(values), -np.real(values)))
    return Spectrum(
        scale * values[order],
        scale * np.minimum(conditions * moved, elsner)[order],
        conditions[order],
    )


def classify(found: Spectrum) -> tuple[str, int]:
    """The kind of an equilibrium by its spectrum, and how many of the eigenvalues are
    unstable beyond their errors."""
    real = np.real(found.eigenvalues)
    unstable = int(np.sum(real > found.errors))
    if np.any(np.abs(real) <= found.errors):
        return "non-hyperbolic", unstable
    if 0 < unstable < len(real):
        return "saddle", unstable
    turning = np.any(np.abs(np.imag(found.eigenvalues)) > found.errors)
    shape = "focus" if turning else "node"
    return f"{'unstable' if unstable else 'stable'} {shape}", unstable


def point_text(point: np.ndarray, digits: int = 6) -> str:
    """A flat state in a few numbers."""
    # Adding zero makes −0 a 0.
    shown = ", ".join(f"{x + 0.0:.{digits}g}" for x in point[:_COMPONENTS])
    return f"({shown}{', …' if len(point) > _COMPONENTS else ''})"


def flat_state(caller: str, problem: ODEProblem, y: PyTree) -> np.ndarray:
    """A state as a flat vector, `problem.y0` for `None`."""
    if y is None:
        return np.asarray(problem.flat_state.flatten(problem.y0))
    return _broadcast(caller, "y", problem, y, scalar=False)


def flat_box(
    caller: str, problem: ODEProblem, region: Any
) -> tuple[np.ndarray, np.ndarray]:
    """A region `(low, high)` as two flat vectors."""
    if not isinstance(region, tuple | list) or len(region) != 2:
        raise ValueError(
            f"{caller}: `region` must be a pair (low, high), each a number or in the "
            f"structure of `problem.y0`, got {region!r}."
        )
    low, high = (
        _broadcast(caller, f"region[{i}]", problem, end, scalar=True)
        for i, end in enumerate(region)
    )
    if not np.all(low < high):
        where = int(np.argmax(low >= high))
        raise ValueError(
            f"{caller}: `region` must have low below high in every component, got "
            f"{low[where]:g} and {high[where]:g} in component {where}."
        )
    return low, high


def _broadcast(
    caller: str, name: str, problem: ODEProblem, value: Any, *, scalar: bool
) -> np.ndarray:
    states, whole = jtu.tree_flatten(problem.y0)
    if jtu.treedef_is_leaf(whole) and isinstance(value, list | tuple):
        value = np.asarray(value)
    leaves, structure = jtu.tree_flatten(value)
    one = scalar and jtu.treedef_is_leaf(structure) and np.ndim(value) == 0
    if one:
        leaves = [value] * len(states)
    elif structure != whole:
        raise ValueError(
            f"{caller}: `{name}` must have the structure of `problem.y0`, expected "
            f"{whole}, got {structure}."
        )
    parts = []
    for leaf, state in zip(leaves, states, strict=True):
        require_precision(f"{caller}: `{name}`", leaf)
        try:
            part = np.asarray(leaf, state.dtype)
            fits = scalar or part.shape == state.shape
            parts.append(np.broadcast_to(part, state.shape).ravel() if fits else None)
        except (TypeError, ValueError):
            parts.append(None)
        if parts[-1] is None:
            raise ValueError(
                f"{caller}: `{name}` must have the shapes of `problem.y0`, expected "
                f"{list(state.shape)}, got {leaf!r}."
            )
    flat = np.concatenate(parts)
    if not np.all(np.isfinite(flat)):
        raise ValueError(
            f"{caller}: `{name}` must be finite, but contains NaN or infinity."
        )
    return flat


def frozen_time(
    caller: str, problem: ODEProblem, t: Any, states: np.ndarray
) -> np.ndarray:
    """The time at which to look at a field, in its dtype.

    **Raises:** `ValueError` where `t` is `None` and the field depends on time at one
    of these flat states.
    """
    if t is not None:
        if np.ndim(t) != 0 or not math.isfinite(float(t)):
            raise ValueError(f"{caller}: `t` must be a finite number, got {t!r}.")
        return np.asarray(t, problem.dtype)
    times = np.full(len(states), np.asarray(problem.t0), problem.dtype)
    slopes = np.asarray(time_slopes(problem, times, states))
    if np.any(slopes != 0):
        raise ValueError(
            f"{caller}: the field of `problem` depends on time; give `t`, the time at "
            "which to freeze it."
        )
    return np.asarray(problem.t0, problem.dtype)


def uniform_points(
    key: Any, low: np.ndarray, high: np.ndarray, count: int, caller: str
) -> np.ndarray:
    """Independent points, uniform in a box, shape `(count, n)`, in its dtype."""
    try:
        draws = jax.random.uniform(key, (count, len(low)), jnp.dtype(low.dtype))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{caller}: `key` must be a JAX random key.") from error
    # Rounding may carry a point past the end of a box far from zero.
    return np.clip(low + np.asarray(draws) * (high - low), low, high)
