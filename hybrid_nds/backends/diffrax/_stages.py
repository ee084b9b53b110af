"""Newton's method for the stage equations of implicit Diffrax solvers, and for others.

A stage solves for an increment k of the state, or for a slope f with k = h f, in
y = ỹ + γk. Every update is measured by what it does to y, so that neither the unit of
time nor that of the state decides when the iteration ends.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from equinox.internal import ω
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree, Scalar


class NewtonState(eqx.Module):
    """How far an iteration is.

    **Fields:** the size of the last update and of the one before, in the measure of the
    method; whether the last update is small in that of its largest component; the
    number of updates; and whether one was not finite.
    """

    size: Scalar
    before: Scalar
    small: Bool[Array, ""]
    step: Scalar
    lost: Bool[Array, ""]


class _StageNewton(optx.AbstractRootFinder):
    """Newton's method on the stage equations, with a dense Jacobian.

    Linear systems go to LAPACK as they are: Lineax compares the shardings of vectors
    and refuses those inside `jax.shard_map`.
    """

    rtol: eqx.AbstractVar[Any]
    atol: eqx.AbstractVar[Any]
    norm: eqx.AbstractVar[Callable[[PyTree], Scalar]]

    @abc.abstractmethod
    def _sizes(
        self, moved: PyTree[Array], stage: PyTree[Array], base: PyTree[Array]
    ) -> tuple[Scalar, Bool[Array, ""]]:
        """The size of an update of the state y = ỹ + γk, 1 where it is tolerated, and
        whether it is small beside the largest component."""

    def init(self, fn, y, args, options, f_struct, aux_struct, tags):
        del fn, args, options, f_struct, aux_struct, tags
        dtype = jnp.result_type(*jtu.tree_leaves(y))
        return NewtonState(
            jnp.asarray(jnp.inf, dtype),
            jnp.asarray(1.0, dtype),
            jnp.asarray(False),
            jnp.asarray(0),
            jnp.asarray(False),
        )

    def step(self, fn, y, args, options, state, tags):
        del options, tags
        flat, unravel = ravel_pytree(y)

        def residual(flat: Array) -> tuple[Array, Any]:
            out, aux = fn(unravel(flat), args)
            return ravel_pytree(out)[0], aux

        value, push, aux = jax.linearize(residual, flat, has_aux=True)
        columns = jax.vmap(push)(jnp.eye(flat.shape[0], dtype=flat.dtype))
        update = _solve(columns.T, value)
        after = unravel(flat - update)
        base, increment = _stage(args, y)
        moved = increment(unravel(update))
        stage = (base**ω + increment(after) ** ω).ω
        size, small = self._sizes(moved, stage, base)
        lost = jnp.logical_not(jnp.all(jnp.isfinite(update)))
        size = jnp.asarray(size, state.size.dtype)
        state = NewtonState(size, state.size, small, state.step + 1, lost)
        return after, state, aux

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        del fn, args, options, state, tags, result
        return y, aux, {}


class ToleranceNewton(_StageNewton):
    """Newton's method that stops by the size of its updates, as stiff codes do.

    Optimistix offers two tests. One also wants the residual below `atol` alone, which
    round-off forbids where `atol` is far below the state's last place; the other
    divides updates, and takes an exact first guess, 0/0, for divergence. Here an
    update is measured against the tolerances of the state, and the iteration ends
    once it, or what it predicts of the next ones, is below `kappa` (Hairer & Wanner,
    Solving Ordinary Differential Equations II, IV.8).

    **Arguments:** `rtol`, `atol` and `norm`, which scale the updates; `kappa`, the
    part of the tolerances left to the iteration.
    """

    rtol: Any
    atol: Any
    norm: Callable[[PyTree], Scalar] = optx.max_norm
    kappa: float = eqx.field(static=True, default=1e-2)

    def _sizes(self, moved, stage, base):
        del base
        scale = (self.atol + self.rtol * ω(stage).call(jnp.abs)).ω
        return self.norm((moved**ω / scale**ω).ω), jnp.asarray(True)

    def terminate(self, fn, y, args, options, state, tags):
        del fn, y, args, options, tags
        size, repeated = state.size, state.step >= 2
        rate, remaining = _prediction(state)
        converged = (size < self.kappa) | (repeated & (remaining < self.kappa))
        return _ended(state, converged, repeated & (rate > 2))


class RoundoffNewton(_StageNewton):
    """Newton's method that stops at the round-off of the state.

    For solves in fixed steps, which have no tolerance. Each component of an update is
    measured by that of the state, 16 ε (|ỹ| + |γk|), so that other units of a
    component change nothing. Round-off may keep a component above that, where it is a
    difference of others: the iteration then ends once its updates no longer halve and
    are below ε^0.57 of the component or 4 ε of the largest one.
    """

    rtol: Any = None
    atol: Any = None
    norm: Callable[[PyTree], Scalar] = optx.max_norm
    roundings: ClassVar[float] = 16.0

    def _sizes(self, moved, stage, base):
        moved, stage, base = (
            jnp.abs(ravel_pytree(part)[0]) for part in (moved, stage, base)
        )
        unit = float(np.finfo(moved.dtype).eps)
        # With the update itself, a component that comes to zero divides nothing by it.
        scale = stage + base + moved
        relative = jnp.where(moved > 0, moved / scale, 0)
        limit = unit**0.57 * scale + 4 * unit * jnp.max(scale)
        small = jnp.all(moved <= limit)
        return jnp.max(relative) / (self.roundings * unit), small

    def terminate(self, fn, y, args, options, state, tags):
        del fn, y, args, options, tags
        repeated = state.step >= 2
        rate, remaining = _prediction(state)
        converged = (state.size <= 1) | (repeated & (remaining <= 1))
        stalled = repeated & (rate > 0.5) & state.small
        return _ended(state, converged | stalled, jnp.asarray(False))


def _prediction(state: NewtonState) -> tuple[Scalar, Scalar]:
    """The contraction between two updates, and the sum of those to come by it."""
    # Positive, so that an exact guess divides nothing by zero.
    tiny = jnp.finfo(state.size.dtype).tiny
    rate = state.size / jnp.maximum(state.before, tiny)
    return rate, jnp.where(rate < 1, state.size * rate / (1 - rate), jnp.inf)


def _ended(
    state: NewtonState, converged: Bool[Array, ""], growing: Bool[Array, ""]
) -> tuple[Bool[Array, ""], Any]:
    started = state.step >= 1
    converged = started & converged & jnp.logical_not(state.lost)
    diverged = started & (state.lost | growing) & jnp.logical_not(converged)
    result = optx.RESULTS.where(
        diverged, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful
    )
    return converged | diverged, result


def _stage(
    args: Any, unknown: PyTree[Array]
) -> tuple[PyTree[Array], Callable[[PyTree], PyTree]]:
    """The state ỹ of a stage, and what makes the increment γk of its unknown.

    Diffrax hands its stage equations `(…, γ, field, [product,] time, ỹ, args,
    control)`, with a product where the unknown is a slope; implicit Euler has no γ.
    Equations without arguments are no stage: their unknown is the state itself.
    """
    if args is None:
        return jtu.tree_map(jnp.zeros_like, unknown), lambda unknown: unknown
    *first, base, _, control = args
    functions = [position for position, part in enumerate(first) if callable(part)]
    gamma = first[functions[0] - 1] if functions[0] > 0 else 1.0

    def increment(unknown: PyTree) -> PyTree:
        if len(functions) == 2:
            unknown = first[functions[1]](unknown, control)
        return (gamma * unknown**ω).ω

    return base, increment


def _solve(matrix: Float[Array, "n n"], right: Float[Array, " n"]) -> Array:
    if right.shape[0] == 1:
        return right / matrix[0]
    return jnp.linalg.solve(matrix, right)
