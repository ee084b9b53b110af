"""Reaction and diffusion on a line, by the method of lines."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._parameters import Parameters, number


class Brusselator(eqx.Module):
    """The 1-D Brusselator on (0, 1) with the Dirichlet values u = A, v = B/A.

    The state is of shape (2, N): u and v at the N inner points x_i = i/(N+1).
    """

    a: Float[Array, ""]
    b: Float[Array, ""]
    diffusivity: Float[Array, ""]

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> Brusselator:
        return cls(*(number(parameters, name) for name in ("a", "b", "diffusivity")))

    def __call__(self, t, y, args):
        del t, args
        u, v = y
        points = u.shape[0]
        edges = jnp.stack([self.a, self.b / self.a])[:, None]
        padded = jnp.concatenate([edges, y, edges], axis=1)
        laplacian = (padded[:, :-2] - 2 * y + padded[:, 2:]) * (points + 1) ** 2
        conversion = u**2 * v
        reaction = jnp.stack(
            [self.a + conversion - (self.b + 1) * u, self.b * u - conversion]
        )
        return reaction + self.diffusivity * laplacian
