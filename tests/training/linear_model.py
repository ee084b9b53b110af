"""A linear model, whose solutions are matrix exponentials."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

MATRIX = np.array([[-0.3, 1.0], [-1.0, -0.1]])
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


class Linear(eqx.Module):
    matrix: jax.Array

    def __call__(self, t, y, args):
        return self.matrix @ y


def linear():
    return Linear(jnp.asarray(MATRIX))
