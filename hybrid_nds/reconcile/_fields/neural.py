"""A neural differential equation, ordinary or stochastic."""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...models import NeuralODE, assemble
from ._parameters import Parameters, array


def neural(parameters: Parameters) -> NeuralODE:
    """The neural ODE of `layers`, each a `weight` (out × in) and a `bias`, with tanh
    between them.

    **Raises:** `ValueError` when the layers do not fit one another.
    """
    layers = parameters.get("layers")
    if not (isinstance(layers, list) and layers) or not all(
        isinstance(layer, Mapping) for layer in layers
    ):
        raise ValueError(
            "`layers` must be a list of tables, each with a `weight` and a `bias`, "
            f"got {str(layers)[:60]}."
        )
    weights = [array(layer, "weight") for layer in layers]
    biases = [array(layer, "bias") for layer in layers]
    if any(weight.ndim != 2 for weight in weights):
        raise ValueError(
            "`layers`: each `weight` must be a matrix, got shapes "
            f"{[weight.shape for weight in weights]}."
        )
    width, inputs = weights[0].shape
    outputs = weights[-1].shape[0]
    expected = [(width, inputs)]
    expected += [(width, width)] * (len(weights) - 2) + [(outputs, width)]
    shapes = [weight.shape for weight in weights]
    if shapes != expected or [b.shape for b in biases] != [s[:1] for s in expected]:
        raise ValueError(
            f"`layers` must chain as weights {expected} with a bias a row, got "
            f"weights {shapes} and biases {[b.shape for b in biases]}."
        )
    mlp = eqx.nn.MLP(
        inputs, outputs, width, len(weights) - 1, jnp.tanh, key=jax.random.key(0)
    )
    mlp = eqx.tree_at(
        lambda m: [p for layer in m.layers for p in (layer.weight, layer.bias)],
        mlp,
        [p for pair in zip(weights, biases, strict=True) for p in pair],
    )
    return assemble(NeuralODE, network=mlp, time=False)


class ComponentNetworks(eqx.Module):
    """gᵢ(yᵢ), a positive function of each component alone: softplus of a network with
    one hidden layer of tanh."""

    inner_weight: Float[Array, "n width"]
    inner_bias: Float[Array, "n width"]
    outer_weight: Float[Array, "n width"]
    outer_bias: Float[Array, " n"]

    def __call__(self, t, y, args):
        del t, args
        hidden = jnp.tanh(self.inner_weight * y[:, None] + self.inner_bias)
        return jax.nn.softplus(
            jnp.sum(self.outer_weight * hidden, axis=1) + self.outer_bias
        )


def neural_stochastic(parameters: Parameters) -> tuple[NeuralODE, ComponentNetworks]:
    """Drift and diffusion of a neural stochastic differential equation whose noise is
    diagonal (Li, Wong, Chen & Duvenaud 2020)."""
    names = ("inner_weight", "inner_bias", "outer_weight", "outer_bias")
    diffusion = ComponentNetworks(*(array(parameters, name) for name in names))
    return neural(parameters), diffusion
