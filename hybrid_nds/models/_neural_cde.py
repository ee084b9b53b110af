"""Neural equations controlled by data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.nn
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._core import check_whole
from ..problems import ODEProblem
from ._base import ContinuousModel
from ._neural_ode import make_network


class NeuralCDE(ContinuousModel):
    """A neural controlled differential equation,
    $dz = \\tanh(N_\\theta(z))\\,dX$ from $z(t_0) = \\zeta_\\theta(X(t_0))$, for a path
    $X$ through data (Kidger et al. 2020, Neural controlled differential equations for
    irregular time series), solved as
    $\\dot z = \\tanh(N_\\theta(z))\\,\\dot X$.

    $X$ is a Diffrax path such as `diffrax.CubicInterpolation`, passed as `args`; the
    first of its channels is the time, by custom.

    **Arguments:**

    - `channels`: of the path.
    - `size`: of the state $z$, shape `(size,)`.
    - `outputs`: how many components [`readout`][hybrid_nds.models.NeuralCDE.readout]
        has.
    - `width`, `depth`: of the hidden layers of both networks.
    - `activation`: of them.
    - `key`, `dtype`: as of [`NeuralODE`][hybrid_nds.models.NeuralODE].

    **Raises:** `ValueError` for sizes that are not whole numbers of at least one.
    """

    initial: eqx.nn.MLP
    network: eqx.nn.MLP
    linear: eqx.nn.Linear
    size: int = eqx.field(static=True)
    channels: int = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        size: int,
        outputs: int,
        width: int = 32,
        depth: int = 1,
        *,
        activation: Callable[[Array], Array] = jax.nn.softplus,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "NeuralCDE"
        self.channels = check_whole(caller, "channels", channels)
        self.size = check_whole(caller, "size", size)
        outputs = check_whole(caller, "outputs", outputs)
        keys = jr.split(key, 3)
        shared = (width, depth, activation, False)
        self.initial = make_network(
            caller, channels, *shared, keys[0], dtype, outputs=size
        )
        self.network = make_network(
            caller, size, *shared, keys[1], dtype, outputs=size * channels
        )
        self.linear = eqx.nn.Linear(size, outputs, dtype=dtype, key=keys[2])

    def matrix(self, z: Float[Array, " size"]) -> Float[Array, "size channels"]:
        """$\\tanh(N_\\theta(z))$."""
        return jnp.tanh(self.network(z)).reshape(self.size, self.channels)

    def __call__(
        self, t: Any, y: Float[Array, " size"], args: PyTree
    ) -> Float[Array, " size"]:
        return self.matrix(y) @ args.derivative(t)

    def controlled(self, path: Any) -> ODEProblem:
        """The problem of a path, over the whole of it.

        **Arguments:** a Diffrax path with `t0`, `t1` and `derivative`.

        **Returns:** an [`ODEProblem`][hybrid_nds.ODEProblem] with the path as `args`.

        **Raises:** `TypeError` for a path without a derivative.
        """
        if not hasattr(path, "derivative"):
            raise TypeError(
                "NeuralCDE: `path` must be a Diffrax path with a derivative, such as "
                f"diffrax.CubicInterpolation, got {type(path).__name__}."
            )
        start = self.initial(path.evaluate(path.t0))
        return self.problem(start, path.t0, path.t1, path)

    def readout(self, z: Float[Array, " size"]) -> Float[Array, " outputs"]:
        """What the state says: a linear function of it."""
        return self.linear(z)
