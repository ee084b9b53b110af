"""Mean exit times, with what leaves and comes back between two steps accounted for."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.stats
from jaxtyping import Float, Int, PRNGKeyArray

from ..._core import (
    Panels,
    check_key,
    check_level,
    check_positive,
    check_whole,
    precision_of,
)
from ...analysis import AnalysisError, AnalysisResult, SavedProgress, progress_bar
from ...backends import Integration
from ...ensembles import ensemble
from ...problems import SDEProblem, arrays_text, check_kind, digest, problem_fingerprint
from ...solution import Provenance
from ._exit_native import NativeRun, censored, native_scheme
from ._exit_steps import Crossings, Levels, region_levels

Correction = Literal["bridge", "shift", "none"]
# Steps between two looks at who is still inside, and states held meanwhile.
_SEGMENT_STEPS, _NUMBERS = 256, 2**21


@dataclasses.dataclass(frozen=True, eq=False)
class ExitTime(AnalysisResult):
    """A mean exit time.

    **Fields:**

    - `mean`: in the problem's unit of time; `standard_error`, from sampling; `low`,
        `high`, its interval.
    - `step_error`: the difference to the mean in steps twice as long, which is more
        than what is left of the discretization's bias where that is halved with the
        step; NaN where it was not asked for.
    - `times`: of each trajectory, shape `(n,)`.
    - `through`: the boundary each left by, in the order of `region`, shape `(n,)`.
    - `settings`, `provenance`: see
        [`AnalysisResult`][hybrid_nds.analysis.AnalysisResult].
    """

    estimate: ClassVar = ("mean", "low", "high")

    mean: float
    standard_error: float
    low: float
    high: float
    step_error: float
    times: Float[np.ndarray, " trajectory"]
    through: Int[np.ndarray, " trajectory"]
    settings: Mapping[str, Any]
    provenance: Provenance

    @property
    def shares(self) -> Float[np.ndarray, " boundary"]:
        """The share of the trajectories that left by each boundary."""
        count = int(self.settings["boundaries"])
        return np.bincount(self.through, minlength=count) / self.times.size

    def summary(self) -> str:
        level = self.settings["level"]
        lines = [
            f"mean exit time {self.mean:.6g} ± {self.standard_error:.2g} (sampling), "
            f"{level:.4g} interval [{self.low:.6g}, {self.high:.6g}]",
            f"{self.times.size} trajectories, all of which left; steps of "
            f"{self.settings['dt']:.4g}, correction {self.settings['correction']}",
        ]
        if math.isfinite(self.step_error):
            lines.append(f"with twice the step it is {self.step_error:+.2g} off")
        if self.shares.size > 1:
            lines.append("left by: " + ", ".join(f"{s:.3f}" for s in self.shares))
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots()
        ordered = np.sort(self.times)
        staying = 1 - np.arange(1, ordered.size + 1) / ordered.size
        axes.semilogy(ordered[:-1], staying[:-1], label="share still inside")
        axes.semilogy(
            ordered[:-1],
            np.exp(-ordered[:-1] / self.mean),
            "k--",
            linewidth=1,
            label=f"exp(−t/{self.mean:.4g})",
        )
        axes.set_xlabel("time")
        axes.set_ylabel("share still inside")
        axes.legend()


def mean_exit_time(
    problem: SDEProblem,
    region: Any,
    n: int,
    *,
    key: PRNGKeyArray,
    dt: float,
    backend: str = "diffrax",
    solver: str | None = None,
    correction: Correction = "bridge",
    initial: Any = None,
    max_time: float | None = None,
    check_step: bool = True,
    level: float = 0.95,
    progress: bool = False,
    save: str | os.PathLike[str] | None = None,
) -> ExitTime:
    """The mean time at which trajectories first leave a region.

    Looked at on the grid alone, exits are seen late, by an amount of order
    $\\sqrt{h}$. `"bridge"` draws, for each step with both ends inside, whether the
    Brownian bridge between them crossed a boundary, with probability
    $\\exp(-2ab/v)$ for distances $a$, $b$ and variance $v$ of the step along the normal
    (Gobet 2000, Stochastic Process. Appl. 87, section 2), and the time of a crossing
    from its distribution, $h\\,\\xi/(1+\\xi)$ with $\\xi$ inverse Gaussian of mean
    $a/|b|$ and shape $a^2/v$. `"shift"` moves the boundary inward by
    $0.5826\\,\\sqrt{v}$ (Gobet & Menozzi 2010, Stochastic Process. Appl. 120, theorem
    1). Both leave a bias of smaller order than $\\sqrt h$; `"none"` looks at the grid
    alone.

    **Arguments:**

    - `problem`: an [`SDEProblem`][hybrid_nds.SDEProblem]; its `t1` plays no part.
    - `region`: a pair `(low, high)` of arrays like `y0` or numbers, infinite where a
        component is free; or a JAX function of the state that returns one number, or an
        array of several, all positive inside and zero on a boundary each, smooth.
    - `n`: how many trajectories.
    - `key`: a JAX random key.
    - `dt`: the fixed step.
    - `backend`, `solver`: see [`ensemble`][hybrid_nds.ensemble]. In Julia, Euler's and
        Heun's schemes (Euler's by default, Heun's for a Stratonovich equation) run in
        one loop up to the exit, unless `correction` is `"shift"`.
    - `correction`: `"bridge"`, `"shift"` or `"none"`.
    - `initial`: as for [`ensemble`][hybrid_nds.ensemble]: a callable `key -> y0`, or
        arrays with a leading axis of `n`; by default all start at `problem.y0`.
    - `max_time`: when to give up; by default a million steps.
    - `check_step`: whether to run once more with steps twice as long, which tells how
        large the discretization's bias may be, for half the cost again.
    - `level`: of the interval, between 0 and 1.
    - `progress`: whether to show how many have left.
    - `save`: a file that keeps the state, to go on from after an interruption.

    **Returns:** an [`ExitTime`][hybrid_nds.stability.ExitTime].

    **Raises:** `ValueError` or `TypeError`, naming the argument, also where a
    trajectory starts outside;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] where trajectories fail, or
    are still inside at `max_time`: the mean of those that left would be too small.
    """
    _check(problem, n, correction, level)
    requested = Integration(backend, solver, dt, key=key)
    integration = requested.checked("mean_exit_time", problem)
    key = check_key("mean_exit_time", integration.key)
    if max_time is not None:
        max_time = check_positive("mean_exit_time", "max_time", max_time)
    levels = region_levels("mean_exit_time", region, problem)
    steps = 1_000_000 if max_time is None else max(1, math.ceil(max_time / dt))
    with precision_of(problem):
        starts = _starts(problem, initial, n, key)
        outside = ~Crossings(problem, levels, "none").inside(float(problem.t0), starts)
        if outside.any():
            raise ValueError(
                f"mean_exit_time: {np.count_nonzero(outside)} of {n} trajectories "
                "start outside `region`, the first from "
                f"{starts[outside][0].tolist()}: start them inside, or turn the sign "
                "of `region`, which is positive inside."
            )
        native = native_scheme(problem, integration, correction)
        runs: list[_Run | NativeRun] = []
        for doubled in (False, True) if check_step else (False,):
            own_key = jr.fold_in(key, doubled)
            own_steps = dataclasses.replace(
                integration, dt=dt * (1 + doubled), key=own_key
            )
            given = (problem, levels, starts, correction, own_steps)
            run = _Run(*given) if native is None else NativeRun(*given, native)
            own = None if save is None else f"{os.fspath(save)}{'.twice' * doubled}"
            title = "Trajectories that left" + (", steps twice as long" * doubled)
            kept = SavedProgress(
                "mean_exit_time",
                own,
                {
                    "problem": problem_fingerprint(problem),
                    "region": levels.fingerprint(problem),
                    "settings": digest(
                        [
                            arrays_text((starts, jr.key_data(key))),
                            f"{backend} {solver} {n} {dt!r} {correction} {doubled}",
                        ]
                    ),
                },
            )
            with progress_bar(progress, title, n) as advance:
                run.go(steps // (1 + doubled), kept, advance)
            runs.append(run)
    first = runs[0]
    assert first.provenance is not None
    times = first.times
    mean, error = float(times.mean()), float(times.std(ddof=1) / math.sqrt(n))
    half = float(scipy.stats.t.ppf((1 + level) / 2, n - 1)) * error
    return ExitTime(
        mean=mean,
        standard_error=error,
        low=mean - half,
        high=mean + half,
        step_error=float(runs[1].times.mean()) - mean if check_step else math.nan,
        times=times,
        through=first.through,
        settings={
            "dt": float(dt),
            "correction": correction,
            "level": level,
            "boundaries": levels.count(problem),
            "runner": first.runner,
        },
        provenance=first.provenance,
    )


class _Later(eqx.Module):
    """A field as it is some time later."""

    field: Callable[..., Any]
    delay: Any

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.field(t + self.delay, y, args)


def _later(problem: SDEProblem, delay: float, span: float) -> SDEProblem:
    """A problem from `delay` after its start on, over `span`.

    It starts at the same time as the problem, so that what was compiled for one delay
    serves for every other.
    """
    shift = jnp.asarray(delay, problem.dtype)
    drift, diffusion = (_Later(f, shift) for f in (problem.drift, problem.diffusion))
    return eqx.tree_at(
        lambda p: (p.drift, p.diffusion, p.t1),
        problem,
        (drift, diffusion, problem.t0 + jnp.asarray(span, problem.dtype)),
    )


class _Run:
    """Trajectories on their way out, segment by segment: only those still inside are
    carried on."""

    def __init__(
        self,
        problem: SDEProblem,
        levels: Levels,
        starts: np.ndarray,
        correction: str,
        integration: Integration,
    ):
        self.problem, self.integration = problem, integration
        self.dt = integration.step
        self.crossings = Crossings(problem, levels, correction)
        n = len(starts)
        self.times = np.full(n, np.nan)
        self.through = np.full(n, -1)
        self.inside = np.arange(n)
        self.states = starts
        self.done = 0
        self.provenance: Provenance | None = None
        self.runner = ""

    def go(
        self, steps: int, kept: SavedProgress, advance: Callable[[int], None]
    ) -> None:
        """Carry on until all have left.

        **Raises:** `AnalysisError` where some do not, or fail.
        """
        n = self.times.size
        self._restore(kept)
        shown = 0
        while True:
            advance(n - self.inside.size - shown)
            shown = n - self.inside.size
            if not self.inside.size:
                return
            if self.done >= steps:
                raise censored(n, n - shown, steps, self.dt, self.times)
            # Powers of four, so that few sizes are compiled.
            size = max(64, 4 ** -(-(self.inside.size - 1).bit_length() // 2))
            count = min(_SEGMENT_STEPS, max(16, _NUMBERS // size), steps - self.done)
            self._segment(count, size)
            kept.write(self._state())

    def _segment(self, count: int, size: int) -> None:
        problem, t0, dt = self.problem, float(self.problem.t0), self.dt
        grid = dt * np.arange(count + 1)
        part = _later(problem, self.done * dt, grid[-1])
        key = jr.fold_in(self.integration.own_key, self.done)
        padded = np.resize(np.arange(self.inside.size), size)
        with warnings.catch_warnings():
            # Of trajectories that fail once they have left.
            warnings.simplefilter("ignore", RuntimeWarning)
            found = ensemble(
                part,
                size,
                key=key,
                # As the span is in the problem's precision.
                dt=(float(part.t1) - float(part.t0)) / count,
                saveat=jnp.asarray(t0 + grid[1:], problem.dtype),
                initial=problem.flat_state.unflatten(self.states[padded]),
                backend=self.integration.backend,
                solver=self.integration.solver,
            )
        self.provenance, self.runner = found.provenance, found.runner
        later = np.asarray(problem.flat_state.flatten(found.ys))
        states = np.concatenate([self.states[padded][:, None], later], axis=1)
        seed = np.asarray(jr.key_data(jr.fold_in(key, 1))).ravel().tolist()
        own = slice(0, self.inside.size)
        times, through = (
            part[own]
            for part in self.crossings.first(
                t0 + self.done * dt + grid, states, np.random.default_rng(seed)
            )
        )
        states = states[own]
        gone = np.isfinite(times)
        failed = [
            one
            for one in found.failures
            if one.index < gone.size and not gone[one.index]
        ]
        if failed:
            raise AnalysisError(
                f"mean_exit_time: {len(failed)} trajectories failed before they left, "
                f"the first at t = {failed[0].time:.6g} ({failed[0].outcome}): take "
                "smaller steps, or an implicit solver."
            )
        self.times[self.inside[gone]] = times[gone] - t0
        self.through[self.inside[gone]] = through[gone]
        self.inside, self.states = self.inside[~gone], states[~gone, -1]
        self.done += count

    def _state(self) -> dict[str, np.ndarray]:
        assert self.provenance is not None
        origin = json.dumps([self.provenance.as_dict(), self.runner])
        return {
            "times": self.times,
            "through": self.through,
            "inside": self.inside,
            "states": self.states,
            "done": np.array(self.done),
            "origin": np.array(origin),
        }

    def _restore(self, kept: SavedProgress) -> None:
        found = kept.read()
        if found is None:
            return
        self.times, self.through = found["times"], found["through"]
        self.inside, self.states = found["inside"], found["states"]
        self.done = int(found["done"])
        fields, self.runner = json.loads(str(found["origin"]))
        self.provenance = Provenance.from_dict(fields)


def _check(problem: Any, n: Any, correction: Any, level: Any) -> None:
    check_kind("mean_exit_time", problem, "sde")
    check_whole("mean_exit_time", "n", n, 2)
    if correction not in ("bridge", "shift", "none"):
        raise ValueError(
            'mean_exit_time: `correction` must be "bridge", "shift" or "none", got '
            f"{correction!r}."
        )
    check_level("mean_exit_time", level)


def _starts(problem: SDEProblem, initial: Any, n: int, key: PRNGKeyArray) -> np.ndarray:
    """The flat initial states, `(n, components)`."""
    if initial is None:
        flat = np.asarray(problem.flat_state.flatten(problem.y0))
        return np.broadcast_to(flat, (n, flat.size)).copy()
    states = (
        jax.vmap(lambda i: initial(jr.fold_in(key, i)))(jnp.arange(n))
        if callable(initial)
        else initial
    )
    leaves = [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(states)]
    if any(leaf.ndim == 0 or len(leaf) != n for leaf in leaves):
        raise ValueError(
            "mean_exit_time: `initial` must be a callable, or arrays like y0 with a "
            f"leading axis of n = {n}, got shapes {[leaf.shape for leaf in leaves]}."
        )
    flat = np.concatenate([leaf.reshape(n, -1) for leaf in leaves], axis=1)
    if flat.shape[1] != problem.dimension:
        raise ValueError(
            f"mean_exit_time: `initial` must have {problem.dimension} numbers a "
            f"trajectory, got {flat.shape[1]}."
        )
    return flat.astype(problem.dtype)
