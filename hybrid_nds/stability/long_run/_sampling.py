"""Long runs of several chains, observed at equal intervals."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..._core import check_positive, check_whole
from ...analysis import AnalysisError, SavedProgress, progress_bar
from ...backends import Integration
from ...ensembles import EnsembleError, ensemble
from ...problems import FlatState, ODEProblem, SDEProblem, forward_problem
from ...solution import Provenance
from ..growth import Sampling, times_of

# States that a segment computes: between two of them a run can be interrupted.
_STATES = 2**22
_STEPS = 2**15
_LEAST = 100


@dataclasses.dataclass(frozen=True)
class SamplePlan:
    """**Fields:** the analysis; the time between samples; samples in a segment, which
    is solved in one call; segments; samples of burn-in; chains; its step."""

    caller: str
    interval: float
    per_segment: int
    segments: int
    burn_in: int
    chains: int
    dt: float | None

    @property
    def samples(self) -> int:
        """Samples of each chain after the burn-in."""
        return self.per_segment * self.segments - self.burn_in

    def twice(self) -> tuple[SamplePlan, int]:
        """The same run in steps twice as long, and how many samples of this one are one
        of that."""
        assert self.dt is not None
        stride = 2 if round(self.interval / self.dt) % 2 else 1
        other = dataclasses.replace(
            self,
            dt=2 * self.dt,
            interval=stride * self.interval,
            per_segment=self.per_segment // stride,
            burn_in=self.burn_in // stride,
        )
        return other, stride

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "chains": self.chains,
            "time": self.samples * self.interval,
            "transient": self.burn_in * self.interval,
            "sampling": self.interval,
        }


@dataclasses.dataclass(frozen=True)
class Samples:
    """**Fields:** what was observed after the burn-in, shape `(chains, samples, k)`;
    where it comes from; what ran it."""

    values: Float[np.ndarray, "chains samples k"]
    provenance: Provenance
    runner: str


@dataclasses.dataclass(frozen=True)
class Twice:
    """**Fields:** the samples of steps twice as long, `None` where these diverged; how
    many samples of the shorter steps make one of theirs."""

    values: Float[np.ndarray, "chains samples k"] | None
    stride: int


DIVERGED_TWICE = (
    "with steps twice as long chains diverge: the error of the step may be large; take "
    "a shorter `dt`, or an implicit `solver`."
)


def heading(name: str, observables: int, result: Any) -> list[str]:
    """The first lines of a summary: what was run, and what keeps it from converging."""
    where, settings = result.provenance, result.settings
    lines = [
        f"{name} of {observables} observable{'s' if observables > 1 else ''}, "
        f"{where.solver} on {where.backend}, {settings['chains']} chains over a time "
        f"of {settings['time']:g} after {settings['transient']:g}"
    ]
    if not result.converged:
        lines += ["NOT CONVERGED:", *(f"  {note}" for note in result.notes)]
    return lines


def sample_plan(
    caller: str,
    problem: ODEProblem | SDEProblem,
    step: float | None,
    sampling: Sampling,
) -> SamplePlan:
    """The arguments in normal form.

    **Raises:** `ValueError`, naming the argument.
    """
    number = check_whole(caller, "chains", sampling.chains)
    span = abs(float(problem.t1) - float(problem.t0))
    time, transient = times_of(caller, span, sampling.time, sampling.transient)
    if sampling.interval is not None:
        interval = check_positive(caller, "sampling", sampling.interval)
        steps = 1 if step is None else round(interval / step)
        if step is not None and (
            steps < 1 or abs(interval / step - steps) > 1e-6 * steps
        ):
            raise ValueError(
                f"{caller}: `sampling` must be whole steps of `dt`, {step:g}, got "
                f"{interval:g}."
            )
    else:
        interval = time / 10_000
        steps = 1
        if step is not None:
            steps = max(1, math.floor(interval / step))
            interval = steps * step
    samples = math.ceil(time / interval - 1e-9)
    if samples < _LEAST:
        raise ValueError(
            f"{caller}: a time of {time:g} holds {samples} samples {interval:g} apart, "
            f"of {_LEAST} needed to estimate errors; give a longer `time`, or a "
            "shorter `sampling`."
        )
    burn_in = math.ceil(transient / interval - 1e-9)
    # Samples of steps twice as long fall on every sample, or on every other.
    odd = steps % 2 if step is not None else 0
    burn_in += burn_in % 2 * odd
    total = samples + burn_in
    most = max(1, min(_STATES // (number * steps), _STEPS // steps, total))
    segments = math.ceil(total / most)
    # All segments are of one length, so that they are compiled as one.
    per_segment = math.ceil(total / segments)
    per_segment += per_segment % 2 * odd
    return SamplePlan(caller, interval, per_segment, segments, burn_in, number, step)


def check_autonomous(
    caller: str, problem: ODEProblem | SDEProblem, states: np.ndarray
) -> None:
    """Refuse fields that change with time, which have no invariant distribution."""
    given = jnp.asarray(states, problem.dtype)
    moved = np.asarray(eqx.filter_jit(_time_derivatives)(problem, given))
    if np.any(moved != 0):
        raise ValueError(
            f"{caller}: `problem` must not depend on time, but its field changes with "
            "t, so that no distribution stays as it is. For a periodic one add the "
            "phase to the "
            "state."
        )


def _time_derivatives(problem: ODEProblem | SDEProblem, states: Array) -> Array:
    state = problem.flat_state
    problem = forward_problem(problem)

    def fields(t: Array, y: PyTree) -> PyTree:
        return [function(t, y, problem.args) for function in problem.functions]

    def one(u: Array) -> Array:
        y = state.unflatten(u)
        moved = jax.jvp(
            lambda t: fields(t, y), (problem.t0,), (jnp.ones_like(problem.t0),)
        )
        return jnp.stack([jnp.max(jnp.abs(x)) for x in jtu.tree_leaves(moved[1])]).max()

    return jax.vmap(one)(states)


def check_observable(caller: str, problem: Any, observable: Any) -> None:
    """Refuse what is no function of the state into real numbers."""
    if observable is None:
        return
    if not callable(observable):
        raise TypeError(
            f"{caller}: `observable` must be a callable of one state, got "
            f"{type(observable).__name__}."
        )
    try:
        shape = eqx.filter_eval_shape(observable, problem.flat_state.structure)
    except Exception as error:
        raise ValueError(
            f"{caller}: `observable` could not be evaluated for one state: "
            f"{type(error).__name__}: {error}"
        ) from error
    leaves = jtu.tree_leaves(shape)
    real = all(
        isinstance(leaf, jax.ShapeDtypeStruct)
        and jnp.issubdtype(leaf.dtype, jnp.floating)
        for leaf in leaves
    )
    if not leaves or not real:
        raise ValueError(
            f"{caller}: `observable` must return real floating-point arrays for one "
            f"state, got {shape}."
        )


@eqx.filter_jit
def _observe(observable: Callable, structure: PyTree, states: Array) -> Array:
    state = FlatState(structure)

    def one(u: Array) -> Array:
        return ravel_pytree(observable(state.unflatten(u)))[0]

    return jax.vmap(jax.vmap(one))(states)


def sample_chains(
    problem: ODEProblem | SDEProblem,
    plan: SamplePlan,
    starts: Float[np.ndarray, "chains n"],
    *,
    observable: Callable[[PyTree], Any] | None,
    integration: Integration,
    saved: SavedProgress | None,
    progress: bool,
) -> Samples:
    """Follow all chains to the end, segment by segment.

    **Arguments:** flat initial states; the observable, `None` for the state.

    **Raises:** [`AnalysisError`][hybrid_nds.analysis.AnalysisError] for a chain that
    diverges.
    """
    caller, state = plan.caller, problem.flat_state
    times = plan.interval * np.arange(1, plan.per_segment + 1)
    times = times.astype(problem.dtype)
    # The field does not depend on time: one span, and one compilation, serves all.
    span = jnp.zeros_like(problem.t0), jnp.asarray(times[-1])
    moved = eqx.tree_at(lambda p: (p.t0, p.t1), problem, span)
    dt = plan.dt
    if dt is not None:
        # As the span is in the problem's precision, of which steps are a whole number.
        dt = float(times[-1]) / round(plan.per_segment * plan.interval / dt)
    states, parts, done = starts, [], 0
    provenance, runner = None, ""
    kept = None if saved is None else saved.read()
    if kept is not None:
        states, parts = kept["states"], [kept["values"]]
        done = int(kept["done"])
        fields, runner = json.loads(str(kept["origin"]))
        provenance = Provenance.from_dict(fields)
    with progress_bar(progress, caller, plan.segments, done) as advance:
        for segment in range(done, plan.segments):
            before = plan.interval * plan.per_segment * segment
            try:
                found = ensemble(
                    moved,
                    plan.chains,
                    key=jr.fold_in(integration.own_key, segment),
                    backend=integration.backend,
                    solver=integration.solver,
                    dt=dt,
                    rtol=integration.rtol,
                    atol=integration.atol,
                    threads=integration.threads,
                    saveat=times,
                    initial=state.unflatten(states),
                    throw=True,
                )
            except EnsembleError as error:
                raise _diverged(caller, error, before, plan.chains) from error
            flat = np.asarray(state.flatten(found.ys))
            values = flat
            if observable is not None:
                values = np.asarray(
                    _observe(observable, state.structure, jnp.asarray(flat))
                )
            values = np.asarray(values, np.float64)
            if not np.all(np.isfinite(values)):
                chain, index, _ = np.argwhere(~np.isfinite(values))[0]
                state = np.array2string(flat[chain, index], precision=4, threshold=8)
                raise AnalysisError(
                    f"{caller}: `observable` is not finite in chain {chain} at a time "
                    f"of {before + times[index]:.6g}, where the state is {state}."
                )
            states = flat[:, -1]
            parts.append(values)
            provenance, runner = cast(Provenance, found.provenance), found.runner
            advance(1)
            if saved is not None:
                parts = [np.concatenate(parts, axis=1)]
                origin = json.dumps([provenance.as_dict(), runner])
                saved.write(
                    {
                        "states": states,
                        "values": parts[0],
                        "done": np.asarray(segment + 1),
                        "origin": np.array(origin),
                    }
                )
    values = np.concatenate(parts, axis=1)[:, plan.burn_in :]
    assert provenance is not None
    return Samples(values, provenance, runner)


def _diverged(
    caller: str, error: EnsembleError, before: float, chains: int
) -> AnalysisError:
    failures = error.ensemble.failures
    first = min(failures, key=lambda one: one.time)
    return AnalysisError(
        f"{caller}: {len(failures)} of {chains} chains diverged, chain {first.index} "
        f"first, at a time of {before + first.time:.6g} ({first.outcome}). Take a "
        "shorter `dt` or an implicit `solver`; if the system itself escapes, it has no "
        "invariant distribution, or chains must start within the basin of one "
        "(`initial`)."
    )
