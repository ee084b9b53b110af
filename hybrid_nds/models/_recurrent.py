"""Recurrent networks in continuous time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from .._core import check_number, check_whole
from ._base import ContinuousModel
from ._checks import check_function
from ._hamiltonian import input_at


class RecurrentODE(ContinuousModel):
    """A recurrent network in continuous time,
    $\\tau_i\\dot x_i = -x_i + \\sum_j W_{ij}\\,\\sigma(x_j) +
    \\sum_k B_{ik}u_k(t) + b_i$ (Funahashi & Nakamura 1993).

    With independent weights of variance $g^2/n$, no input and $\\sigma = \\tanh$, the
    state at rest loses stability near $g = 1$, and large networks become chaotic
    (Sompolinsky, Crisanti & Sommers 1988).

    **Arguments:**

    - `size`: how many neurons, shape `(size,)`.
    - `inputs`: how many components $u$ has; with any, `args` must be a function of time
        that returns shape `(inputs,)`, such as a Diffrax interpolation.
    - `gain`: $g$, of the weights to start with.
    - `time_constant`: $\\tau$ of all neurons to start with; kept positive.
    - `activation`: $\\sigma$.
    - `key`, `dtype`: as of [`NeuralODE`][hybrid_nds.models.NeuralODE].

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    weight: Float[Array, "size size"]
    """$W$."""
    port: Float[Array, "size inputs"]
    """$B$."""
    bias: Float[Array, " size"]
    """$b$."""
    log_time_constants: Float[Array, " size"]
    """$\\log\\tau$."""
    activation: Callable[[Array], Array]

    def __init__(
        self,
        size: int,
        inputs: int = 0,
        *,
        gain: float = 1.0,
        time_constant: float = 1.0,
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "RecurrentODE"
        size = check_whole(caller, "size", size)
        inputs = check_whole(caller, "inputs", inputs, 0)
        gain = check_number(caller, "gain", gain, 0.0)
        tau = check_number(caller, "time_constant", time_constant, 0.0)
        self.activation = check_function(caller, "activation", activation)
        inner, outer = jr.split(key)
        self.weight = gain / size**0.5 * jr.normal(inner, (size, size), dtype)
        self.port = jr.normal(outer, (size, inputs), dtype) / max(1, inputs) ** 0.5
        self.bias = jnp.zeros(size, self.weight.dtype)
        self.log_time_constants = jnp.full(size, jnp.log(tau), self.weight.dtype)

    def __call__(
        self, t: Any, y: Float[Array, " size"], args: PyTree = None
    ) -> Float[Array, " size"]:
        moved = self.weight @ self.activation(y) + self.bias - y
        if self.port.shape[1]:
            moved = moved + self.port @ input_at("RecurrentODE", args, t)
        return moved * jnp.exp(-self.log_time_constants)


class HopfieldODE(ContinuousModel):
    """Hopfield's network of graded neurons,
    $\\dot x_i = -x_i + \\sum_j \\tfrac12(V + V^\\top)_{ij}\\tanh(\\beta x_j) + b_i$
    (Hopfield 1984, Neurons with graded response, equation 5, with $R = C = 1$).

    With $v = \\tanh(\\beta x)$ its energy
    $E = -\\tfrac12 v^\\top\\tfrac12(V + V^\\top)v - b^\\top v +
    \\beta^{-1}\\sum_i\\int_0^{v_i}\\operatorname{artanh}$ never grows (equation 7).

    **Arguments:**

    - `size`: how many neurons, shape `(size,)`.
    - `gain`: $\\beta$ to start with, positive, and kept so.
    - `patterns`: to be remembered, shape `(patterns, size)` with entries ±1: the
        weights start as Hebb's, $n^{-1}\\sum_\\mu \\xi^\\mu\\xi^{\\mu\\top}$ without
        the diagonal (Hopfield 1982, equation 2); by default they are independent, of
        variance $1/n$.
    - `key`, `dtype`: as of [`NeuralODE`][hybrid_nds.models.NeuralODE].

    **Raises:** `ValueError`, naming the argument.
    """

    weight: Float[Array, "size size"]
    """$V$, of which the symmetric part counts."""
    bias: Float[Array, " size"]
    """$b$."""
    log_gain: Float[Array, ""]
    """$\\log\\beta$."""

    def __init__(
        self,
        size: int,
        *,
        gain: float = 1.0,
        patterns: Float[ArrayLike, "patterns size"] | None = None,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "HopfieldODE"
        size = check_whole(caller, "size", size)
        beta = check_number(caller, "gain", gain, 0.0)
        weight = jr.normal(key, (size, size), dtype) / size**0.5
        if patterns is not None:
            given = jnp.asarray(patterns, weight.dtype)
            if (
                given.ndim != 2
                or given.shape[1] != size
                or jnp.any(jnp.abs(given) != 1)
            ):
                raise ValueError(
                    f"{caller}: `patterns` must have shape (patterns, {size}) and "
                    f"entries 1 or -1, got shape {given.shape}."
                )
            weight = given.T @ given / size
            weight = weight - jnp.diag(jnp.diag(weight))
        self.weight = weight
        self.bias = jnp.zeros(size, weight.dtype)
        self.log_gain = jnp.log(jnp.asarray(beta, weight.dtype))

    @property
    def gain(self) -> Float[Array, ""]:
        """$\\beta$, positive whatever training does."""
        return jnp.exp(self.log_gain)

    def energy(self, y: Float[Array, " size"]) -> Float[Array, ""]:
        """The energy $E$ of a state."""
        x = self.gain * y
        v = jnp.tanh(x)
        # The integral of artanh up to v is v x + log(1 - v²)/2, without cancellation.
        room = jnp.sum(v * x - _log_cosh(x)) / self.gain
        return -0.5 * v @ self._coupling() @ v - self.bias @ v + room

    def __call__(
        self, t: Any, y: Float[Array, " size"], args: PyTree = None
    ) -> Float[Array, " size"]:
        return self._coupling() @ jnp.tanh(self.gain * y) + self.bias - y

    def _coupling(self) -> Array:
        return 0.5 * (self.weight + self.weight.T)


def _log_cosh(x: Array) -> Array:
    return jnp.abs(x) + jnp.log1p(jnp.exp(-2 * jnp.abs(x))) - jnp.log(2.0)
