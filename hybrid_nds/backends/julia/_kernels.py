"""Lean kernels: which there are, what they take, and what they are made of."""

from __future__ import annotations

import dataclasses
from typing import Any

from ...lowering import LoweredFunction, LoweringError, lower
from ...problems import Problem
from ...runtime import Session
from ._context import context_of
from ._structure import LOWERED, structure_key

# The kernels by the names of solvers; each takes the steps of Julia's method of that
# name. Julia's EulerHeun is Heun's method; Diffrax's has a name of its own here.
KERNELS = {
    "Euler": "EulerMaruyama",
    "Heun": "StochasticHeun",
    "EulerHeun": "StochasticHeun",
    "SRA1": "AdditiveRoessler",
    "DiffraxEulerHeun": "NoiseHeun",
}
# Static arrays of more take minutes to compile and gain nothing.
_LARGEST_STATE, _LARGEST_DIFFUSION = 100, 1000


@dataclasses.dataclass(frozen=True, eq=False)
class KernelFunctions:
    """Drift and diffusion in Julia."""

    drift: Any
    diffusion: Any


def kernel_functions(session: Session, problem: Problem) -> KernelFunctions:
    """Drift and diffusion as Julia functions."""
    functions = context_of(session).functions
    return KernelFunctions(*(functions.get(session, one) for one in _lowered(problem)))


def _lowered(problem: Problem) -> tuple[LoweredFunction, ...]:
    """Drift and diffusion in scalar form."""
    structure = structure_key((problem.y0, problem.functions, problem.args))
    key = None if structure is None else ("kernel", structure)
    return LOWERED.get(
        key,
        lambda: tuple(
            lower(function, problem.t0, problem.y0, problem.args, form="scalar")
            for function in problem.functions
        ),
    )


def kernel_applies(problem: Problem, solver: str | None, dt: Any) -> str | None:
    """Whether a lean kernel can run a problem with a solver.

    **Arguments:** the problem, the solver's name as in the table, `None` for the
    default, and the step, `None` for adaptive steps.

    **Returns:** `None` if it can, else why not, as a sentence.
    """
    if (solver or "Euler") not in KERNELS:
        return f"there is no lean kernel for {solver}, only for {', '.join(KERNELS)}"
    if dt is None:
        return "lean kernels take fixed steps"
    if (solver == "SRA1") and problem.kind.noise != "additive":
        return "SRA1 is for additive noise"
    columns = problem.noise_dimension if problem.kind.matrix_noise else 1
    size = problem.dimension * columns
    if problem.dimension > _LARGEST_STATE or size > _LARGEST_DIFFUSION:
        return (
            f"lean kernels take at most {_LARGEST_STATE} scalars in the state and "
            f"{_LARGEST_DIFFUSION} in the diffusion"
        )
    try:
        _lowered(problem)
    except LoweringError as error:
        return f"it cannot be lowered in scalar form: {error}"
    return None
