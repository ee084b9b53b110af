"""Comparisons of laws: their level, their power, and what they see."""

import json

import numpy as np
import pytest
import scipy.stats as stats

from hybrid_nds.measures import LawShift, compare_laws


def gaussians(seed, n=200, m=150, mean=0.0, deviation=1.0, d=2):
    random = np.random.default_rng(seed)
    return (
        random.standard_normal((n, d)),
        mean + deviation * random.standard_normal((m, d)),
    )


def test_the_level_is_kept():
    # One law: told apart in at most 5 % of comparisons (Holm); more than this bound
    # would come up once in 10 000 at exactly 5 %.
    runs = 150
    hits = sum(
        not compare_laws(
            *gaussians(seed, 40, 50), level=0.05, permutations=199, seed=seed
        ).same
        for seed in range(runs)
    )
    assert hits <= stats.binom.ppf(1 - 1e-4, runs, 0.05)


def test_the_power_is_no_more_than_there_is():
    shift = LawShift(mean=0.5)
    runs, hits, stated = 100, 0, []
    for seed in range(runs):
        a, b = gaussians(1000 + seed, 60, 80, d=1)
        comparison = compare_laws(
            a, b + 0.5, level=0.05, shift=shift, permutations=199, seed=seed
        )
        hits += not comparison.same
        stated.append(comparison.power)
    # A lower bound: fewer hits than this come up once in 10 000 at the power stated.
    assert hits >= stats.binom.ppf(1e-4, runs, np.mean(stated))
    assert 0.3 < np.mean(stated) < 0.95


def test_power_by_the_normal_limit():
    # 10⁵ samples: Welch's test is the normal one, of power Φ(δ√(nm/(n+m)) − z).
    a, b = gaussians(5, 100_000, 100_000, d=1)
    comparison = compare_laws(
        a, b, level=0.01, shift=LawShift(0.015), kernel_samples=50, permutations=600
    )
    tests = 5
    z = stats.norm.isf(0.01 / tests / 2)
    power = stats.norm.sf(z - 0.015 * np.sqrt(5e4))
    assert len(comparison.tests) == tests
    # The spread is estimated to 1/√(4·10⁵): the centre, 3.4, to 0.005.
    assert comparison.power == pytest.approx(power, abs=0.01)


@pytest.mark.parametrize(
    ("change", "test"),
    [
        (lambda b: b + np.array([0.5, 0.0]), "Welch, mean of y[0]"),
        (lambda b: b * np.array([1.0, 1.6]), "Welch, variance of y[1]"),
        (
            lambda b: np.stack([b[:, 0], 0.8 * b[:, 0] + 0.6 * b[:, 1]], 1),
            "Welch, covariance of y[0], y[1]",
        ),
        # Two points of mean 0 and variance 1: no moment up to the second differs.
        (lambda b: np.sign(b), "Kolmogorov-Smirnov, y[0]"),
        (lambda b: np.sign(b), "energy distance"),
        (lambda b: 1.6 * b, "maximum mean discrepancy"),
    ],
)
def test_each_test_sees_what_it_is_for(change, test):
    a, b = gaussians(7, 1000, 1000)
    # Permutations take all samples where it is they that must see something.
    most = 1000 if test in ("energy distance", "maximum mean discrepancy") else 50
    compared = compare_laws(a, change(b), kernel_samples=most)
    found = {t.name: t for t in compared.tests}
    assert found[test].adjusted < 0.01


def test_a_changed_drift_is_seen_at_the_size_that_its_power_says():
    # The stationary distribution of dx = −θ(x−1) dt + σ dW is N(1, σ²/2θ): 5 % more
    # drift, −1.05 θ x + θ, moves its mean by 0.0476, here 0.34 standard deviations,
    # which 1000 samples see with a power above 0.99.
    random = np.random.default_rng(11)
    deviation = 0.14
    a = 1 + deviation * random.standard_normal(1000)
    right = 1 + deviation * random.standard_normal(1000)
    wrong = 1 / 1.05 + deviation / np.sqrt(1.05) * random.standard_normal(1000)
    shift = LawShift(mean=(1 - 1 / 1.05) / deviation)
    same, other = compare_laws(a, right, shift=shift), compare_laws(a, wrong)
    assert same.power > 0.99
    assert same.same
    assert not other.same


def test_the_report(tmp_path):
    a, b = gaussians(2, 100, 100)
    comparison = compare_laws(a, b, names=["speed", "angle"])
    text = str(comparison)
    assert "not told apart at level 0.01 (100 against 100 samples" in text
    assert "covariance of speed, angle" in text
    assert json.loads(json.dumps(comparison.to_dict()))["same"] is True
    comparison.plot(tmp_path / "laws.png")
    assert (tmp_path / "laws.png").stat().st_size > 1000


def test_intervals_are_those_of_scipy():
    a, b = gaussians(3, 100, 60, deviation=2.0)
    first = compare_laws(a, b).intervals[0]
    test = stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False)
    interval = test.confidence_interval(1 - 0.01 / 9)
    assert (first.low, first.high) == pytest.approx(tuple(interval), rel=1e-12)
    assert first.difference / first.standard_error == pytest.approx(test.statistic)


def test_holm():
    comparison = compare_laws(*gaussians(9, 100, 100, mean=0.4))
    # Holm 1979: sorted p-values times the number left, never falling.
    ordered = sorted(comparison.tests, key=lambda t: t.p_value)
    count, running = len(ordered), 0.0
    for k, test in enumerate(ordered):
        running = max(running, min(1.0, (count - k) * test.p_value))
        assert test.adjusted == pytest.approx(running)


BAD = {
    "few": ({}, (np.arange(9.0), np.arange(30.0)), "at least 20 samples, got 9"),
    "level": (
        {"level": 1.5},
        None,
        "`level` must be a finite number above 0 and",
    ),
    "still": ({}, (np.arange(30.0), np.ones(30)), "`b` does not vary in y"),
    "names": ({"names": ["a"]}, None, "`names` must be 2 names"),
    "permutations": ({"permutations": 100}, None, "at least 900 for 9 tests"),
}


@pytest.mark.parametrize(("options", "samples", "match"), BAD.values(), ids=BAD)
def test_bad_input(options, samples, match):
    with pytest.raises(ValueError, match=match):
        compare_laws(*(samples or gaussians(0, 30, 30)), **options)


@pytest.mark.parametrize("shift", [{"mean": -1.0}, {"mean": 0.0}, {"variance": np.nan}])
def test_bad_shift(shift):
    with pytest.raises(ValueError, match="LawShift: `"):
        LawShift(**shift)
