"""Long trajectories in pieces: multiple shooting, and horizons that grow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..methods import Stack
from ._batches import check_times, check_trajectories
from ._losses import Loss, Value, solve_options
from ._trajectories import Times, mean_square, solved_at


class ShootingModel(eqx.Module):
    """A model together with the states that its segments start from, trained as one.

    **Fields:** `model`, and `starts`, arrays of shape `(samples, segments, …)` in the
    structure of the state. Made by
    [`MultipleShooting.model`][hybrid_nds.training.MultipleShooting.model].
    """

    model: PyTree
    starts: PyTree[Array]


class MultipleShooting(Loss):
    """The mean squared error of solutions over short segments of trajectories, and how
    far each ends from where the next one starts,

    $$\\ell = \\langle|y_s(t) - x(t)|^2\\rangle + c\\,\\langle|y_s(t_{s+1}) -
    y_{s+1}(t_{s+1})|^2\\rangle,$$

    means over samples, segments $s$, times and components (Bock & Plitt 1984; for
    neural equations Turan & Jäschke 2021, Multiple shooting for training neural
    differential equations on time series, equation 6). Gradients cannot grow over
    longer than a segment.

    Segments start from the data, and a batch is trajectories of shape
    `(samples, times, …)`. Or they start from parameters: then the model is a
    [`ShootingModel`][hybrid_nds.training.ShootingModel], a batch the pair of the
    indices of its samples, shape `(samples,)`, and the trajectories, and the first
    points of segments count among the misses. The parts are `miss` and `gap`, the two
    means.

    **Arguments:**

    - `times`: those of all trajectories, in order.
    - `segments`: how many; the intervals between times must divide by it.
    - `continuity`: $c$, 0 or more.
    - `backend`, `solver`, `rtol`, `atol`, `dt`, `adjoint`, `max_steps`, `args`,
        `options`: as of [`TrajectoryLoss`][hybrid_nds.training.TrajectoryLoss].

    **Raises:** `ValueError`, naming the argument.
    """

    needs_finite: ClassVar[bool] = True

    times: tuple[float, ...] = eqx.field(static=True)
    segments: int = eqx.field(static=True)
    continuity: float | Array
    options: dict[str, Any]
    args: PyTree

    def __init__(
        self,
        times: Times,
        segments: int,
        *,
        continuity: float = 1.0,
        backend: Stack = "diffrax",
        solver: Any = None,
        rtol: Any = None,
        atol: Any = None,
        dt: Any = None,
        adjoint: Any = None,
        max_steps: int | None = None,
        args: PyTree = None,
        options: Mapping[str, Any] | None = None,
    ):
        caller = "MultipleShooting"
        self.times = check_times(caller, times)
        intervals = len(self.times) - 1
        whole = isinstance(segments, int) and not isinstance(segments, bool)
        if not whole or segments < 1 or intervals % segments:
            raise ValueError(
                f"{caller}: `segments` must divide the {intervals} intervals between "
                f"`times`, got {segments!r}."
            )
        self.segments = segments
        if not 0 <= continuity < math.inf:
            raise ValueError(
                f"{caller}: `continuity` must be a finite number, 0 or more, got "
                f"{continuity!r}."
            )
        self.continuity = continuity
        stated = {"solver": solver, "rtol": rtol, "atol": atol, "dt": dt}
        stated |= {"adjoint": adjoint, "max_steps": max_steps, **(options or {})}
        self.options = solve_options(caller, backend, stated)
        self.args = args

    @property
    def name(self) -> str:
        return "shooting"

    def model(self, model: PyTree, data: PyTree) -> ShootingModel:
        """A model with the starts of its segments as parameters, first those of data.

        **Arguments:** the model; trajectories of all samples, shape
        `(samples, times, …)`.

        **Returns:** a [`ShootingModel`][hybrid_nds.training.ShootingModel]. Train it on
        `(jnp.arange(samples), data)`; its `model` is the one wanted.
        """
        check_trajectories("MultipleShooting", data, len(self.times))
        return ShootingModel(model, self._pieces(data, first=True))

    def __call__(self, model: PyTree, batch: PyTree, key: PRNGKeyArray) -> Value:
        caller = "MultipleShooting"
        free = isinstance(model, ShootingModel)
        if free:
            indices, data = _indexed(caller, batch, len(self.times))
            starts = jtu.tree_map(lambda x: x[indices], model.starts)
            field = model.model
        else:
            check_trajectories(caller, batch, len(self.times))
            data, field = batch, model
            starts = self._pieces(data, first=True)
        pieces = self._pieces(data)
        dtype = jtu.tree_leaves(data)[0].dtype
        rows = jnp.asarray(self.times, dtype)
        length = (len(self.times) - 1) // self.segments
        begin = jnp.arange(self.segments) * length
        ts = rows[begin[:, None] + jnp.arange(length + 1)[None]]

        def solved(ts: Array, y0: PyTree) -> PyTree[Array]:
            return solved_at(field, ts, y0, self.args, self.options, caller)

        found = jax.vmap(jax.vmap(solved), (None, 0))(ts, starts)
        ends = jtu.tree_map(lambda x: x[:, :-1, -1], found)
        nexts = jtu.tree_map(lambda x: x[:, 1:], starts)
        if free:
            # Starts are no data here, and may miss them.
            found = jtu.tree_map(
                lambda a, x: jnp.concatenate([a[:, :, None], x], axis=2), starts, found
            )
        else:
            pieces = jtu.tree_map(lambda x: x[:, :, 1:], pieces)
        miss = mean_square(caller, found, pieces)
        gap = jnp.zeros_like(miss)
        if self.segments > 1:
            gap = mean_square(caller, ends, nexts)
        weight = jnp.asarray(self.continuity, miss.dtype)
        return miss + weight * gap, {"miss": miss, "gap": gap}

    def _pieces(self, data: PyTree, first: bool = False) -> PyTree[Array]:
        """The data of each segment, both ends included, or its first point alone."""
        length = (len(self.times) - 1) // self.segments
        begin = jnp.arange(self.segments) * length
        positions = begin if first else begin[:, None] + jnp.arange(length + 1)[None]
        return jtu.tree_map(lambda x: jnp.asarray(x)[:, positions], data)


class GrowingHorizon(Loss):
    """A loss on a part of each trajectory that grows with the step of the training.

    Long solutions of a model that is not yet trained say little about it, and their
    gradients may be huge; short ones come first.
    [`fit`][hybrid_nds.training.fit] compiles once for each horizon.

    **Arguments:**

    - `loss`: a [`TrajectoryLoss`][hybrid_nds.training.TrajectoryLoss] with `times`, or
        any loss with a method `within(horizon)`.
    - `horizons`: from each step on, how much time after the first: `{0: 0.5, 200: 2.0,
        500: None}`; `None` is all of it. It must begin with step 0.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    loss: Any
    steps: tuple[int, ...] = eqx.field(static=True)
    stages: tuple[Any, ...]

    def __init__(self, loss: Any, horizons: Mapping[int, float | None]):
        caller = "GrowingHorizon"
        if not callable(getattr(loss, "within", None)):
            raise TypeError(
                f"{caller}: `loss` must have a method `within`, as TrajectoryLoss has, "
                f"got {type(loss).__name__}."
            )
        steps = tuple(sorted(horizons))
        whole = all(isinstance(k, int) and not isinstance(k, bool) for k in steps)
        if not steps or not whole or steps[0] != 0:
            raise ValueError(
                f"{caller}: `horizons` must map steps to times, step 0 among them, got "
                f"{dict(horizons)!r}."
            )
        self.loss, self.steps = loss, steps
        reaches = [horizons[step] for step in steps]
        self.stages = tuple(
            loss if reach is None else loss.within(reach) for reach in reaches
        )

    @property
    def name(self) -> str:
        return getattr(self.loss, "name", "horizon")

    def at(self, step: int) -> Any:
        """The loss at a step of the training."""
        return self.stages[sum(step >= begin for begin in self.steps) - 1]

    def __call__(self, model: PyTree, batch: PyTree, key: PRNGKeyArray) -> Value:
        return self.loss(model, batch, key)


def _indexed(caller: str, batch: Any, times: int) -> tuple[Array, PyTree]:
    """A batch that is a pair of indices and trajectories."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError(
            f"{caller}: `batch` must be a pair (indices, trajectories) for a "
            f"ShootingModel, got {type(batch).__name__}."
        )
    indices = jnp.asarray(batch[0])
    samples = check_trajectories(caller, batch[1], times)
    whole = jnp.issubdtype(indices.dtype, jnp.integer)
    if indices.shape != (samples,) or not whole:
        raise ValueError(
            f"{caller}: the indices of `batch` must be integers of shape ({samples},), "
            f"one for each trajectory, got shape {indices.shape} and dtype "
            f"{indices.dtype}."
        )
    return indices, batch[1]
