"""Invariant laws, and what chains of samples say of them."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.signal
import scipy.stats
from hypothesis import given, settings, strategies as st

from hybrid_nds import ODEProblem, SDEProblem
from hybrid_nds.analysis import AnalysisError, analysis_provenance
from hybrid_nds.stability import InvariantLaw, invariant_law
from hybrid_nds.stability.long_run import _sampling
from hybrid_nds.stability.long_run._invariant_law_result import law_of
from hybrid_nds.stability.long_run._sampling import SamplePlan
from hybrid_nds.statistics import effective_samples, split_r_hat

A = np.array([[-1.0, 2.0], [-0.5, -1.5]])
B = np.array([[0.7, 0.0], [0.3, 0.5]])
# A right program fails one statistical comparison with this chance, or less.
LEVEL = 1e-6
# So many standard errors a normal number stays within, but for that chance.
SIGMAS = scipy.stats.norm.isf(LEVEL / 2)


def linear_drift(t, y, args):
    return args[0] @ y


def linear_noise(t, y, args):
    return args[1]


def linear():
    args = (jnp.asarray(A), jnp.asarray(B))
    y0 = jnp.zeros(2)
    return SDEProblem(
        linear_drift, linear_noise, y0, 0.0, 200.0, args, noise="additive"
    )


def well_drift(t, y, args):
    return y - y**3


def constant_noise(t, y, args):
    return args * jnp.ones_like(y)


def double_well(sigma, t1):
    """dx = -V'(x) dt + σ dW with V = x⁴/4 - x²/2."""
    return SDEProblem(
        well_drift, constant_noise, jnp.zeros(1), 0.0, t1, sigma, noise="additive"
    )


def autoregression(random, phi, chains, samples):
    """Stationary AR(1) of variance one."""
    noise = random.standard_normal((chains, samples)) * np.sqrt(1 - phi**2)
    noise[:, 0] = random.standard_normal(chains)
    return np.asarray(scipy.signal.lfilter([1.0], [1.0, -phi], noise, axis=1))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.floats(-0.7, 0.9), st.sampled_from([1, 2, 8]), st.integers(0, 2**31))
def test_effective_samples_of_an_autoregression(phi, chains, seed):
    number = 200_000
    series = autoregression(np.random.default_rng(seed), phi, chains, number // chains)
    exact = number * (1 - phi) / (1 + phi)
    # Sokal (1997, equation 3.19): the relative variance of an autocorrelation time
    # summed up to a window M is 2 (2M + 1) / N; Geyer's window is where pairs of
    # autocorrelations are below their noise, N^{-1/2}, or so.
    window = 2 + np.log(np.sqrt(number)) / max(1e-3, -np.log(max(abs(phi), 1e-9)))
    spread = np.sqrt(2 * (2 * window + 1) / number)
    assert abs(effective_samples(series) / exact - 1) < SIGMAS * spread + 0.01


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.floats(0.0, 0.9), st.integers(0, 2**31))
def test_agreeing_chains_have_r_hat_near_one_and_shifted_ones_do_not(phi, seed):
    series = autoregression(np.random.default_rng(seed), phi, 4, 20_000)
    assert split_r_hat(series) < 1.01
    # One of four chains a standard deviation off: B/n = 1/4, and R̂² ≈ 1 + 1/4.
    moved = series + np.array([[1.0], [0.0], [0.0], [0.0]])
    assert 1.05 < split_r_hat(moved) < 1.2
    # Same mean, other spread: only the folded ranks see it.
    wider = series * np.array([[3.0], [1.0], [1.0], [1.0]])
    assert split_r_hat(wider) > 1.05


def test_statistics_do_not_depend_on_units_or_the_order_of_chains():
    series = autoregression(np.random.default_rng(5), 0.6, 4, 2000)
    other = 3e4 * series[::-1] + 7.0
    np.testing.assert_allclose(
        effective_samples(other), effective_samples(series), rtol=1e-6
    )
    np.testing.assert_allclose(split_r_hat(other), split_r_hat(series), rtol=1e-12)


def test_samples_that_are_all_alike_have_no_statistics():
    still = np.full((4, 100), 0.3)
    assert np.isnan(effective_samples(still))
    assert np.isnan(split_r_hat(still))
    # Each chain stuck in a place of its own.
    apart = still + np.arange(4.0)[:, None]
    assert split_r_hat(apart) == np.inf


def test_errors_of_mean_and_variance_cover():
    """Nominal 95 % intervals of 200 autoregressions."""
    random = np.random.default_rng(11)
    plan = SamplePlan("test", 1.0, 2000, 1, 0, 4, None)
    provenance = analysis_provenance("jax", "none")
    hits = np.zeros(2)
    for _ in range(200):
        series = autoregression(random, 0.8, 4, 2000)[:, :, None]
        law = law_of(series, plan, 0.95, provenance, "")
        hits[0] += law.low[0] < 0 < law.high[0]
        quantile = scipy.stats.t.isf(0.025, law.batches - 1)
        off = abs(law.covariance[0, 0] - 1)
        hits[1] += off < quantile * law.covariance_errors[0, 0]
    # Binomial(200, .95) leaves 90 … 99 % with chance 5e-3, and more coverage is no
    # fault of the variance, whose errors are of products.
    assert np.all(hits >= 180), hits
    assert hits[0] <= 199


OPTIONS = {
    "key": jr.key(3),
    "dt": 0.05,
    "chains": 8,
    "sampling": 0.2,
    "transient": 20.0,
    "check_step": False,
}


@pytest.fixture(scope="module")
def law():
    return invariant_law(linear(), **OPTIONS)


@pytest.mark.slow
def test_longer_steps_show_the_error_of_the_step():
    """Euler's own covariance solves (I + hA) Σ (I + hA)ᵀ + h B Bᵀ = Σ."""
    law = invariant_law(
        linear(),
        key=jr.key(3),
        solver="Euler",
        dt=0.1,
        chains=8,
        sampling=0.2,
        transient=20.0,
    )
    exact = [
        scipy.linalg.solve_discrete_lyapunov(np.eye(2) + h * A, h * B @ B.T)
        for h in (0.1, 0.2)
    ]
    quantile = scipy.stats.t.isf(LEVEL / 2, law.batches - 1)
    off = np.abs(law.covariance_step_changes - (exact[1] - exact[0]))
    assert np.all(off < quantile * law.covariance_step_change_errors)
    # Along the same paths most of the noise cancels.
    assert law.covariance_step_change_errors[0, 0] < 0.5 * law.covariance_errors[0, 0]
    assert np.all(np.abs(law.step_changes) < quantile * law.step_change_errors)
    assert not law.converged
    assert "take a shorter `dt`" in law.notes[-1]
    assert "steps twice as long change" in str(law)


def check_lyapunov_equation(law):
    exact = scipy.linalg.solve_continuous_lyapunov(A, -B @ B.T)
    # Student's t, since errors come from few batches.
    quantile = scipy.stats.t.isf(LEVEL / 2, law.batches - 1)
    assert np.all(np.abs(law.mean) < quantile * law.standard_errors)
    off = np.abs(law.covariance - exact)
    assert np.all(off < quantile * law.covariance_errors)
    # Errors small enough for a wrong factor to show.
    assert np.all(np.diag(law.covariance_errors) < 0.05 * np.diag(exact))
    assert law.converged, law.notes


def test_covariance_solves_the_lyapunov_equation(law):
    check_lyapunov_equation(law)


def test_result_says_what_it_rests_on(law, tmp_path):
    assert isinstance(law, InvariantLaw)
    assert law.settings["chains"] == 8
    assert law.settings["transient"] == pytest.approx(20.0)
    assert law.provenance.solver == "SRA1"
    assert np.all(law.effective_samples > 400)
    text = str(law)
    for word in ("effective", "R̂", "batches of", "8 chains"):
        assert word in text
    assert law.to_xarray()["covariance"].shape == (2, 2)
    assert law.to_dict()["analysis"] == "InvariantLaw"
    law.plot(tmp_path / "law.png")
    assert (tmp_path / "law.png").stat().st_size > 10_000
    np.testing.assert_allclose(
        np.sum(law.density * np.diff(law.edges), axis=1), 1.0, rtol=1e-12
    )


@pytest.fixture(scope="module")
def well():
    starts = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0])[:, None]
    return lambda sigma: invariant_law(
        double_well(jnp.asarray(sigma), 450.0),
        key=jr.key(8),
        dt=0.05,
        chains=8,
        sampling=0.2,
        transient=10.0,
        initial=starts,
        check_step=False,
    )


@pytest.mark.slow
def test_gradient_system_has_the_gibbs_density(well):
    law = well(1.0)
    grid = np.linspace(-4, 4, 4001)
    density = np.exp(-2 * (grid**4 / 4 - grid**2 / 2))
    density /= scipy.integrate.simpson(density, x=grid)
    below = scipy.integrate.cumulative_trapezoid(density, grid, initial=0)
    found = scipy.stats.kstest(law.samples[:, 0], lambda x: np.interp(x, grid, below))
    assert len(law.samples) > 200
    assert found.pvalue > LEVEL
    second = scipy.integrate.simpson(grid**2 * density, x=grid)
    quantile = scipy.stats.t.isf(LEVEL / 2, law.batches - 1)
    assert abs(law.covariance[0, 0] - second) < quantile * law.covariance_errors[0, 0]
    assert law.converged, law.notes


def test_chains_stuck_in_two_wells_are_told(well):
    # The mean time between the wells is √2 π e^{2·(1/4)/σ²} = 1.2e6.
    law = well(0.2)
    assert not law.converged
    assert law.r_hat[0] > 1.5
    assert "disagree" in law.notes[0]
    assert "initial" in law.notes[0]
    assert "NOT CONVERGED" in str(law)
    # Four of eight in each well: the error is that of eight coins, not of the samples.
    assert law.standard_errors[0] > 0.3


def test_an_observable_of_the_state(law):
    seen = invariant_law(
        linear(),
        observable=lambda y: {"square": y[0] ** 2},
        **OPTIONS,
    )
    # Of the same chains.
    np.testing.assert_allclose(
        seen.mean[0], law.covariance[0, 0] + law.mean[0] ** 2, rtol=1e-2
    )


@pytest.mark.slow
def test_single_precision_and_states_of_several_arrays():
    """da = −a dt + dW, db = −2b dt + dW with one W: variances 1/2, 1/4, and 1/3."""
    start = {"a": jnp.zeros(2, jnp.float32), "b": jnp.zeros((), jnp.float32)}
    problem = SDEProblem(
        lambda t, y, args: {"a": -y["a"], "b": -2 * y["b"]},
        lambda t, y, args: {"a": jnp.ones_like(y["a"]), "b": jnp.ones_like(y["b"])},
        start,
        0.0,
        1.0,
        noise="scalar",
        interpretation="stratonovich",
    )
    # In single precision the span is no whole number of steps of 0.05.
    law = invariant_law(
        problem,
        key=jr.key(5),
        dt=0.05,
        time=180.3,
        sampling=0.15,
        chains=6,
        initial=lambda key: {"a": jr.normal(key, (2,), jnp.float32), "b": start["b"]},
        check_step=False,
    )
    assert problem.dtype == np.float32
    exact = np.array(
        [[1 / 2, 1 / 2, 1 / 3], [1 / 2, 1 / 2, 1 / 3], [1 / 3, 1 / 3, 1 / 4]]
    )
    quantile = scipy.stats.t.isf(LEVEL / 2, law.batches - 1)
    # Heun's own variance is larger by less than (θh)²/4.
    off = np.abs(law.covariance - exact) - exact * 0.1**2
    assert np.all(off < quantile * law.covariance_errors)


@pytest.mark.slow
def test_time_average_of_an_ordinary_problem():
    """A rotation passes all angles evenly: the mean of cos² is a half."""

    def rotation(t, y, args):
        return jnp.stack([-y[1], y[0]])

    problem = ODEProblem(rotation, jnp.array([1.0, 0.0]), 0.0, 110.0)
    law = invariant_law(
        problem, key=jr.key(0), chains=1, sampling=0.1, rtol=1e-8, atol=1e-8
    )
    # The rest is |∫cos 2t dt| / 2T ≤ 1 / 2T, and the step of the sum.
    assert abs(law.covariance[0, 0] - 0.5) < 1 / 100 + 1e-2
    assert law.settings["time"] == pytest.approx(99.0)


@pytest.mark.slow
def test_a_run_cut_off_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(_sampling, "_STATES", 2**12)
    calls, real = [], _sampling.ensemble
    options = {
        "key": jr.key(1),
        "dt": 0.1,
        "chains": 4,
        "solver": "Euler",
        "sampling": 0.2,
    }
    problem = double_well(jnp.asarray(1.0), 220.0)
    whole = invariant_law(problem, **options)

    def cut(*args, **given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **given)

    save = tmp_path / "law.npz"
    monkeypatch.setattr(_sampling, "ensemble", cut)
    with pytest.raises(KeyboardInterrupt):
        invariant_law(problem, save=save, **options)
    monkeypatch.setattr(_sampling, "ensemble", real)
    again = invariant_law(problem, save=save, **options)
    np.testing.assert_array_equal(again.samples, whole.samples)
    np.testing.assert_array_equal(again.mean, whole.mean)
    assert again.provenance == whole.provenance
    with pytest.raises(ValueError, match="another noise"):
        invariant_law(problem, save=save, **{**options, "key": jr.key(2)})


def test_too_few_samples_for_the_error_asked(law):
    words = r"effective samples.*asked for: about"
    with pytest.raises(AnalysisError, match=words) as failure:
        invariant_law(
            linear(),
            standard_error=1e-4,
            **OPTIONS,
        )
    assert isinstance(failure.value.result, InvariantLaw)
    np.testing.assert_array_equal(failure.value.result.mean, law.mean)


def test_chains_that_diverge_say_when_and_what_to_do():
    # Euler's method on -y³ from 10 with steps of .1: y → y - 100.
    problem = SDEProblem(
        lambda t, y, args: -(y**3),
        lambda t, y, args: jnp.ones_like(y),
        jnp.array([10.0]),
        0.0,
        20.0,
        noise="additive",
    )
    with pytest.raises(AnalysisError, match=r"4 of 4 chains diverged.*`dt`"):
        invariant_law(problem, key=jr.key(0), dt=0.1, solver="Euler", sampling=0.1)


def test_bad_input():
    problem = linear()
    options = {"key": jr.key(0), "dt": 0.1, "time": 100.0}
    moving = SDEProblem(
        lambda t, y, args: -y + jnp.sin(t),
        lambda t, y, args: jnp.ones_like(y),
        jnp.zeros(1),
        0.0,
        10.0,
        noise="additive",
    )
    cases = [
        (ValueError, "depend on time", moving, {}),
        (ValueError, "`sampling` must be whole steps", problem, {"sampling": 0.25}),
        (ValueError, "of 100 needed", problem, {"sampling": 10.0}),
        (ValueError, "`time` must be a positive", problem, {"time": -1.0}),
        (ValueError, "`chains`", problem, {"chains": 0}),
        (ValueError, "`level`", problem, {"level": 95}),
        (ValueError, "`standard_error`", problem, {"standard_error": 0.0}),
        (TypeError, "`observable` must be a callable", problem, {"observable": 3}),
        (ValueError, "floating", problem, {"observable": lambda y: y > 0}),
        (ValueError, "evaluated", problem, {"observable": lambda y: y @ jnp.ones(3)}),
        (TypeError, "`problem` must be", 3, {}),
    ]
    for kind, words, wrong, more in cases:
        with pytest.raises(kind, match=words):
            invariant_law(wrong, **{**options, **more})
    with pytest.raises(AnalysisError, match="`observable` is not finite in chain"):
        invariant_law(
            problem,
            observable=lambda y: jnp.log(y[0]),
            **OPTIONS,
        )
    rotating = ODEProblem(lambda t, y, args: -y, jnp.ones(2), 0.0, 10.0)
    with pytest.raises(ValueError, match="`initial`"):
        invariant_law(rotating, key=jr.key(0), time=100.0, sampling=0.5)


@pytest.mark.julia
@pytest.mark.usefixtures("julia")
def test_covariance_solves_the_lyapunov_equation_in_julia():
    law = invariant_law(
        linear(),
        key=jr.key(3),
        backend="julia",
        dt=0.05,
        time=2000.0,
        chains=8,
        sampling=0.2,
    )
    check_lyapunov_equation(law)
    assert law.provenance.backend == "julia"
    assert law.settings["runner"] == "lean kernel"
