"""Strong orders: errors along the same path."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..problems import Problem, check_kind
from ._estimate import OrderEstimate, fit_order
from ._runs import (
    check_steps,
    deterministic_states,
    draw,
    exact_states,
    finest_steps,
    flat_state,
    needs_area,
    path_solver,
)


def strong_order(
    problem: Problem,
    solver: str,
    *,
    backend: str = "diffrax",
    steps: Sequence[int] = (16, 32, 64, 128, 256),
    paths: int = 1000,
    key: Any = None,
    exact: Callable[[Any], Any] | Any = None,
    refine: int = 16,
    level: float = 0.95,
    **options: Any,
) -> OrderEstimate:
    """Measure the strong order of a method on a problem.

    The error of a step size is the mean over independent Brownian paths of
    $|X_h(t_1) - X(t_1)|$, the Euclidean norm along one path (Kloeden & Platen 1992,
    equation 9.6.1). For an ordinary problem there is one path, and the order is the
    usual one.

    **Arguments:**

    - `problem`: an [`ODEProblem`][hybrid_nds.ODEProblem] or
        [`SDEProblem`][hybrid_nds.SDEProblem].
    - `solver`, `backend`: the method and the stack to run it on.
    - `steps`: numbers of fixed steps over the span, three or more; for a stochastic
        problem each twice the one before.
    - `paths`: how many independent Brownian paths.
    - `key`: a JAX random key, for the paths of a stochastic problem.
    - `exact`: the solution at `t1`: for a stochastic problem a function of the path (a
        [`StoredPath`][hybrid_nds.noise.StoredPath]) in JAX, for an ordinary one the
        state itself. Without it, the same method in steps `refine` times shorter than
        the shortest stands for it.
    - `refine`: see there, a power of two.
    - `level`: of the interval.
    - `options`: more options of [`solve`][hybrid_nds.solve].

    **Returns:** an [`OrderEstimate`][hybrid_nds.discretization.OrderEstimate].

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    check_kind("strong_order", problem, "ode", "sde")
    stochastic = problem.kind.follows_path
    counts = check_steps("strong_order", steps, doubling=stochastic)
    finest = finest_steps("strong_order", counts, exact, refine)
    span = float(problem.t1) - float(problem.t0)
    reference = (
        "the exact solution"
        if exact is not None
        else f"the same method in {refine * counts[-1]} steps"
    )
    if stochastic:
        area = needs_area(solver, backend)
        dw, areas = draw("strong_order", problem, key, paths, finest, area)

        def ends(count: int) -> np.ndarray:
            along = path_solver(problem, backend, solver, count, **options)
            return along(dw, areas)[:, -1]

        truth = (
            exact_states(problem, exact, dw, areas)
            if exact is not None
            else ends(finest)
        )
        errors = [
            # In double precision: squares of small errors underflow in float32.
            np.linalg.norm(np.subtract(ends(count), truth, dtype=float), axis=-1)
            for count in counts
        ]
    else:
        states = functools.partial(
            deterministic_states, problem, backend, solver, most=finest, **options
        )
        truth = flat_state(exact) if exact is not None else states(finest)
        gaps = [states(count) - truth for count in counts]
        errors = [np.linalg.norm(gap[None], axis=-1) for gap in gaps]
    return fit_order(
        [abs(span) / count for count in counts],
        np.stack(errors),
        kind="strong" if stochastic else "deterministic",
        solver=solver,
        backend=backend,
        reference=reference,
        level=level,
    )
