"""Analyses on the last rung: intervals that hold, and a break where they must not."""

from types import SimpleNamespace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from hybrid_nds import ODEProblem, SDEProblem
from hybrid_nds.reconcile import load_fixture, reconcile
from hybrid_nds.reconcile._analyses import (
    PlannedAnalysis,
    analysis_figures,
    read_analyses,
)
from hybrid_nds.reconcile._specification import Table
from hybrid_nds.reconcile._stacks import Question
from hybrid_nds.stability import lyapunov_spectrum, periodic_orbit


def linear(a=-1.0):
    return SDEProblem(
        lambda t, y, args: a * y,
        lambda t, y, args: 0.5 * y,
        jnp.array([1.0]),
        0.0,
        2.0,
        noise="scalar",
        interpretation="ito",
    )


def exponents(problem, backend, seed=0):
    return lyapunov_spectrum(
        problem,
        backend=backend,
        solver="Euler",
        dt=1 / 32,
        time=200.0,
        chains=4,
        key=jr.key(seed),
        level=0.999,
    )


def figures(shift=0.0, factor=1.0):
    """The analysis on two stacks that differ in their seeds, and in `factor`."""
    h, a, sigma = 1 / 32, -1.0, 0.5
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    steps = np.log(np.abs(1 + h * a + sigma * np.sqrt(h) * nodes))
    exact = float(weights @ steps) / np.sqrt(2 * np.pi) / h
    planned = PlannedAnalysis("exponent", exponents, np.array([exact + shift]))
    stacks = [
        Answering("one", exponents(linear(a), "diffrax", 1)),
        Answering("two", exponents(linear(a * factor), "diffrax", 2)),
    ]
    return analysis_figures([planned], stacks, asked)


class Answering:
    """A stack whose answer is the result of an analysis."""

    def __init__(self, name, result):
        self.name, self.versions = name, {}
        self._answer = np.stack(result.interval())

    def ask(self, question):
        return (self._answer,)


def asked(planned):
    return Question("analysis", (planned.name,), lambda backend: [])


def test_both_hold_and_agree():
    # Three intervals at level 0.999 with the keys fixed.
    results = figures()
    assert [f.holds for f in results] == [True] * 3
    assert results[2].claim == "exponent, one against two"


def test_a_value_that_is_off_breaks_the_rung():
    # By ten half widths: half width about 4·0.5/√800 = 0.07.
    assert [f.holds for f in figures(shift=0.7)] == [False, False, True]


def test_a_model_that_is_off_breaks_the_comparison():
    assert [f.holds for f in figures(factor=1.7)] == [True, False, False]


def test_what_has_not_converged_does_not_hold():
    planned = PlannedAnalysis("exponent", exponents, np.array([0.0]))
    nothing = SimpleNamespace(interval=lambda: (np.zeros(1), np.array([np.nan])))
    (only,) = analysis_figures([planned], [Answering("one", nothing)], asked)
    assert not only.holds
    assert "not converged" in only.claim


def test_results_without_intervals_are_refused():
    planned = PlannedAnalysis("spectrum", lambda p, b: SimpleNamespace(mean=1.0))
    with pytest.raises(TypeError, match="must return an AnalysisResult with"):
        planned.run(linear(), "diffrax")


def test_fixtures_name_their_analyses_well(tmp_path):
    entry = {"kind": "guess", "options": {}, "expected": 1, "bias": 0, "source": "x"}
    with pytest.raises(ValueError, match=r"`analyses.kind` must be one of"):
        read_analyses(Table(tmp_path, {"analyses": [entry]}))
    del entry["bias"]
    with pytest.raises(ValueError, match=r"lacks `analyses\.bias`"):
        read_analyses(Table(tmp_path, {"analyses": [entry]}))
    with pytest.raises(ValueError, match="a fixture names its own `analyses`"):
        reconcile(load_fixture("gbm"), analyses={"exponent": exponents})


def test_two_analyses_of_a_kind_have_two_names(tmp_path):
    entry = {"kind": "mixing_rate", "options": {}, "expected": 1, "bias": 0}
    read = read_analyses(Table(tmp_path, {"analyses": [entry | {"source": "x"}] * 2}))
    assert [analysis.name for analysis in read] == ["mixing rate", "mixing rate 2"]


def test_expected_values_are_those_of_their_formulas():
    # Continuous Lyapunov equation of the exact law against the scheme's: order h.
    fixture = load_fixture("ornstein_uhlenbeck")
    theta, sigma, mean = (
        np.array(fixture.parameters[name]) for name in ("theta", "sigma", "mean")
    )
    h = 1 / 32
    step = np.eye(2) - h * theta
    covariance = np.zeros((2, 2))
    for _ in range(20_000):
        covariance = step @ covariance @ step.T + h * sigma @ sigma.T
    second = covariance + np.outer(mean, mean)
    np.testing.assert_allclose(
        fixture.analyses[0].expected,
        [*mean, second[0, 0], second[0, 1], second[1, 1]],
        rtol=1e-12,
    )
    a, b, h = (*load_fixture("gbm").parameters.values(), 1 / 64)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    logs = np.log(np.abs(1 + a * h + b * np.sqrt(h) * nodes))
    np.testing.assert_allclose(
        load_fixture("gbm").analyses[0].expected,
        weights @ logs / np.sqrt(2 * np.pi) / h,
        rtol=1e-9,
    )

    factors = np.abs(1 + a * h + b * np.sqrt(h) * nodes) ** 0.5
    np.testing.assert_allclose(
        load_fixture("gbm").analyses[1].expected,
        np.log(weights @ factors / np.sqrt(2 * np.pi)) / h,
        rtol=1e-9,
    )
    # Of the kernel of the double well's steps, by the rule of rectangles, which is
    # exact to rounding for what is smooth and vanishes at the ends.
    h, x = 1 / 32, np.linspace(-4, 4, 600)
    kernel = np.exp(-((x - (x + h * (x - x**3))[:, None]) ** 2) / (2 * h))
    kernel *= (x[1] - x[0]) / np.sqrt(2 * np.pi * h)
    second = np.sort(np.abs(np.linalg.eigvals(kernel)))[-2]
    np.testing.assert_allclose(
        load_fixture("double_well").analyses[1].expected, -np.log(second) / h, rtol=2e-8
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["double_well", "gbm", "lorenz63", "ornstein_uhlenbeck"]
)
def test_fixtures_hold_on_recorded_results(name):
    report = reconcile(load_fixture(name), rungs=["L3"], julia="recorded")
    assert report.passed, str(report)
    claims = [f.claim for f in report.rungs[0].figures]
    assert any("diffrax against julia" in c and "law of" not in c for c in claims)


def oscillator():
    def field(t, y, args):
        return jnp.stack([y[1], (1 - y[0] ** 2) * y[1] - y[0]])

    return ODEProblem(field, jnp.array([2.0, 0.0]), 0.0, 7.0)


def period(problem, backend):
    return periodic_orbit(problem, problem.y0, 6.6, backend=backend)


@pytest.mark.slow
@pytest.mark.julia
def test_periods_found_by_both_stacks_agree(julia):
    # Van der Pol at mu = 1: 6.66328685932313 (Strasberg 1973, and many since); the
    # intervals are what tighter tolerances changed.
    analysis = PlannedAnalysis("period", period, np.array([6.66328685932313]), 1e-9)
    stacks = [
        Answering(name, period(oscillator(), name)) for name in ("diffrax", "julia")
    ]
    results = analysis_figures([analysis], stacks, asked)
    assert [f.holds for f in results] == [True] * 3, results


@pytest.mark.slow
@pytest.mark.julia
def test_a_problem_of_ones_own_brings_analyses(julia):
    report = reconcile(
        linear(), rungs=["L3"], analyses={"exponent": exponents}, julia="live"
    )
    assert report.passed, str(report)
    assert report.rungs[0].figures[-1].claim == "exponent, diffrax against julia"
