"""How schemes carry second moments of linear equations over one step."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ...backends.diffrax import StepIncrement, make_stochastic_terms
from ...methods import find_solver
from ...problems import SDEProblem, to_ito, to_stratonovich
from ._linear_noise import LinearNoise

_NODES = 12
_MOST = 200_000

# By the names of the schemes, and those of the solvers that take their steps.
CLOSED_FORMS = {
    "Euler": "EulerMaruyama",
    "EM": "EulerMaruyama",
    "EulerMaruyama": "EulerMaruyama",
    "ThetaMaruyama": "ThetaMaruyama",
    "ImplicitEM": "ThetaMaruyama",
    "STrapezoid": "ThetaMaruyama",
    "Milstein": "Milstein",
    "ItoMilstein": "Milstein",
    "ThetaMilstein": "ThetaMilstein",
    "SplitStep": "SplitStep",
    "ISSEM": "SplitStep",
}
_THETA = {"ImplicitEM": 1.0, "STrapezoid": 0.5}
_WITH_THETA = ("ThetaMaruyama", "ThetaMilstein")


def resolve_scheme(
    caller: str, scheme: Any, theta: float | None
) -> tuple[str, float | None, bool]:
    """The scheme of a name, its implicitness, and whether it has a closed form.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    if not isinstance(scheme, str):
        raise TypeError(
            f"{caller}: `scheme` must be a name, got {type(scheme).__name__}."
        )
    spelled = {name.casefold(): name for name in CLOSED_FORMS}.get(scheme.casefold())
    if spelled is None:
        try:
            name = find_solver(scheme, "diffrax", "sde").name
        except ValueError as error:
            raise ValueError(
                f"{caller}: `scheme` must be one of {', '.join(CLOSED_FORMS)}, or a "
                f"stochastic solver of the diffrax backend, got {scheme!r}."
            ) from error
        if theta is not None:
            raise ValueError(f"{caller}: {name} takes no `theta`.")
        return name, None, False
    form = CLOSED_FORMS[spelled]
    wants = form in _WITH_THETA and spelled not in _THETA
    if wants == (theta is None):
        raise ValueError(
            f"{caller}: {spelled} "
            + ("needs `theta`, how implicit it is." if wants else "takes no `theta`.")
        )
    if wants:
        assert theta is not None
        if not 0 <= theta <= 1:
            raise ValueError(
                f"{caller}: `theta` must lie between 0 and 1, got {theta!r}."
            )
        return form, float(theta), True
    return form, _THETA.get(spelled), True


def scalar_factor(
    scheme: str, theta: float | None, z: np.ndarray, s: np.ndarray
) -> np.ndarray:
    """$E|X_1|^2/|X_0|^2$ of a step on $dX = \\lambda X\\,dt + \\sigma X\\,dW$, with
    $z = \\lambda h$ and $s = \\sigma^2 h$ (Higham 2000, SIAM J. Numer. Anal. 38;
    Buckwar & Sickenberger 2011, Math. Comput. Simul. 81)."""
    if scheme == "EulerMaruyama":
        return (1 + z) ** 2 + s
    if scheme == "Milstein":
        return (1 + z) ** 2 + s + s**2 / 2
    if scheme == "SplitStep":
        return (1 + s) / (1 - z) ** 2
    assert theta is not None
    extra = s**2 / 2 if scheme == "ThetaMilstein" else 0.0
    return ((1 + (1 - theta) * z) ** 2 + s + extra) / (1 - theta * z) ** 2


def lifted_factor(
    caller: str, scheme: str, theta: float | None, linear: LinearNoise, h: float
) -> np.ndarray:
    """$E[\\Phi\\otimes\\Phi]$ of the map $\\Phi$ of one step of a closed form."""
    a, b, n = linear.a, linear.b, len(linear.a)
    identity = np.eye(n)
    left = right = identity
    if scheme in _WITH_THETA:
        assert theta is not None
        left, right = identity - theta * h * a, identity + (1 - theta) * h * a
    elif scheme == "SplitStep":
        left = identity - h * a
    else:
        right = identity + h * a
    solve: Callable[[np.ndarray], np.ndarray] = lambda m: np.linalg.solve(left, m)
    mean = solve(right)
    if scheme == "SplitStep":
        noise = [one @ mean for one in b]
    else:
        noise = [solve(one) for one in b]
    lifted = np.kron(mean, mean)
    for one in noise:
        lifted = lifted + h * np.kron(one, one)
    if scheme in ("Milstein", "ThetaMilstein"):
        pairs = [(i, j) for i in range(len(b)) for j in range(len(b))]
        double = {(i, j): b[i] @ b[j] for i, j in pairs}
        size = max((np.abs(m).max() for m in double.values()), default=0.0)
        if any(
            np.abs(double[i, j] - double[j, i]).max() > 1e-10 * size for i, j in pairs
        ):
            raise ValueError(
                f"{caller}: Milstein's method needs noise that commutes, and the "
                "matrices of `problem` do not; take Euler's."
            )
        for pair in pairs:
            # ½ΣC_ij(ΔW_iΔW_j − δ_ij h), whose products have the mean h²/2 Σ C⊗C.
            c = solve(double[pair])
            lifted = lifted + h**2 / 2 * np.kron(c, c)
    return lifted


def factor_size(
    scheme: str, theta: float | None, linear: LinearNoise, h: float
) -> float:
    """A bound of the terms that `lifted_factor` adds up, or a quadrature, which may be
    far larger than the factor itself."""
    norm = lambda matrix: float(np.linalg.norm(matrix, 2))
    implicit = 1.0 if scheme == "SplitStep" else theta or 0.0
    left = np.eye(len(linear.a)) - implicit * h * linear.a
    noise = h * sum(norm(b) ** 2 for b in linear.b)
    explicit = 1 + (1 - implicit) * h * norm(linear.a)
    if scheme in CLOSED_FORMS.values():
        size = explicit**2 + noise
        size += noise**2 / 2 if scheme in ("Milstein", "ThetaMilstein") else 0.0
    else:
        size = (explicit + noise) ** 2
    return size * norm(np.linalg.inv(left)) ** 2 * float(np.linalg.cond(left))


def quadrature_factor(
    caller: str, solver: str, problem: SDEProblem, h: float, nodes: int = _NODES
) -> Any:
    """$E[\\Phi\\otimes\\Phi]$ of a Diffrax solver's own step on a linear problem.

    The map is a polynomial in the increments, and Gauss and Hermite's rule is exact
    for those of degree below `2 * nodes`.
    """
    info = find_solver(solver, "diffrax", "sde")
    if not info.converges_to(problem.kind):
        other = to_ito if "ito" in info.interpretations else to_stratonovich
        problem = other(problem)
    if not info.takes(problem.kind):
        raise ValueError(
            f"{caller}: {info.name} takes no {problem.noise!r} noise; see "
            "hybrid_nds.find_solver for what it takes."
        )
    m = problem.noise_dimension
    areas = info.levy_area != "none"
    dimensions = m * (2 if areas else 1)
    if nodes**dimensions > _MOST:
        raise ValueError(
            f"{caller}: {info.name} on {m} Brownian motions would want "
            f"{nodes}^{dimensions} points of quadrature; Euler and ItoMilstein have "
            "closed forms for any number."
        )
    method: diffrax.AbstractSolver = getattr(diffrax, info.diffrax or "")()
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.array(list(itertools.product(x, repeat=dimensions)))
    weights = np.array(
        [np.prod(one) for one in itertools.product(w / w.sum(), repeat=dimensions)]
    )
    dw = np.sqrt(h) * grid[:, :m]
    area = np.sqrt(h / 12) * grid[:, m:] if areas else None
    dw, area, weights = jax.tree.map(jnp.asarray, (dw, area, weights))
    return _mean_of_steps(problem, method, h, dw, area, weights)


def _mean_of_steps(
    problem: SDEProblem,
    method: diffrax.AbstractSolver,
    h: float,
    dw: Float[Array, "points m"],
    area: Float[Array, "points m"] | None,
    weights: Float[Array, " points"],
) -> Any:
    unravel = ravel_pytree(problem.y0)[1]
    t0 = problem.t0
    t1 = t0 + jnp.asarray(h, problem.dtype)

    def step(u: Any, one: Any, other: Any) -> Any:
        increment = diffrax.BrownianIncrement(dt=t1 - t0, W=one)
        if other is not None:
            increment = diffrax.SpaceTimeLevyArea(dt=t1 - t0, W=one, H=other)
        path = StepIncrement(increment, t0, t1)
        terms = make_stochastic_terms(problem, path, method)
        y = unravel(u)
        kept = method.init(terms, t0, t1, y, problem.args)
        end = method.step(terms, t0, t1, y, problem.args, kept, False)[0]
        return ravel_pytree(end)[0]

    def lifted(one: Any, other: Any, weight: Any) -> Any:
        basis = jnp.eye(problem.dimension, dtype=problem.dtype)
        phi = jax.vmap(step, in_axes=(0, None, None))(basis, one, other).T
        return weight * jnp.kron(phi, phi)

    axes = (0, None if area is None else 0, 0)
    return jnp.sum(jax.vmap(lifted, in_axes=axes)(dw, area, weights), axis=0)
