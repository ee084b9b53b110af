"""Lowered functions called once, for comparison: no solver involved."""

from __future__ import annotations

import dataclasses

import numpy as np

from ... import runtime
from ...lowering import LoweredFunction, LoweredProblem, Sparsity, lower_problem
from ...problems import ODEProblem
from ._context import context_of


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a lowered function gave: its values, shape `output_shape`, and the bytes
    that a call allocates once warm."""

    values: np.ndarray
    allocated: int


def evaluate_function(
    lowered: LoweredFunction, u: np.ndarray, p: np.ndarray, t: float
) -> Evaluation:
    """Call a lowered function in Julia.

    **Arguments:** the function; state, shape `(n,)`; parameters; time.

    **Returns:** an `Evaluation`.

    **Raises:** what the Julia session raises.
    """
    session = runtime.session()
    function = context_of(session).functions.get(session, lowered)
    dtype = lowered.dtype
    out = np.full(lowered.output_size, np.nan, dtype)
    allocated = session.call(
        getattr(session.module, "evaluate!"),
        function,
        out,
        np.ascontiguousarray(u, dtype),
        np.ascontiguousarray(p, dtype),
        float(t),
        lowered.form == "scalar",
    )
    values = out.reshape(lowered.output_shape, order="F")
    return Evaluation(values, int(allocated))


class LoweredEvaluator:
    """A problem's field, Jacobian and time gradient, evaluated in Julia at will.

    **Arguments:** the problem; of a sparse Jacobian, where it may be other than zero.
    """

    def __init__(self, problem: ODEProblem, sparsity: Sparsity | None = None):
        self._lowered: LoweredProblem = lower_problem(problem, sparsity)

    def __call__(
        self, u: np.ndarray, t: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The field `(n,)`, its Jacobian `(n, n)`, or its entries `(nonzeros,)`, and
        time gradient `(n,)`."""
        low = self._lowered
        field, jacobian, gradient = (
            evaluate_function(part, u, low.parameters, t).values
            for part in (low.drift, low.jacobian, low.time_gradient)
        )
        return field, jacobian, gradient
