"""How a Lyapunov spectrum is to be computed: the arguments in normal form."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

from ..._core import check_positive, check_whole, is_concrete
from ...backends import Integration
from ...ensembles import check_initial
from ...noise import BrownianPath, NativePath, StoredPath
from ...problems import ODEProblem, SDEProblem, check_kind, tangent_problem

_LEAST = 20
_STEPS = 10


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How long to follow how many orbits, as an analysis is asked for it.

    **Fields:** the time to average over; the time before; the time between samples,
    or orthonormalizations; how many orbits; where they start.
    """

    time: float | None
    transient: float | None
    interval: float | None
    chains: int
    initial: Any


@dataclasses.dataclass(frozen=True)
class LyapunovPlan:
    """**Fields:** how many exponents; the length of an interval; how many intervals of
    burn-in, and how many to average over; how many chains."""

    exponents: int
    interval: float
    burn_in: int
    averaged: int
    chains: int

    @property
    def intervals(self) -> int:
        """All intervals."""
        return self.burn_in + self.averaged

    def divided(self, parts: int) -> LyapunovPlan:
        """The same time in intervals of which each is a part of one here."""
        return dataclasses.replace(
            self,
            interval=self.interval / parts,
            burn_in=self.burn_in * parts,
            averaged=self.averaged * parts,
        )


def check_lyapunov_problem(caller: str, problem: Any) -> None:
    """Refuse what has no variational flow, or is being traced."""
    check_kind(caller, problem, "ode", "sde")
    if not all(is_concrete(leaf) for leaf in jtu.tree_leaves(problem)):
        raise TypeError(
            f"{caller}: `problem` must be concrete: the analysis runs in segments from "
            "Python, and cannot be traced by jax.jit or jax.grad."
        )
    if not problem.kind.follows_path and float(problem.t1) < float(problem.t0):
        raise ValueError(
            f"{caller}: `problem` must run forward, got t0={float(problem.t0)} and "
            f"t1={float(problem.t1)}; for the flow backward in time change the sign of "
            "the field."
        )


def times_of(
    caller: str, span: float, time: Any, transient: Any
) -> tuple[float, float]:
    """The time to average over and the one before it, by default of a span.

    **Raises:** `ValueError`, naming the argument.
    """
    if transient is not None:
        transient = check_positive(caller, "transient", transient, zero=True)
    if time is not None:
        time = check_positive(caller, "time", time)
        return time, time / 9 if transient is None else transient
    if not math.isfinite(span):
        raise ValueError(
            f"{caller}: `time` must be given where the span of `problem` is infinite."
        )
    time = 0.9 * span if transient is None else span - transient
    if time <= 0:
        raise ValueError(
            f"{caller}: `transient` of {transient:g} leaves nothing of the span of "
            f"{span:g}; give a `time`, or a shorter `transient`."
        )
    return time, time / 9 if transient is None else transient


def make_plan(
    caller: str,
    problem: ODEProblem | SDEProblem,
    exponents: int | None,
    integration: Integration,
    sampling: Sampling,
) -> LyapunovPlan:
    """The arguments in normal form.

    **Raises:** `ValueError`, naming the argument.
    """
    n = problem.dimension
    count = (
        n if exponents is None else check_whole(caller, "exponents", exponents, most=n)
    )
    number = check_whole(caller, "chains", sampling.chains)
    span = float(problem.t1) - float(problem.t0)
    interval, step, path = sampling.interval, integration.dt, integration.path
    if path is not None and number > 1:
        raise ValueError(
            f"{caller}: a `path` is for one chain, got chains={number}; pass `key`, of "
            "which every chain gets noise of its own."
        )
    if path is not None:
        return _along_path(caller, count, sampling, path)
    time, transient = times_of(caller, span, sampling.time, sampling.transient)
    if interval is not None:
        interval = check_positive(caller, "interval", interval)
        if step is not None:
            _check_whole_steps(caller, interval, step)
    elif step is not None:
        interval = max(1, min(_STEPS, math.floor(time / _LEAST / step))) * step
    else:
        interval = _default_interval(problem, count, time)
    averaged = math.ceil(time / interval - 1e-9)
    _check_enough(caller, averaged, time, interval)
    burn_in = math.ceil(transient / interval - 1e-9)
    return LyapunovPlan(count, interval, burn_in, averaged, number)


def _along_path(
    caller: str,
    count: int,
    sampling: Sampling,
    path: BrownianPath | StoredPath | NativePath,
) -> LyapunovPlan:
    interval, transient = sampling.interval, sampling.transient
    if transient is not None:
        transient = check_positive(caller, "transient", transient, zero=True)
    if sampling.time is not None:
        raise ValueError(
            f"{caller}: a `path` says how long to go: leave out `time`, and give a "
            "`transient` to leave out its start."
        )
    span = float(path.t1) - float(path.t0)
    if interval is None:
        divisors = (s for s in range(_STEPS, 0, -1) if path.steps % s == 0)
        steps = next(divisors)
    else:
        steps = round(check_positive(caller, "interval", interval) / path.dt)
    if (
        steps < 1
        or path.steps % steps
        or (interval is not None and abs(interval / path.dt - steps) > 1e-6 * steps)
    ):
        raise ValueError(
            f"{caller}: `interval` must be whole steps of `path` and divide its "
            f"{path.steps} steps of {path.dt:.9g} evenly, got {interval!r}."
        )
    interval = steps * path.dt
    whole = path.steps // steps
    burn_in = (
        whole // 10 if transient is None else math.ceil(transient / interval - 1e-9)
    )
    _check_enough(caller, whole - burn_in, span, interval)
    return LyapunovPlan(count, interval, burn_in, whole - burn_in, 1)


def _check_whole_steps(caller: str, interval: float, dt: float) -> None:
    steps = interval / dt
    if round(steps) < 1 or abs(steps - round(steps)) > 1e-6 * max(1.0, steps):
        raise ValueError(
            f"{caller}: `interval` must be whole steps of `dt`, got {interval:g} and "
            f"{dt:g}; {max(1, round(steps)) * dt:g} is."
        )


def _check_enough(caller: str, count: int, time: float, interval: float) -> None:
    if count < _LEAST:
        raise ValueError(
            f"{caller}: a time of {time:g} holds {max(count, 0)} intervals of "
            f"{interval:g}, of {_LEAST} needed to estimate errors; give a longer "
            "`time`, or a shorter `interval`."
        )


def _default_interval(
    problem: ODEProblem | SDEProblem, count: int, time: float
) -> float:
    """A thousandth of the time; for several exponents shorter where the field is
    fast, so that tangent vectors stay apart."""
    if count == 1 or problem.kind.follows_path:
        return time / 1000
    n = problem.dimension
    tangent = tangent_problem(problem, np.eye(n))
    moved = tangent.field(problem.t0, tangent.y0, problem.args)[1]  # pyright: ignore
    size = float(np.linalg.norm(np.asarray(moved), 2))
    return min(time / 1000, 10 / size) if size > 0 else time / 1000


def start_states(
    caller: str,
    problem: ODEProblem | SDEProblem,
    initial: Any,
    chains: int,
    key: Any,
) -> np.ndarray:
    """The flat initial states of all chains, shape `(chains, n)`."""
    if callable(initial) and key is None:
        raise ValueError(
            f"{caller}: `initial` is a callable key -> y0, and needs a `key`."
        )
    if initial is None and not problem.kind.follows_path and chains > 1:
        raise ValueError(
            f"{caller}: all chains of an ODEProblem are the same without `initial`: "
            f"pass a callable key -> y0, or arrays with a leading axis of {chains}."
        )
    checked = check_initial(initial, problem, chains, key, caller)
    if checked is None:
        flat = np.asarray(problem.flat_state.flatten(problem.y0))
        return np.tile(flat, (chains, 1))
    if callable(checked):
        # Apart from the keys of the noise, which fold in the chain first.
        keys = jr.split(jr.fold_in(key, 2**31 - 1), chains)
        checked = jax.vmap(checked)(keys)
    return np.asarray(problem.flat_state.flatten(checked))


def start_directions(n: int, k: int, chains: int) -> np.ndarray:
    """Orthonormal directions with no preference for any axis, shape `(chains, n, k)`:
    unit vectors may span what the flow leaves invariant, and miss what grows."""
    random = np.random.default_rng(20240607)
    return np.linalg.qr(random.standard_normal((chains, n, k)))[0]
