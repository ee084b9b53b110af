"""The ladder finds what is wrong, and on the rung where it is wrong."""

import dataclasses
import json

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import hybrid_nds
from hybrid_nds.reconcile import (
    Figure,
    Report,
    RungResult,
    load_fixture,
    reconcile,
)
from hybrid_nds.reconcile._observables import own_observable
from hybrid_nds.reconcile._stacks import RECORD, Question, RecordedStack


@pytest.fixture(scope="module")
def lorenz():
    return load_fixture("lorenz63")


def _changed(fixture, factor):
    """The fixture with its first parameter off by a factor, in JAX alone."""
    problem = fixture.problem
    dynamic, static = eqx.partition((problem.field, problem.args), eqx.is_inexact_array)
    import jax

    leaves, tree = jax.tree_util.tree_flatten(dynamic)
    leaves[0] = leaves[0] * factor
    field, args = eqx.combine(jax.tree_util.tree_unflatten(tree, leaves), static)
    wrong = hybrid_nds.ODEProblem(field, problem.y0, problem.t0, problem.t1, args)
    return dataclasses.replace(fixture, problem=wrong)


def test_every_rung_holds_on_recorded_results(lorenz):
    report = reconcile(lorenz, julia="recorded")
    assert [r.verdict for r in report.rungs] == ["passed"] * 4
    assert report.julia == "recorded"
    assert "recorded, not live" in report.to_markdown()
    assert json.loads(report.to_json())["passed"] is True
    assert "L2 solution" in str(report)


def test_a_wrong_coefficient_breaks_from_the_field_up(lorenz):
    report = reconcile(_changed(lorenz, 1.001), julia="recorded")
    assert [r.verdict for r in report.rungs] == ["failed"] * 4
    assert not report.passed


def test_a_tiny_error_of_the_field_breaks_only_below_the_solution(lorenz):
    # Far below the tolerances of L2, and still a thousand times above round-off.
    report = reconcile(
        _changed(lorenz, 1 + 1e-11), julia="recorded", rungs=("L0", "L2")
    )
    assert report.rung("L0").verdict == "failed"
    assert report.rung("L2").verdict == "passed"


def test_a_wrong_scheme_breaks_the_second_rung(lorenz, tmp_path):
    text = (lorenz.path / RECORD).read_text()
    # Another scheme's states under this one's name: as if a tableau were wrong.
    swapped = text.replace("scheme,Heun,", "scheme,X,")
    swapped = swapped.replace("scheme,Ralston,", "scheme,Heun,")
    swapped = swapped.replace("scheme,X,", "scheme,Ralston,")
    folder = tmp_path / "lorenz63"
    (folder / "julia").mkdir(parents=True)
    (folder / RECORD).write_text(swapped)
    report = reconcile(
        dataclasses.replace(lorenz, path=folder), julia="recorded", rungs=("L0", "L1")
    )
    assert report.rung("L0").verdict == "passed"
    failed = {f.claim.split(",")[0] for f in report.rung("L1").figures if not f.holds}
    assert failed == {"Heun", "Ralston"}


def test_missing_records_are_named(lorenz, tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("# Julia = 1.10.8\nkind,label,y1\n")
    stack = RecordedStack(path)
    assert dict(stack.versions) == {"Julia": "1.10.8"}
    with pytest.raises(ValueError, match=r"record_julia\.py"):
        stack.ask(Question("scheme", ("Heun",), lambda backend: []))


def test_nan_never_holds():
    assert not Figure("x", float("nan"), 1.0, "").holds
    assert not Figure("x", float("inf"), float("inf"), "").holds
    assert RungResult("L0", (Figure("x", float("nan"), 1.0, ""),)).verdict == "failed"


def test_only_an_independent_comparison_passes():
    own = Figure("x", 0.0, 1.0, "", independent=False)
    good, bad = Figure("x", 0.5, 1.0, ""), Figure("x", 2.0, 1.0, "", independent=False)

    def verdict(*figures, applies=True):
        return RungResult("L2", figures, applies=applies).verdict

    assert verdict() == "not compared"
    assert verdict(applies=False) == "not applicable"
    assert verdict(own) == "not compared"
    assert verdict(own, good) == "passed"
    # What does not even agree with itself has failed.
    assert verdict(bad) == verdict(good, bad) == "failed"
    rungs = RungResult("L0"), RungResult("L2", (own,))
    report = Report("x", rungs, "absent", ())
    assert (report.verdict, report.passed) == ("not compared", False)
    report = dataclasses.replace(report, rungs=(*rungs, RungResult("L3", (good,))))
    assert (report.verdict, report.passed) == ("passed", True)


@pytest.fixture
def without_julia(monkeypatch):
    monkeypatch.setattr("hybrid_nds.runtime.configured", lambda: False)


def pulse(t, y, args):
    """A pulse so short that every solver steps over it."""
    return -y + jnp.where((t > 1) & (t < 1.01), 100.0, 0.0)


def test_a_stack_alone_certifies_nothing(without_julia):
    problem = hybrid_nds.ODEProblem(pulse, jnp.zeros(1), 0.0, 10.0)
    report = reconcile(problem, observables={"end": lambda ts, ys: ys[-1, 0]})
    assert [r.verdict for r in report.rungs] == ["not compared"] * 4
    assert not report.passed
    assert "not compared" in str(report)
    assert json.loads(report.to_json())["verdict"] == "not compared"
    report.plot()


def test_a_stack_alone_certifies_no_noise(without_julia):
    problem = hybrid_nds.SDEProblem(
        lambda t, y, a: -y, lambda t, y, a: jnp.ones_like(y), jnp.zeros(1), 0.0, 1.0,
        noise="additive",
    )  # fmt: skip
    report = reconcile(problem)
    assert report.verdict == "not compared", str(report)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, [1.0, 2.0, 3.0]])
def test_scales_must_be_positive(without_julia, scale):
    problem = hybrid_nds.ODEProblem(lambda t, y, a: -y, jnp.ones(2), 0.0, 1.0)
    with pytest.raises(ValueError, match=r"`scale` must be .* shape \(2,\)"):
        reconcile(problem, scale=scale)


@pytest.mark.julia
@pytest.mark.parametrize("s", [1e-9, 1e6])
def test_units_change_no_verdict(julia, s):
    def van_der_pol(t, y, unit):
        x, v = y
        return jnp.stack([v, 2.0 * (1 - (x / unit) ** 2) * v - x])

    def figures(unit):
        problem = hybrid_nds.ODEProblem(
            van_der_pol, jnp.array([2 * unit, 0.0]), 0.0, 3.0, jnp.array(unit)
        )
        report = reconcile(problem, rungs=("L0", "L2"))
        assert report.passed, str(report)
        return report.rung("L2").figures

    for here, there in zip(figures(1.0), figures(s), strict=True):
        assert there.limit / s == pytest.approx(here.limit, rel=0.1)
        # Of errors far below the limit, the steps after the first may differ.
        assert there.measured / s <= max(3 * here.measured, 0.1 * here.limit)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rungs": ("L5",)}, "`rungs`"),
        ({"rungs": ()}, "`rungs`"),
        ({"julia": "perhaps"}, "`julia`"),
        ({"observables": {}}, "`observables`"),
        ({"gradients": True}, "a fixture names its own `gradients`"),
    ],
)
def test_bad_options_are_named(lorenz, options, words):
    with pytest.raises(ValueError, match=words):
        reconcile(lorenz, **options)


def test_gradients_are_compared_or_not(lorenz):
    with pytest.raises(TypeError, match="`gradients` must be True or False"):
        reconcile(lorenz.problem, gradients="yes")  # pyright: ignore[reportArgumentType]


def test_recorded_gradients_hold_and_a_wrong_one_does_not(tmp_path):
    fixture = load_fixture("gbm")
    report = reconcile(fixture, julia="recorded", rungs=("L1",))
    assert report.passed, str(report)
    text = (fixture.path / RECORD).read_text()
    (line,) = [x for x in text.splitlines() if x.startswith("scheme gradient,Euler")]
    # The derivative by the parameters along waves, off in its tenth digit.
    *others, last = line.split(",")
    moved = ",".join([*others, repr(float(last) * (1 + 1e-10))])
    folder = tmp_path / "gbm"
    (folder / "julia").mkdir(parents=True)
    (folder / RECORD).write_text(text.replace(line, moved))
    report = reconcile(
        dataclasses.replace(fixture, path=folder), julia="recorded", rungs=("L1",)
    )
    (broken,) = [f.claim for f in report.rung("L1").figures if not f.holds]
    assert broken.startswith("gradient through Euler")


@pytest.mark.slow
@pytest.mark.julia
@pytest.mark.parametrize("stiff", [False, True])
def test_gradients_of_a_problem_of_ones_own_agree(julia, stiff):
    # A fast component of rate 1e4 makes the problem stiff.
    def field(t, y, a):
        return jnp.stack([a[0] * (jnp.cos(y[1]) - y[0]), -a[1] * y[1] + jnp.sin(t)])

    rates = jnp.array([1e4 if stiff else 3.0, 0.5])
    problem = hybrid_nds.ODEProblem(field, jnp.array([1.0, 0.5]), 0.0, 2.0, rates)
    report = reconcile(
        problem,
        observables={"end": lambda ts, ys: float(ys[-1, 0])},
        gradients=True,
        rungs=("L1", "L2", "L3"),
    )
    assert report.passed, str(report)
    for rung in report.rungs:
        assert any("gradient" in figure.claim for figure in rung.figures)


@pytest.mark.slow
@pytest.mark.julia
def test_a_problem_of_ones_own_goes_up_the_ladder(julia):
    class Field(eqx.Module):
        rate: jnp.ndarray

        def __call__(self, t, y, args):
            return jnp.stack([y[1], -self.rate * y[0] - 0.1 * y[1] + jnp.sin(t)])

    problem = hybrid_nds.ODEProblem(Field(jnp.array(2.0)), jnp.ones(2), 0.0, 3.0)
    report = reconcile(
        problem, observables={"energy": lambda ts, ys: float(np.sum(ys[-1] ** 2))}
    )
    assert report.julia == "live"
    assert [r.verdict for r in report.rungs] == ["passed"] * 4, str(report)


@pytest.mark.parametrize(
    ("function", "error", "match"),
    [
        (lambda ts, ys: ys[-1, 9], ValueError, "raised IndexError"),
        (lambda ts, ys: "high", TypeError, "one real number, got 'high'"),
        (lambda ts, ys: ys[-1], TypeError, "one real number"),
        (lambda ts, ys: np.nan, ValueError, "a finite number, got nan"),
    ],
)
def test_what_an_observable_does_wrong_names_it(function, error, match):
    observable = own_observable("n", function)
    with pytest.raises(error, match=match) as caught:
        observable(np.linspace(0.0, 1.0, 3), np.ones((3, 2)))
    assert "`observables['n']`" in str(caught.value)


def test_an_observable_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match="must be a function"):
        own_observable("n", 3.0)
