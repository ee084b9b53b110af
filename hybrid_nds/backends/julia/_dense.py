"""Dense output of solves in Julia."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import PyTree

from ..._core import is_concrete
from ._prepared import StateLayout


class JuliaDense:
    """Julia's dense output, held to the span that was solved.

    **Arguments:** what evaluates it at many times, a row of the result each; the layout
    and the dtype of the state; the span, from the start to where the solve ended.
    """

    def __init__(
        self,
        evaluate: Callable[[np.ndarray], np.ndarray],
        layout: StateLayout,
        dtype: np.dtype,
        span: tuple[float, float],
    ):
        self._evaluate, self._layout, self._dtype = evaluate, layout, dtype
        self.span = span

    def __call__(self, t: Any) -> PyTree[np.ndarray]:
        if not is_concrete(t):
            raise TypeError(
                "Solution.evaluate: `t` must be a concrete number: the Julia backend "
                "cannot be traced by JAX."
            )
        times = np.asarray(t, self._dtype)
        low, high = sorted(self.span)
        outside = times[(times < low) | (times > high) | np.isnan(times)]
        if outside.size:
            raise ValueError(
                "Solution.evaluate: `t` must lie within the solved span from "
                f"{low} to {high}, got {float(outside.flat[0])}."
            )
        states = self._evaluate(times.reshape(-1))
        return self._layout.unflatten(states.reshape(*times.shape, -1))
