"""What every model offers: a vector field that makes problems."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PyTree

from ..problems import Interpretation, NoiseKind, ODEProblem, SDEProblem

_Module = TypeVar("_Module", bound=eqx.Module)


class ContinuousModel(eqx.Module):
    """A vector field $\\dot y = f(t, y, a)$ whose arrays are its parameters.

    The model itself is the field: `model(t, y, args)`.
    """

    @abstractmethod
    def __call__(self, t: Any, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        """The derivative of the state `y` at time `t`."""

    def problem(
        self,
        y0: PyTree[ArrayLike],
        t0: ArrayLike,
        t1: ArrayLike,
        args: PyTree = None,
    ) -> ODEProblem:
        """The initial value problem from `y0` at `t0` to `t1`.

        **Arguments:** those of [`ODEProblem`][hybrid_nds.ODEProblem].

        **Returns:** an [`ODEProblem`][hybrid_nds.ODEProblem] with the model as field.
        """
        return ODEProblem(self, y0, t0, t1, args)


class StochasticModel(eqx.Module):
    """A stochastic equation $dy = f(t, y, a)\\,dt + g(t, y, a)\\,dW$ whose arrays are
    its parameters.

    Its static fields `noise` and `interpretation` say of which kind the noise is and
    how the integral is meant, as in [`SDEProblem`][hybrid_nds.SDEProblem].
    """

    noise: eqx.AbstractVar[NoiseKind]
    interpretation: eqx.AbstractVar[Interpretation]

    @abstractmethod
    def drift(self, t: Any, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        """The drift $f$ at `(t, y)`."""

    @abstractmethod
    def diffusion(self, t: Any, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        """The diffusion $g$ at `(t, y)`, shaped as its kind of noise says."""

    def problem(
        self,
        y0: PyTree[ArrayLike],
        t0: ArrayLike,
        t1: ArrayLike,
        args: PyTree = None,
    ) -> SDEProblem:
        """The initial value problem from `y0` at `t0` to `t1`.

        **Arguments:** those of [`SDEProblem`][hybrid_nds.SDEProblem].

        **Returns:** an [`SDEProblem`][hybrid_nds.SDEProblem] of the model's drift and
        diffusion.
        """
        return SDEProblem(
            self.drift,
            self.diffusion,
            y0,
            t0,
            t1,
            args,
            noise=self.noise,
            interpretation=self.interpretation,
        )


def noise_strength(temperature: Float[Array, ""]) -> Float[Array, ""]:
    """$\\sqrt{2\\tau}$, zero where training takes a temperature below zero."""
    above = temperature > 0
    return jnp.where(above, jnp.sqrt(2 * jnp.where(above, temperature, 1)), 0)


def assemble(kind: type[_Module], **fields: Any) -> _Module:
    """A module with these fields, its `__init__` passed over, as JAX makes modules of
    their leaves."""
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made
