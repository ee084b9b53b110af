"""Moment exponents: growth rates of the moments of tangent vectors."""

from __future__ import annotations

import math
import os
from typing import Any, Literal

import numpy as np
from jaxtyping import PRNGKeyArray

from ..._core import (
    check_choice,
    check_level,
    check_positive,
    check_whole,
    precision_of,
)
from ...analysis import AnalysisError, SavedProgress, analysis_provenance
from ...backends import Integration
from ...problems import SDEProblem, arrays_text, check_kind, digest, problem_fingerprint
from ._linear_noise import LinearNoise, leading_eigenvalue, linear_noise
from ._lyapunov import follow, tangent_flow
from ._lyapunov_plan import (
    LyapunovPlan,
    Sampling,
    check_lyapunov_problem,
    start_states,
)
from ._moment_operator import moment_operator
from ._moment_result import MomentExponent, exact_result
from ._moment_sampling import (
    MOST_TAIL_INDEX,
    SampledGrowth,
    least_effective,
    normal_quantile,
    sampled_growth,
)

_CALLER = "moment_exponent"
_INTERVALS = 200
_LEAST = 8
_ALARM = 3.5


def moment_exponent(
    problem: SDEProblem,
    p: float,
    *,
    method: Literal["auto", "exact", "monte-carlo"] = "auto",
    backend: Literal["diffrax", "julia"] = "diffrax",
    solver: Any = None,
    dt: float | None = None,
    time: float | None = None,
    transient: float | None = None,
    trajectories: int = 10_000,
    key: PRNGKeyArray | None = None,
    initial: Any = None,
    level: float = 0.95,
    progress: bool = False,
    save: str | os.PathLike[str] | None = None,
) -> MomentExponent:
    """The growth rate of the p-th moment,
    $g(p) = \\lim_{t\\to\\infty} t^{-1} \\log E|v_t|^p$.

    $v$ is a tangent vector along the solution, which for a linear equation is a
    solution itself. $g$ is convex, $g(0) = 0$, and $g'(0)$ is the top Lyapunov exponent
    (Arnold 1984, SIAM J. Appl. Math. 44): a system can be stable almost surely while
    its moments grow.

    For a linear equation with constant coefficients and even $p$, or in one dimension
    any $p$, it is exact: the leading eigenvalue of the generator on homogeneous
    polynomials of degree $p$, for $p = 2$ of
    $I\\otimes A + A\\otimes I + \\sum_j B_j\\otimes B_j$. Otherwise it is the slope of
    the logarithm of the mean over sampled trajectories, and that mean may rest on so
    few of them that no sample shows it. Then nothing is reported: an error says up to
    when sampling sees it.

    **Arguments:**

    - `problem`: an [`SDEProblem`][hybrid_nds.SDEProblem].
    - `p`: the moment, a real number other than zero.
    - `method`: `"exact"`, `"monte-carlo"`, or `"auto"`: exact where it can be.
    - `backend`, `solver`, `dt`: for sampling, as for [`solve`][hybrid_nds.solve], in
        fixed steps.
    - `time`: for sampling, the time to look at; by default the span of `problem`.
    - `transient`: how much of its start to leave out of the slope, for the directions
        to settle; by default a quarter, and nothing in one dimension.
    - `trajectories`: how many.
    - `key`: a JAX random key.
    - `initial`: initial states, as for [`ensemble`][hybrid_nds.ensemble].
    - `level`: of the interval, such as 0.95.
    - `progress`, `save`: as for
        [`lyapunov_spectrum`][hybrid_nds.stability.lyapunov_spectrum].

    **Returns:** a [`MomentExponent`][hybrid_nds.stability.MomentExponent].

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] where too few of the $N$
    trajectories carry the mean (Kish's effective number below $10\\sqrt N$, or 200),
    the weights have a Pareto tail of shape above 0.7 (Vehtari et al. 2024), or a
    trajectory diverges.
    """
    check_kind(_CALLER, problem, "sde")
    check_lyapunov_problem(_CALLER, problem)
    power = _check_power(p)
    if method not in ("auto", "exact", "monte-carlo"):
        raise ValueError(
            f'{_CALLER}: `method` must be "auto", "exact" or "monte-carlo", got '
            f"{method!r}."
        )
    check_choice(_CALLER, "backend", backend, ("diffrax", "julia"))
    check_level(_CALLER, level)
    with precision_of(problem):
        if method != "monte-carlo":
            found = _exact(problem, power, level, required=method == "exact")
            if found is not None:
                return found
        return _sampled(
            problem,
            power,
            Integration(backend, solver, dt, key=key).checked(_CALLER, problem),
            Sampling(time, transient, None, trajectories, initial),
            level=level,
            progress=progress,
            save=save,
        )


def _check_power(p: Any) -> float:
    try:
        power = float(p)
    except (TypeError, ValueError):
        power = math.nan
    if not math.isfinite(power) or power == 0:
        raise ValueError(
            f"{_CALLER}: `p` must be a finite number other than zero, where the "
            f"exponent is zero; got {p!r}. Its slope there is the top Lyapunov "
            "exponent."
        )
    return power


def _exact(
    problem: SDEProblem, p: float, level: float, *, required: bool
) -> MomentExponent | None:
    even = p > 0 and p % 2 == 0
    if not even and problem.dimension > 1:
        if required:
            raise ValueError(
                f"{_CALLER}: `method` exact needs an even `p` in more than one "
                f"dimension, got {p:g}; sample with method='monte-carlo'."
            )
        return None
    try:
        linear = linear_noise(_CALLER, problem)
        value, error, rows = _leading(linear, p)
    except ValueError:
        # Not linear, or too large: then by samples.
        if required:
            raise
        return None
    return exact_result(
        p,
        value,
        error,
        level,
        {"dimension": problem.dimension, "rows": rows},
        analysis_provenance("jax", "generator on moments"),
    )


def _leading(linear: LinearNoise, p: float) -> tuple[float, float, int]:
    if len(linear.a) == 1:
        a, squares = float(linear.a[0, 0]), float(np.sum(linear.b**2))
        value = p * a + p * (p - 1) / 2 * squares
        size = abs(p * a) + abs(p * (p - 1)) * squares
        return value, 4 * linear.precision * size, 1
    operator = moment_operator(_CALLER, linear, int(p))
    # At most so many terms, of up to p(p − 1)/2 times those of second moments.
    terms = len(linear.a) * max(p, p * (p - 1) / 2) * linear.rate
    found = leading_eigenvalue(operator, "abscissa", 4 * linear.precision * terms)
    return found.value, found.error, len(operator)


def _sampled(
    problem: SDEProblem,
    p: float,
    integration: Integration,
    sampling: Sampling,
    *,
    level: float,
    progress: bool,
    save: Any,
) -> MomentExponent:
    trajectories = check_whole(_CALLER, "trajectories", sampling.chains)
    key, step, time = integration.key, integration.step, sampling.time
    span = float(problem.t1) - float(problem.t0)
    length = span if time is None else check_positive(_CALLER, "time", time)
    steps = max(1, round(length / step / _INTERVALS))
    count = math.ceil(length / (steps * step) - 1e-9)
    if count < _LEAST:
        raise ValueError(
            f"{_CALLER}: a `time` of {length:g} holds {count} steps of {step:g}, of "
            f"{_LEAST} needed; take a shorter `dt`."
        )
    interval = steps * step
    if sampling.transient is None:
        burn_in = 0 if problem.dimension == 1 else count // 4
    else:
        start = check_positive(_CALLER, "transient", sampling.transient, zero=True)
        burn_in = math.ceil(start / interval - 1e-9)
    if count - burn_in < 4:
        raise ValueError(
            f"{_CALLER}: `transient` leaves {max(count - burn_in, 0)} of {count} "
            "intervals; give a longer `time`."
        )
    plan = LyapunovPlan(1, interval, 0, count, trajectories)
    flow = tangent_flow(problem, plan, integration)
    states = start_states(_CALLER, problem, sampling.initial, trajectories, key)
    identity = {
        "problem": problem_fingerprint(problem),
        "settings": digest([repr(plan), repr(flow.provenance)]),
        "noise": arrays_text(key),
        "start": arrays_text(states),
    }
    saved = None if save is None else SavedProgress(_CALLER, save, identity)
    growth, _ = follow(_CALLER, problem, flow, plan, states, saved, progress)
    found = sampled_growth(np.asarray(growth[:, :, 0], float), p, interval, burn_in)
    _refuse_unseen(found, p, interval, trajectories)
    notes = ()
    if abs(found.drift) > _ALARM:
        notes = (
            "the moment grows at different rates in the two halves of the time, "
            f"{abs(found.drift):.1f} standard errors apart; give a longer `transient`.",
        )
    half = normal_quantile(level) * found.standard_error
    return MomentExponent(
        p=p,
        value=found.slope,
        standard_error=found.standard_error,
        low=found.slope - half,
        high=found.slope + half,
        level=level,
        method="monte-carlo",
        times=interval * np.arange(1, count + 1),
        logarithms=found.logarithms,
        effective=found.effective,
        tail_index=found.tail_index,
        trajectories=trajectories,
        converged=not notes,
        notes=notes,
        settings={
            "time": interval * count,
            "transient": interval * burn_in,
            "interval": interval,
            "least_effective": least_effective(trajectories),
        },
        provenance=flow.provenance,
    )


def _refuse_unseen(
    found: SampledGrowth, p: float, interval: float, trajectories: int
) -> None:
    """Refuse a mean that too few trajectories carry."""
    least = least_effective(trajectories)
    seen = np.flatnonzero(found.effective < least)
    last = int(seen[0]) if seen.size else len(found.effective)
    few = bool(found.effective[-1] < least)
    if not few and not found.tail_index > MOST_TAIL_INDEX:
        return
    what = (
        f"{found.effective[-1]:.0f} of {trajectories} trajectories carry it, of "
        f"{least:.0f} needed"
        if few
        else f"the weights have a tail of index {found.tail_index:.2f}, above "
        f"{MOST_TAIL_INDEX}: their mean lies beyond the samples"
    )
    raise AnalysisError(
        f"{_CALLER}: sampling cannot see the moment of p = {p:g} at t = "
        f"{interval * len(found.effective):.4g}: {what}. It is seen up to about t = "
        f"{0.8 * interval * last:.3g}: take that `time`; more `trajectories` (what is "
        "needed grows exponentially with time), a smaller `p`, or for a linear "
        'equation an even `p` with method="exact".'
    )
