"""Flows down a loss: in the Euclidean metric, another one, or through a mirror."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg
from jaxtyping import Array, ArrayLike, Float, PyTree

from ._base import ContinuousModel
from ._checks import check_array, check_function

Loss = Callable[[Any], Array]
"""`loss(x) -> scalar`, an Equinox module where it has parameters of its own."""


class GradientFlow(ContinuousModel):
    """The gradient flow of a loss, $\\dot x = -\\nabla f(x)$.

    **Arguments:** `loss`, a function of the state (any pytree) that returns a scalar.

    **Raises:** `TypeError` for a `loss` that is not callable.
    """

    loss: Loss

    def __init__(self, loss: Loss):
        self.loss = check_function("GradientFlow", "loss", loss)

    def __call__(self, t: Any, y: PyTree[Array], args: PyTree = None) -> PyTree[Array]:
        return jax.tree.map(jnp.negative, jax.grad(self.loss)(y))


class NaturalGradientFlow(ContinuousModel):
    """The gradient flow of a loss in another metric,
    $\\dot x = -G(x)^{-1}\\nabla f(x)$ (Amari 1998, Natural gradient works efficiently
    in learning, theorem 1).

    With $G = \\nabla^2 f$, which is the `metric` where none is given, it is Newton's
    flow, along which $\\nabla f$ decays as $e^{-t}$.

    **Arguments:** `loss`, a function of the state, shape `(n,)`, that returns a scalar;
    `metric`, a function of the state that returns a symmetric positive definite matrix
    `(n, n)`.

    **Raises:** `TypeError` for what is not callable.
    """

    loss: Loss
    metric: Callable[[Array], Array] | None

    def __init__(self, loss: Loss, metric: Callable[[Array], Array] | None = None):
        caller = "NaturalGradientFlow"
        self.loss = check_function(caller, "loss", loss)
        if metric is not None:
            check_function(caller, "metric", metric)
        self.metric = metric

    def __call__(
        self, t: Any, y: Float[Array, " n"], args: PyTree = None
    ) -> Float[Array, " n"]:
        metric = jax.hessian(self.loss) if self.metric is None else self.metric
        factor = jax.scipy.linalg.cho_factor(metric(y), lower=True)
        return -jax.scipy.linalg.cho_solve(factor, jax.grad(self.loss)(y))


class MirrorMap(eqx.Module):
    """A strictly convex potential $\\varphi$, whose gradient maps the primal to the
    dual space, and the way back."""

    @abc.abstractmethod
    def potential(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        """$\\varphi(x)$."""

    @abc.abstractmethod
    def to_dual(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """$\\nabla\\varphi(x)$."""

    @abc.abstractmethod
    def to_primal(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        """The $x$ with $\\nabla\\varphi(x) = y$."""

    def divergence(
        self, x: Float[Array, " n"], z: Float[Array, " n"]
    ) -> Float[Array, ""]:
        """Bregman's, $D_\\varphi(x, z) = \\varphi(x) - \\varphi(z) -
        \\langle\\nabla\\varphi(z), x - z\\rangle$."""
        return self.potential(x) - self.potential(z) - self.to_dual(z) @ (x - z)


class Euclidean(MirrorMap):
    """$\\varphi(x) = \\tfrac12|x|^2$: the mirror flow is the gradient flow."""

    def potential(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        return 0.5 * jnp.sum(x**2)

    def to_dual(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return x

    def to_primal(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        return y


class NegativeEntropy(MirrorMap):
    """$\\varphi(x) = \\sum_i x_i\\log x_i - x_i$ for $x > 0$, with
    $\\nabla\\varphi = \\log$: the flow multiplies, $\\dot x_i = -x_i\\partial_if$."""

    def potential(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        return jnp.sum(x * jnp.log(x) - x)

    def to_dual(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.log(x)

    def to_primal(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.exp(y)


class HyperbolicEntropy(MirrorMap):
    """$\\varphi(x) = \\sum_i x_i\\operatorname{arsinh}(x_i/b) -
    \\sqrt{x_i^2 + b^2}$, with $\\nabla\\varphi = \\operatorname{arsinh}(\\cdot/b)$
    (Ghai, Hazan & Singer 2020, Exponentiated gradient meets gradient descent).

    The gradient flow of $f(u^2 - v^2)$ from $u = v = a$ is this mirror flow of $4f$
    with $b = 2a^2$ (Woodworth et al. 2020, Kernel and rich regimes).

    **Arguments:** `scale`, $b$, a number; `dtype`, that of the state, JAX's default if
    `None`.
    """

    scale: Float[Array, ""]

    def __init__(self, scale: ArrayLike = 1.0, *, dtype: Any = None):
        number = check_array("HyperbolicEntropy", "scale", scale, ())
        self.scale = number if dtype is None else number.astype(dtype)

    def potential(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        b = self.scale
        return jnp.sum(x * jnp.arcsinh(x / b) - jnp.sqrt(x**2 + b**2))

    def to_dual(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.arcsinh(x / self.scale)

    def to_primal(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.scale * jnp.sinh(y)


class MirrorFlow(ContinuousModel):
    """The mirror flow of a loss,
    $\\tfrac{d}{dt}\\nabla\\varphi(x) = -\\nabla f(x)$ (Nemirovski & Yudin 1983,
    chapter 3), in the dual variable $y = \\nabla\\varphi(x)$, which is the state.

    For a convex loss with minimum at $x^*$ along the flow
    $\\tfrac{d}{dt}D_\\varphi(x^*, x) = -\\langle\\nabla f(x), x - x^*\\rangle \\le 0$.

    **Arguments:** `loss`, a function of the primal $x$, shape `(n,)`, that returns a
    scalar; `mirror`, a [`MirrorMap`][hybrid_nds.models.MirrorMap].

    **Raises:** `TypeError`, naming the argument.
    """

    loss: Loss
    mirror: MirrorMap

    def __init__(self, loss: Loss, mirror: MirrorMap):
        self.loss = check_function("MirrorFlow", "loss", loss)
        if not isinstance(mirror, MirrorMap):
            raise TypeError(
                "MirrorFlow: `mirror` must be a MirrorMap such as NegativeEntropy(), "
                f"got {type(mirror).__name__}."
            )
        self.mirror = mirror

    def dual(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """The state of a primal point, $\\nabla\\varphi(x)$."""
        return self.mirror.to_dual(x)

    def primal(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        """The primal point of a state."""
        return self.mirror.to_primal(y)

    def __call__(
        self, t: Any, y: Float[Array, " n"], args: PyTree = None
    ) -> Float[Array, " n"]:
        return -jax.grad(self.loss)(self.primal(y))
