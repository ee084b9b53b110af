"""Equations whose solutions come together, by construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._core import check_choice, check_number, check_whole
from ._base import ContinuousModel
from ._hamiltonian import input_at

ContractionNorm = Literal["1", "2", "inf"]


class ContractingODE(ContinuousModel):
    """A recurrent equation that contracts at a known rate,
    $\\dot x = -x + W_k\\tanh(\\cdots W_1\\tanh(x + b_0)\\cdots + b_{k-1}) + b_k +
    Bu(t)$ with $\\|W_k\\|\\cdots\\|W_1\\| \\le 1 - c$.

    Since $\\tanh$ has slopes between 0 and 1, the matrix measure of the Jacobian is at
    most $-1 + \\|W_k\\|\\cdots\\|W_1\\| \\le -c$, so that any two solutions with the
    same input come together, $\\|x(t) - y(t)\\| \\le e^{-ct}\\|x(0) - y(0)\\|$,
    whatever the weights are (Davydov, Jafarpour & Bullo 2022, Non-Euclidean contraction
    theory; for one layer Miller & Hardt 2019, Stable recurrent models).

    Weights are free parameters: each matrix is divided by its norm where that is above
    one. The spectral norm is bounded by $\\sqrt{\\|V\\|_1\\|V\\|_\\infty}$.

    **Arguments:**

    - `size`: of the state, shape `(size,)`.
    - `rate`: $c$, between 0 and 1, per unit of time.
    - `norm`: in which it contracts, `"1"`, `"2"` or `"inf"`.
    - `widths`: of the layers between, none for $W\\tanh(x + b_0)$.
    - `inputs`: how many components $u$ has; with any, `args` must be a function of time
        that returns shape `(inputs,)`, such as a Diffrax interpolation.
    - `key`, `dtype`: as of [`NeuralODE`][hybrid_nds.models.NeuralODE].

    **Raises:** `ValueError`, naming the argument.
    """

    matrices: tuple[Float[Array, "rows columns"], ...]
    """The free parameters $V_1, \\dots, V_k$ of the matrices."""
    biases: tuple[Float[Array, " rows"], ...]
    """$b_0, \\dots, b_k$."""
    port: Float[Array, "size inputs"]
    """$B$."""
    rate: float = eqx.field(static=True)
    norm: ContractionNorm = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        rate: float = 0.1,
        *,
        norm: ContractionNorm = "2",
        widths: Sequence[int] = (),
        inputs: int = 0,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        caller = "ContractingODE"
        size = check_whole(caller, "size", size)
        inner = [check_whole(caller, "widths", width) for width in widths]
        inputs = check_whole(caller, "inputs", inputs, 0)
        self.rate = check_number(caller, "rate", rate, 0.0, 1.0)
        check_choice(caller, "norm", norm, get_args(ContractionNorm))
        self.norm = norm
        sizes = [size, *inner, size]
        keys = jr.split(key, len(sizes) + 1)
        self.matrices = tuple(
            jr.normal(k, (rows, columns), dtype) / columns**0.5
            for k, columns, rows in zip(keys, sizes, sizes[1:], strict=False)
        )
        zeros = [jnp.zeros(n, self.matrices[0].dtype) for n in sizes]
        self.biases = tuple(zeros)
        self.port = jr.normal(keys[-1], (size, inputs), dtype) / max(1, inputs) ** 0.5

    def weights(self) -> tuple[Float[Array, "rows columns"], ...]:
        """The matrices $W_1, \\dots, W_k$ that the field uses."""
        bounded = [V / jnp.maximum(1, self._norm_of(V)) for V in self.matrices]
        return (*bounded[:-1], (1 - self.rate) * bounded[-1])

    def _norm_of(self, matrix: Array) -> Array:
        columns = jnp.max(jnp.sum(jnp.abs(matrix), axis=0))
        rows = jnp.max(jnp.sum(jnp.abs(matrix), axis=1))
        if self.norm == "2":
            return jnp.sqrt(columns * rows)
        return columns if self.norm == "1" else rows

    def __call__(
        self, t: Any, y: Float[Array, " size"], args: PyTree = None
    ) -> Float[Array, " size"]:
        inner = y + self.biases[0]
        for W, bias in zip(self.weights(), self.biases[1:], strict=True):
            inner = W @ jnp.tanh(inner) + bias
        moved = inner - y
        if self.port.shape[1] == 0:
            return moved
        return moved + self.port @ input_at("ContractingODE", args, t)
