"""Losses of simulated distributions against samples, and of densities against
points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._core import check_whole
from ..measures import (
    discrepancy_statistic,
    energy_statistic,
    sinkhorn_statistic,
)
from ..methods import Stack
from ..problems import FlatState
from ..solving import solve
from ._batches import check_times, check_trajectories
from ._losses import Loss, Value, solve_options
from ._trajectories import Times, timed

LawDistance = Literal["energy", "mmd", "sinkhorn"]


class LawLoss(Loss):
    """The distance of the law of solutions from that of data, at the times of data.

    A batch is trajectories, arrays of shape `(samples, times, …)`, or a pytree of such
    in the structure of the state. From each first observation solutions are simulated,
    with noise of their own; at every later time the two samples are compared, and the
    loss is the mean over times. Distances are the estimates of
    [`energy_distance`][hybrid_nds.measures.energy_distance],
    [`maximum_mean_discrepancy`][hybrid_nds.measures.maximum_mean_discrepancy] and
    [`sinkhorn_divergence`][hybrid_nds.measures.sinkhorn_divergence]; the first two are
    unbiased, and so may fall below zero.

    **Arguments:**

    - `times`: those of all trajectories, in order. For a stochastic model each must be
        a whole number of steps `dt` after the first.
    - `distance`: `"energy"`, `"mmd"` or `"sinkhorn"`.
    - `joint`: whether to compare the laws of whole paths, all times together, in place
        of those at each time.
    - `repeats`: how many solutions from each first observation.
    - `bandwidth`: of `"mmd"`; by default the median distance of each comparison.
    - `epsilon`: of `"sinkhorn"`; by default a twentieth of the mean squared distance.
    - `backend`, `solver`, `dt`, `adjoint`: as of [`solve`][hybrid_nds.solve]; on
        `"julia"` the solutions are shared among Julia's threads, and `solver` must be
        one that has derivatives there, such as `"ImplicitEM"`.
    - `args`: of the model.
    - `options`: others of [`solve`][hybrid_nds.solve], by name.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    times: tuple[float, ...] = eqx.field(static=True)
    distance: LawDistance = eqx.field(static=True)
    joint: bool = eqx.field(static=True)
    repeats: int = eqx.field(static=True)
    scale: float | None
    options: dict[str, Any]
    args: PyTree

    def __init__(
        self,
        times: Times,
        distance: LawDistance = "energy",
        *,
        joint: bool = False,
        repeats: int = 1,
        bandwidth: float | None = None,
        epsilon: float | None = None,
        backend: Stack = "diffrax",
        solver: Any = None,
        dt: Any = None,
        adjoint: Any = None,
        args: PyTree = None,
        options: Mapping[str, Any] | None = None,
    ):
        caller = "LawLoss"
        self.times = check_times(caller, times)
        if distance not in get_args(LawDistance):
            raise ValueError(
                f"{caller}: `distance` must be one of "
                f"{', '.join(get_args(LawDistance))}, got {distance!r}."
            )
        self.distance, self.joint = distance, bool(joint)
        self.repeats = check_whole(caller, "repeats", repeats)
        scales = {"mmd": ("bandwidth", bandwidth), "sinkhorn": ("epsilon", epsilon)}
        for kind, (name, value) in scales.items():
            if value is None:
                continue
            if kind != distance:
                raise ValueError(
                    f"{caller}: `{name}` is for the distance {kind!r}, got "
                    f"{distance!r}."
                )
            if not (jnp.isfinite(value) and value > 0):
                raise ValueError(
                    f"{caller}: `{name}` must be positive and finite, got {value}."
                )
        self.scale = scales.get(distance, ("", None))[1]
        stated = {"solver": solver, "dt": dt, "adjoint": adjoint, **(options or {})}
        self.options = solve_options(caller, backend, stated)
        self.args = args

    @property
    def name(self) -> str:
        return self.distance

    def __call__(self, model: PyTree, batch: PyTree, key: PRNGKeyArray) -> Value:
        caller = "LawLoss"
        samples = check_trajectories(caller, batch, len(self.times))
        if samples < 2:
            raise ValueError(
                f"{caller}: `batch` must hold at least 2 samples to be of a "
                "distribution, got 1."
            )
        if not hasattr(model, "problem"):
            raise TypeError(
                f"{caller}: `model` must have a method `problem`, as StochasticModel "
                f"has, got {type(model).__name__}."
            )
        starts = jtu.tree_map(
            lambda leaf: jnp.repeat(leaf[:, 0], self.repeats, axis=0), batch
        )
        keys = jr.split(key, samples * self.repeats)
        found = jax.vmap(lambda y0, key: self._solved(model, y0, key))(starts, keys)
        after = jtu.tree_map(lambda leaf: leaf[:, 1:], batch)
        ours, data = (_rows(tree, self.joint) for tree in (found, after))
        # One time after the other: memory for one matrix of distances alone.
        apart = jax.lax.map(lambda pair: self._between(*pair), (ours, data))
        return jnp.mean(apart), {}

    def _solved(self, model: Any, y0: PyTree, key: PRNGKeyArray) -> PyTree[Array]:
        problem = model.problem(y0, self.times[0], self.times[-1], self.args)
        noise = {"key": key} if problem.kind.follows_path else {}
        saveat = jnp.asarray(self.times[1:], problem.dtype)
        return solve(problem, saveat=saveat, **noise, **self.options).ys

    def _between(self, ours: Array, data: Array) -> Float[Array, ""]:
        if self.distance == "energy":
            return energy_statistic(ours, data)
        if self.distance == "mmd":
            return discrepancy_statistic(ours, data, self.scale)
        return sinkhorn_statistic(ours, data, self.scale)


def _rows(tree: PyTree, joint: bool) -> Float[Array, "times samples d"]:
    """States as vectors; one time alone, with all numbers of a path, where `joint`."""
    whole = FlatState.below(tree, 2).flatten(tree)
    if joint:
        return whole.reshape(1, whole.shape[0], -1)
    return jnp.swapaxes(whole, 0, 1)


class NegativeLogLikelihood(Loss):
    """The mean of $-\\log p_\\theta(x)$ over a batch of points.

    **Arguments:**

    - `hutchinson`: whether the model estimates the trace by random probes, with a key
        of its own for each point, as
        [`ContinuousNormalizingFlow`][hybrid_nds.models.ContinuousNormalizingFlow]
        does; exact otherwise.
    - `options`: passed to the model's `log_prob`.

    The model has a method `log_prob(x, key, **options)`; a batch is an array whose
    first axis is that of the points.
    """

    hutchinson: bool = eqx.field(static=True)
    options: dict[str, Any]

    def __init__(self, *, hutchinson: bool = False, **options: Any):
        self.hutchinson, self.options = bool(hutchinson), options

    @property
    def name(self) -> str:
        return "likelihood"

    def __call__(self, model: PyTree, batch: PyTree, key: PRNGKeyArray) -> Value:
        require_method("NegativeLogLikelihood", model, "log_prob")

        def of_point(x: Array, key: PRNGKeyArray) -> Array:
            return model.log_prob(x, key if self.hutchinson else None, **self.options)

        keys = jr.split(key, jnp.shape(batch)[0])
        return -jnp.mean(jax.vmap(of_point)(jnp.asarray(batch), keys)), {}


class EvidenceLoss(Loss):
    """The negative evidence lower bound of a latent model, a mean over the batch,
    $-\\mathrm{E}_q\\log p_\\theta(x\\mid z) + w\\,(\\mathrm{KL}_{z_0} +
    \\mathrm{KL}_{path})$ (Li et al. 2020, Scalable gradients for stochastic
    differential equations, section 5; Rubanova et al. 2019).

    A batch is series, of shape `(samples, times, observed)`; with `times=None` a pair
    of times, of shape `(samples, times)`, and series. The parts are the log-likelihood
    and the two divergences, in nats.

    **Arguments:**

    - `times`: those of all series, in order; `None` where each has its own.
    - `warmup`: over so many steps of the training $w$ grows from 0 to 1.
    - `options`: passed to the model's `evidence`, such as `steps`.

    The model has a method `evidence(ts, xs, key, **options)` that returns an
    [`EvidenceBound`][hybrid_nds.models.EvidenceBound].

    **Raises:** `ValueError`, naming the argument.
    """

    times: tuple[float, ...] | None = eqx.field(static=True)
    warmup: int = eqx.field(static=True)
    weight: Float[Array, ""]
    options: dict[str, Any]

    def __init__(self, times: Times | None = None, *, warmup: int = 0, **options: Any):
        caller = "EvidenceLoss"
        self.times = None if times is None else check_times(caller, times)
        if isinstance(warmup, bool) or not isinstance(warmup, int) or warmup < 0:
            raise ValueError(
                f"{caller}: `warmup` must be a number of steps, got {warmup!r}."
            )
        self.warmup, self.options = warmup, options
        self.weight = jnp.ones(())

    @property
    def name(self) -> str:
        return "evidence"

    def at(self, step: int) -> EvidenceLoss:
        """The loss at a step of the training."""
        if step >= self.warmup:
            return self
        weight = jnp.asarray(step / self.warmup, self.weight.dtype)
        return eqx.tree_at(lambda loss: loss.weight, self, weight)

    def __call__(self, model: PyTree, batch: PyTree, key: PRNGKeyArray) -> Value:
        caller = "EvidenceLoss"
        require_method(caller, model, "evidence")
        if self.times is None:
            ts, xs = timed(caller, batch)
        else:
            xs = jnp.asarray(batch)
            samples = check_trajectories(caller, xs, len(self.times))
            row = jnp.asarray(self.times, xs.dtype)
            ts = jnp.broadcast_to(row, (samples, len(self.times)))
        keys = jr.split(key, ts.shape[0])

        def of_series(ts: Array, xs: Array, key: PRNGKeyArray) -> tuple[Array, ...]:
            bound = model.evidence(ts, xs, key, **self.options)
            return bound.log_likelihood, bound.initial, bound.path

        seen, initial, path = map(jnp.mean, jax.vmap(of_series)(ts, xs, keys))
        weight = self.weight.astype(seen.dtype)
        parts = {"log_likelihood": seen, "initial": initial, "path": path}
        return weight * (initial + path) - seen, parts


def require_method(caller: str, model: Any, name: str) -> None:
    """Refuse a model without a method."""
    if not callable(getattr(model, name, None)):
        raise TypeError(
            f"{caller}: `model` must have a method `{name}`, but "
            f"{type(model).__name__} has none."
        )
