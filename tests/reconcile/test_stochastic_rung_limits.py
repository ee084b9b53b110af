"""The rungs of stochastic problems turn at their limits; see `test_rung_limits`."""

import math

import numpy as np
import pytest
import scipy.stats
from rung_cases import (
    COUNT,
    ONE,
    SAMPLES,
    SHARES,
    at,
    check_turn,
    disturbed,
    round_off,
    stochastic,
    verdict,
)

from hybrid_nds.reconcile._field_rung import field_rung
from hybrid_nds.reconcile._scheme_rung import scheme_rung
from hybrid_nds.reconcile._sde_fixtures import Law
from hybrid_nds.reconcile._sde_rungs import law_rung, strong_rung


@SHARES
@pytest.mark.parametrize("label", ["drift", "diffusion"])
def test_drift_and_diffusion_may_differ_by_the_roundings_of_both(label, share):
    place = (2, 1)
    limit = round_off("field", place)

    def change(table, part):
        return at(table, place, share * limit) if part == "field" else table

    result = field_rung(stochastic(), ONE, disturbed(f"part of {label}", change))
    check_turn(result, share, f"{label}: field, diffrax against julia", limit)


@SHARES
def test_stochastic_twins_may_differ_by_one_part_in_a_million_million(share):
    place = (1, 1)
    # Of states that are zero the scale alone is left.
    limit = 1e-12 * 0.5

    def change(states, asked):
        return at(states, place, share * limit) if asked == "Euler" else states

    result = scheme_rung(stochastic(), ONE, disturbed("scheme", change))
    check_turn(result, share, "Euler, 64 steps along one path", limit)


def slope_result(off, **fields):
    """The rung where Julia's errors of Euler's method have another order."""

    def change(states, label):
        solver, steps = label.split()
        if solver != "Euler":
            return states
        return 1.0 + (states - 1.0) * (1.0 / int(steps)) ** off

    return strong_rung(stochastic(**fields), (ONE, disturbed("strong", change)))


@SHARES
@pytest.mark.parametrize("sign", [1, -1])
def test_orders_may_be_off_by_a_tenth_either_way(sign, share):
    result = slope_result(sign * share * 0.1)
    (figure,) = [f for f in result.figures if f.claim.startswith("julia Euler ")]
    assert figure.limit == 0.1
    assert figure.measured == pytest.approx(share * 0.1, rel=1e-9)
    broken = [f for f in result.figures if not f.holds]
    assert broken == ([figure] if share > 1 else [])
    assert result.verdict == verdict(share)


def test_an_order_that_is_only_bounded_may_be_higher():
    assert slope_result(0.3, at_least=("Euler",)).verdict == "passed"
    assert slope_result(-0.3, at_least=("Euler",)).verdict == "failed"


@SHARES
@pytest.mark.parametrize("sign", [1, -1])
def test_means_may_be_off_by_their_sampling_error(sign, share):
    # Student's two-sided quantile at a thousandth, shared by two moments.
    deviation = np.std(SAMPLES, ddof=1) / math.sqrt(COUNT)
    limit = scipy.stats.t.isf(1e-3 / 2 / 2, COUNT - 1) * deviation

    def change(states, label):
        return states + sign * share * limit

    result = law_rung(stochastic(), (disturbed("sample", change),))
    check = [f for f in result.figures if f.claim.startswith("E[y1] ")]
    assert [f.limit for f in check] == [pytest.approx(limit, rel=1e-9)]
    assert [f.share for f in check] == [pytest.approx(share, rel=1e-6)]
    assert [f.holds for f in check] == [share < 1]
    assert result.verdict == verdict(share)


@SHARES
def test_laws_may_differ_at_a_level_of_a_thousandth(share):
    # Welch's test of the mean, of five after Holm: p = 10^(-3 share)/5. A mean moved in
    # a normal sample shows nowhere more.
    p = 10.0 ** (-3 * share) / 5
    deviation = np.std(SAMPLES, ddof=1) * math.sqrt(2 / COUNT)
    move = scipy.stats.t.isf(p / 2, 2 * COUNT - 2) * deviation
    known = stochastic(law=Law(1.0, 8, ()))
    result = law_rung(
        known, (ONE, disturbed("sample", lambda states, label: states + move))
    )
    (figure,) = result.figures
    assert figure.limit == pytest.approx(3.0)
    assert result.verdict == verdict(share)
    if share > 1:
        assert figure.share == pytest.approx(share, rel=1e-6)
