"""Pseudo-arclength continuation of large systems, by bordered sparse matrices."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from ...lowering import Sparsity, check_entries, given_pattern, jacobian_entries
from ...problems import ODEProblem
from ._arclength import NEWTON_STEPS, CurvePoint, System, Walker, off_branch
from ._sparse import (
    eigenvalues_near,
    matrix_norm,
    smallest_singular,
    sparse_jacobian,
)

# Of inverse iteration.
_ROUNDS = 5
# The left null vector of a derivative over a direction is of the derivative alone at a
# branch point, with nothing in the last place, and has one there where the tangent is
# across the direction.
_ACROSS = 1e-3


def parameter_pattern(
    caller: str, problem: ODEProblem, system: System, asked: Any
) -> Sparsity | None:
    """Where the derivative of the field in its states and its parameter, and a row of
    zeros, may be other than zero; `None` for a dense one.

    **Arguments:** the name of the caller, for errors; a problem of the branch; the
    field with its parameter; the option `jacobian`.

    **Raises:** `TypeError` or `ValueError`, naming the option.
    """
    n = problem.dimension
    if not isinstance(asked, str):
        name = f"{caller}: `jacobian`"
        given = given_pattern(name, asked, n)
        check_entries(name, problem, given)
        return Sparsity(
            np.concatenate([given.rows, np.arange(n)]),
            np.concatenate([given.columns, np.full(n, n)]),
            np.append(given.colors, given.products),
            given.source,
        )
    # With the parameter among the states: at one value of it an entry may be zero.
    start = np.zeros(n + 1, problem.dtype)
    whole = ODEProblem(_WithParameter(system), start, 0.0, 1.0)
    found = sparse_jacobian(caller, whole, asked)
    return None if found is None else found.pattern


class _WithParameter(eqx.Module):
    """The field of states and parameter, and a parameter that does not move."""

    system: System

    def __call__(self, t: Any, w: Array, args: Any) -> Array:
        return jnp.append(self.system.field(w), jnp.zeros((), w.dtype))


@eqx.filter_jit
def _slope(system: System, pattern: Sparsity, w: ArrayLike) -> tuple[Array, Array]:
    """The field, and the entries of its derivative in the unknowns."""
    w = jnp.asarray(w)
    whole = _WithParameter(system)
    field = lambda t, w: whole(t, w, None)
    entries = jacobian_entries(field, pattern, np.dtype(w.dtype))
    return system.field(w), entries(jnp.zeros((), w.dtype), w)


class _Factored:
    """The derivative of the field, divided by its size: the factors of its columns for
    the states, and that for the parameter."""

    def __init__(self, slope: Any, precision: float):
        from scipy.sparse import csc_array, eye_array
        from scipy.sparse.linalg import splu

        n = slope.shape[0]
        self.size = matrix_norm(slope) or 1.0
        self.precision = precision
        last = np.zeros(n + 1)
        last[-1] = 1.0
        self.states = csc_array(slope[:, :n]) / self.size
        self.column = slope @ last / self.size
        try:
            self.factors = splu(self.states)
        except RuntimeError:
            moved = self.states + precision * eye_array(n, format="csc")
            self.factors = splu(csc_array(moved))

    def sign(self) -> float:
        """The sign of the determinant of the columns for the states."""
        parity = _parity(self.factors.perm_r) * _parity(self.factors.perm_c)
        return parity * float(np.prod(np.sign(self.factors.U.diagonal())))


class _Bordered:
    """A factored derivative over a row, $\\binom{F_w}{r^\\top}$.

    Equations are solved by mixed block elimination, which is stable where the columns
    for the states are singular, too (Govaerts & Pryce 1993).
    """

    def __init__(self, factored: _Factored, row: np.ndarray):
        self.factored = factored
        self.row, self.corner = row[:-1], float(row[-1])
        solve = factored.factors.solve
        self.left, self.right = solve(self.row, "T"), solve(factored.column)
        self.by_left = self._kept(self.corner - self.left @ factored.column)
        self.by_right = self._kept(self.corner - self.row @ self.right)

    def _kept(self, pivot: float) -> float:
        """A pivot that is no zero: as if the corner were off by round-off."""
        least = self.factored.precision
        return pivot if abs(pivot) > least else float(np.copysign(least, pivot))

    def apply(self, x: np.ndarray) -> np.ndarray:
        """The matrix times a vector."""
        top = self.factored.states @ x[:-1] + self.factored.column * x[-1]
        return np.append(top, self.row @ x[:-1] + self.corner * x[-1])

    def solve(self, b: np.ndarray) -> np.ndarray:
        """The solution of the equations."""
        return self._eliminated(
            b, "N", self.factored.column, self.row, self.left, self.right
        )

    def solve_transposed(self, b: np.ndarray) -> np.ndarray:
        """The solution of the transposed equations."""
        return self._eliminated(
            b, "T", self.row, self.factored.column, self.right, self.left
        )

    def _eliminated(
        self,
        b: np.ndarray,
        form: str,
        column: np.ndarray,
        row: np.ndarray,
        left: np.ndarray,
        right: np.ndarray,
    ) -> np.ndarray:
        turned = form == "T"
        first = self.by_right if turned else self.by_left
        second = self.by_left if turned else self.by_right
        y = (b[-1] - left @ b[:-1]) / first
        inner = self.factored.factors.solve(b[:-1] - column * y, form)
        rest = (b[-1] - self.corner * y - row @ inner) / second
        return np.append(inner - right * rest, y + rest)

    def newton(self, value: np.ndarray, last: float) -> np.ndarray:
        """The unknowns for a value of the field and of the row."""
        return self.solve(np.append(value / self.factored.size, last))

    @functools.cached_property
    def least(self) -> tuple[float, np.ndarray, np.ndarray]:
        """The smallest singular value and its left and right vectors, by inverse
        iteration: exact where it is much smaller than the others."""
        right = np.random.default_rng(0).standard_normal(len(self.row) + 1)
        right /= np.linalg.norm(right)
        for _ in range(_ROUNDS):
            right = self.solve(self.solve_transposed(right))
            right /= np.linalg.norm(right)
        left = self.apply(right)
        value = float(np.linalg.norm(left))
        return value, left / value if value > 0 else right, right

    def shortest(self, value: np.ndarray) -> np.ndarray:
        """The shortest step of Newton's method where the row is the tangent, without
        the directions of a branch point."""
        smallest, left, right = self.least
        b = np.append(value / self.factored.size, 0.0)
        if smallest > self.factored.precision**0.5:
            return self.solve(b)
        step = self.solve(b - left * (left @ b))
        return step - right * (right @ step)

    def sign(self) -> float:
        """The sign of the determinant."""
        return self.factored.sign() * float(np.sign(self.by_right))


def _parity(permutation: np.ndarray) -> int:
    """The sign of a permutation: of its length less the number of its cycles."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(permutation)
    ones = np.ones(n, np.int8)
    graph = coo_array((ones, (np.arange(n), permutation)), (n, n))
    cycles = connected_components(graph, directed=False)[0]
    return -1 if (n - cycles) % 2 else 1


@dataclasses.dataclass(frozen=True)
class SparseWalker(Walker):
    """How to walk along a branch of a large system.

    **Fields:** beside those of every walker where the derivative may be other than
    zero, the parameter last; how many eigenvalues are looked for, and near what.
    """

    pattern: Sparsity
    number: int
    near: complex

    def derivative(self, w: np.ndarray) -> tuple[np.ndarray, Any]:
        """The field and its derivative in the unknowns, a sparse matrix of shape
        `(n, n + 1)`."""
        from scipy.sparse import csc_array

        value, entries = _slope(self.system, self.pattern, w.astype(self.dtype))
        n, data = self.pattern.states, np.asarray(entries, float)
        whole = csc_array((data, self.pattern.rows, self.pattern.starts), (n, n))
        return np.asarray(value, float), csc_array(whole[: n - 1])

    def by_parameter(self, w: np.ndarray) -> np.ndarray:
        last = np.zeros(len(w))
        last[-1] = 1.0
        return self.derivative(w)[1] @ last

    def correct(
        self, guess: np.ndarray, direction: np.ndarray
    ) -> tuple[np.ndarray, int] | None:
        w = guess
        for steps in range(1, NEWTON_STEPS + 1):
            value, slope = self.derivative(w)
            if not (np.all(np.isfinite(value)) and np.all(np.isfinite(slope.data))):
                return None
            bordered = _Bordered(_Factored(slope, self.system.precision), direction)
            move = bordered.newton(value, float(direction @ (w - guess)))
            w = w - move
            if np.all(np.abs(move) <= self.tolerance * (1 + np.abs(w))):
                return w.astype(self.dtype).astype(float), steps
        return None

    def shift(self, w: np.ndarray) -> np.ndarray:
        value, slope = self.derivative(w)
        across = np.zeros(len(w))
        across[-1] = 1.0
        return self._along(slope, across)[1].shortest(value)

    def _along(self, slope: Any, along: np.ndarray) -> tuple[np.ndarray, _Bordered]:
        """The unit tangent in a direction, and the derivative bordered by it."""
        precision = self.system.precision
        factored = _Factored(slope, precision)
        bordered = _Bordered(factored, along / np.linalg.norm(along))
        last = np.zeros(len(along))
        last[-1] = 1.0
        smallest, left, tangent = bordered.least
        if smallest > precision:
            tangent = bordered.solve(last)
        elif abs(left[-1]) < _ACROSS:
            # A branch point: of two null vectors the one along the direction.
            found = bordered.solve(last - left * left[-1])
            tangent = found - tangent * (tangent @ found)
        # Otherwise the tangent is across the direction: the null vector itself.
        tangent = tangent / np.linalg.norm(tangent)
        tangent *= 1 if tangent @ along >= 0 else -1
        return tangent, _Bordered(factored, tangent)

    def point(self, w: np.ndarray, along: np.ndarray, steps: int) -> CurvePoint | None:
        value, slope = self.derivative(w)
        if not (np.all(np.isfinite(value)) and np.all(np.isfinite(slope.data))):
            return None
        tangent, bordered = self._along(slope, along)
        if off_branch(bordered.shortest(value), w, self.tolerance):
            return None
        precision = self.system.precision
        J = (slope[:, :-1] / self.system.state_scale).tocsc()
        found = eigenvalues_near(
            "continue_equilibria", J, self.number, self.near, precision
        )
        size = matrix_norm(J)
        least = size * smallest_singular(J / size)[0] if size > 0 else 0.0
        u = self.system.unscaled(w)[0]
        residual = float(np.linalg.norm(value))
        residual += precision * size * float(np.linalg.norm(u))
        return CurvePoint(
            w=w,
            tangent=tangent,
            spectrum=found,
            error=residual / least if least > precision * size else np.inf,
            side=bordered.sign() if bordered.least[0] > precision else 0.0,
            unstable=int(np.sum(np.real(found.eigenvalues) > 0)),
            steps=steps,
        )

    def critical_vectors(
        self, w: np.ndarray, frequency: float
    ) -> tuple[np.ndarray, np.ndarray]:
        from scipy.sparse.linalg import eigs

        J = self._jacobian(w).astype(complex)
        # Beside the eigenvalue, where the shifted matrix is singular.
        shift = 1j * frequency * (1 + 1e-6)
        start = np.random.default_rng(0).standard_normal(J.shape[0]).astype(complex)
        right, left = (
            eigs(matrix, k=1, sigma=shift, v0=start)[1][:, 0]
            for matrix in (J, J.T.tocsc())
        )
        return right, np.conj(left)

    def shifted_solve(
        self, w: np.ndarray, shift: complex, value: np.ndarray
    ) -> np.ndarray:
        from scipy.sparse import eye_array
        from scipy.sparse.linalg import splu

        J = self._jacobian(w)
        matrix = (shift * eye_array(J.shape[0], format="csc") - J).tocsc()
        return splu(matrix).solve(value.astype(matrix.dtype))

    def _jacobian(self, w: np.ndarray) -> Any:
        return self.derivative(w)[1][:, :-1].tocsc() / self.system.state_scale
