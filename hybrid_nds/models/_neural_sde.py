"""Neural stochastic differential equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from .._core import check_choice, check_whole
from ..problems import Interpretation, NoiseKind
from ._base import StochasticModel
from ._checks import check_array
from ._neural_ode import make_network, with_time


class NeuralSDE(StochasticModel):
    """Networks as drift and diffusion,
    $dy = N_\\theta(y, t)\\,dt + G_\\theta(y, t)\\,dW$ (Tzen & Raginsky 2019, Neural
    stochastic differential equations; Li et al. 2020).

    What $G$ is depends on the kind of noise, so that every kind is what it claims:

    - `"additive"`: a network of the time alone, shape `(size,)`; without `time` a
        constant vector.
    - `"scalar"`: a network of the state, one Brownian motion for all components.
    - `"diagonal"`: for each component a network of that component alone.
    - `"commutative"`: the networks of diagonal noise, $G_{ij} = \\sigma_i(y_i)A_{ij}$
        with a matrix $A$ of shape `(size, motions)`.
    - `"general"`: a network of the state to `(size, motions)`.

    **Arguments:**

    - `size`: of the state, shape `(size,)`.
    - `width`, `depth`: of the hidden layers of all networks.
    - `noise`: the kind of noise.
    - `motions`: how many Brownian motions, for commutative and general noise.
    - `time`: whether the networks see the time, too.
    - `scale`: of the diffusion at the start, roughly; its last layer is multiplied.
    - `interpretation`: of the integral, `"ito"` or `"stratonovich"`.
    - `activation`, `key`, `dtype`: as of [`NeuralODE`][hybrid_nds.models.NeuralODE].

    **Raises:** `ValueError`, naming the argument.
    """

    network: eqx.nn.MLP
    volatility: eqx.nn.MLP | Float[Array, " size"]
    """The network of the diffusion, for diagonal noise one for each component, or its
    constant value."""
    mixing: Float[Array, "size motions"] | None
    scale: float = eqx.field(static=True)
    time: bool = eqx.field(static=True)
    motions: int = eqx.field(static=True)
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        width: int = 32,
        depth: int = 2,
        *,
        noise: NoiseKind = "diagonal",
        motions: int | None = None,
        time: bool = False,
        scale: float = 1.0,
        interpretation: Interpretation = "ito",
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "NeuralSDE"
        size = check_whole(caller, "size", size)
        check_choice(caller, "noise", noise, get_args(NoiseKind))
        check_choice(caller, "interpretation", interpretation, get_args(Interpretation))
        matrix = noise in ("commutative", "general")
        if motions is not None and not matrix:
            raise ValueError(
                f"{caller}: `motions` is of commutative and general noise alone, got "
                f"{motions!r} with noise={noise!r}."
            )
        self.motions = check_whole(
            caller, "motions", size if motions is None else motions
        )
        drift, outer, mixed = jr.split(key, 3)
        time = bool(time)
        self.network = make_network(
            caller, size, width, depth, activation, time, drift, dtype
        )

        def network(size: int, key: PRNGKeyArray, outputs: Any = None) -> eqx.nn.MLP:
            return make_network(
                caller,
                size,
                width,
                depth,
                activation,
                time,
                key,
                dtype,
                outputs=outputs,
            )

        self.mixing = None
        if noise == "additive":
            self.volatility = (
                eqx.nn.MLP(
                    1, size, width, depth, activation=activation, dtype=dtype, key=outer
                )
                if time
                else jnp.ones(size, dtype)
            )
        elif noise == "scalar":
            self.volatility = network(size, outer)
        elif noise == "general":
            self.volatility = network(size, outer, size * self.motions)
        else:
            self.volatility = eqx.filter_vmap(lambda key: network(1, key))(
                jr.split(outer, size)
            )
            if noise == "commutative":
                shape = (size, self.motions)
                self.mixing = jr.normal(mixed, shape, dtype) / self.motions**0.5
        self.scale, self.time = float(scale), time
        self.noise, self.interpretation = noise, interpretation

    def drift(
        self, t: Any, y: Float[Array, " size"], args: PyTree = None
    ) -> Float[Array, " size"]:
        return self.network(with_time(y, t) if self.time else y)

    def diffusion(
        self, t: Any, y: Float[Array, " size"], args: PyTree = None
    ) -> Float[Array, " size"] | Float[Array, "size motions"]:
        return self.scale * self._diffusion(t, y)

    def _diffusion(self, t: Any, y: Array) -> Array:
        if not isinstance(self.volatility, eqx.nn.MLP):
            return self.volatility
        if self.noise == "additive":
            return self.volatility(jnp.asarray(t, y.dtype)[None])
        seen = with_time(y, t) if self.time else y
        if self.noise == "scalar":
            return self.volatility(seen)
        if self.noise == "general":
            return self.volatility(seen).reshape(y.size, self.motions)

        def component(network: eqx.nn.MLP, value: Array) -> Array:
            own = value[None]
            return network(with_time(own, t) if self.time else own)[0]

        each = eqx.filter_vmap(component)(self.volatility, y)
        return each if self.mixing is None else each[:, None] * self.mixing


class CommonNoiseSDE(StochasticModel):
    """A network that rests at zero, stabilized by noise common to all its neurons,
    $dy = N_\\theta(y)\\,dt + \\sigma y\\,dW$ in Itô's sense with $N_\\theta(0) = 0$
    (Arnold, Crauel & Wihstutz 1983, Stabilization of linear systems by noise).

    At rest the noise multiplies every tangent vector by $e^{\\sigma W_t -
    \\sigma^2t/2}$, so that each Lyapunov exponent is that of the network without noise
    minus $\\sigma^2/2$; its p-th moments grow by $p(p - 1)\\sigma^2/2$ faster.

    **Arguments:**

    - `size`, `width`, `depth`, `activation`, `key`, `dtype`: as of
        [`NeuralODE`][hybrid_nds.models.NeuralODE].
        The network has no biases, and its activation must be zero at zero: so rest is
        kept to the last bit.
    - `strength`: $\\sigma$, a number.

    **Raises:** `ValueError`, naming the argument.
    """

    network: eqx.nn.MLP
    strength: Float[Array, ""]
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        width: int = 32,
        depth: int = 2,
        *,
        strength: ArrayLike = 1.0,
        activation: Callable[[Array], Array] = jnp.tanh,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "CommonNoiseSDE"
        self.network = make_network(
            caller, size, width, depth, activation, False, key, dtype, biases=False
        )
        if activation(jnp.zeros(())) != 0:
            raise ValueError(
                f"{caller}: `activation` must be zero at zero, such as jnp.tanh or "
                f"jax.nn.silu, got {activation(jnp.zeros(()))} there."
            )
        kind = self.network.layers[0].weight.dtype
        self.strength = check_array(caller, "strength", strength, ()).astype(kind)
        self.noise, self.interpretation = "scalar", "ito"

    def drift(
        self, t: Any, y: Float[Array, " size"], args: PyTree = None
    ) -> Float[Array, " size"]:
        return self.network(y)

    def diffusion(
        self, t: Any, y: Float[Array, " size"], args: PyTree = None
    ) -> Float[Array, " size"]:
        return self.strength * y
