"""Lean kernels: which there are, what they take, and what they are made of."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

from ...lowering import LoweredFunction, LoweringError, lower
from ...problems import SDEProblem
from ...runtime import Session
from ._cache import structure_key
from ._fields import FunctionCache

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
_KEPT_PROBLEMS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class KernelFunctions:
    """Drift and diffusion in Julia."""

    drift: Any
    diffusion: Any


class KernelCache:
    """The lowered functions of problems, by their structure."""

    def __init__(self):
        self._functions = FunctionCache()
        self._known: collections.OrderedDict[Any, tuple[LoweredFunction, ...]] = (
            collections.OrderedDict()
        )

    def lower(self, problem: SDEProblem) -> tuple[LoweredFunction, ...]:
        """Drift and diffusion in scalar form."""
        trees = (problem.y0, problem.drift, problem.diffusion, problem.args)
        key = structure_key(trees)
        found = None if key is None else self._known.get(key)
        if found is None:
            found = tuple(
                lower(f, problem.t0, problem.y0, problem.args, form="scalar")
                for f in (problem.drift, problem.diffusion)
            )
            if key is not None:
                self._known[key] = found
                if len(self._known) > _KEPT_PROBLEMS:
                    self._known.popitem(last=False)
        return found

    def functions(self, session: Session, problem: SDEProblem) -> KernelFunctions:
        """Drift and diffusion as Julia functions."""
        parts = (self._functions.get(session, f) for f in self.lower(problem))
        return KernelFunctions(*parts)


KERNEL_CACHE = KernelCache()


def kernel_applies(problem: SDEProblem, solver: str | None, dt: Any) -> str | None:
    """Whether a lean kernel can run a problem with a solver.

    **Arguments:** the problem, the solver's name as in the table, `None` for the
    default, and the step, `None` for adaptive steps.

    **Returns:** `None` if it can, else why not, as a sentence.
    """
    if (solver or "Euler") not in KERNELS:
        return f"there is no lean kernel for {solver}, only for {', '.join(KERNELS)}"
    if dt is None:
        return "lean kernels take fixed steps"
    if (solver == "SRA1") and problem.noise != "additive":
        return "SRA1 is for additive noise"
    size = problem.dimension * (problem.noise_dimension if problem.matrix_noise else 1)
    if problem.dimension > _LARGEST_STATE or size > _LARGEST_DIFFUSION:
        return (
            f"lean kernels take at most {_LARGEST_STATE} scalars in the state and "
            f"{_LARGEST_DIFFUSION} in the diffusion"
        )
    try:
        KERNEL_CACHE.lower(problem)
    except LoweringError as error:
        return f"it cannot be lowered in scalar form: {error}"
    return None
