"""Distances between laws in other units and about other origins.

A distance is homogeneous of degree p: samples `s x + o` lie `s^p` times as far apart.
An offset o rounds the samples themselves to `eps |o|`, which moves what is compared by
that much; nothing else may be lost.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as stats
from hypothesis import given, settings, strategies as st

from hybrid_nds import measures
from hybrid_nds.measures import LawComparison, LawShift, compare_laws
from hybrid_nds.measures._compare import LawTest
from hybrid_nds.measures._differentiable import (
    discrepancy_statistic,
    energy_statistic,
    sinkhorn_statistic,
)

RANDOM = np.random.default_rng(41)
A, B = RANDOM.standard_normal((30, 2)), 0.7 + RANDOM.standard_normal((30, 2))
SCALES = st.floats(-12, 12).map(lambda k: 10.0**k) | st.sampled_from([1e-150, 1e150])

DISTANCES = {
    "energy": (measures.energy_distance, 1, 2),
    "mmd": (measures.maximum_mean_discrepancy, 0, 2),
    "gaussian": (measures.gaussian_wasserstein, 1, 2),
    "sliced": (measures.sliced_wasserstein, 1, 2),
    "W1": (lambda a, b: measures.wasserstein(a, b, order=1), 1, 1),
    "W2": (measures.wasserstein, 1, 1),
}
# Of what is compared, all of order one: sums of some thousand roundings, and a root of
# the spectrum's.
ROUNDING = 1e-10


@pytest.mark.parametrize("name", DISTANCES)
@settings(max_examples=25, deadline=None)
@given(scale=SCALES, offset=st.floats(-1e10, 1e10))
def test_distances_in_other_units_about_other_origins(name, scale, offset):
    distance, power, d = DISTANCES[name]
    expected = distance(A[:, :d], B[:, :d]).value
    moved = [scale * (x[:, :d] + offset) for x in (A, B)]
    found = distance(*moved).value / scale**power
    # Rounded twice: the sum and the product.
    blur = 2 * np.finfo(float).eps * (abs(offset) + 4)
    assert abs(found - expected) <= 4 * blur + ROUNDING


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_discrepancies_of_a_stated_bandwidth(scale):
    expected = measures.maximum_mean_discrepancy(A, B, bandwidth=0.8)
    there = [scale * (x + 1e6) for x in (A, B)]
    found = measures.maximum_mean_discrepancy(*there, bandwidth=0.8 * scale)
    assert found.value == pytest.approx(expected.value, abs=1e-8)
    assert found.settings["bandwidth"] == 0.8 * scale


def test_single_precision_samples_lose_their_own_digits_alone():
    a, b = (np.float32(1e4) + x.astype(np.float32) for x in (A, B))
    # The same numbers, about zero, in double precision: exact.
    near = [x.astype(float) - 1e4 for x in (a, b)]
    for name in ("energy", "mmd", "gaussian", "sliced"):
        distance = DISTANCES[name][0]
        assert distance(a, b).value == pytest.approx(distance(*near).value, abs=1e-9)


def test_the_sinkhorn_divergence_in_other_units_about_other_origins():
    expected = measures.sinkhorn_divergence(A, B)
    for scale, offset in ((1.0, 1e8), (1e-12, 1e3), (1e12, -1e3), (1e-100, 1.0)):
        there = [scale * (x + offset) for x in (A, B)]
        found = measures.sinkhorn_divergence(*there)
        # The iteration ends where marginals are met to 1e-6 of costs of order ten; an
        # offset of 1e8 rounds the samples to 1e-8.
        assert found.value / scale**2 == pytest.approx(expected.value, abs=1e-5)
        epsilon = found.settings["epsilon"] / scale**2
        assert epsilon == pytest.approx(expected.settings["epsilon"], rel=1e-6)


def test_a_distance_beyond_double_precision_is_refused():
    with pytest.raises(ValueError, match="energy_distance: the distance of"):
        measures.energy_distance([-1.7e308, -1.6e308], [1.6e308, 1.7e308])


def test_most_samples_alike_have_a_bandwidth():
    # 1 with probability 0.2: most pairs are alike, and the others 1 apart.
    a, b = np.repeat([0.0, 1.0], [16, 4]), np.repeat([0.0, 1.0], [17, 3])
    found = measures.maximum_mean_discrepancy(a, b, null=True)
    assert found.settings["bandwidth"] == 1.0
    # k is 1 or e^-1/2: the mean over pairs by counting.
    k = np.exp(-0.5)
    own = [
        (n * (n - 1) + m * (m - 1) + 2 * n * m * k) / 380 for n, m in ((16, 4), (17, 3))
    ]
    cross = (16 * 17 + 4 * 3 + (16 * 3 + 4 * 17) * k) / 400
    assert found.value == pytest.approx(sum(own) - 2 * cross, abs=1e-12)
    assert found.p_value > 0.2
    traced = discrepancy_statistic(jnp.array(a)[:, None], jnp.array(b)[:, None], None)
    assert float(traced) == pytest.approx(found.value, abs=1e-12)


STATISTICS = {
    "energy": (energy_statistic, 1),
    "mmd": (lambda x, y: discrepancy_statistic(x, y, None), 0),
    "sinkhorn": (lambda x, y: sinkhorn_statistic(x, y, None), 2),
}


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_that_losses_take(name, dtype, strict_promotion):
    statistic, power = STATISTICS[name]
    compiled = jax.jit(jax.value_and_grad(statistic))
    x, y = (z.astype(dtype) for z in (A, B))
    value, slope = compiled(x, y)
    eps = np.finfo(dtype).eps
    assert value.dtype == dtype
    for scale, offset in (
        (1e-12, 0.0),
        (1e12, 0.0),
        (1.0, 1e-2 / eps**0.5),
        (1e6, 30.0),
    ):
        s, o = dtype(scale), dtype(offset)
        again, tilted = compiled(s * (x + o), s * (y + o))
        # Roundings of the samples, of thousands of terms, and of the iteration, which
        # ends at 1e-4.
        blur = 8 * eps * (offset + 4) + 100 * eps + (1e-3 if name == "sinkhorn" else 0)
        assert abs(again / scale**power - value) < blur
        got, wanted = np.asarray(tilted) / scale ** (power - 1), np.asarray(slope)
        # A kernel's derivative is of order one of the samples' 30; that of distances
        # turns by the blur over the least distance, some 1/30.
        assert np.max(np.abs(got - wanted)) < 30 * blur


def test_comparisons_in_other_units_about_other_origins():
    options = {"kernel_samples": 30, "permutations": 900}
    expected = compare_laws(A, B, **options)
    scale, offset = np.array([1e-12, 1e12]), np.array([1e6, -1e3])
    found = compare_laws(*(scale * (x + offset) for x in (A, B)), **options)
    for one, other in zip(found.tests, expected.tests, strict=True):
        assert one.p_value == pytest.approx(other.p_value, rel=1e-6, abs=1e-12)
    units = [*scale, *scale**2, scale[0] * scale[1]]
    moves = [*(scale * offset), 0, 0, 0]
    for one, other, unit, move in zip(
        found.intervals, expected.intervals, units, moves, strict=True
    ):
        assert one.first == pytest.approx(unit * other.first + move, rel=1e-8)
        for name in ("difference", "standard_error", "low", "high"):
            wanted = unit * getattr(other, name)
            assert getattr(one, name) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 3.7, 1e12])
def test_a_moment_without_spread_is_equal_or_not(scale):
    # The squares of ±s are all alike: Welch's quotient is 0/0 but for rounding.
    coin = scale * np.tile([1.0, -1.0], 20)
    found = compare_laws(coin, coin[:30], shift=LawShift(0.1, 0.1))
    named = {test.name: test for test in found.tests}
    assert named["Welch, variance of y"].p_value > 0.9
    assert found.same
    assert found.undecided == ()
    wider = compare_laws(coin, 1.5 * coin)
    assert not wider.same
    assert {t.name: t for t in wider.tests}["Welch, variance of y"].p_value == 0


def test_no_verdict_rests_on_what_is_no_number():
    good, nan = LawTest("one", 0.1, 0.5, 1.0), LawTest("two", *3 * [float("nan")])
    bad = LawTest("three", 9.0, 1e-6, 3e-6)

    def of(*tests):
        return LawComparison(0.01, tests, (), LawShift(), 0.5, (30, 30))

    assert of(good).same
    for tests in ((nan, good), (good, nan), (nan,), ()):
        assert not of(*tests).same
        assert "The distributions are not compared (no number from" in str(of(*tests))
    assert of(good, nan).worst.name == "two"
    assert of(good, nan).to_dict()["same"] is False
    assert "The distributions are different" in str(of(nan, bad))


def test_a_statistic_that_is_no_number_does_not_pass(monkeypatch):
    monkeypatch.setattr(stats, "ks_2samp", lambda x, y: stats.ttest_ind([1, 1], [1, 1]))
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        found = compare_laws(A[:, 0], A[::-1, 0])
    assert [test.name for test in found.undecided] == ["Kolmogorov-Smirnov, y"]
    assert not found.same
