"""Neural ordinary differential equations: one network, or a path of networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._core import check_whole
from ._base import ContinuousModel
from ._checks import check_function


class NeuralODE(ContinuousModel):
    """A network as a vector field, $\\dot y = N_\\theta(y)$, or $N_\\theta(y, t)$ with
    `time` (Chen et al. 2018, Neural ordinary differential equations, equation 2).

    **Arguments:**

    - `size`: how many components the state has, shape `(size,)`.
    - `width`, `depth`: of the network's hidden layers.
    - `activation`: applied by each of them, smooth for solvers of high order.
    - `time`: whether the network sees the time, as one more input.
    - `key`: a JAX random key for its weights.
    - `dtype`: of the weights; JAX's default floating point if `None`.

    **Raises:** `ValueError` for sizes that are not whole numbers of at least one.
    """

    network: eqx.nn.MLP
    time: bool = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        width: int = 32,
        depth: int = 2,
        *,
        activation: Callable[[Array], Array] = jnp.tanh,
        time: bool = False,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        self.network = make_network(
            "NeuralODE", size, width, depth, activation, time, key, dtype
        )
        self.time = bool(time)

    def __call__(
        self, t: Any, y: Float[Array, " size"], args: PyTree = None
    ) -> Float[Array, " size"]:
        return self.network(with_time(y, t) if self.time else y)


class AugmentedNeuralODE(ContinuousModel):
    """A neural ODE with room to move, $\\dot{(x, a)} = N_\\theta(x, a)$ from
    $a(t_0) = 0$ (Dupont et al. 2019, Augmented neural ODEs).

    Solutions of an autonomous equation never cross; in more dimensions they need not.

    **Arguments:**

    - `size`: how many components the data have.
    - `augmented`: how many more the state has, shape `(size + augmented,)`.
    - the rest as of [`NeuralODE`][hybrid_nds.models.NeuralODE].

    **Raises:** `ValueError` for sizes that are not whole numbers of at least one.
    """

    network: eqx.nn.MLP
    size: int = eqx.field(static=True)
    augmented: int = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        augmented: int,
        width: int = 32,
        depth: int = 2,
        *,
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "AugmentedNeuralODE"
        self.size = check_whole(caller, "size", size)
        self.augmented = check_whole(caller, "augmented", augmented)
        whole = self.size + self.augmented
        self.network = make_network(
            caller, whole, width, depth, activation, False, key, dtype
        )

    def __call__(
        self, t: Any, y: Float[Array, " whole"], args: PyTree = None
    ) -> Float[Array, " whole"]:
        return self.network(y)

    def lift(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch whole"]:
        """The state of data: zeros in the components beyond `size`."""
        if x.shape[-1:] != (self.size,):
            raise ValueError(
                f"AugmentedNeuralODE: `x` must have a last axis of {self.size}, got "
                f"shape {x.shape}."
            )
        room = jnp.zeros((*x.shape[:-1], self.augmented), x.dtype)
        return jnp.concatenate([x, room], axis=-1)

    def project(self, y: Float[Array, "*batch whole"]) -> Float[Array, "*batch size"]:
        """The data of a state: its first `size` components."""
        return y[..., : self.size]


def make_network(
    caller: str,
    size: int,
    width: int,
    depth: int,
    activation: Callable[[Array], Array],
    time: bool,
    key: PRNGKeyArray,
    dtype: Any,
    *,
    inputs: int = 0,
    outputs: int | Literal["scalar"] | None = None,
    biases: bool = True,
) -> eqx.nn.MLP:
    """A network of a state of `size`, with the time and `inputs` more where it sees
    them, to `outputs` (by default as the state)."""
    size = check_whole(caller, "size", size)
    width = check_whole(caller, "width", width)
    depth = check_whole(caller, "depth", depth, 0)
    check_function(caller, "activation", activation)
    return eqx.nn.MLP(
        size + int(bool(time)) + inputs,
        size if outputs is None else outputs,
        width,
        depth,
        activation=activation,
        use_bias=biases,
        use_final_bias=biases,
        dtype=dtype,
        key=key,
    )


def with_time(y: Float[Array, " size"], t: Any) -> Float[Array, " more"]:
    """The state with the time as one more component, in the state's precision."""
    return jnp.append(y, jnp.asarray(t, y.dtype))
