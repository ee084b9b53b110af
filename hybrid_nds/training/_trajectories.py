"""Losses of solutions against trajectories of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from ..methods import Stack
from ..models import assemble
from ..solving import solve
from ._batches import check_times, check_trajectories
from ._losses import Loss, Value, field_problem, solve_options

Times = Sequence[float] | Float[ArrayLike, " times"]


class TrajectoryLoss(Loss):
    """The mean squared error of solutions at the times of data,

    $$\\ell = \\frac{1}{B(K-1)d}\\sum_{b=1}^{B}\\sum_{k=2}^{K}
    |o(y_b(t_k)) - x_{bk}|^2,\\qquad \\dot y_b = f_\\theta(t, y_b, a),\\quad
    y_b(t_1) = \\iota(x_{b1}),$$

    over the `d` numbers of an observation. The first one is where the solution starts.

    A batch is trajectories, arrays of shape `(samples, times, …)`, or a pytree of such
    in the structure of the state; with `times=None` a pair of times, of shape
    `(samples, times)`, and trajectories.

    **Arguments:**

    - `times`: those of all trajectories, in order; `None` where each has its own.
    - `backend`, `solver`, `rtol`, `atol`, `dt`, `adjoint`, `max_steps`: as of
        [`solve`][hybrid_nds.solve], which solves for each trajectory; `None` takes its
        default. On `"julia"` a batch is shared among Julia's threads, and `solver` must
        be one that has derivatives there, such as `"Rodas5P"`.
    - `args`: of the field.
    - `initial`: $\\iota$, a function `initial(model, x)` to the state that a first
        observation stands for; the observation itself by default.
    - `observe`: $o$, a function `observe(model, y)` from a state to what is observed;
        the state itself by default.
    - `options`: others of [`solve`][hybrid_nds.solve], by name.

    **Raises:** `ValueError` or `TypeError`, naming the argument.
    """

    needs_finite: ClassVar[bool] = True

    times: tuple[float, ...] | None = eqx.field(static=True)
    options: dict[str, Any]
    args: PyTree
    initial: Callable[[Any, Any], Any] | None
    observe: Callable[[Any, Any], Any] | None
    count: int | None = eqx.field(static=True)

    def __init__(
        self,
        times: Times | None = None,
        *,
        backend: Stack = "diffrax",
        solver: Any = None,
        rtol: Any = None,
        atol: Any = None,
        dt: Any = None,
        adjoint: Any = None,
        max_steps: int | None = None,
        args: PyTree = None,
        initial: Callable[[Any, Any], Any] | None = None,
        observe: Callable[[Any, Any], Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ):
        caller = "TrajectoryLoss"
        self.times = None if times is None else check_times(caller, times)
        stated = {"solver": solver, "rtol": rtol, "atol": atol, "dt": dt}
        stated |= {"adjoint": adjoint, "max_steps": max_steps, **(options or {})}
        self.options = solve_options(caller, backend, stated)
        self.args = args
        for name, function in (("initial", initial), ("observe", observe)):
            if function is not None and not callable(function):
                raise TypeError(
                    f"{caller}: `{name}` must be a function of the model and an array, "
                    f"got {function!r}."
                )
        self.initial, self.observe = initial, observe
        self.count = None

    @property
    def name(self) -> str:
        return "trajectory"

    def within(self, horizon: float) -> TrajectoryLoss:
        """The loss on the data up to `horizon` after their first time alone.

        **Raises:** `ValueError` if `times` is `None`, or none but the first is so near.
        """
        if self.times is None:
            raise ValueError(
                "TrajectoryLoss.within: needs `times` that all trajectories share."
            )
        count = count_within("TrajectoryLoss", self.times, horizon)
        return assemble(TrajectoryLoss, **(vars(self) | {"count": count}))

    def __call__(self, model: PyTree, batch: PyTree, key: PRNGKeyArray) -> Value:
        caller = "TrajectoryLoss"
        if self.times is not None:
            check_trajectories(caller, batch, len(self.times))
            upto = self.count
            data = jtu.tree_map(lambda leaf: leaf[:, :upto], batch)
            ts = jnp.asarray(self.times[:upto], jtu.tree_leaves(batch)[0].dtype)
            found = jax.vmap(lambda x: self._solved(model, ts, x))(data)
        else:
            ts, data = timed(caller, batch)
            found = jax.vmap(lambda ts, x: self._solved(model, ts, x))(ts, data)
        after = jtu.tree_map(lambda leaf: leaf[:, 1:], data)
        return mean_square(caller, found, after), {}

    def _solved(self, model: PyTree, ts: Array, data: PyTree) -> PyTree[Array]:
        first = jtu.tree_map(lambda leaf: leaf[0], data)
        y0 = first if self.initial is None else self.initial(model, first)
        ys = solved_at(model, ts, y0, self.args, self.options, "TrajectoryLoss")
        if self.observe is None:
            return ys
        observe = self.observe
        return jax.vmap(lambda y: observe(model, y))(ys)


def solved_at(
    model: PyTree,
    ts: Array,
    y0: PyTree,
    args: PyTree,
    options: Mapping[str, Any],
    caller: str,
) -> PyTree[Array]:
    """The solution at all times after the first."""
    problem = field_problem(caller, model, y0, ts[0], ts[-1], args)
    return solve(problem, saveat=ts[1:], **options).ys


def mean_square(caller: str, found: PyTree, data: PyTree) -> Float[Array, ""]:
    """The mean of squared differences over all numbers of two pytrees."""
    shapes = [[x.shape for x in jtu.tree_leaves(tree)] for tree in (found, data)]
    same = jtu.tree_structure(found) == jtu.tree_structure(data)
    if not same or shapes[0] != shapes[1]:
        raise ValueError(
            f"{caller}: `batch` holds observations of shapes {shapes[1]} after the "
            f"first time, but the model's are of shapes {shapes[0]}; give `initial` "
            "and `observe` where the state is more than the data."
        )
    squares = jtu.tree_map(lambda a, b: jnp.sum((a - b) ** 2), found, data)
    count = sum(x.size for x in jtu.tree_leaves(data))
    return jnp.sum(jnp.stack(jtu.tree_leaves(squares))) / count


def timed(caller: str, batch: Any) -> tuple[Array, PyTree]:
    """A batch that is a pair of times and trajectories."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError(
            f"{caller}: `batch` must be a pair (times, trajectories) where the loss "
            f"has no `times`, got {type(batch).__name__}."
        )
    ts = jnp.asarray(batch[0])
    if ts.ndim != 2 or ts.shape[1] < 2:
        raise ValueError(
            f"{caller}: the times of `batch` must have shape (samples, times) with at "
            f"least two times, got {ts.shape}."
        )
    samples = check_trajectories(caller, batch[1], ts.shape[1])
    if samples != ts.shape[0]:
        raise ValueError(
            f"{caller}: `batch` holds times of {ts.shape[0]} samples, but trajectories "
            f"of {samples}."
        )
    return ts, batch[1]


def count_within(caller: str, times: tuple[float, ...], horizon: float) -> int:
    """How many of the times are at most a horizon after the first."""
    reach = abs(horizon) * (1 + 1e-9)
    count = sum(abs(t - times[0]) <= reach for t in times)
    if count < 2:
        raise ValueError(
            f"{caller}: a horizon of {horizon} reaches no time after the first, "
            f"{times[0]}; the next is {times[1]}."
        )
    return count
