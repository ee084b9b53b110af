"""Sparse Jacobians: their eigenvalues near a point, and linear equations with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from ..._core import check_whole
from ...analysis import AnalysisError
from ...lowering import (
    NoPatternError,
    Sparsity,
    check_entries,
    detected,
    given_pattern,
    jacobian_entries,
)
from ...problems import ODEProblem
from ._field import Spectrum, field_values, flat_field

# From so many states on, a dense decomposition takes seconds and more.
_SMALLEST_SPARSE = 1000
_LARGEST_FILL = 0.03
_NUMBER = 6
# The shortest share of a step of Newton's method.
_SHORTEST = 2.0**-20
# Eigenvalues more than are wanted, so that of those of one size all are there.
_MORE = 4


class SparseJacobian(NamedTuple):
    """The Jacobian of a problem by its entries, at any time and state."""

    problem: ODEProblem
    pattern: Sparsity

    def __call__(self, time: ArrayLike, state: ArrayLike) -> Any:
        """The matrix in SciPy's compressed columns, in double precision; NaN where the
        field is not finite."""
        from scipy.sparse import csc_array

        entries = _entries(self.problem, self.pattern, time, state)
        n, pattern = self.pattern.states, self.pattern
        values = np.asarray(entries, float)
        return csc_array((values, pattern.rows, pattern.starts), (n, n))

    def in_units(self, matrix: Any, units: np.ndarray) -> Any:
        """A Jacobian of states in these units."""
        made = matrix.copy()
        made.data *= units[self.pattern.columns] / units[self.pattern.rows]
        return made


@eqx.filter_jit
def _entries(problem: ODEProblem, pattern: Sparsity, t: Any, u: Any) -> Array:
    field = lambda t, u: flat_field(problem, t, u)
    entries = jacobian_entries(field, pattern, problem.dtype)(t, u)
    return jnp.where(jnp.all(jnp.isfinite(field(t, u))), entries, jnp.nan)


def sparse_jacobian(
    caller: str, problem: ODEProblem, asked: Any
) -> SparseJacobian | None:
    """The sparse Jacobian of a problem, `None` for a dense one.

    **Arguments:** the name of the caller, for errors; the problem; its `jacobian=`:
    `"auto"`, `"dense"`, `"sparse"` or a pattern.

    **Raises:** `TypeError` or `ValueError`, naming the option.
    """
    name, n = f"{caller}: `jacobian`", problem.dimension
    if not isinstance(asked, str):
        pattern = given_pattern(name, asked, n)
        check_entries(name, problem, pattern)
        return SparseJacobian(problem, pattern.joined(*_nothing()))
    if asked not in ("auto", "dense", "sparse"):
        raise ValueError(
            f"{name} must be auto, dense, sparse or a pattern, got {asked!r}."
        )
    if asked == "dense" or (asked == "auto" and n < _SMALLEST_SPARSE):
        return None
    try:
        pattern = detected(problem, _LARGEST_FILL if asked == "auto" else 1.0)
    except NoPatternError as error:
        if asked == "auto":
            return None
        text = str(error).replace("sparsity: ", f"{name}: ")
        raise NoPatternError(text.replace("pass `pattern`", "pass one")) from error
    if asked == "auto" and pattern.fill > _LARGEST_FILL:
        return None
    return SparseJacobian(problem, pattern.joined(*_nothing()))


def check_part(
    caller: str,
    problem: ODEProblem,
    sparse: bool,
    number: int | None,
    near: complex | None,
) -> tuple[int, complex]:
    """How many eigenvalues of a Jacobian, where it is sparse, and near what.

    **Raises:** `TypeError` or `ValueError`, naming the argument.
    """
    if not sparse:
        for name, value in (("number", number), ("near", near)):
            if value is not None:
                raise ValueError(
                    f"{caller}: `{name}` is of the eigenvalues of a sparse Jacobian, "
                    "and this one is dense, whose eigenvalues are all found; leave it "
                    'out, or pass `jacobian="sparse"`.'
                )
        return 0, 0.0
    # ARPACK finds fewer than all.
    most = max(1, problem.dimension - 3)
    given = min(_NUMBER, most) if number is None else number
    count = check_whole(caller, "number", given, most=most)
    point = 0.0 if near is None else near
    if not isinstance(point, int | float | complex | np.number):
        raise TypeError(
            f"{caller}: `near` must be a number, real or complex, got {near!r}."
        )
    if not np.isfinite(point):
        raise ValueError(f"{caller}: `near` must be finite, got {near!r}.")
    return count, point if np.imag(point) else float(np.real(point))


def _nothing() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)


def eigenvalues_near(
    caller: str,
    matrix: Any,
    number: int,
    near: complex,
    precision: float,
    moved: float = 0.0,
) -> Spectrum:
    """The eigenvalues of a sparse matrix nearest to a point, with their errors.

    Arnoldi's method on $(A - \\sigma I)^{-1}$ (Saad 2011, section 8.1) by ARPACK. What
    a perturbation of norm $\\delta$ moves a simple eigenvalue by is $\\kappa\\delta$ to
    first order, as of a dense matrix; here $\\delta$ is the residual $\\|Ax - \\lambda
    x\\|$ of the pair found, $10\\varepsilon\\sqrt{\\|A\\|_1\\|A\\|_\\infty}$ for the
    roundings of the entries, and what is given.

    **Arguments:** the name of the caller, for errors; the matrix; how many; the point;
    the precision of the entries; by how much the matrix may be off beside that.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, eigs

    n = matrix.shape[0]
    count = min(number + _MORE, n - 2)
    size = matrix_norm(matrix)
    if size == 0:
        zeros = np.zeros(number)
        return Spectrum(zeros.astype(complex), zeros + moved, zeros + 1)
    shift = complex(near) if np.imag(near) else float(np.real(near))
    unit = matrix / size
    factors, shift = _shifted(unit, shift / size)
    kind = complex if isinstance(shift, complex) else float
    unit = unit.astype(kind)
    start = np.random.default_rng(0).standard_normal(n).astype(kind)
    found = []
    for operator, mode in ((unit, "N"), (unit.T, "T")):
        solve = lambda x, mode=mode: factors.solve(x.astype(kind), mode)
        inverse = _operator(n, solve, kind)
        try:
            found.append(eigs(operator, k=count, sigma=shift, OPinv=inverse, v0=start))
        except ArpackNoConvergence as error:
            raise AnalysisError(
                f"{caller}: Arnoldi's method did not find {number} eigenvalues near "
                f"{near:g}; ask for another `number`, or another `near`."
            ) from error
    (values, right), (_, left) = found
    # Left vectors dual to the right ones: of an eigenvalue of several vectors each
    # method returns some basis.
    overlap = left.T @ right
    dual = np.linalg.lstsq(overlap, left.T, rcond=None)[0]
    conditions = np.maximum(
        np.linalg.norm(dual, axis=1) * np.linalg.norm(right, axis=0), 1.0
    )
    residuals = np.linalg.norm(unit @ right - right * values, axis=0)
    residuals /= np.linalg.norm(right, axis=0)
    errors = conditions * (residuals + 10 * precision + moved / size)
    nearest = np.argsort(np.abs(values - shift), kind="stable")[:number]
    chosen = nearest[np.lexsort((-np.imag(values[nearest]), -np.real(values[nearest])))]
    return Spectrum(size * values[chosen], size * errors[chosen], conditions[chosen])


def _operator(n: int, solve: Callable[[Any], Any], dtype: type) -> Any:
    """A linear map of vectors as ARPACK takes it."""
    from scipy.sparse.linalg import LinearOperator

    make: Any = LinearOperator
    return make((n, n), solve, dtype=dtype)


def _shifted(unit: Any, shift: Any) -> tuple[Any, Any]:
    """Factors of A − σI, with σ moved where that is singular to all digits."""
    from scipy.sparse import eye_array
    from scipy.sparse.linalg import splu

    identity = eye_array(unit.shape[0], format="csc")
    for _ in range(2):
        try:
            return splu((unit - shift * identity).tocsc()), shift
        except RuntimeError:
            shift = shift + np.sqrt(np.finfo(float).eps)
    return splu((unit - shift * identity).tocsc()), shift


def newton(
    sparse: SparseJacobian,
    time: np.ndarray,
    start: np.ndarray,
    tolerances: tuple[float, float],
    max_steps: int,
) -> np.ndarray:
    """Where Newton's method ends, each step halved until the field is smaller
    (Nocedal & Wright 2006, section 11.2).

    **Arguments:** the Jacobian; the time; the first state; the relative and absolute
    tolerance of a full step; the most steps. Where the matrix is singular to all
    digits, the root of the precision is added to its eigenvalues.
    """
    problem = sparse.problem
    value_at = lambda u: np.asarray(
        field_values(problem, time[None], u[None])[0], float
    )
    u, value = start, value_at(start)
    for _ in range(max_steps):
        matrix, size = sparse(time, u), np.linalg.norm(value)
        if size == 0 or not (np.isfinite(size) and np.all(np.isfinite(matrix.data))):
            break
        scale = matrix_norm(matrix) or 1.0
        factors, _ = _shifted(matrix / scale, 0.0)
        step = -factors.solve(value / scale)
        share, there, other = 1.0, u, value
        while share >= _SHORTEST:
            there = (u + share * step).astype(u.dtype)
            other = value_at(there)
            if np.linalg.norm(other) <= (1 - 1e-4 * share) * size:
                break
            share /= 2
        else:
            return u
        close = np.all(np.abs(step) <= tolerances[1] + tolerances[0] * np.abs(u))
        u, value = there, other
        if close:
            break
    return u


def smallest_singular(matrix: Any) -> tuple[float, np.ndarray]:
    """The smallest singular value of a sparse matrix and its right vector, by Lanczos's
    method on the inverse of $A^\\top A$; zero for a matrix that is singular to all
    digits."""
    from scipy.sparse.linalg import eigsh, splu

    n = matrix.shape[0]
    start = np.random.default_rng(0).standard_normal(n)
    try:
        factors = splu(matrix)
    except RuntimeError:
        return 0.0, start / np.linalg.norm(start)
    solve = lambda x: factors.solve(factors.solve(x, "T"))
    inverse = _operator(n, solve, float)
    # An estimate: two digits are enough.
    loose: Any = 1e-2
    values, vectors = eigsh(inverse, k=1, v0=start, tol=loose)
    return float(1 / np.sqrt(values[0])), vectors[:, 0]


def matrix_norm(matrix: Any) -> float:
    """A bound on the norm of a sparse matrix, $\\sqrt{\\|A\\|_1\\|A\\|_\\infty}$."""
    sizes = abs(matrix)
    rows, columns = sizes.sum(axis=1), sizes.sum(axis=0)
    return float(np.sqrt(np.max(rows, initial=0.0) * np.max(columns, initial=0.0)))


def numerical_abscissa(
    caller: str, matrix: Any, precision: float
) -> tuple[float, float]:
    """The largest eigenvalue of the symmetric part, and its error.

    Lanczos's method on the inverse of the symmetric part less its bound by Gershgorin's
    discs, of which the eigenvalue sought is the nearest.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    symmetric = ((matrix + matrix.T) / 2).tocsc()
    size, n = matrix_norm(symmetric), matrix.shape[0]
    if size == 0:
        return 0.0, 0.0
    unit = symmetric / size
    diagonal = unit.diagonal()
    bound = float(np.max(diagonal + abs(unit).sum(axis=1) - np.abs(diagonal)))
    factors, shift = _shifted(unit, bound + np.sqrt(np.finfo(float).eps))
    inverse = _operator(n, factors.solve, float)
    start = np.random.default_rng(0).standard_normal(n)
    try:
        values, vectors = eigsh(unit, k=1, sigma=shift, OPinv=inverse, v0=start)
    except ArpackNoConvergence as error:
        raise AnalysisError(
            f"{caller}: Lanczos's method did not find the numerical abscissa; pass "
            '`jacobian="dense"`.'
        ) from error
    residual = float(np.linalg.norm(unit @ vectors[:, 0] - values[0] * vectors[:, 0]))
    return size * float(values[0]), size * (residual + 10 * precision)
