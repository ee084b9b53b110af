"""Gradients of what is wanted of solutions: asked of both stacks, and compared.

A gradient is of Σ wₖᵢ yᵢ(tₖ) by relative moves of the start, one for each component,
and of all parameters together, along ones and along waves: a wrong derivative by any
parameter shows in one of these two.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree

from ..problems import ODEProblem, Problem, SDEProblem
from ._observables import Observable
from ._parts import run_once
from ._report import Figure

# Relative moves by which conditions are measured: products of derivatives of the third
# order are then 1e-8 of them, and round-off 1e-10.
_MOVE = 1e-4


@dataclasses.dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients of one problem by one way of solving it.

    **Fields:** the problem; the scale of each component, shape `(n,)`; and
    `solve(problem, backend, at)`, the flat states at the times that count, shape
    `(times, n)`, with `at` a number that the solve depends on, such as a tolerance.
    """

    problem: Problem
    scale: np.ndarray
    solve: Callable[[Any, str, Any], Any]
    _compiled: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(
        self, backend: str, weights: np.ndarray, at: float, move: float = 0.0
    ) -> np.ndarray:
        """The gradient on a backend, shape `(n + 2,)`, or `(n,)` without parameters.

        **Arguments:** the backend; the weights of the states, shape `(times, n)`; what
        the solve depends on; and how far the start is moved.
        """
        if backend not in self._compiled:
            value = functools.partial(self._weighed, backend)
            self._compiled[backend] = run_once(jax.grad(value))
        shift = np.zeros(self._size)
        shift[: self.scale.size] = move * np.cos(2.0 + np.arange(self.scale.size))
        return np.asarray(self._compiled[backend](shift, weights, at))

    def condition(self, weights: np.ndarray, at: float) -> float:
        """How far the gradient moves, as a part of its largest entry, with relative
        moves of the start; by Diffrax."""
        here, there = (self("diffrax", weights, at, move) for move in (0.0, _MOVE))
        return float(np.max(np.abs(there - here)) / np.max(np.abs(here)) / _MOVE)

    @property
    def _weights(self) -> Any:
        given = self.problem.functions, self.problem.args
        return eqx.partition(given, eqx.is_inexact_array)

    @property
    def _size(self) -> int:
        parameters = jtu.tree_leaves(self._weights[0])
        return self.scale.size + (2 if parameters else 0)

    def _weighed(self, backend: str, shift: Any, weights: Any, at: Any) -> Any:
        return jnp.sum(weights * self.solve(self._moved(shift), backend, at))

    def _moved(self, shift: Any) -> Problem:
        """The problem with start and parameters moved."""
        n = self.scale.size
        flat, unravel = ravel_pytree(self.problem.y0)
        start = unravel(flat + (jnp.abs(flat) + self.scale) * shift[:n])
        weights, rest = self._weights
        if self._size > n:
            waves = lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape)
            move = lambda x: shift[n] + shift[n + 1] * waves(x)
            moved = lambda x: x + _unit(x) * move(x)
            weights = jtu.tree_map(moved, weights)
        functions, args = eqx.combine(weights, rest)
        return _posed(self.problem, functions, start, args)


def _unit(leaf: Any) -> Any:
    size = jnp.abs(leaf) + jnp.mean(jnp.abs(leaf))
    return jnp.where(size > 0, size, 1.0)


def _posed(problem: Problem, functions: Sequence[Any], y0: Any, args: Any) -> Problem:
    span = problem.t0, problem.t1
    if not isinstance(problem, SDEProblem):
        return ODEProblem(functions[0], y0, *span, args)
    return SDEProblem(
        functions[0],
        functions[1],
        y0,
        *span,
        args,
        noise=problem.noise,
        interpretation=problem.interpretation,
    )


def wave_weights(times: int, scale: np.ndarray) -> np.ndarray:
    """Weights of all states at all times, each in the unit of its component."""
    waves = np.cos(np.arange(1.0, times * scale.size + 1)).reshape(times, -1)
    return waves / scale


def observable_weights(
    observable: Observable, ts: np.ndarray, ys: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """The derivative of an observable by the flat states, shape `(times, n)`, by
    central differences.

    **Arguments:** the observable, the times, the states with a leading axis of times,
    and the scale of each component.
    """
    flat = np.asarray(ys, np.float64).reshape(len(ts), -1)
    weights = np.zeros_like(flat)
    for place in np.ndindex(flat.shape):
        step = 6e-6 * (abs(flat[place]) + scale[place[1]])
        values = []
        for sign in (1, -1):
            moved = flat.copy()
            moved[place] += sign * step
            values.append(observable(ts, moved.reshape(np.shape(ys))))
        weights[place] = (values[0] - values[1]) / (2 * step)
    return weights


def gradient_figure(
    claim: str,
    gradient: np.ndarray,
    reference: np.ndarray,
    limit: float,
    derivation: str,
    *,
    least: float = 0.0,
    **fields: Any,
) -> Figure:
    """A gradient against another, as a part of its largest entry.

    **Arguments:** the claim; two gradients; the limit; how it was derived; the least
    size that errors are a part of; and other fields of the figure.
    """
    size = float(max(np.max(np.abs(reference)), least))
    error = float(np.max(np.abs(gradient - reference)))
    if not math.isfinite(error):
        return Figure(claim, math.inf, limit, derivation, **fields)
    return Figure(claim, error, limit * size, derivation, size=size, **fields)
