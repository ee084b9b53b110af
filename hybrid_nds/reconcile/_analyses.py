"""Analyses up the ladder: one number found by two implementations, with errors."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..analysis import AnalysisResult
from ..problems import ODEProblem, SDEProblem
from ._report import Figure
from ._specification import Table
from ._stacks import Question, Stack

# All intervals of one analysis together.
ANALYSIS_LEVEL = 0.001
# The backends draw their own noise: two independent ones, as intervals want.
_SEEDS = {"diffrax": 1, "julia": 2}

Problem = ODEProblem | SDEProblem
Found = tuple[np.ndarray, np.ndarray]
"""Values, and half the widths of their intervals, each of shape `(k,)`."""


@dataclasses.dataclass(frozen=True)
class PlannedAnalysis:
    """An analysis of a problem, and what it is to find.

    **Fields:** its name; the analysis as a function `(problem, backend) -> result`; the
    values expected, shape `(k,)`, or `None`; a bound on what is not sampling, such as
    the bias of a step or the rounding of a published number, for each value or for all;
    and the source of both.
    """

    name: str
    analysis: Callable[[Problem, str], AnalysisResult]
    expected: np.ndarray | None = None
    bias: Any = 0.0
    source: str = ""

    def run(self, problem: Problem, backend: str) -> Found:
        """The analysis on a backend.

        **Returns:** values and half widths, which are NaN where the analysis says that
        it has not converged.

        **Raises:** `TypeError` for a result without an interval.
        """
        result: Any = self.analysis(problem, backend)
        if not isinstance(result, AnalysisResult) or not result.estimate:
            raise TypeError(
                f"reconcile: the analysis {self.name!r} must return an AnalysisResult "
                "with an interval, as lyapunov_spectrum, moment_exponent, "
                "invariant_law, mixing_rate, mean_exit_time and periodic_orbit do; got "
                f"{type(result).__name__}."
            )
        return result.interval()


def read_analyses(spec: Table) -> tuple[PlannedAnalysis, ...]:
    """The analyses of a specification.

    **Raises:** `ValueError` naming the file and the key for one that is malformed.
    """
    analyses = []
    for entry in spec.tables("analyses"):
        entry.require("kind", "options", "expected", "bias", "source")
        kind = entry.choice("kind", tuple(ANALYSES))
        listed = isinstance(entry.entries["expected"], list)
        expected = entry.numbers("expected") if listed else entry.number("expected")
        expected = np.atleast_1d(expected)
        bias = entry.scale("bias", expected.size, positive=False)
        # One of a kind is called by it, and of several each has its number.
        before = sum(a.name.startswith(kind.replace("_", " ")) for a in analyses)
        analyses.append(
            PlannedAnalysis(
                kind.replace("_", " ") + (f" {before + 1}" if before else ""),
                functools.partial(
                    ANALYSES[kind],
                    level=1 - ANALYSIS_LEVEL / expected.size,
                    **entry.table("options").all(),
                ),
                expected,
                bias,
                entry.text("source"),
            )
        )
    return tuple(analyses)


def analysis_figures(
    planned: Sequence[PlannedAnalysis],
    stacks: Sequence[Stack],
    question: Callable[[PlannedAnalysis], Question],
) -> list[Figure]:
    """Each analysis on each stack against what is expected, and one stack's against
    the other's: of several values, the one closest to its limit.

    **Arguments:** the analyses; the stacks; and the question that asks for one.
    """
    figures = []
    for analysis in planned:
        derivation = (
            f"Intervals of the analyses themselves, and {np.max(analysis.bias):.2g} or "
            f"less for what is not sampling. {analysis.source}".rstrip()
        )
        asked = question(analysis)
        results = {stack.name: stack.ask(asked)[0] for stack in stacks}
        for name, (values, half) in results.items():
            if analysis.expected is None:
                continue
            claim = f"{analysis.name}, {name} against the value expected"
            gap = np.abs(values - analysis.expected)
            figures.append(_closest(claim, gap, half + analysis.bias, derivation))
        if len(results) == 2:
            (one, (first, a)), (two, (second, b)) = results.items()
            limit = np.hypot(a, b) + 2 * np.asarray(analysis.bias)
            claim = f"{analysis.name}, {one} against {two}"
            figures.append(_closest(claim, np.abs(first - second), limit, derivation))
    return figures


def _closest(claim: str, gap: np.ndarray, limit: np.ndarray, derivation: str) -> Figure:
    if not np.all(np.isfinite(limit)):
        return Figure(f"{claim}: not converged", math.inf, 0.0, derivation)
    worst = int(np.argmax(gap / np.maximum(limit, np.finfo(float).tiny)))
    return Figure(claim, float(gap[worst]), float(limit[worst]), derivation)


def _lyapunov(problem: Problem, backend: Any, **options: Any) -> AnalysisResult:
    from ..stability import lyapunov_spectrum

    if problem.kind.follows_path:
        options["key"] = jr.key(_SEEDS[backend])
    return lyapunov_spectrum(problem, backend=backend, **options)


def _exit_time(
    problem: Any,
    backend: str,
    *,
    trajectories: int,
    low: float = -math.inf,
    high: float = math.inf,
    **options: Any,
) -> AnalysisResult:
    from ..stability import mean_exit_time

    return mean_exit_time(
        problem,
        (low, high),
        trajectories,
        key=jr.key(_SEEDS[backend]),
        backend=backend,
        check_step=False,
        **options,
    )


def _invariant_law(
    problem: Problem, backend: Any, *, powers: Sequence[Any], **options: Any
) -> AnalysisResult:
    from ..stability import invariant_law

    exponents = np.asarray(powers)
    return invariant_law(
        problem,
        observable=lambda y: jnp.prod(y**exponents, axis=1),
        key=jr.key(_SEEDS[backend]),
        backend=backend,
        # What is expected is that of the scheme in its steps.
        check_step=False,
        **options,
    )


def _mixing_rate(problem: Problem, backend: Any, **options: Any) -> AnalysisResult:
    from ..stability import mixing_rate

    key = jr.key(_SEEDS[backend])
    # As for the invariant distribution: the rate expected is that of the scheme.
    return mixing_rate(problem, key=key, backend=backend, check_step=False, **options)


def _moment_exponent(problem: Any, backend: Any, **options: Any) -> AnalysisResult:
    from ..stability import moment_exponent

    key = jr.key(_SEEDS[backend])
    return moment_exponent(
        problem, method="monte-carlo", key=key, backend=backend, **options
    )


ANALYSES: Mapping[str, Callable[..., AnalysisResult]] = MappingProxyType(
    {
        "invariant_law": _invariant_law,
        "lyapunov_spectrum": _lyapunov,
        "mean_exit_time": _exit_time,
        "mixing_rate": _mixing_rate,
        "moment_exponent": _moment_exponent,
    }
)
"""By kind of a fixture's `[[analyses]]`: `(problem, backend, level=, **options)`."""
