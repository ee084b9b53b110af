"""Newton's method for the stage equations of implicit Diffrax solvers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Scalar


class StageNewton(optx.AbstractRootFinder):
    """Newton's method that stops by the size of its updates, as stiff codes do.

    Optimistix offers two tests. One also wants the residual below `atol` alone, which
    round-off forbids where `atol` is far below the state's last place; the other
    divides updates, and takes an exact first guess, 0/0, for divergence. Here an
    update is measured against the tolerances of the state, and the iteration ends
    once it, or what it predicts of the next ones, is below `kappa`.

    **Arguments:** `rtol`, `atol` and `norm`, which scale the updates; `kappa`, the
    part of the tolerances left to the iteration.
    """

    rtol: Any
    atol: Any
    norm: Callable[[Any], Scalar] = optx.max_norm
    kappa: float = eqx.field(static=True, default=1e-2)

    def _newton(self) -> optx.Newton:
        return optx.Newton(
            self.rtol, self.atol, norm=self.norm, cauchy_termination=False
        )

    def init(self, fn, y, args, options, f_struct, aux_struct, tags):
        newton = self._newton()
        return newton.init(fn, y, args, options, f_struct, aux_struct, tags)

    def step(self, fn, y, args, options, state, tags):
        return self._newton().step(fn, y, args, options, state, tags)

    def terminate(self, fn, y, args, options, state, tags):
        del fn, y, args, options, tags
        size, before = state.diffsize, state.diffsize_prev
        repeated = state.step >= 2
        # Positive, so that an exact guess divides nothing by zero.
        rate = size / jnp.maximum(before, jnp.finfo(size.dtype).tiny)
        remaining = jnp.where(rate < 1, size * rate / (1 - rate), jnp.inf)
        started = state.step >= 1
        converged = started & (
            (size < self.kappa) | (repeated & (remaining < self.kappa))
        )
        lost = jnp.logical_not(jnp.isfinite(size)) | (repeated & (rate > 2))
        diverged = started & lost & jnp.logical_not(converged)
        result = optx.RESULTS.where(
            diverged, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful
        )
        failed = state.result != optx.RESULTS.successful
        result = optx.RESULTS.where(failed, state.result, result)
        return failed | converged | diverged, result

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        del fn, args, options, state, tags, result
        return y, aux, {}
