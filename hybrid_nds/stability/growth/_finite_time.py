"""Finite-time Lyapunov exponents, as a differentiable function."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import check_whole, is_concrete, precision_of
from ...backends import Integration
from ...methods import Stack
from ...noise import BrownianPath, NativePath, StoredPath
from ...problems import ODEProblem, SDEProblem, check_kind, tangent_problem
from ...solving import solve
from ._lyapunov_plan import start_directions

_CALLER = "finite_time_exponents"


def finite_time_exponents(
    problem: ODEProblem | SDEProblem,
    *,
    exponents: int | None = None,
    intervals: int = 32,
    transient: int | None = None,
    backend: Stack = "diffrax",
    solver: Any = None,
    dt: float | None = None,
    rtol: Any = None,
    atol: Any = None,
    key: PRNGKeyArray | None = None,
    path: BrownianPath | StoredPath | NativePath | None = None,
    adjoint: Any = None,
    max_steps: int | None = None,
) -> Float[Array, " exponents"]:
    """The Lyapunov exponents of one orbit over a finite time, with derivatives.

    Tangent vectors are carried along the orbit by
    [`tangent_problem`][hybrid_nds.problems.tangent_problem] and made orthonormal after
    each of $N$ equal intervals $\\tau$ by a QR decomposition;

    $$\\lambda_i = \\frac1{(N-B)\\tau}\\sum_{s=B+1}^N\\log|R^{(s)}_{ii}|$$

    (Benettin et al. 1980; Dieci, Russell & Van Vleck 1997). For use in losses: it can
    be called and differentiated inside JAX's transformations, with respect to the
    initial state and the parameters; for a stochastic problem along one path. Their
    limit for long times, with an error, is
    [`lyapunov_spectrum`][hybrid_nds.stability.lyapunov_spectrum]'s. The derivative is
    that of the finite time: along a chaotic orbit it grows with the time as tangent
    vectors do, and tells nothing of the limit's.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem] without mass matrix, or an
        [`SDEProblem`][hybrid_nds.SDEProblem]; the orbit is that of its span.
    - `exponents`: how many, the largest first once the directions have come to theirs;
        by default all.
    - `intervals`: $N$. In one interval tangent vectors must not come together to
        round-off: differences of exponents times $\\tau$ stay below some 15.
    - `transient`: $B$, how many of the first intervals do not count, for the directions
        to come to theirs; by default an eighth of them.
    - `backend`, `solver`, `dt`, `rtol`, `atol`, `adjoint`, `max_steps`: as of
        [`solve`][hybrid_nds.solve]; `max_steps` in each interval. On `"julia"` the
        solver must be one that has derivatives there to take them. A stochastic
        problem takes fixed steps, a whole number of them in an interval.
    - `key` or `path`: the noise of a stochastic problem, as of
        [`solve`][hybrid_nds.solve].

    **Returns:** the exponents, in inverse units of time, in the dtype of the problem.

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`SolveError`][hybrid_nds.SolveError] for an orbit that diverges.
    """
    check_kind(_CALLER, problem, "ode", "sde")
    n = problem.dimension
    k = n if exponents is None else check_whole(_CALLER, "exponents", exponents)
    if k > n:
        raise ValueError(
            f"{_CALLER}: `exponents` must be at most {n}, the dimension of `problem`, "
            f"got {k}."
        )
    check_whole(_CALLER, "intervals", intervals)
    burnt = intervals // 8 if transient is None else transient
    check_whole(_CALLER, "transient", burnt, 0)
    if burnt >= intervals:
        raise ValueError(
            f"{_CALLER}: `transient` must be less than `intervals`, {intervals}, got "
            f"{burnt}."
        )
    ends = (problem.t0, problem.t1)
    if all(map(is_concrete, ends)) and not np.all(np.isfinite(np.asarray(ends))):
        raise ValueError(
            f"{_CALLER}: the span of `problem` must be finite, got from "
            f"{float(problem.t0)} to {float(problem.t1)}."
        )
    integration = Integration(backend, solver, dt, rtol, atol, key, path)
    options = {"backend": backend, "solver": solver, "adjoint": adjoint}
    if max_steps is not None:
        options["max_steps"] = max_steps
    with precision_of(problem):
        tangent = tangent_problem(problem, start_directions(n, k, 1)[0])
        noise = None
        if problem.kind.follows_path:
            noise = _pieces(tangent, integration, intervals)
        else:
            options |= {"dt": dt, "rtol": rtol, "atol": atol}
            options |= {"key": key, "path": path}
        length = tangent.t1 - tangent.t0
        ends = tangent.t0 + length * (jnp.arange(intervals + 1) / intervals)
        ends = ends.astype(problem.dtype)

        def over(state: Any, interval: Any) -> tuple[Any, Array]:
            first, last, increments = interval
            piece = eqx.tree_at(
                lambda p: (p.y0, p.t0, p.t1), tangent, (state, first, last)
            )
            along = {}
            if increments is not None:
                along["path"] = StoredPath(*increments, t0=first, t1=last)
            found = solve(piece, **options, **along).ys
            y, rows = jax.tree_util.tree_map(lambda leaf: leaf[-1], found)
            Q, R = jnp.linalg.qr(rows.T)
            return (y, Q.T), jnp.log(jnp.abs(jnp.diagonal(R)))

        _, growth = jax.lax.scan(over, tangent.y0, (ends[:-1], ends[1:], noise))
        counted = jnp.abs(length) * (intervals - burnt) / intervals
        return jnp.sum(growth[burnt:], axis=0) / counted


def _pieces(
    tangent: Any, integration: Integration, intervals: int
) -> tuple[Array, Array | None]:
    """The increments of the path of all, and its areas where they are known, by
    interval."""
    if integration.adaptive:
        raise ValueError(
            f"{_CALLER}: a stochastic problem is followed in fixed steps: pass `dt`, "
            "and leave out `rtol` and `atol`."
        )
    path = integration.options(tangent).path
    assert path is not None
    if path.steps % intervals:
        raise ValueError(
            f"{_CALLER}: an interval must be a whole number of steps, but {intervals} "
            f"`intervals` do not divide the {path.steps} steps of the path. Take "
            "another `dt`, or other `intervals`."
        )
    increments, areas = path.increments()
    shape = (intervals, path.steps // intervals, path.dimension)
    return (
        increments.reshape(shape),
        None if areas is None else areas.reshape(shape),
    )
