"""Networks in the limit of width: interacting particles, and residual networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from .._core import check_whole
from ..problems import Interpretation, NoiseKind
from ._base import ContinuousModel, StochasticModel, noise_strength
from ._checks import check_array, check_function, check_temperature


def linear_unit(x: Float[Array, " size"], z: Float[Array, " size"]) -> Float[Array, ""]:
    """$h(x, z) = \\langle x, z\\rangle$."""
    return x @ z


def tanh_unit(x: Float[Array, " size"], z: Float[Array, " inputs"]) -> Float[Array, ""]:
    """$h(x, z) = x_0\\tanh(\\langle x_{1:-1}, z\\rangle + x_{-1})$: a hidden neuron
    with its outer weight, inner weights and bias, of `inputs + 2` components."""
    return x[0] * jnp.tanh(x[1:-1] @ z + x[-1])


class MeanFieldLangevin(StochasticModel):
    """A network with one hidden layer in training, as interacting particles,
    $dX_i = -\\nabla\\tfrac{\\delta F}{\\delta\\mu}(\\mu^N, X_i)\\,dt +
    \\sqrt{2\\tau}\\,dW_i$ with $\\mu^N$ their empirical distribution and
    $F(\\mu) = \\tfrac{1}{2m}\\sum_k\\bigl(\\int h(x, z_k)\\,d\\mu - y_k\\bigr)^2 +
    \\tfrac{\\alpha}{2}\\int|x|^2d\\mu$ (Mei, Montanari & Nguyen 2018; Hu, Ren, Šiška &
    Szpruch 2021).

    As a sum over the data the force on a particle is
    $-\\tfrac1m\\sum_k(\\bar h_k - y_k)\\nabla_xh(X_i, z_k) - \\alpha X_i$.

    **Arguments:**

    - `inputs`, `targets`: the data $z$ and $y$, shapes `(samples, inputs)` and
        `(samples,)`.
    - `unit`: $h(x, z)$, a function of one particle and one input, such as
        [`tanh_unit`][hybrid_nds.models.tanh_unit] or
        [`linear_unit`][hybrid_nds.models.linear_unit].
    - `decay`: $\\alpha$, a number.
    - `temperature`: $\\tau$, a number.

    The state has shape `(particles, size)`.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    inputs: Float[Array, "samples inputs"]
    targets: Float[Array, " samples"]
    unit: Callable[[Array, Array], Array]
    decay: Float[Array, ""]
    temperature: Float[Array, ""]
    noise: NoiseKind = eqx.field(static=True)
    interpretation: Interpretation = eqx.field(static=True)

    def __init__(
        self,
        inputs: Float[Array, "samples inputs"],
        targets: Float[Array, " samples"],
        *,
        unit: Callable[[Array, Array], Array] = tanh_unit,
        decay: ArrayLike = 0.1,
        temperature: ArrayLike = 0.01,
    ):
        caller = "MeanFieldLangevin"
        self.inputs = check_array(caller, "inputs", inputs, (None, None))
        samples = self.inputs.shape[0]
        self.targets = check_array(caller, "targets", targets, (samples,))
        self.unit = check_function(caller, "unit", unit)
        dtype = self.inputs.dtype
        self.decay = check_array(caller, "decay", decay, ()).astype(dtype)
        given = check_temperature(caller, temperature)
        self.temperature = given.astype(dtype)
        self.noise, self.interpretation = "additive", "ito"

    def predict(
        self, y: Float[Array, "particles size"], z: Float[Array, "batch inputs"]
    ) -> Float[Array, " batch"]:
        """The network's outputs, $\\tfrac1N\\sum_i h(X_i, z)$."""
        units = jax.vmap(jax.vmap(self.unit, (None, 0)), (0, None))
        return jnp.mean(units(y, z), axis=0)

    def objective(self, y: Float[Array, "particles size"]) -> Float[Array, ""]:
        """$F(\\mu^N)$."""
        fit = jnp.mean((self.predict(y, self.inputs) - self.targets) ** 2)
        return (fit + self.decay * jnp.mean(jnp.sum(y**2, axis=1))) / 2

    def drift(
        self, t: Any, y: Float[Array, "particles size"], args: PyTree = None
    ) -> Float[Array, "particles size"]:
        # The first variation at a particle is its share of the gradient, times N.
        return -y.shape[0] * jax.grad(self.objective)(y)

    def diffusion(
        self, t: Any, y: Float[Array, "particles size"], args: PyTree = None
    ) -> Float[Array, "particles size"]:
        return noise_strength(self.temperature) * jnp.ones_like(y)


class MeanFieldODE(ContinuousModel):
    """A residual network of infinite depth whose width is a distribution of units,
    $\\dot x = \\tfrac1M\\sum_{j=1}^M u_j\\tanh\\langle v_j, x\\rangle$, the same at all
    depths (Chizat & Bach 2018; Lu, Ma, Lu, Lu & Ying 2020, A mean-field analysis of
    deep ResNet).

    **Arguments:** `outer` and `inner`, $u$ and $v$, each of shape `(units, size)`.

    **Raises:** `ValueError` for shapes that do not fit.
    """

    outer: Float[Array, "units size"]
    inner: Float[Array, "units size"]

    def __init__(
        self, outer: Float[Array, "units size"], inner: Float[Array, "units size"]
    ):
        self.outer = check_array("MeanFieldODE", "outer", outer, (None, None))
        shape = self.outer.shape
        self.inner = check_array("MeanFieldODE", "inner", inner, shape)

    def __call__(
        self, t: Any, y: Float[Array, " size"], args: PyTree = None
    ) -> Float[Array, " size"]:
        return self.outer.T @ jnp.tanh(self.inner @ y) / self.outer.shape[0]


class MeanFieldResNet(eqx.Module):
    """A residual network of depth $L$ and width $M$ in the scaling of both limits,
    $x_{l+1} = x_l + \\tfrac{1}{LM}\\sum_{j=1}^M
    u_{lj}\\tanh\\langle v_{lj}, x_l\\rangle$.

    With units that are independent of one distribution, the distance to
    $\\dot x = E[u\\tanh\\langle v, x\\rangle]$ falls as $1/L + 1/\\sqrt{LM}$.

    **Arguments:** `outer` and `inner`, $u$ and $v$, each of shape `(depth, width,
    size)`; see [`independent`][hybrid_nds.models.MeanFieldResNet.independent].

    **Raises:** `ValueError` for shapes that do not fit.
    """

    outer: Float[Array, "depth width size"]
    inner: Float[Array, "depth width size"]

    def __init__(
        self,
        outer: Float[Array, "depth width size"],
        inner: Float[Array, "depth width size"],
    ):
        caller = "MeanFieldResNet"
        self.outer = check_array(caller, "outer", outer, (None, None, None))
        self.inner = check_array(caller, "inner", inner, self.outer.shape)

    @classmethod
    def independent(
        cls,
        depth: int,
        width: int,
        size: int,
        *,
        correlation: float = 1.0,
        key: PRNGKeyArray,
        dtype: Any = None,
    ) -> MeanFieldResNet:
        """Units that are independent of each other: $v$ and $\\xi$ standard normal and
        $u = cv + \\xi$, with $c$ the `correlation`."""
        caller = "MeanFieldResNet.independent"
        sizes = {"depth": depth, "width": width, "size": size}
        shape = tuple(check_whole(caller, name, n) for name, n in sizes.items())
        first, second = jr.split(key)
        inner = jr.normal(first, shape, dtype)
        return cls(correlation * inner + jr.normal(second, shape, dtype), inner)

    def __call__(self, x: Float[Array, " size"]) -> Float[Array, " size"]:
        """The output of all layers."""
        return self.states(x)[-1]

    def states(
        self, x: Float[Array, " size"]
    ) -> Float[Array, "{len(self.outer)}+1 size"]:
        """The input and the output of every layer."""
        depth = self.outer.shape[0]

        def layer(state: Array, units: tuple[Array, Array]) -> tuple[Array, Array]:
            outer, inner = units
            state = state + MeanFieldODE(outer, inner)(0.0, state) / depth
            return state, state

        return jnp.concatenate(
            [x[None], jax.lax.scan(layer, x, (self.outer, self.inner))[1]]
        )
