"""Hamiltonian systems, with and without dissipation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._core import check_whole
from ._base import ContinuousModel
from ._neural_ode import make_network


class HamiltonianODE(ContinuousModel):
    """A Hamiltonian system, $\\dot q = \\partial_p H$, $\\dot p = -\\partial_q H$
    (Greydanus et al. 2019, Hamiltonian neural networks), with
    $H(q, p) = N_\\theta(q, p) + \\tfrac12(|q|^2 + |p|^2)$.

    $H$ is conserved. The quadratic part keeps orbits bounded whatever the weights are,
    since a network with bounded activations is bounded.

    **Arguments:**

    - `degrees`: of freedom, half of the state $y = (q, p)$ of shape `(2 * degrees,)`.
    - `width`, `depth`: of the network's hidden layers.
    - `activation`: of them, twice differentiable.
    - `key`, `dtype`: as of [`NeuralODE`][hybrid_nds.models.NeuralODE].

    **Raises:** `ValueError` for sizes that are not whole numbers of at least one.
    """

    network: eqx.nn.MLP
    degrees: int = eqx.field(static=True)

    def __init__(
        self,
        degrees: int,
        width: int = 32,
        depth: int = 2,
        *,
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        self.degrees = check_whole("HamiltonianODE", "degrees", degrees)
        self.network = make_network(
            "HamiltonianODE",
            2 * self.degrees,
            width,
            depth,
            activation,
            False,
            key,
            dtype,
            outputs="scalar",
        )

    def energy(self, y: Float[Array, " state"]) -> Float[Array, ""]:
        """The Hamiltonian $H$ of a state."""
        return _energy(self.network, y)

    def __call__(
        self, t: Any, y: Float[Array, " state"], args: PyTree = None
    ) -> Float[Array, " state"]:
        slope = jax.grad(self.energy)(y)
        return jnp.concatenate([slope[self.degrees :], -slope[: self.degrees]])


class PortHamiltonianODE(ContinuousModel):
    """A Hamiltonian system with dissipation and a port,
    $\\dot y = (J - R)\\nabla H(y) + G u(t)$, with $J = A - A^\\top$ and
    $R = LL^\\top$ (van der Schaft & Jeltsema 2014, Port-Hamiltonian systems theory,
    chapter 4), and $H$ as of
    [`HamiltonianODE`][hybrid_nds.models.HamiltonianODE].

    Whatever the weights are, $\\dot H = -|L^\\top\\nabla H|^2 + (\\nabla H)^\\top G u$:
    without an input $H$ never grows.

    **Arguments:**

    - `size`: of the state, shape `(size,)`.
    - `inputs`: how many components $u$ has; with any, `args` must be a function of time
        that returns shape `(inputs,)`, such as a Diffrax interpolation.
    - `width`, `depth`, `activation`, `key`, `dtype`: as of
        [`HamiltonianODE`][hybrid_nds.models.HamiltonianODE].

    **Raises:** `ValueError` for sizes that are not whole numbers.
    """

    network: eqx.nn.MLP
    interconnection: Float[Array, "size size"]
    """$A$, of which the skew part counts."""
    dissipation: Float[Array, "size size"]
    """$L$."""
    port: Float[Array, "size inputs"]
    """$G$."""

    def __init__(
        self,
        size: int,
        width: int = 32,
        depth: int = 2,
        *,
        inputs: int = 0,
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "PortHamiltonianODE"
        size = check_whole(caller, "size", size)
        inputs = check_whole(caller, "inputs", inputs, 0)
        keys = jr.split(key, 4)
        self.network = make_network(
            caller,
            size,
            width,
            depth,
            activation,
            False,
            keys[0],
            dtype,
            outputs="scalar",
        )
        scale = size**-0.5
        self.interconnection = scale * jr.normal(keys[1], (size, size), dtype)
        self.dissipation = scale * jr.normal(keys[2], (size, size), dtype)
        self.port = scale * jr.normal(keys[3], (size, inputs), dtype)

    def energy(self, y: Float[Array, " size"]) -> Float[Array, ""]:
        """The Hamiltonian $H$ of a state."""
        return _energy(self.network, y)

    def __call__(
        self, t: Any, y: Float[Array, " size"], args: PyTree = None
    ) -> Float[Array, " size"]:
        slope = jax.grad(self.energy)(y)
        A, L = self.interconnection, self.dissipation
        moved = A @ slope - A.T @ slope - L @ (L.T @ slope)
        if self.port.shape[1] == 0:
            return moved
        return moved + self.port @ input_at("PortHamiltonianODE", args, t)


def input_at(caller: str, args: Any, t: Any) -> Array:
    """What a function of time passed as `args` gives at `t`; of a Diffrax path its
    value.

    **Raises:** `TypeError` for `args` that are no function of time.
    """
    evaluate: Any = getattr(args, "evaluate", args)
    if not callable(evaluate):
        raise TypeError(
            f"{caller}: `args` must be a function of time that returns the input, such "
            f"as diffrax.LinearInterpolation, got {type(args).__name__}."
        )
    return cast(Callable[[Any], Array], evaluate)(t)


def _energy(network: eqx.nn.MLP, y: Array) -> Array:
    return network(y) + 0.5 * jnp.sum(y**2)
