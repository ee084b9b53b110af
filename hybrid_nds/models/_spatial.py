"""Fields over space: reaction and diffusion, and neural field equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from ._base import ContinuousModel
from ._checks import check_array, check_function

Boundary = Literal["periodic", "neumann"]
"""What is at the edge: the other edge, or no flux through it."""


class ReactionDiffusion(ContinuousModel):
    """Reaction and diffusion on a grid, $\\partial_t u = D\\,\\nabla^2 u + R(u)$
    (Turing 1952, The chemical basis of morphogenesis), by central second differences.

    The state has an axis for each axis of space, of any number of points, and one of
    the species behind them. With `"periodic"` the grid closes on itself. With
    `"neumann"` there is no flux through its edges, which are half a spacing outside of
    the outermost points: diffusion then keeps the sum over the points of each species.

    **Arguments:**

    - `reaction`: $R$, a function of the species at one point, shape `(species,)`, to
        their rates: an `equinox.nn.MLP` for one that is learned.
    - `diffusion`: the diagonal of $D$, shape `(species,)`.
    - `spacing`: the distance between neighbouring points.
    - `boundary`: `"periodic"` or `"neumann"`.

    **Raises:** `TypeError` or `ValueError`, naming the argument.
    """

    reaction: Callable[..., Any]
    diffusion: Float[Array, " species"]
    spacing: Float[Array, ""]
    boundary: Boundary = eqx.field(static=True)

    def __init__(
        self,
        reaction: Callable[..., Any],
        diffusion: Float[Array, " species"],
        spacing: ArrayLike = 1.0,
        boundary: Boundary = "periodic",
    ):
        caller = "ReactionDiffusion"
        self.reaction = check_function(caller, "reaction", reaction)
        self.diffusion = check_array(caller, "diffusion", diffusion, (None,))
        dtype = self.diffusion.dtype
        self.spacing = check_array(caller, "spacing", spacing, ()).astype(dtype)
        if boundary not in get_args(Boundary):
            raise ValueError(
                f"{caller}: `boundary` must be one of {', '.join(get_args(Boundary))}, "
                f"got {boundary!r}."
            )
        self.boundary = boundary

    def __call__(
        self, t: Any, y: Float[Array, "*grid species"], args: PyTree = None
    ) -> Float[Array, "*grid species"]:
        species = len(self.diffusion)
        if y.ndim < 2 or y.shape[-1] != species:
            raise ValueError(
                f"ReactionDiffusion: the state must have an axis of {species} species "
                f"behind those of space, got shape {y.shape}."
            )
        rates = jax.vmap(self.reaction)(y.reshape(-1, species)).reshape(y.shape)
        second = sum(self._second_difference(y, axis) for axis in range(y.ndim - 1))
        return self.diffusion * second / self.spacing**2 + rates

    def _second_difference(self, y: Array, axis: int) -> Array:
        if self.boundary == "periodic":
            return jnp.roll(y, 1, axis) + jnp.roll(y, -1, axis) - 2 * y
        edges = [(1, 1) if k == axis else (0, 0) for k in range(y.ndim)]
        return jnp.diff(jnp.pad(jnp.diff(y, axis=axis), edges), axis=axis)


class NeuralField(ContinuousModel):
    """A neural field on a ring, $\\tau\\,\\partial_t u(x) = -u(x) + \\int w(x - x')\\,
    f(u(x'))\\,dx' + I(x)$ (Amari 1977, Dynamics of pattern formation in
    lateral-inhibition type neural fields), by the sum over equidistant points.

    About a constant state $u_0$ the mode of wave number $k$ grows at the rate
    $(-1 + f'(u_0)\\,\\hat w(k))/\\tau$.

    **Arguments:**

    - `kernel`: $w$ at the distances $0, h, 2h, \\dots$ once round the ring, shape
        `(points,)`.
    - `rate`: $f$, an elementwise function.
    - `stimulus`: $I$, a number or of shape `(points,)`.
    - `spacing`: $h$, the distance between neighbouring points.
    - `time_constant`: $\\tau$.

    **Raises:** `TypeError` or `ValueError`, naming the argument.
    """

    kernel: Float[Array, " points"]
    stimulus: Float[Array, " points"]
    spacing: Float[Array, ""]
    time_constant: Float[Array, ""]
    rate: Callable[..., Any]

    def __init__(
        self,
        kernel: Float[Array, " points"],
        rate: Callable[..., Any] = jax.nn.sigmoid,
        stimulus: ArrayLike = 0.0,
        spacing: ArrayLike = 1.0,
        time_constant: ArrayLike = 1.0,
    ):
        caller = "NeuralField"
        self.kernel = check_array(caller, "kernel", kernel, (None,))
        self.rate = check_function(caller, "rate", rate)
        dtype, shape = self.kernel.dtype, self.kernel.shape
        wide = jnp.asarray(stimulus, dtype)
        wide = jnp.broadcast_to(wide, shape) if wide.ndim == 0 else wide
        self.stimulus = check_array(caller, "stimulus", wide, shape)
        self.spacing = check_array(caller, "spacing", spacing, ()).astype(dtype)
        constant = check_array(caller, "time_constant", time_constant, ())
        self.time_constant = constant.astype(dtype)

    def __call__(
        self, t: Any, y: Float[Array, " points"], args: PyTree = None
    ) -> Float[Array, " points"]:
        points = len(self.kernel)
        place = jnp.arange(points)
        coupling = self.kernel[(place[:, None] - place) % points]
        felt = self.spacing * (coupling @ self.rate(y))
        return (felt + self.stimulus - y) / self.time_constant
