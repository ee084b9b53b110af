"""Mixing rates against spectra known in closed form."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import scipy.stats
from hypothesis import given, settings, strategies as st

from hybrid_nds import SDEProblem
from hybrid_nds.analysis import AnalysisError, analysis_provenance
from hybrid_nds.stability import MixingRate, mixing_rate
from hybrid_nds.stability.long_run._mixing_rate_result import rates_of
from hybrid_nds.stability.long_run._sampling import SamplePlan
from hybrid_nds.statistics import fit_decay

# A right program fails one statistical comparison with this chance, or less.
LEVEL = 1e-6
CHAINS = 32
QUANTILE = scipy.stats.t.isf(LEVEL / 2, CHAINS - 1)


def decay(t, y, args):
    return -args * y


def unit_noise(t, y, args):
    return jnp.ones_like(y)


def ornstein_uhlenbeck(theta, t1=110.0):
    return SDEProblem(
        decay, unit_noise, jnp.zeros(1), 0.0, t1, jnp.asarray(theta), noise="additive"
    )


def state_and_square(y):
    return y, y**2


OPTIONS = {
    "dt": 0.05,
    "sampling": 0.1,
    "chains": CHAINS,
    "transient": 10.0,
    "check_step": False,
}


def autoregression(random, phi, chains, samples):
    """Stationary AR(1) of variance one."""
    noise = random.standard_normal((chains, samples)) * np.sqrt(1 - phi**2)
    noise[:, 0] = random.standard_normal(chains)
    return np.asarray(scipy.signal.lfilter([1.0], [1.0, -phi], noise, axis=1))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.floats(0.86, 0.97), st.booleans(), st.integers(0, 2**31))
def test_rate_of_an_autoregression(phi, squared, seed):
    """φ^t = e^{-λt}; the second Hermite polynomial decays at twice the rate."""
    series = autoregression(np.random.default_rng(seed), phi, CHAINS, 6000)
    found = fit_decay(series**2 - 1 if squared else series)
    exact = -np.log(phi) * (2 if squared else 1)
    assert found.fault == ""
    # The fit picks its window by the data: a tenth on top of Student's quantile.
    assert abs(found.rate - exact) < 1.1 * QUANTILE * found.rate_error
    assert found.rate_error < 0.1 * exact
    # 1 + 2 Σ φ^t = (1 + φ)/(1 - φ), of which the sum misses what is below a tenth.
    squared_phi = phi**2 if squared else phi
    whole = (1 + squared_phi) / (1 - squared_phi)
    assert 0.75 * whole < found.time < 1.15 * whole


def test_errors_of_the_rate_cover():
    random, hits = np.random.default_rng(4), 0
    quantile = scipy.stats.t.isf(0.025, CHAINS - 1)
    for _ in range(200):
        found = fit_decay(autoregression(random, 0.9, CHAINS, 1000))
        hits += abs(found.rate + np.log(0.9)) < quantile * found.rate_error
    # 90 … 99 % of nominal 95 %.
    assert 180 <= hits <= 198


def test_slow_part_of_a_sum_of_two_exponentials():
    """Half of the variance decays thirty times as fast."""
    random = np.random.default_rng(9)
    slow = autoregression(random, 0.97, CHAINS, 20_000)
    fast = autoregression(random, 0.4, CHAINS, 20_000)
    found = fit_decay(slow + fast)
    assert found.first > 1
    assert abs(found.rate + np.log(0.97)) < 1.1 * QUANTILE * found.rate_error
    assert abs(found.amplitude - 0.5) < 0.1


@pytest.fixture(scope="module")
def rates():
    return mixing_rate(
        ornstein_uhlenbeck(1.0), state_and_square, key=jr.key(2), **OPTIONS
    )


def check_ornstein_uhlenbeck(rates):
    # SRA1 multiplies by 1 - z + z²/2 a step: its rate is θ (1 + z²/6), of which
    # nothing shows here.
    for rate, error, exact in zip(
        rates.rates, rates.standard_errors, (1.0, 2.0), strict=True
    ):
        assert abs(rate - exact) < QUANTILE * error
        assert error < 0.1 * exact
    assert rates.converged, rates.notes


def test_ornstein_uhlenbeck_process_decays_at_its_gap_and_twice(rates):
    check_ornstein_uhlenbeck(rates)


def test_result_says_what_it_rests_on(rates, tmp_path):
    assert isinstance(rates, MixingRate)
    assert rates.settings["chains"] == CHAINS
    assert rates.settings["sampling"] == pytest.approx(0.1)
    assert np.all(rates.effective_samples > 500)
    for word in ("rate", "R̂", "effective", f"{CHAINS} chains"):
        assert word in str(rates)
    np.testing.assert_allclose(rates.autocorrelation[0], 1.0, rtol=1e-12)
    assert rates.to_xarray()["autocorrelation"].dims == ("lag", "observable")
    rates.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 10_000


@pytest.mark.slow
def test_rate_scales_with_time():
    """Twice the rate in half the time: the same chains, but for their size."""
    fast = mixing_rate(
        ornstein_uhlenbeck(2.0, 55.0),
        state_and_square,
        key=jr.key(2),
        dt=0.025,
        sampling=0.05,
        chains=CHAINS,
        transient=5.0,
        check_step=False,
    )
    slow = mixing_rate(
        ornstein_uhlenbeck(1.0), state_and_square, key=jr.key(2), **OPTIONS
    )
    np.testing.assert_allclose(fast.rates, 2 * slow.rates, rtol=1e-6)


@pytest.mark.slow
def test_longer_steps_show_the_error_of_the_step():
    """Euler's chain decays by 1 - θh a step, at the rate -log(1 - θh)/h."""
    found = mixing_rate(
        ornstein_uhlenbeck(1.0),
        key=jr.key(2),
        solver="Euler",
        **{**OPTIONS, "dt": 0.1, "sampling": 0.2, "check_step": True},
    )
    exact = [-np.log(1 - h) / h for h in (0.1, 0.2)]
    off = abs(found.step_changes[0] - (exact[1] - exact[0]))
    assert off < 1.1 * QUANTILE * found.step_change_errors[0]
    assert abs(found.rates[0] - exact[0]) < 1.1 * QUANTILE * found.standard_errors[0]
    # Along the same paths most of the noise cancels.
    assert found.step_change_errors[0] < 0.5 * found.standard_errors[0]
    assert "twice as long" in str(found)


def test_short_runs_say_what_is_missing(rates):
    problem = ornstein_uhlenbeck(0.05)
    found = mixing_rate(problem, state_and_square, key=jr.key(2), **OPTIONS)
    assert not found.converged
    text = " ".join(found.notes)
    assert "relaxation times, of 20 needed; give a longer `time`" in text
    assert "to forget the start; give a longer `transient`" in text
    assert "NOT CONVERGED" in str(found)


def test_an_autocorrelation_that_oscillates_is_told():
    """The real part of z_{n+1} = r e^{iω} z_n + noise: ρ = r^t cos ωt."""
    random = np.random.default_rng(6)
    noise = random.standard_normal((CHAINS, 3000))
    poles = [1.0, -2 * 0.95 * np.cos(0.3), 0.95**2]
    series = np.asarray(scipy.signal.lfilter([1.0], poles, noise, axis=1))
    plan = SamplePlan("test", 0.1, 2900, 1, 100, CHAINS, None)
    provenance = analysis_provenance("jax", "none")
    found = rates_of(series[:, 100:, None], plan, 0.95, provenance, "")
    assert not found.converged
    assert "oscillates" in found.notes[0]
    assert "`observable`" in found.notes[0]


def test_bad_input(rates):
    problem = ornstein_uhlenbeck(1.0)
    options = {"key": jr.key(2), **OPTIONS}
    with pytest.raises(ValueError, match="`chains` must be 8 or more"):
        mixing_rate(problem, **{**options, "chains": 4})
    with pytest.raises(AnalysisError, match="does not vary"):
        mixing_rate(problem, lambda y: jnp.ones(()), **options)
    with pytest.raises(AnalysisError, match=r"asked for: about \d+ times") as failure:
        mixing_rate(problem, state_and_square, standard_error=1e-4, **options)
    assert isinstance(failure.value.result, MixingRate)
    np.testing.assert_array_equal(failure.value.result.rates, rates.rates)


@pytest.mark.julia
@pytest.mark.usefixtures("julia")
def test_ornstein_uhlenbeck_process_in_julia():
    found = mixing_rate(
        ornstein_uhlenbeck(1.0, 500.0),
        state_and_square,
        key=jr.key(2),
        backend="julia",
        **OPTIONS,
    )
    check_ornstein_uhlenbeck(found)
    assert found.provenance.backend == "julia"


def test_a_key_that_is_none_is_refused_in_its_own_name():
    problem = SDEProblem(decay, unit_noise, jnp.ones(1), 0.0, 1.0, 1.0)
    with pytest.raises(TypeError, match="mixing_rate: `key` must be one random key"):
        mixing_rate(problem, key=0, dt=0.1)
