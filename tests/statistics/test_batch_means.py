"""Means of correlated series, against processes of known correlation."""

import numpy as np
import pytest
import scipy.signal

from hybrid_nds.analysis import analysis_provenance
from hybrid_nds.stability.growth._lyapunov_result import spectrum_of
from hybrid_nds.statistics import batch_means
from hybrid_nds.statistics._batch_means import correlation_time


def _autoregression(phi, chains, samples, seed):
    """x ← φx + ξ, started in its stationary distribution; its correlation time is
    (1 + φ)/(1 − φ)."""
    noise = np.random.default_rng(seed).standard_normal((samples, chains))
    noise[0] /= np.sqrt(1 - phi**2)
    for i in range(1, samples):
        noise[i] += phi * noise[i - 1]
    return noise.T


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_correlation_times(phi):
    found = correlation_time(_autoregression(phi, 20, 5000, 0))
    # The relative error is √(2(2W+1)/N) with a window W of five times itself.
    time = (1 + phi) / (1 - phi)
    error = np.sqrt(2 * (10 * time + 1) / 100_000)
    assert found == pytest.approx(time, rel=4 * error + np.exp(-5))


@pytest.mark.parametrize("phi", [0.0, 0.8, -0.5])
def test_errors_of_correlated_samples_are_honest(phi):
    """Coverage of nominal 95 % intervals over 300 series: between 90 and 99 %."""
    series = _autoregression(phi, 300, 2000, 1)
    covered = 0
    for one in series:
        found = batch_means(one[None, :, None], 0.95)
        assert found.enough
        covered += bool(abs(found.mean[0]) < found.half_width[0])
    assert 0.90 <= covered / 300 <= 0.99


def _powers(phi, power):
    """Powers of a slow normal series: growth in bursts."""

    def draw(random):
        noise = random.standard_normal((400, 1000))
        noise[:, 0] /= np.sqrt(1 - phi**2)
        return scipy.signal.lfilter([1], [1, -phi], noise, axis=1) ** power

    # The moments of a normal variable.
    variance = 1 / (1 - phi**2)
    return draw, {2: variance, 4: 3 * variance**2}[power]


def _lognormal(phi, sigma):
    def draw(random):
        noise = random.standard_normal((400, 1000)) * np.sqrt(1 - phi**2)
        noise[:, 0] /= np.sqrt(1 - phi**2)
        return np.exp(sigma * scipy.signal.lfilter([1], [1, -phi], noise, axis=1))

    return draw, np.exp(sigma**2 / 2)


def _bursts(share):
    def draw(random):
        sizes = random.exponential(size=(400, 1000))
        return sizes * (random.random((400, 1000)) < share)

    return draw, share


@pytest.mark.parametrize(
    "series",
    [
        _powers(0.5, 4),
        _powers(0.9, 2),
        _powers(0.9, 4),
        _lognormal(0.5, 1.5),
        _lognormal(0.9, 1.0),
        _lognormal(0.9, 1.5),
        (lambda random: random.gamma(0.1, size=(400, 1000)), 0.1),
        (lambda random: random.gamma(0.01, size=(400, 1000)), 0.01),
        _bursts(0.05),
        _bursts(0.01),
    ],
    ids=range(10),
)
def test_errors_of_skewed_samples_are_honest(series):
    """Coverage of 95 % intervals where nothing is said against them: by chance fewer
    than three of its standard deviations below happen once in 700 times."""
    draw, mean = series
    found = [
        batch_means(x[None, :, None], 0.95) for x in draw(np.random.default_rng(7))
    ]
    said = [x for x in found if x.enough and not x.bursts[0] and x.drift[0] <= 1]
    covered = np.mean([abs(x.mean[0] - mean) <= x.half_width[0] for x in said])
    assert len(said) > 80
    assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / len(said))


def test_means_of_few_bursts_are_not_called_converged():
    random = np.random.default_rng(3)
    steady = -np.abs(random.standard_normal((1, 3200, 1)))
    assert not batch_means(steady, 0.95).bursts[0]
    rare = steady * 1e-2
    rare[0, 1000:1010] = 50.0
    assert batch_means(rare, 0.95).bursts[0]
    found = spectrum_of(
        rare,
        interval=1.0,
        dimension=1,
        level=0.95,
        tolerance=None,
        settings={},
        provenance=analysis_provenance("jax", "made up"),
    )
    assert any("bursts" in note for note in found.notes)
    # Means without any spread rest on nothing.
    assert not batch_means(np.ones((1, 100, 1)), 0.95).bursts[0]


def test_a_trend_is_seen():
    random = np.random.default_rng(2)
    flat = random.standard_normal((1, 4000, 1))
    assert batch_means(flat, 0.95).drift[0] < 1
    trend = flat + np.linspace(0, 1, 4000)[None, :, None]
    assert batch_means(trend, 0.95).drift[0] > 1
