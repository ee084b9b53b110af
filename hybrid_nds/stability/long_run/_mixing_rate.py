"""Mixing rates: how fast a flow forgets where it started."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from ...analysis import AnalysisError
from ...backends import Integration
from ...problems import ODEProblem, SDEProblem
from ..growth import Sampling
from ._invariant_law import run_chains
from ._mixing_rate_result import MixingRate, rates_of

_CALLER = "mixing_rate"
_CHAINS = 8


def mixing_rate(
    problem: SDEProblem | ODEProblem,
    observable: Callable[[PyTree], Any] | None = None,
    *,
    key: PRNGKeyArray,
    backend: Literal["diffrax", "julia"] = "diffrax",
    solver: Any = None,
    dt: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    time: float | None = None,
    transient: float | None = None,
    sampling: float | None = None,
    chains: int = 64,
    initial: Any = None,
    level: float = 0.95,
    standard_error: float | None = None,
    check_step: bool = True,
    threads: int | None = None,
    progress: bool = False,
    save: str | os.PathLike[str] | None = None,
) -> MixingRate:
    """The rate at which the autocorrelation of an observable decays in the end.

    In the invariant distribution
    $\\rho(t) = \\mathrm{Corr}(\\varphi(y_0), \\varphi(y_t)) \\sim a\\,e^{-\\lambda t}$;
    for a reversible flow $\\rho(t) = \\sum_i a_i e^{-\\lambda_i t}$ with
    $a_i \\ge 0$ and $\\lambda_i$ the eigenvalues of the generator, so that $\\lambda$
    is no less than the spectral gap, and the gap itself where $\\varphi$ has a share in
    the slowest eigenfunction (Pavliotis 2014, sections 4.3 and 4.6). Errors are the
    jackknife's over the chains.

    **Arguments:**

    - `problem`, `observable`, `key`, `backend`, `solver`, `dt`, `rtol`, `atol`,
        `transient`, `initial`, `level`, `check_step`, `threads`, `progress`, `save`: as
        for [`invariant_law`][hybrid_nds.stability.invariant_law].
    - `time`: how long each chain is observed; twenty relaxation times or more; by
        default what the transient leaves of the span of `problem`.
    - `sampling`: the time between samples, whole steps of `dt`; several in each
        relaxation time; by default a ten-thousandth of `time`.
    - `chains`: how many, at least 8.
    - `standard_error`: the largest standard error of a rate that will do.

    **Returns:** a [`MixingRate`][hybrid_nds.stability.MixingRate]; look at its
    `converged`.

    **Raises:** `ValueError` or `TypeError`, naming the argument;
    [`AnalysisError`][hybrid_nds.analysis.AnalysisError] for chains that diverge, an
    observable that does not vary, and where `standard_error` was not reached, with the
    result there is.
    """
    if isinstance(chains, int) and 0 < chains < _CHAINS:
        raise ValueError(
            f"{_CALLER}: `chains` must be {_CHAINS} or more, since errors come from "
            f"their disagreement, got {chains}."
        )
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
    result = rates_of(found.values, plan, level, found.provenance, found.runner, twice)
    worst = float(np.max(result.standard_errors))
    if standard_error is not None and not worst <= standard_error:
        more = (
            f"about {math.ceil((worst / standard_error) ** 2)} times the `chains` "
            "would do"
            if math.isfinite(worst)
            else "there is no fit to go by"
        )
        raise AnalysisError(
            f"{_CALLER}: the largest standard error is {worst:.2g}, and "
            f"{standard_error:.2g} was asked for: {more}. What there is, is in the "
            "`result` of this error."
            + "".join(f" Beside, {note}" for note in result.notes),
            result,
        )
    return result
