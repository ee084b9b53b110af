"""One step of a scheme with tangent vectors along it, as a function of JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._forward_mode import forward_problem
from ._sde import SDEProblem

Increment = Callable[[Any, Array, Array], Array]


class SchemeStep(eqx.Module):
    """A step of an explicit scheme for a stochastic problem, and of its derivative.

    Called as `step(t, (y, V), given)` with the flat state `y`, tangent vectors `V` in
    rows, and `given` the length of the step followed by the Brownian increments. The
    derivative of a step is the step of the same scheme for the tangent equation, but
    for rounding.

    **Arguments:** the problem, and the scheme's name, one of `SCHEMES`.
    """

    problem: SDEProblem
    scheme: str = eqx.field(static=True)

    def __call__(
        self,
        t: Any,
        state: tuple[Float[Array, " n"], Float[Array, "k n"]],
        given: Float[Array, " given"],
    ) -> tuple[Float[Array, " n"], Float[Array, "k n"]]:
        y, tangents = state
        step, problem = SCHEMES[self.scheme], forward_problem(self.problem)

        def moved(u: Array) -> Array:
            return step(problem, t, u, given[0], given[1:])

        def along(tangent: Array) -> tuple[Array, Array]:
            return jax.jvp(moved, (y,), (tangent,))

        return jax.vmap(along, out_axes=(None, 0))(tangents)


def _noise(problem: SDEProblem) -> Increment:
    """The diffusion times increments, as a function of time, state and increments."""
    diffusion = problem.flat_diffusion()

    def times(t: Any, u: Array, w: Array) -> Array:
        g = diffusion(t, u)
        if problem.matrix_noise:
            return g @ w
        return g * w[0] if problem.noise == "scalar" else g * w

    return times


def _euler(problem: SDEProblem, t: Any, u: Array, h: Array, w: Array) -> Array:
    """Euler and Maruyama's (Kloeden & Platen 1992, equation 10.2.4)."""
    return u + h * problem.flat_drift()(t, u) + _noise(problem)(t, u, w)


def _heun(problem: SDEProblem, t: Any, u: Array, h: Array, w: Array) -> Array:
    """Heun's, for Stratonovich's equations (Rümelin 1982, equation 1.3)."""
    drift, noise = problem.flat_drift(), _noise(problem)
    first = h * drift(t, u) + noise(t, u, w)
    later = u + first
    second = h * drift(t + h, later) + noise(t + h, later, w)
    return u + (first + second) / 2


SCHEMES: Mapping[str, Callable[[SDEProblem, Any, Array, Array, Array], Array]] = (
    MappingProxyType({"Euler": _euler, "Heun": _heun})
)
"""Schemes by the names of their solvers: `step(problem, t, u, h, increments)`."""


def tangent_step(
    problem: SDEProblem, scheme: str, count: int
) -> tuple[SchemeStep, tuple[Array, Array], Array]:
    """A scheme's step with `count` tangent vectors, and arguments to trace it with.

    **Arguments:** the problem; one of `SCHEMES`; how many tangent vectors.

    **Returns:** the step, a state, and `given`.
    """
    n = problem.dimension
    state = (jnp.zeros(n, problem.dtype), jnp.zeros((count, n), problem.dtype))
    given = jnp.zeros(1 + problem.noise_dimension, problem.dtype)
    return SchemeStep(problem, scheme), state, given


class ExitStep(eqx.Module):
    """A step of an explicit scheme, and where it stands to the boundaries of a region.

    Called as `step(t, state, given)` with the flat state followed by two numbers a
    boundary, which are written and not read: its level at the end of the step, positive
    inside, and what a root of time moves that level at its start.

    **Arguments:** the problem; the scheme's name, one of `SCHEMES`; the levels, a
    function of the flat state; how many there are.
    """

    problem: SDEProblem
    levels: Callable[[Array], Array]
    scheme: str = eqx.field(static=True)
    boundaries: int = eqx.field(static=True)

    def __call__(
        self, t: Any, state: Float[Array, " entries"], given: Float[Array, " given"]
    ) -> Float[Array, " entries"]:
        u = state[: state.size - 2 * self.boundaries]
        end = SCHEMES[self.scheme](self.problem, t, u, given[0], given[1:])
        moved = spread(self.problem, self.levels, t, u)[1]
        return jnp.concatenate([end, self.levels(end), moved])


def spread(
    problem: SDEProblem, levels: Callable[[Array], Array], t: Any, u: Array
) -> tuple[Array, Array]:
    """The levels of boundaries at a flat state, and by what noise moves each there: the
    norm of its gradient times the diffusion."""
    level, pull = jax.linearize(levels, u)
    g = problem.flat_diffusion()(t, u)
    if problem.matrix_noise:
        moved = jax.vmap(pull, 1, 1)(g)
    elif problem.noise == "scalar":
        moved = pull(g)[:, None]
    else:
        moved = jax.vmap(pull, 1, 1)(jnp.diag(g))
    return level, jnp.linalg.norm(moved, axis=1)
