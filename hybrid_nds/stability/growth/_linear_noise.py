"""Linear stochastic equations: their matrices, and the growth of second moments."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float

from ...backends import state_size
from ...problems import ODEProblem, SDEProblem, forward_problem, to_ito

_MOST = 4096


@dataclasses.dataclass(frozen=True)
class LinearNoise:
    """$dX = AX\\,dt + \\sum_j B_j X\\,dW_j$ in Itô's interpretation: `a` of shape
    `(n, n)`, `b` of shape `(m, n, n)`, and the `precision` of their entries."""

    a: Float[np.ndarray, "n n"]
    b: Float[np.ndarray, "m n n"]
    precision: float

    @property
    def rate(self) -> float:
        """A bound of the terms that the growth of second moments is a sum of, which
        may be far larger than it: $2\\|A\\| + \\sum_j \\|B_j\\|^2$."""
        noise = sum(float(np.linalg.norm(b, 2)) ** 2 for b in self.b)
        return 2 * float(np.linalg.norm(self.a, 2)) + noise


@dataclasses.dataclass(frozen=True)
class Leading:
    """The eigenvalue that rules: its `value`, and its `error` from round-off, the
    precision times the size of what the matrix is a sum of and the condition of the
    eigenvalue."""

    value: float
    error: float


def linear_noise(caller: str, problem: ODEProblem | SDEProblem) -> LinearNoise:
    """The matrices of a linear problem with constant coefficients.

    **Raises:** `ValueError`, saying where the problem is not linear, or depends on
    time.
    """
    if isinstance(problem, SDEProblem):
        problem = to_ito(forward_problem(problem))
        drift, diffusion = problem.flat_drift(), problem.flat_diffusion()
    else:
        drift, diffusion = forward_problem(problem).flat_field(), None
    n = problem.dimension
    random = np.random.default_rng(8)
    # In the units of the problem: terms that it can see there may vanish elsewhere.
    points = state_size(problem) * random.standard_normal((3, n))
    points = jnp.asarray(points, problem.dtype)
    t0, t1 = float(problem.t0), float(problem.t1)
    span = t1 - t0 if math.isfinite(t1) else 1.0
    times = [t0 + share * span for share in (0.0, 0.37, 1.0)]
    precision = float(np.finfo(problem.dtype).eps)
    a = _matrices(caller, "drift", drift, points, times)
    if diffusion is None:
        return LinearNoise(a, np.zeros((0, n, n)), precision)
    assert isinstance(problem, SDEProblem)
    tensor = _matrices(caller, "diffusion", diffusion, points, times)
    if problem.matrix_noise:
        b = np.moveaxis(tensor, 1, 0)
    elif problem.noise == "scalar":
        b = tensor[None]
    else:
        b = np.stack([np.diag(np.eye(n)[j]) @ tensor for j in range(n)])
    return LinearNoise(a, b, precision)


def _matrices(
    caller: str, name: str, function: Any, points: Any, times: list[float]
) -> np.ndarray:
    zero = jnp.zeros_like(points[0])
    derivative = np.asarray(jax.jacfwd(function, 1)(times[0], zero), float)
    tolerance = 1e4 * float(np.finfo(points.dtype).eps)
    scale = float(np.max(np.abs(derivative), initial=0.0))
    at_zero = np.asarray(function(times[0], zero))
    _check_finite(caller, name, at_zero, times[0], zero)
    if np.max(np.abs(at_zero), initial=0.0) > 0:
        raise ValueError(
            f"{caller}: `problem` must be linear, but its {name} at zero is "
            f"{at_zero.tolist()}, not zero. Linearise it about an equilibrium."
        )
    for t in times:
        for point in np.asarray(points):
            value = np.asarray(function(t, jnp.asarray(point)), float)
            _check_finite(caller, name, value, t, point)
            expected = derivative @ point
            if not np.all(
                np.abs(value - expected) <= tolerance * scale * np.sum(np.abs(point))
            ):
                raise ValueError(
                    f"{caller}: `problem` must be linear with constant coefficients, "
                    f"but its {name} at t = {t:g}, y = {point.tolist()} is not its "
                    f"derivative at zero times y. Linearise it about an equilibrium."
                )
    return derivative


def _check_finite(caller: str, name: str, value: Any, t: float, point: Any) -> None:
    if not np.all(np.isfinite(np.asarray(value, float))):
        raise ValueError(
            f"{caller}: `problem` must have a finite {name}, but at t = {t:g}, y = "
            f"{np.asarray(point).tolist()} it is {np.asarray(value).tolist()}."
        )


def symmetric_reduction(
    n: int,
) -> tuple[Float[np.ndarray, "nn m"], Float[np.ndarray, "m nn"]]:
    """Duplication and elimination between symmetric matrices, as vectors of $n^2$
    entries, and their $n(n+1)/2$ free entries."""
    rows, columns = np.tril_indices(n)
    up = np.zeros((n * n, len(rows)))
    index = np.arange(len(rows))
    up[rows * n + columns, index] = 1
    up[columns * n + rows, index] = 1
    return up, np.linalg.pinv(up)


def second_moment_operator(
    caller: str, linear: LinearNoise
) -> Float[np.ndarray, "m m"]:
    """$I\\otimes A + A\\otimes I + \\sum_j B_j\\otimes B_j$ on symmetric matrices: its
    exponential carries $E[XX^T]$ (Arnold 1974, section 11.3)."""
    n = len(linear.a)
    check_lifted(caller, n * n)
    identity = np.eye(n)
    lifted = np.kron(identity, linear.a) + np.kron(linear.a, identity)
    for b in linear.b:
        lifted += np.kron(b, b)
    return on_symmetric(lifted)


def on_symmetric(lifted: np.ndarray) -> np.ndarray:
    """An operator that keeps matrices symmetric, on these alone."""
    up, down = symmetric_reduction(math.isqrt(len(lifted)))
    return down @ lifted @ up


def check_lifted(caller: str, size: int) -> None:
    """Refuse an operator too large to be a dense matrix."""
    if size > _MOST:
        raise ValueError(
            f"{caller}: the operator on moments would be a matrix of {size} rows, and "
            f"{_MOST} is the most; reduce the dimension of `problem`, or sample with "
            "moment_exponent(..., method='monte-carlo')."
        )


def leading_eigenvalue(
    matrix: np.ndarray, kind: str, rounding: float | None = None
) -> Leading:
    """The eigenvalue with the largest real part (`"abscissa"`), or modulus
    (`"radius"`): a real one, since moments stay in a cone (Krein & Rutman 1948).

    **Arguments:** a matrix; the kind; by how much its entries may be off, in norm:
    where they are differences of large numbers, that is more than their own round-off,
    which is the default.
    """
    # Entries of one size, since products of very small ones underflow.
    scale = float(np.max(np.abs(matrix), initial=0.0)) or 1.0
    found: Any = scipy.linalg.eig(matrix / scale, left=True, right=True)
    values, left, right = found
    sizes = values.real if kind == "abscissa" else np.abs(values)
    i = int(np.argmax(sizes))
    overlap = abs(np.vdot(left[:, i], right[:, i]))
    norm = float(np.linalg.norm(matrix / scale, 2))
    epsilon = float(np.finfo(float).eps) * len(matrix) * norm
    epsilon += (rounding or 0.0) / scale
    # A defective eigenvalue moves by the root of the perturbation.
    error = epsilon / max(overlap, float(np.finfo(float).tiny))
    error = min(error, math.sqrt(epsilon * max(norm, epsilon)))
    return Leading(scale * float(sizes[i]), scale * error)
