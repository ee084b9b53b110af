"""Invariant measures, by averages over time and chains."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from ..._core import check_key, check_level, check_positive, precision_of
from ...analysis import AnalysisError, SavedProgress
from ...backends import Integration
from ...problems import (
    ODEProblem,
    SDEProblem,
    arrays_text,
    digest,
    problem_fingerprint,
    traced_text,
)
from ..growth import Sampling, check_lyapunov_problem, start_states
from ._invariant_law_result import InvariantLaw, law_of
from ._sampling import (
    SamplePlan,
    Samples,
    Twice,
    check_autonomous,
    check_observable,
    sample_chains,
    sample_plan,
)

_CALLER = "invariant_law"


def invariant_law(
    problem: SDEProblem | ODEProblem,
    *,
    observable: Callable[[PyTree], Any] | None = None,
    key: PRNGKeyArray,
    backend: Literal["diffrax", "julia"] = "diffrax",
    solver: Any = None,
    dt: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    time: float | None = None,
    transient: float | None = None,
    sampling: float | None = None,
    chains: int = 4,
    initial: Any = None,
    level: float = 0.95,
    standard_error: float | None = None,
    check_step: bool = True,
    threads: int | None = None,
    progress: bool = False,
    save: str | os.PathLike[str] | None = None,
) -> InvariantLaw:
    """The distribution that a flow settles in, and how sure its averages are.

    $\\mu(\\varphi) = \\lim_{T\\to\\infty} \\frac1T\\int_0^T \\varphi(y(t))\\,dt$, by
    the mean over the samples of all chains. Errors are batch means, with batches of at
    least ten autocorrelation times (Flegal & Jones 2010); effective sample sizes and
    $\\hat R$ are those of Vehtari et al. (2021). They are errors of sampling; that of
    the step shows in `step_changes`.

    **Arguments:**

    - `problem`: an [`SDEProblem`][hybrid_nds.SDEProblem], or an
        [`ODEProblem`][hybrid_nds.ODEProblem] with a chaotic attractor, whose fields do
        not depend on time.
    - `observable`: a function of one state that returns arrays; by default the state.
    - `key`: a JAX random key, for the noise and for `initial`.
    - `backend`, `solver`, `dt`, `rtol`, `atol`, `threads`: as for
        [`ensemble`][hybrid_nds.ensemble].
    - `time`: how long each chain is averaged over; by default what the transient leaves
        of the span of `problem`.
    - `transient`: how long each runs before anything counts; by default a tenth of all.
    - `sampling`: the time between samples, whole steps of `dt`; by default a
        ten-thousandth of `time`.
    - `chains`: how many.
    - `initial`: where they start, as for [`ensemble`][hybrid_nds.ensemble]: a callable
        `key -> y0`, or arrays with a leading axis of `chains`; by default all at
        `problem.y0`. Chains that start far apart are what makes `r_hat` a test.
    - `level`: of the intervals.
    - `standard_error`: the largest standard error of a mean that will do.
    - `check_step`: whether to run once more with steps twice as long, along the same
        Brownian paths where they are shared, which tells how large the error of the
        step may be, for half the cost again. With a fixed `dt`.
    - `progress`: whether to show progress.
    - `save`: a file to keep progress in: a run that was cut off goes on from there, to
        the same result to the last bit.

    **Returns:** an [`InvariantLaw`][hybrid_nds.stability.InvariantLaw]; look at its
    `converged`.

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] for chains that diverge, and
    where `standard_error` was not reached, with the result there is.
    """
    found, plan, twice = run_chains(
        _CALLER,
        problem,
        observable,
        Integration(backend, solver, dt, rtol, atol, key, threads=threads),
        Sampling(time, transient, sampling, chains, initial),
        level=level,
        standard_error=standard_error,
        check_step=check_step,
        progress=progress,
        save=save,
    )
    result = law_of(found.values, plan, level, found.provenance, found.runner, twice)
    worst = float(np.max(result.standard_errors))
    if standard_error is not None and not worst <= standard_error:
        factor = math.ceil((worst / standard_error) ** 2)
        few = float(np.nanmin(result.effective_samples))
        raise AnalysisError(
            f"{_CALLER}: the largest standard error is {worst:.2g}, with {few:.0f} "
            f"effective samples, and {standard_error:.2g} was asked for: about "
            f"{factor} times the `time`, or `chains`, would do. What there is, is in "
            "the `result` of this error."
            + "".join(f" Beside, {note}" for note in result.notes),
            result,
        )
    return result


def run_chains(
    caller: str,
    problem: SDEProblem | ODEProblem,
    observable: Any,
    integration: Integration,
    sampling: Sampling,
    *,
    level: float,
    standard_error: float | None,
    check_step: bool,
    progress: bool,
    save: Any,
) -> tuple[Samples, SamplePlan, Twice | None]:
    """Check what was asked for, and follow the chains.

    **Returns:** the samples; the plan they were made by; those of steps twice as long,
    `None` where nobody asked, or steps adapt.
    """
    check_lyapunov_problem(caller, problem)
    check_level(caller, level)
    if standard_error is not None:
        check_positive(caller, "standard_error", standard_error)
    with precision_of(problem):
        integration = integration.checked(caller, problem)
        key = check_key(caller, integration.key)
        check_observable(caller, problem, observable)
        plan = sample_plan(caller, problem, integration.dt, sampling)
        starts = start_states(caller, problem, sampling.initial, plan.chains, key)
        check_autonomous(caller, problem, starts)
        seen = (
            ""
            if observable is None
            else traced_text(observable, problem.y0) + arrays_text(observable)
        )
        identity = {
            "problem": problem_fingerprint(problem),
            "noise": arrays_text(jnp.asarray(jr.key_data(key))),
            "start": arrays_text(starts),
        }
        method = dataclasses.replace(integration, key=None)

        def run(plan: SamplePlan, suffix: str) -> Samples:
            settings = [repr(plan), repr(method), seen, arrays_text(method.solver)]
            saved = None
            if save is not None:
                own = identity | {"settings": digest(settings)}
                saved = SavedProgress(caller, f"{os.fspath(save)}{suffix}", own)
            return sample_chains(
                problem,
                plan,
                starts,
                observable=observable,
                integration=integration,
                saved=saved,
                progress=progress,
            )

        found = run(plan, "")
        if not check_step or plan.dt is None or integration.adaptive:
            return found, plan, None
        other, stride = plan.twice()
        try:
            return found, plan, Twice(run(other, ".twice").values, stride)
        except AnalysisError:
            # The shorter steps did not diverge: what there is, stands, with a warning.
            return found, plan, Twice(None, stride)
