"""Weak orders: errors of a mean, with the sampling error held below them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..problems import SDEProblem, check_kind
from ._estimate import OrderEstimate, fit_order
from ._runs import (
    check_steps,
    draw,
    exact_states,
    finest_steps,
    needs_area,
    path_solver,
)


def weak_order(
    problem: SDEProblem,
    solver: str,
    observable: Callable[[Any], Any],
    *,
    key: Any,
    backend: str = "diffrax",
    steps: Sequence[int] = (4, 8, 16, 32),
    paths: int = 20_000,
    exact: Callable[[Any], Any] | None = None,
    refine: int = 8,
    level: float = 0.95,
    **options: Any,
) -> OrderEstimate:
    """Measure the weak order of a method on a problem, for one observable.

    The error of a step size is $|E f(X_h(t_1)) - E f(X(t_1))|$. Both means are taken
    over the same paths: f(X) is a control variate for f(X_h), so that the sampling
    error is that of their difference, which falls with the step as the strong error
    does (Giles 2008, section 2). The estimate holds each error's standard error, and
    `resolved` says whether all errors stand out of it.

    **Arguments:**

    - `problem`: an [`SDEProblem`][hybrid_nds.SDEProblem].
    - `solver`, `backend`: the method and the stack to run it on.
    - `observable`: a function of the state, in JAX, that returns a number.
    - `key`: a JAX random key.
    - `steps`: numbers of fixed steps over the span, three or more, each twice the one
        before.
    - `paths`: how many independent Brownian paths.
    - `exact`: the solution at `t1` as a function of the path (a
        [`StoredPath`][hybrid_nds.noise.StoredPath]), in JAX. Without it, the same
        method in steps `refine` times shorter than the shortest stands for it.
    - `refine`: see there, a power of two.
    - `level`: of the interval.
    - `options`: more options of [`solve`][hybrid_nds.solve].

    **Returns:** an [`OrderEstimate`][hybrid_nds.discretization.OrderEstimate].

    **Raises:** `ValueError` or `TypeError`, naming the argument; `ValueError` where the
    sampling error of a step is not below its error, with the paths it would take.
    """
    check_kind("weak_order", problem, "sde")
    counts = check_steps("weak_order", steps, doubling=True)
    finest = finest_steps("weak_order", counts, exact, refine)
    area = needs_area(solver, backend)
    dw, areas = draw("weak_order", problem, key, paths, finest, area)
    unravel = ravel_pytree(problem.y0)[1]
    observed = jax.jit(jax.vmap(lambda u: jnp.asarray(observable(unravel(u)))))

    def values(count: int) -> np.ndarray:
        along = path_solver(problem, backend, solver, count, **options)
        return np.asarray(observed(jnp.asarray(along(dw, areas)[:, -1])))

    if exact is not None:
        truth = np.asarray(
            observed(jnp.asarray(exact_states(problem, exact, dw, areas)))
        )
    else:
        truth = values(finest)
    if truth.shape != (paths,):
        raise ValueError(
            "weak_order: `observable` must return one number, got shape "
            f"{truth.shape[1:]}."
        )
    span = float(problem.t1) - float(problem.t0)
    estimate = fit_order(
        [span / count for count in counts],
        np.stack([values(count) - truth for count in counts]),
        kind="weak",
        solver=solver,
        backend=backend,
        reference="the exact solution on the same paths"
        if exact is not None
        else f"the same method in {finest} steps on the same paths",
        level=level,
    )
    if not estimate.resolved:
        ratio = max(
            2 * deviation / error
            for error, deviation in zip(
                estimate.errors, estimate.standard_errors, strict=True
            )
        )
        raise ValueError(
            "weak_order: the sampling error hides the error of some steps: with "
            f"{paths} paths twice its standard error is up to {ratio:.2g} times the "
            f"error itself. Take `paths` of {int(paths * ratio**2 * 1.5)} or more, or "
            "longer steps."
        )
    return estimate
