"""Chemical kinetics: HIRES, the Oregonator, POLLU, and the Brusselator on a line."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._parameters import Parameters, number


class HIRES(eqx.Module):
    """High irradiance response of photomorphogenesis (Schäfer 1975)."""

    k1: Float[Array, ""]
    k2: Float[Array, ""]
    k3: Float[Array, ""]
    k4: Float[Array, ""]
    k5: Float[Array, ""]
    k6: Float[Array, ""]
    k_plus: Float[Array, ""]
    k_minus: Float[Array, ""]
    k_star: Float[Array, ""]
    source: Float[Array, ""]

    def __call__(self, t, y, args):
        del t, args
        red, far, red_x, far_x, red_xx, far_xx, bound, free = y
        k1, k2, k3 = self.k1, self.k2, self.k3
        binding = self.k_plus * far_xx * free
        release = (k2 + self.k_minus + self.k_star) * bound
        return jnp.stack(
            [
                -k1 * red + k2 * far + self.k6 * red_x + self.source,
                k1 * red - (k2 + k3) * far,
                -(self.k6 + k1) * red_x + k2 * far_x + self.k5 * red_xx,
                k3 * far + k1 * red_x - (self.k4 + k2) * far_x,
                -(self.k5 + k1) * red_xx + k2 * (far_xx + bound),
                -binding
                + self.k4 * far_x
                + k1 * red_xx
                - k2 * far_xx
                + self.k_minus * bound,
                binding - release,
                release - binding,
            ]
        )


class Oregonator(eqx.Module):
    """The Field–Noyes model of the Belousov–Zhabotinskii reaction."""

    s: Float[Array, ""]
    q: Float[Array, ""]
    w: Float[Array, ""]

    def __call__(self, t, y, args):
        del t, args
        bromous, bromide, cerium = y
        return jnp.stack(
            [
                self.s * (bromide + bromous * (1 - self.q * bromous - bromide)),
                (cerium - (1 + bromous) * bromide) / self.s,
                self.w * (bromous - cerium),
            ]
        )


# POLLU (Verwer 1994) as reactants -> products, species numbered from 1 as in the
# paper; a species made twice appears twice.
_POLLU_REACTIONS = (
    ((1,), (2, 3)),
    ((2, 4), (1,)),
    ((5, 2), (6, 1)),
    ((7,), (5, 5, 8)),
    ((7,), (8,)),
    ((7, 6), (5, 8)),
    ((9,), (10, 5, 8)),
    ((9, 6), (11,)),
    ((11, 2), (10, 1, 12)),
    ((11, 1), (13,)),
    ((13,), (11, 1)),
    ((10, 2), (14, 1)),
    ((14,), (7, 5)),
    ((1, 6), (15,)),
    ((3,), (4,)),
    ((4,), (16,)),
    ((4,), (3,)),
    ((16,), (6, 6)),
    ((16,), (3,)),
    ((17, 6), (5, 18)),
    ((19,), (2,)),
    ((19,), (1, 3)),
    ((1, 4), (19,)),
    ((19, 1), (20,)),
    ((20,), (19, 1)),
)
_POLLU_SPECIES = 20
# A first-order reaction takes as its second reactant a factor of one, kept behind
# the last species.
_POLLU_FIRST = np.array([reactants[0] - 1 for reactants, _ in _POLLU_REACTIONS])
_POLLU_SECOND = np.array(
    [
        reactants[1] - 1 if len(reactants) == 2 else _POLLU_SPECIES
        for reactants, _ in _POLLU_REACTIONS
    ]
)


def _pollu_stoichiometry() -> np.ndarray:
    matrix = np.zeros((_POLLU_SPECIES, len(_POLLU_REACTIONS)))
    for reaction, (reactants, products) in enumerate(_POLLU_REACTIONS):
        for species in reactants:
            matrix[species - 1, reaction] -= 1.0
        for species in products:
            matrix[species - 1, reaction] += 1.0
    return matrix


_POLLU_STOICHIOMETRY = _pollu_stoichiometry()


class Pollution(eqx.Module):
    """POLLU: 25 reactions among 20 air pollutants, as rates and stoichiometry."""

    rate_constants: Float[Array, " reactions"]

    def __call__(self, t, y, args):
        del t, args
        factors = jnp.append(y, jnp.ones((), y.dtype))
        rates = self.rate_constants * factors[_POLLU_FIRST] * factors[_POLLU_SECOND]
        return jnp.asarray(_POLLU_STOICHIOMETRY, y.dtype) @ rates


def pollution(parameters: Parameters) -> Pollution:
    """POLLU with the rate constants `k1` to `k25`."""
    names = [f"k{i}" for i in range(1, len(_POLLU_REACTIONS) + 1)]
    return Pollution(jnp.stack([number(parameters, name) for name in names]))


class Brusselator(eqx.Module):
    """The 1-D Brusselator on (0, 1) with the Dirichlet values u = A, v = B/A.

    The state is of shape (2, N): u and v at the N inner points x_i = i/(N+1).
    """

    a: Float[Array, ""]
    b: Float[Array, ""]
    diffusivity: Float[Array, ""]

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
