"""The ladder of stochastic problems finds what is wrong, on the rung where it is."""

import dataclasses
import json

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import hybrid_nds
from hybrid_nds.reconcile import list_fixtures, load_fixture, reconcile
from hybrid_nds.reconcile._ladder import plan_fixture
from hybrid_nds.reconcile._stacks import RECORD


def verdicts(report):
    return {r.rung: r.verdict for r in report.rungs}


def with_drift(fixture, where, factor):
    """The fixture with a coefficient of its drift off by a factor, in JAX alone."""
    problem = eqx.tree_at(
        lambda p: where(p.drift), fixture.problem, where(fixture.problem.drift) * factor
    )
    return dataclasses.replace(fixture, problem=problem)


def with_record(fixture, folder, change):
    """The fixture beside recorded results that were changed, line by line."""
    lines = (fixture.path / RECORD).read_text().splitlines()
    (folder / "julia").mkdir(parents=True)
    (folder / RECORD).write_text("\n".join(map(change, lines)) + "\n")
    return dataclasses.replace(fixture, path=folder)


def test_fields_and_schemes_hold_on_recorded_results():
    report = reconcile(
        load_fixture("ornstein_uhlenbeck"), julia="recorded", rungs=("L0", "L1")
    )
    assert verdicts(report) == {"L0": "passed", "L1": "passed"}, report.to_markdown()
    claims = {f.claim.split(":")[0] for f in report.rung("L0").figures}
    assert claims == {"drift", "diffusion 1", "diffusion 2"}
    twins = {f.claim.split(",")[0] for f in report.rung("L1").figures}
    assert twins == {"Euler", "Heun", "SRA1"}
    # Each is a comparison of many digits, and its name says what it is not.
    for figure in report.rung("L1").figures:
        assert figure.limit / figure.size == pytest.approx(1e-12)
    assert "near-twins: EulerHeun" in report.rung("L1").figures[0].derivation
    assert json.loads(report.to_json())["passed"] is True


def test_a_method_is_no_twin_where_its_steps_differ():
    # SRA1 takes a diffusion that depends on time at other times in either stack.
    fading = plan_fixture(load_fixture("additive_time"))
    assert "SRA1" not in fading.twins
    assert any(words.startswith("SRA1") for words in fading.near_twins)
    constant = plan_fixture(load_fixture("double_well"))
    assert "SRA1" in constant.twins


def test_a_recorded_scheme_off_by_1e_minus_11_breaks_the_second_rung(tmp_path):
    def change(line):
        if not line.startswith("scheme,SRA1,"):
            return line
        kind, label, *numbers = line.split(",")
        return ",".join([kind, label, *(repr(float(x) * (1 + 1e-11)) for x in numbers)])

    fixture = with_record(load_fixture("double_well"), tmp_path / "well", change)
    report = reconcile(fixture, julia="recorded", rungs=("L1",))
    failed = [f.claim.split(",")[0] for f in report.rung("L1").figures if not f.holds]
    assert failed == ["SRA1"]


@pytest.mark.slow
def test_strong_orders_hold_and_a_method_of_another_order_does_not(tmp_path):
    fixture = load_fixture("gbm")
    report = reconcile(fixture, julia="recorded", rungs=("L2",))
    assert verdicts(report) == {"L2": "passed"}, report.to_markdown()
    claims = [f.claim for f in report.rung("L2").figures]
    assert all("slope" in claim and "in [" in claim for claim in claims)
    assert {claim.split()[0] for claim in claims} == {"diffrax", "julia"}

    # Euler's states under the name of Milstein's method: order one half for one.
    def change(line):
        for one, other in (("Euler", "RKMil"), ("RKMil", "Euler")):
            if line.startswith(f"strong,{one} "):
                return line.replace(one, other, 1)
        return line

    wrong = with_record(fixture, tmp_path / "gbm", change)
    figures = reconcile(wrong, julia="recorded", rungs=("L2",)).rung("L2").figures
    failed = {f.claim.split(" against")[0] for f in figures if not f.holds}
    assert failed == {"julia Euler", "julia RKMil"}


@pytest.mark.slow
def test_a_drift_five_percent_off_is_seen_in_the_law():
    # The rate of return to the mean of a coefficient of 1.5 moves E[y1] by 0.02; with
    # 8192 samples of deviation 0.5 the standard error is 0.006: powers above 0.5 for
    # this moment alone, and the law of the other stack is known too.
    fixture = load_fixture("underdamped_langevin")
    right = reconcile(fixture, julia="recorded", rungs=("L0", "L3"))
    assert verdicts(right) == {"L0": "passed", "L3": "passed"}, right.to_markdown()
    wrong = with_drift(fixture, lambda drift: drift.omega, 1.05)
    report = reconcile(wrong, julia="recorded", rungs=("L0", "L3"))
    assert verdicts(report) == {"L0": "failed", "L3": "failed"}
    failed = [f.claim for f in report.rung("L3").figures if not f.holds]
    assert any("law of diffrax against that of julia" in claim for claim in failed)
    assert any("diffrax against its value" in claim for claim in failed)
    assert not any("julia against its value" in claim for claim in failed)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_fixtures("sde"))
def test_every_rung_of_every_problem_holds_on_recorded_results(name):
    report = reconcile(load_fixture(name), julia="recorded")
    assert "failed" not in verdicts(report).values(), report.to_markdown()
    assert report.passed


def test_options_that_make_no_sense_are_named():
    fixture = load_fixture("kubo")
    with pytest.raises(ValueError, match="`observables`"):
        reconcile(fixture, observables={})
    with pytest.raises(ValueError, match="`rungs`"):
        reconcile(fixture, rungs=("L5",))
    with pytest.raises(ValueError, match="has no recorded results"):
        reconcile(fixture.problem, julia="recorded")


def test_missing_records_are_named(tmp_path):
    fixture = load_fixture("kubo")
    emptied = with_record(fixture, tmp_path / "kubo", lambda line: "# nothing = 1")
    with pytest.raises(ValueError, match=r"record_julia\.py"):
        reconcile(emptied, julia="recorded", rungs=("L1",))
    bare = dataclasses.replace(fixture, path=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is missing"):
        reconcile(bare, julia="recorded", rungs=("L1",))


@pytest.mark.slow
@pytest.mark.julia
def test_a_problem_of_ones_own_goes_up_the_ladder(julia):
    class Drift(eqx.Module):
        rate: jnp.ndarray

        def __call__(self, t, y, args):
            return -self.rate * jnp.sin(y)

    problem = hybrid_nds.SDEProblem(
        Drift(jnp.array(2.0)), lambda t, y, args: 0.3 + 0.1 * y, jnp.ones(2), 0.0, 1.0
    )
    report = reconcile(problem, rungs=("L0", "L1", "L3"))
    assert report.julia == "live"
    assert set(verdicts(report).values()) == {"passed"}, report.to_markdown()
    assert np.isfinite(report.rung("L3").figures[0].measured)


@pytest.mark.julia
def test_schemes_hold_on_a_live_julia(julia):
    report = reconcile(load_fixture("gbm"), julia="live", rungs=("L1",))
    assert verdicts(report) == {"L1": "passed"}, report.to_markdown()
