"""Solves so precise that closed forms can be asked to hold."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ..methods import PRECISE_SOLVERS
from ..problems import ODEProblem
from ..solving import solve


def precise_states(
    problem: ODEProblem, backend: str, saveat: Any = None
) -> PyTree[np.ndarray]:
    """The states of a problem, at tolerances of 1e-12 a step.

    **Arguments:** the problem; the backend; the times to keep, of `solve`.

    **Returns:** the states as NumPy arrays with a leading axis of times.
    """
    solver = PRECISE_SOLVERS[backend]
    found = solve(
        problem, backend, solver=solver, saveat=saveat, rtol=1e-12, atol=1e-13
    )
    return jax.tree.map(np.asarray, found.ys)


def precise_end(problem: ODEProblem, backend: str) -> PyTree[np.ndarray | np.generic]:
    """The state at the end of a problem, at tolerances of 1e-12 a step."""
    return jax.tree.map(lambda states: states[-1], precise_states(problem, backend))
