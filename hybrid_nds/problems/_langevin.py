"""Underdamped Langevin dynamics, as a stochastic problem that solvers recognize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._core import is_concrete, require_precision
from ._sde import Interpretation, SDEProblem

Gradient = Callable[[Any, Any], Any]
"""`gradient(x, args)`, of the shape of `x`."""


class LangevinDrift(eqx.Module):
    """The drift $(v,\\; -\\gamma v - u \\nabla f(x))$."""

    gradient: Gradient
    friction: Array
    damping: Array
    langevin: ClassVar[bool] = True

    def __call__(self, t: Any, y: Any, args: PyTree) -> tuple[Array, Array]:
        x, v = y
        return v, -self.friction * v - self.damping * self.gradient(x, args)


class LangevinDiffusion(eqx.Module):
    """The diffusion: $\\sqrt{2\\gamma u}$ on the velocity, none on the position."""

    friction: Array
    damping: Array

    def __call__(self, t: Any, y: Any, args: PyTree) -> tuple[Array, Array]:
        x, v = y
        strength = jnp.sqrt(2 * self.friction) * jnp.sqrt(self.damping)
        on_velocity = jnp.diag(jnp.broadcast_to(strength, v.shape).astype(v.dtype))
        return jnp.zeros((x.size, v.size), x.dtype), on_velocity


def underdamped_langevin(
    gradient: Gradient,
    x0: Float[ArrayLike, " d"],
    v0: Float[ArrayLike, " d"],
    t0: ArrayLike,
    t1: ArrayLike,
    args: PyTree = None,
    *,
    friction: ArrayLike = 1.0,
    damping: ArrayLike = 1.0,
    interpretation: Interpretation = "ito",
) -> SDEProblem:
    """Underdamped Langevin dynamics in a potential $f$: $dx = v\\,dt$,
    $dv = -\\gamma v\\,dt - u \\nabla f(x)\\,dt + \\sqrt{2\\gamma u}\\,dW$.

    Its stationary density is proportional to $\\exp(-f(x) - v^2/2u)$. Every solver for
    additive noise takes it, and Diffrax's ALIGN, ShOULD and QUICSORT take nothing else.

    **Arguments:**

    - `gradient`: a callable `gradient(x, args)`, $\\nabla f$, of the shape of `x`.
    - `x0`, `v0`: the initial position and velocity, shape `(d,)`.
    - `t0`, `t1`: the span.
    - `args`: anything else the gradient needs.
    - `friction`, `damping`: $\\gamma$ and $u$, positive; a number, or one for each
        component, shape `(d,)`.
    - `interpretation`: of the stochastic integral; for additive noise both coincide.

    **Returns:** an [`SDEProblem`][hybrid_nds.SDEProblem] with the state `(x, v)`,
    additive noise, and `d` Brownian motions.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """
    if not callable(gradient):
        raise TypeError(
            "underdamped_langevin: `gradient` must be a callable gradient(x, args), "
            f"got {type(gradient).__name__}."
        )
    shapes = np.shape(x0), np.shape(v0)
    if len(shapes[0]) != 1 or shapes[0] != shapes[1] or shapes[0][0] == 0:
        raise ValueError(
            "underdamped_langevin: `x0` and `v0` must have one shape (d,), got "
            f"{shapes[0]} and {shapes[1]}."
        )
    for name, state in (("x0", x0), ("v0", v0)):
        require_precision(f"underdamped_langevin: `{name}`", state)
    x, v = jnp.asarray(x0), jnp.asarray(v0)
    coefficients = []
    for name, value in (("friction", friction), ("damping", damping)):
        if np.shape(value) not in ((), shapes[0]):
            raise ValueError(
                f"underdamped_langevin: `{name}` must be a number or have shape "
                f"{shapes[0]}, got shape {np.shape(value)}."
            )
        # As it is in the precision of the state, where it may be too large or small.
        with np.errstate(over="ignore", under="ignore"):
            held = jnp.asarray(value, x.dtype)
        if is_concrete(value) and not np.all(np.isfinite(held) & (held > 0)):
            raise ValueError(
                f"underdamped_langevin: `{name}` must be positive and finite in the "
                f"precision of `x0`, {x.dtype}, got {value}."
            )
        coefficients.append(held)
    return SDEProblem(
        LangevinDrift(gradient, *coefficients),
        LangevinDiffusion(*coefficients),
        (x, v),
        t0,
        t1,
        args,
        noise="additive",
        interpretation=interpretation,
    )
