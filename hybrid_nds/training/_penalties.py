"""Penalties that train a model to be stable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.lax import stop_gradient
from jaxtyping import Array, ArrayLike, Int, PRNGKeyArray, PyTree

from .._core import check_whole, with_forward_rule
from ..problems import FlatState
from ..stability.local import Norm, check_norm, check_weight
from ._abscissa import excess, measures, smoothed_abscissa
from ._batches import check_states
from ._losses import Loss, Value

Field = Callable[[Any, Array], Array]
# Of the search for an equilibrium: its steps, and how often each may be halved.
_STEPS, _HALVINGS = 32, 8


class ContractionPenalty(Loss):
    """A penalty where solutions of a model do not come together at a rate,

    $$\\frac1S\\sum_{s=1}^S\\sum_i\\max\\bigl(0,\\,\\mu_i(J(t_s, y_s)) + r\\bigr)^2,
    \\qquad J = \\partial f_\\theta/\\partial y,$$

    with $\\mu_i$ the eigenvalues of $(J + J^\\top)/2$, or for the norms 1 and ∞ the
    column or row sums whose largest is the
    [`matrix_measure`][hybrid_nds.stability.matrix_measure]. It is zero exactly where
    that is at most $-r$ at all samples: then
    [`contraction_rate`][hybrid_nds.stability.contraction_rate] finds a rate of about
    $-r$ or less. Its gradient is continuous in the norm 2.

    The part `measure` is the largest matrix measure among the samples.

    **Arguments:**

    - `region`: `(low, high)`, the box to draw samples from, anew in each step; each in
        the structure and shapes of a state. `None` draws them from the states of the
        batch, trajectories of shape `(samples, times, …)`.
    - `rate`: $r$, 0 or more.
    - `norm`, `weight`: as of [`matrix_measure`][hybrid_nds.stability.matrix_measure].
    - `samples`: how many.
    - `times`: the time at which to look at the field; or `(first, last)`, to draw from.
    - `args`: of the field.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    region: tuple[PyTree[Array], PyTree[Array]] | None
    rate: float
    norm: Norm = eqx.field(static=True)
    weight: Array | None
    samples: int = eqx.field(static=True)
    times: tuple[float, float]
    args: PyTree

    def __init__(
        self,
        region: tuple[Any, Any] | None = None,
        *,
        rate: float = 0.0,
        norm: Norm = 2,
        weight: ArrayLike | None = None,
        samples: int = 64,
        times: float | tuple[float, float] = 0.0,
        args: PyTree = None,
    ):
        caller = "ContractionPenalty"
        self.region = None if region is None else _box(caller, region)
        self.rate = not_negative(caller, "rate", rate)
        check_norm(caller, norm)
        self.norm = norm
        self.weight = None if weight is None else jnp.asarray(weight)
        self.samples = check_whole(caller, "samples", samples)
        first, last = times if isinstance(times, tuple | list) else (times, times)
        self.times = (float(first), float(last))
        self.args = args

    @property
    def name(self) -> str:
        return "contraction"

    def __call__(self, model: PyTree, batch: PyTree, key: PRNGKeyArray) -> Value:
        caller = "ContractionPenalty"
        point_key, time_key = jr.split(key)
        states = self._states(batch, point_key)
        example = jtu.tree_map(lambda leaf: leaf[0], states)
        field = flat_field(caller, model, example, self.args)
        points = FlatState(example).flatten(states)
        dtype, n = points.dtype, points.shape[1]
        P = check_weight(caller, self.weight, n, dtype)
        first, last = (jnp.asarray(t, dtype) for t in self.times)
        ts = first + (last - first) * jr.uniform(time_key, (self.samples,), dtype)
        shift = jnp.asarray(self.rate, dtype) * jnp.eye(n, dtype=dtype)

        def at(t: Array, u: Array) -> tuple[Array, Array]:
            J = _weighted(jax.jacfwd(lambda u: field(t, u))(u), P)
            largest = jnp.max(measures(stop_gradient(J), self.norm))
            return excess(J + shift, self.norm), largest

        over, largest = jax.vmap(at)(ts, points)
        return jnp.mean(over), {"measure": jnp.max(largest)}

    def _states(self, batch: PyTree, key: PRNGKeyArray) -> PyTree[Array]:
        if self.region is None:
            use = "without a `region` samples are states"
            count = math.prod(check_states("ContractionPenalty", batch, use))
            chosen = jr.randint(key, (self.samples,), 0, count)
            return jtu.tree_map(lambda x: x.reshape(count, *x.shape[2:])[chosen], batch)
        low, high = self.region
        lows, tree = jtu.tree_flatten(low)
        keys = jr.split(key, len(lows))
        drawn = [
            jr.uniform(k, (self.samples, *a.shape), a.dtype, a, b)
            for k, a, b in zip(keys, lows, jtu.tree_leaves(high), strict=True)
        ]
        return jtu.tree_unflatten(tree, drawn)


class SpectralAbscissaPenalty(Loss):
    """A penalty on equilibria of a model that are not stable by a margin,

    $$\\frac1S\\sum_{s=1}^S\\max\\bigl(0,\\,\\tilde\\alpha_\\varepsilon(J(y_s)) +
    m\\bigr)^2,\\qquad J = \\partial f_\\theta/\\partial y,$$

    with $\\tilde\\alpha_\\varepsilon$ the smoothed spectral abscissa of Vanbiervliet et
    al. (2009, SIAM J. Optim. 20): the number $s$ with
    $\\int_0^\\infty\\|e^{(J-sI)t}\\|_F^2\\,dt = 1/\\varepsilon$. It is above all real
    parts of eigenvalues, and differentiable where eigenvalues meet, as the abscissa
    itself is not. Where the penalty is zero, all real parts are below $-m$.

    The parts are `abscissa`, the largest $\\tilde\\alpha_\\varepsilon$, and `found`,
    the share of guesses from which an equilibrium was found; others do not count.

    **Arguments:**

    - `states`: first guesses of equilibria, an array of shape `(guesses, …)` or a
        pytree of such in the structure of the state. Equilibria are found by
        damped Newton steps, and differentiated by the implicit function theorem.
    - `equilibria`: with `False` the states are taken as they are.
    - `margin`: $m$, 0 or more.
    - `smoothing`: $\\varepsilon$, a rate: for a normal matrix with eigenvalues of one
        real part, $\\tilde\\alpha$ is $n\\varepsilon/2$ above it.
    - `t`: the time at which to look at the field.
    - `args`: of the field.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    states: PyTree[Array]
    equilibria: bool = eqx.field(static=True)
    margin: float
    smoothing: float
    t: float
    args: PyTree

    def __init__(
        self,
        states: PyTree[ArrayLike],
        *,
        equilibria: bool = True,
        margin: float = 0.0,
        smoothing: float = 1e-2,
        t: float = 0.0,
        args: PyTree = None,
    ):
        caller = "SpectralAbscissaPenalty"
        self.states = jtu.tree_map(floating, states)
        counts = {x.shape[:1] for x in jtu.tree_leaves(self.states)}
        if len(counts) != 1 or counts & {(), (0,)}:
            raise ValueError(
                f"{caller}: `states` must be states stacked along a first axis, got "
                f"shapes {[x.shape for x in jtu.tree_leaves(self.states)]}."
            )
        self.equilibria = bool(equilibria)
        self.margin = not_negative(caller, "margin", margin)
        self.smoothing = not_negative(caller, "smoothing", smoothing)
        if not self.smoothing:
            raise ValueError(f"{caller}: `smoothing` must be above zero.")
        self.t, self.args = float(t), args

    @property
    def name(self) -> str:
        return "abscissa"

    def __call__(self, model: PyTree, batch: PyTree, key: PRNGKeyArray) -> Value:
        caller = "SpectralAbscissaPenalty"
        example = jtu.tree_map(lambda leaf: leaf[0], self.states)
        points = FlatState(example).flatten(self.states)
        dtype = points.dtype
        timed_field = flat_field(caller, model, example, self.args)
        fixed_field = flat_field(caller, _fixed(model), example, self.args)
        t, smoothing = jnp.asarray(self.t, dtype), jnp.asarray(self.smoothing, dtype)

        def field(u: Array) -> Array:
            return timed_field(t, u)

        def at(u: Array) -> tuple[Array, Array]:
            good = jnp.array(True)
            if self.equilibria:
                u, good = _equilibrium(field, lambda u: fixed_field(t, u), u)
            s = smoothed_abscissa(jax.jacfwd(field)(u), smoothing)
            return s, good

        found, good = jax.vmap(at)(points)
        over = jnp.maximum(found + jnp.asarray(self.margin, dtype), 0) ** 2
        parts = {
            "abscissa": jnp.max(jnp.where(good, found, -jnp.inf)),
            "found": jnp.mean(good.astype(dtype)),
        }
        return jnp.sum(jnp.where(good, over, 0)) / len(good), parts


def _equilibrium(
    field: Callable[[Array], Array], fixed: Callable[[Array], Array], guess: Array
) -> tuple[Array, Array]:
    """An equilibrium near a guess, and whether there is one; the guess if not."""
    shares = jnp.asarray(0.5 ** np.arange(_HALVINGS), guess.dtype)

    def damped(_: Int[Array, ""], u: Array) -> Array:
        value = fixed(u)
        step = jnp.linalg.solve(jax.jacfwd(fixed)(u), value)
        # Along Newton's step as far as the field falls most, beside its size here: in
        # float32 squares overflow from 2e19.
        tried = u[None] - shares[:, None] * step[None]
        unit = jnp.maximum(jnp.max(jnp.abs(value)), jnp.finfo(u.dtype).tiny)
        sizes = jnp.linalg.norm(jax.vmap(fixed)(tried) / unit, axis=1)
        return tried[jnp.argmin(jnp.where(jnp.isfinite(sizes), sizes, jnp.inf))]

    # Not optimistix: its dogleg method refuses float32 while JAX is in 64 bits.
    found = jax.lax.fori_loop(0, _STEPS, damped, guess)
    last = jnp.linalg.solve(jax.jacfwd(fixed)(found), fixed(found))
    small = math.sqrt(jnp.finfo(guess.dtype).eps)
    # In units of the state's own size; not a number compares as false.
    size = jnp.linalg.norm(guess) + jnp.linalg.norm(found)
    good = jnp.linalg.norm(last) <= small * size
    near = stop_gradient(jnp.where(good, found, guess))
    J = jax.jacfwd(fixed)(near)
    J = stop_gradient(jnp.where(good, J, jnp.eye(guess.size, dtype=guess.dtype)))
    # One step of Newton: its derivative is that of the implicit function theorem.
    step = jnp.linalg.solve(J, field(near))
    return near - jnp.where(good, step, 0), good


def flat_field(caller: str, model: Any, example: PyTree, args: PyTree) -> Field:
    """The field of a model, or the drift of a stochastic one, on flat states. A tangent
    can be pushed through it, also where the field itself has a reverse rule only."""
    field = getattr(model, "drift", model)
    if not callable(field):
        raise TypeError(
            f"{caller}: `model` must be a field (t, y, args), or have a `drift`, got "
            f"{type(model).__name__}."
        )
    unravel = ravel_pytree(example)[1]

    def flat(t: Any, u: Array) -> Array:
        y = unravel(u)
        return ravel_pytree(with_forward_rule(field, t, y, args)(t, y, args))[0]

    return flat


def _fixed(model: PyTree) -> PyTree:
    """A model that is a constant to derivatives."""
    arrays, rest = eqx.partition(model, eqx.is_array)
    return eqx.combine(stop_gradient(arrays), rest)


def _weighted(A: Array, P: Array | None) -> Array:
    if P is None:
        return A
    if P.ndim == 1:
        return P[:, None] * A / P
    return P @ A @ jnp.linalg.inv(P)


def _box(caller: str, region: Any) -> tuple[PyTree[Array], PyTree[Array]]:
    if not isinstance(region, tuple | list) or len(region) != 2:
        raise ValueError(f"{caller}: `region` must be a pair (low, high).")
    low, high = (jtu.tree_map(floating, x) for x in region)
    shapes = [[x.shape for x in jtu.tree_leaves(end)] for end in (low, high)]
    if jtu.tree_structure(low) != jtu.tree_structure(high) or shapes[0] != shapes[1]:
        raise ValueError(
            f"{caller}: `region` must be a pair (low, high), both in the structure and "
            f"shapes of a state, got shapes {shapes[0]} and {shapes[1]}."
        )
    less = jtu.tree_map(lambda a, b: bool(jnp.all(a < b)), low, high)
    if not all(jtu.tree_leaves(less)):
        raise ValueError(f"{caller}: `region` must have low < high everywhere.")
    return low, high


def floating(x: ArrayLike) -> Array:
    array = jnp.asarray(x)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def not_negative(caller: str, name: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise ValueError(
            f"{caller}: `{name}` must be a finite number, 0 or more, got {value!r}."
        )
    return float(value)
