"""Residual networks, and the equations that they are steps of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._core import check_number, check_whole
from ._base import ContinuousModel, assemble
from ._neural_ode import make_network


class DepthVaryingODE(ContinuousModel):
    """A network whose weights are a path over depth, $\\dot y = N_{\\theta(t)}(y)$,
    with $\\theta$ linear between `knots` at equal distances from $t = 0$ on, and
    constant after the last (E 2017, A proposal on machine learning via dynamical
    systems).

    **Arguments:**

    - `size`: how many components the state has, shape `(size,)`.
    - `width`, `depth`: of the network's hidden layers.
    - `knots`: at how many times the weights are free.
    - `duration`: the time of the last knot.
    - `activation`, `key`, `dtype`: as of [`NeuralODE`][hybrid_nds.models.NeuralODE].

    **Raises:** `ValueError`, naming the argument.
    """

    networks: eqx.nn.MLP
    """The weights, each with a first axis of `knots`."""
    spacing: float = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        width: int = 32,
        depth: int = 2,
        *,
        knots: int = 8,
        duration: float = 1.0,
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "DepthVaryingODE"
        knots = check_whole(caller, "knots", knots, 2)
        self.spacing = check_number(caller, "duration", duration, 0.0) / (knots - 1)
        self.networks = eqx.filter_vmap(
            lambda key: make_network(
                caller, size, width, depth, activation, False, key, dtype
            )
        )(jr.split(key, knots))

    def at(self, t: Any) -> eqx.nn.MLP:
        """The network of the time `t`."""
        arrays, rest = eqx.partition(self.networks, eqx.is_array)
        knots = jax.tree.leaves(arrays)[0].shape[0]

        def between(values: Array) -> Array:
            position = jnp.clip(
                jnp.asarray(t, values.dtype) / self.spacing, 0, knots - 1
            )
            # Hats over the knots: no indexing, so that the path is differentiable.
            index = jnp.arange(knots, dtype=values.dtype)
            hats = jnp.maximum(0, 1 - jnp.abs(position - index))
            return jnp.tensordot(hats, values, 1)

        return eqx.combine(jax.tree.map(between, arrays), rest)

    def __call__(
        self, t: Any, y: Float[Array, " size"], args: PyTree = None
    ) -> Float[Array, " size"]:
        return self.at(t)(y)

    def resnet(self, depth: int, duration: float = 1.0) -> ResNet:
        """The residual network of `depth` blocks that is Euler's scheme for this
        equation in steps of `duration / depth`.

        **Arguments:** how many blocks; the time they span.

        **Returns:** a [`ResNet`][hybrid_nds.models.ResNet].
        """
        return ResNet.of(self, depth, duration)


class ResNet(eqx.Module):
    """A residual network of depth $L$ with steps of $T/L$,
    $x_{l+1} = x_l + \\tfrac{T}{L} N_{\\theta_l}(x_l)$ (He et al. 2016; scaled with the
    depth as by Haber & Ruthotto 2018, Stable architectures for deep neural networks).

    **Arguments:**

    - `size`: of the state, shape `(size,)`.
    - `blocks`: the depth $L$.
    - `width`, `depth`: of the hidden layers of each block.
    - `duration`: $T$.
    - `activation`, `key`, `dtype`: as of [`NeuralODE`][hybrid_nds.models.NeuralODE].

    **Raises:** `ValueError`, naming the argument.
    """

    networks: eqx.nn.MLP
    """The weights, each with a first axis of `blocks`."""
    duration: float = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        blocks: int,
        width: int = 32,
        depth: int = 1,
        *,
        duration: float = 1.0,
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        blocks = check_whole("ResNet", "blocks", blocks)
        self.duration = check_number("ResNet", "duration", duration, 0.0)
        self.networks = eqx.filter_vmap(
            lambda key: make_network(
                "ResNet", size, width, depth, activation, False, key, dtype
            )
        )(jr.split(key, blocks))

    @classmethod
    def of(cls, ode: DepthVaryingODE, blocks: int, duration: float = 1.0) -> ResNet:
        """Euler's scheme for an equation, in `blocks` equal steps from $t = 0$.

        **Arguments:** the equation; how many blocks; the time they span.
        """
        if not isinstance(ode, DepthVaryingODE):
            raise TypeError(
                "ResNet.of: `ode` must be a DepthVaryingODE, whose weights are a path "
                f"over depth, got {type(ode).__name__}."
            )
        blocks = check_whole("ResNet.of", "blocks", blocks)
        duration = check_number("ResNet.of", "duration", duration, 0.0)
        networks = eqx.filter_vmap(ode.at)(jnp.arange(blocks) * (duration / blocks))
        return assemble(cls, networks=networks, duration=duration)

    @property
    def blocks(self) -> int:
        """The depth."""
        arrays = eqx.filter(self.networks, eqx.is_array)
        return jax.tree.leaves(arrays)[0].shape[0]

    def __call__(self, x: Float[Array, " size"]) -> Float[Array, " size"]:
        """The output of all blocks."""
        return self.states(x)[-1]

    def states(self, x: Float[Array, " size"]) -> Float[Array, "{self.blocks}+1 size"]:
        """The input and the output of every block."""
        arrays, rest = eqx.partition(self.networks, eqx.is_array)
        step = self.duration / self.blocks

        def block(state: Array, weights: Any) -> tuple[Array, Array]:
            state = state + step * eqx.combine(weights, rest)(state)
            return state, state

        return jnp.concatenate([x[None], jax.lax.scan(block, x, arrays)[1]])

    def ode(self) -> DepthVaryingODE:
        """The equation whose weights pass through those of the blocks, of block $l$ at
        $t = lT/L$: Euler's scheme for it in steps of $T/L$ is this network again.

        **Returns:** a [`DepthVaryingODE`][hybrid_nds.models.DepthVaryingODE], to be
        solved from 0 to `duration`.
        """
        spacing = self.duration / self.blocks
        return assemble(DepthVaryingODE, networks=self.networks, spacing=spacing)
