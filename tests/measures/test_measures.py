"""Distances between laws, against closed forms and independent implementations."""

import numpy as np
import pytest
import scipy.stats as stats
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtr

from hybrid_nds import measures

RANDOM = np.random.default_rng(20)
# 4.5 standard errors: one false alarm in 150 000 checks of a normal estimate.
FAR = 4.5


def gaussian(n, mean=0.0, deviation=1.0, d=None, random=RANDOM):
    size = n if d is None else (n, d)
    return mean + deviation * random.standard_normal(size)


def quantiles(n, mean=0.0, deviation=1.0):
    """A sample without chance: its law differs from the Gaussian by O(1/n)."""
    return stats.norm.ppf((np.arange(n) + 0.5) / n, mean, deviation)


def test_wasserstein_of_gaussians():
    # W2² of N(0,1) and N(m,s²) is m² + (s−1)²; quantiles cut off a tail of mass 1/n
    # whose share of W2² is below (s−1)² 2 log(n)/n.
    m, s, n = 0.7, 1.6, 20_000
    found = measures.wasserstein(quantiles(n), quantiles(n, m, s)).value
    assert abs(found**2 - (m**2 + (s - 1) ** 2)) < (s - 1) ** 2 * 2 * np.log(n) / n


@pytest.mark.parametrize("sizes", [(50, 50), (50, 70), (7, 3)])
def test_first_wasserstein_is_that_of_scipy(sizes):
    a, b = gaussian(sizes[0]), gaussian(sizes[1], 0.3, 2.0)
    found = measures.wasserstein(a, b, order=1).value
    assert found == pytest.approx(stats.wasserstein_distance(a, b), rel=1e-12)


def test_second_wasserstein_of_unequal_sizes_repeats_samples():
    a, b = gaussian(6), gaussian(4, 1.0)
    same = measures.wasserstein(np.repeat(a, 2), np.repeat(b, 3)).value
    assert measures.wasserstein(a, b).value == pytest.approx(same, rel=1e-12)


def test_gaussian_wasserstein_of_commuting_covariances():
    # With a common basis, Bures' distance is that of the square roots.
    basis = np.linalg.qr(RANDOM.standard_normal((3, 3)))[0]
    x = gaussian(400, d=3)
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T)).T)
    one, two, move = np.array([1, 2, 3.0]), np.array([2, 0.5, 1.0]), np.ones(3)
    a, b = x * one @ basis.T, x * two @ basis.T + move
    exact = np.sqrt(np.sum((one - two) ** 2) + 3.0)
    found = measures.gaussian_wasserstein(a, b).value
    assert found == pytest.approx(exact, rel=1e-8)


def test_gaussian_wasserstein_of_a_move():
    x = gaussian(50, d=2)
    found = measures.gaussian_wasserstein(x, x + np.array([3.0, 4.0])).value
    # Equal covariances cancel to √(eps · tr) only.
    assert found == pytest.approx(5.0, rel=1e-7)


def test_sliced_wasserstein_of_a_move():
    # A move by v: along θ it is θ·v, whose mean square over the sphere is |v|²/d.
    x = gaussian(200, d=3)
    v = np.array([1.0, -2.0, 2.0])
    found = measures.sliced_wasserstein(x, x + v, directions=4000).value
    # Of (θ·v)²: variance |v|⁴ (3/(d(d+2)) − 1/d²) = |v|⁴ · 4/45 at d = 3.
    error = 9 * np.sqrt(4 / 45 / 4000)
    assert abs(found**2 - 3.0) < FAR * error


def test_sinkhorn_divergence():
    x = gaussian(30, d=2)
    # Moved rigidly, the plan stays the identity's: the divergence is |v|² for every
    # epsilon (Feydy et al. 2019, section 2), up to Sinkhorn's threshold.
    moved = measures.sinkhorn_divergence(x, x + np.array([0.3, 0.4]), epsilon=0.5)
    assert moved.value == pytest.approx(0.25, abs=1e-4)


def test_energy_distance_of_gaussians():
    # E|X−Y| of N(0,1) and N(m,1): X−Y is N(m,2), |.| has mean
    # 2σφ(m/σ) + m(2Φ(m/σ)−1), σ = √2; E|X−X'| is that at m = 0.
    def mean_distance(m):
        sigma = np.sqrt(2)
        density = np.exp(-((m / sigma) ** 2) / 2) / np.sqrt(2 * np.pi)
        return 2 * sigma * density + m * (2 * ndtr(m / sigma) - 1)

    m = 0.8
    exact = 2 * mean_distance(m) - 2 * mean_distance(0.0)
    found = [
        measures.energy_distance(gaussian(300), gaussian(300, m)).value
        for _ in range(40)
    ]
    error = np.std(found, ddof=1) / np.sqrt(40)
    assert abs(np.mean(found) - exact) < FAR * error
    assert error < 0.1 * exact


def test_energy_distance_is_unbiased_scipy_is_not():
    # scipy's has every pair, equal ones too: of order 1/n above ours.
    a, b = gaussian(200), gaussian(250, 0.5)
    whole = stats.energy_distance(a, b) ** 2
    own = measures.energy_distance(a, b).value
    n, m = 200, 250
    spread = [np.abs(x[:, None] - x).sum() for x in (a, b)]
    corrected = whole - spread[0] / n**2 / (n - 1) - spread[1] / m**2 / (m - 1)
    assert own == pytest.approx(corrected, rel=1e-9, abs=1e-12)


def test_mean_discrepancy_of_gaussians():
    # For N(m,s²), N(m',s'²) and bandwidth h: E k = h/√v exp(−(m−m')²/2v),
    # v = h² + s² + s'².
    h, m, s = 0.9, 0.6, 1.3

    def kernel(move, variance):
        v = h**2 + variance
        return h / np.sqrt(v) * np.exp(-(move**2) / (2 * v))

    exact = kernel(0, 2) + kernel(0, 2 * s**2) - 2 * kernel(m, 1 + s**2)
    found = [
        measures.maximum_mean_discrepancy(
            gaussian(300), gaussian(300, m, s), bandwidth=h
        ).value
        for _ in range(40)
    ]
    error = np.std(found, ddof=1) / np.sqrt(40)
    assert abs(np.mean(found) - exact) < FAR * error
    assert error < 0.1 * exact


POINTS = arrays(
    float,
    st.tuples(st.integers(2, 12), st.integers(1, 3)),
    elements=st.floats(-10, 10, width=32),
)


@settings(max_examples=40, deadline=None)
@given(POINTS, st.randoms(use_true_random=False))
def test_distances_are_symmetric_and_zero_on_the_diagonal(a, shuffle):
    order = list(range(len(a)))
    shuffle.shuffle(order)
    b = a[order] * 0.5 + 1.0
    for distance in (
        measures.energy_distance,
        measures.gaussian_wasserstein,
        measures.sliced_wasserstein,
    ):
        forth, back = distance(a, b).value, distance(b, a).value
        # Bures' cancels to the root of the rounding of variances up to 200.
        assert forth == pytest.approx(back, rel=1e-6, abs=2e-6)
    assert measures.sliced_wasserstein(a, a[order]).value == 0.0


@pytest.mark.parametrize(
    "distance",
    [measures.energy_distance, measures.maximum_mean_discrepancy, measures.wasserstein],
)
def test_permutation_levels_are_exact(distance):
    # Under the null, p ≤ 0.1 has probability 0.1 exactly with 19 permutations (the
    # rank of the first of 20 equally likely ones is 1 or 2).
    runs, random = 400, np.random.default_rng(3)
    hits = sum(
        distance(
            gaussian(12, random=random),
            gaussian(9, random=random),
            null=True,
            permutations=19,
            seed=k,
        ).p_value
        <= 0.1 + 1e-9
        for k in range(runs)
    )
    # Outside these bounds once in 10 000.
    low, high = stats.binom.ppf([5e-5, 1 - 5e-5], runs, 0.1)
    assert low <= hits <= high


def test_a_shift_is_seen():
    found = measures.energy_distance(gaussian(200), gaussian(200, 1.0), null=True)
    assert found.p_value == 1 / 1000
    assert "p = 0.001" in str(found)
    assert found.to_dict()["settings"]["permutations"] == 999


BAD = {
    "empty": (lambda: measures.energy_distance([], [1.0, 2.0]), "must have shape"),
    "nan": (
        lambda: measures.wasserstein([1.0, np.nan], [1.0, 2.0]),
        "sample 1 is",
    ),
    "components": (
        lambda: measures.energy_distance(np.ones((3, 2)), np.ones((3, 1))),
        "as many components, got 2 and 1",
    ),
    "plane": (lambda: measures.wasserstein(*np.ones((2, 3, 2))), "on the line"),
    "order": (lambda: measures.wasserstein([1.0, 2], [1.0, 2], order=3), "1 or 2"),
    "bandwidth": (
        lambda: measures.maximum_mean_discrepancy(np.ones(3), np.ones(3)),
        "the samples are all alike",
    ),
    "permutations": (
        lambda: measures.energy_distance(
            np.arange(9.0), np.arange(9.0), null=True, permutations=5
        ),
        "at least 19",
    ),
    "directions": (
        lambda: measures.sliced_wasserstein([1.0, 2], [1.0, 2], directions=0),
        "positive integer",
    ),
    "epsilon": (
        lambda: measures.sinkhorn_divergence([1.0, 2], [1.0, 2], epsilon=-1.0),
        "positive and finite",
    ),
}


@pytest.mark.parametrize(("call", "match"), BAD.values(), ids=BAD)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_no_numbers():
    with pytest.raises(TypeError, match="must hold real numbers"):
        measures.energy_distance(np.array(["a"]), np.ones(3))
    with pytest.raises(TypeError, match="non-negative integer"):
        measures.energy_distance(np.ones(3), np.ones(3), seed=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian_wasserstein", "sinkhorn_divergence"])
def test_levels_of_transport_distances(name):
    distance = getattr(measures, name)
    random = np.random.default_rng(31)
    a, b = gaussian(24, d=2, random=random), gaussian(30, d=2, random=random)
    same = distance(a, b, null=True, permutations=39)
    moved = distance(a, b + 3.0, null=True, permutations=39)
    # A rank among 40 equally likely ones: 1/40 is the least, and three deviations are
    # further apart than any other division; 1/20 is as likely as its name.
    assert moved.p_value == pytest.approx(1 / 40)
    assert same.p_value is not None
    assert same.p_value > 1 / 20
    assert same.settings["permutations"] == 39
    plain = distance(a, b)
    assert plain.p_value is None
    assert plain.value == pytest.approx(same.value, rel=1e-12)
