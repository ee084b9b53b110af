"""Moment exponents: exact ones against closed forms, sampled ones against exact ones,
and the refusal of what sampling cannot see."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from test_stability_lyapunov import _geometric as _scalar

from hybrid_nds import ODEProblem, SDEProblem, to_stratonovich
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.backends.diffrax._stability import DiffraxTangentFlow
from hybrid_nds.stability import (
    lyapunov_spectrum,
    mean_square_abscissa,
    moment_exponent,
)
from hybrid_nds.stability.growth._moment_sampling import sampled_growth
from hybrid_nds.statistics import tail_index


def _oscillator(omega, gamma, sigma):
    def drift(t, y, args):
        return jnp.stack([y[1], -(args[0] ** 2) * y[0] - args[1] * y[1]])

    return SDEProblem(
        drift,
        lambda t, y, args: jnp.stack([jnp.zeros_like(y[0]), args[2] * y[0]]),
        np.array([1.0, 0.0]),
        0.0,
        1.0,
        tuple(map(np.array, (omega, gamma, sigma))),
        noise="scalar",
    )


@pytest.mark.parametrize("p", [-1.5, 0.3, 1.0, 2.0, 5.0])
def test_one_dimension_is_exact(p):
    a, sigma = -0.7, 0.8
    found = moment_exponent(_scalar(a, sigma), p)
    assert found.method == "exact"
    assert found.value == pytest.approx(p * a + p * (p - 1) * sigma**2 / 2, rel=1e-14)
    assert found.standard_error < 1e-13


def test_oscillator_threshold_of_the_second_moment():
    omega, gamma = 1.3, 0.4
    threshold = np.sqrt(2 * gamma) * omega
    assert abs(moment_exponent(_oscillator(omega, gamma, threshold), 2).value) < 1e-12
    assert moment_exponent(_oscillator(omega, gamma, 0.99 * threshold), 2).stable
    assert not moment_exponent(_oscillator(omega, gamma, 1.01 * threshold), 2).stable


@pytest.mark.parametrize("seed", range(3))
def test_polynomials_and_kronecker_products_agree(seed):
    """The generator on quadratic forms against I⊗A + A⊗I + ΣB⊗B, formed elsewhere."""
    random = np.random.default_rng(seed)
    a = random.standard_normal((3, 3)) - 2 * np.eye(3)
    b = 0.5 * random.standard_normal((2, 3, 3))
    problem = SDEProblem(
        lambda t, y, args: args[0] @ y,
        lambda t, y, args: jnp.einsum("jkl,l->kj", args[1], y),
        np.ones(3),
        0.0,
        1.0,
        (a, b),
        noise="general",
    )
    found = moment_exponent(problem, 2)
    identity = np.eye(3)
    lifted = np.kron(identity, a) + np.kron(a, identity)
    lifted += sum(np.kron(one, one) for one in b)
    assert found.value == pytest.approx(np.linalg.eigvals(lifted).real.max(), rel=1e-10)
    assert found.value == pytest.approx(mean_square_abscissa(problem).value, rel=1e-10)
    # g is convex with g(0) = 0: g(4) ≥ 2 g(2).
    assert moment_exponent(problem, 4).value >= 2 * found.value - 1e-12


def test_higher_moments_of_independent_components():
    """Diagonal noise: E x₁^i x₂^k grows with the sum of its two scalar rates."""
    a, sigma, p = np.array([-1.0, -0.6]), np.array([0.9, 0.5]), 4
    problem = SDEProblem(
        lambda t, y, args: a * y, lambda t, y, args: sigma * y, np.ones(2), 0.0, 1.0
    )
    rate = lambda i, k: i * a[k] + i * (i - 1) / 2 * sigma[k] ** 2
    expected = max(rate(i, 0) + rate(p - i, 1) for i in range(p + 1))
    assert moment_exponent(problem, p).value == pytest.approx(expected, rel=1e-12)


def test_rotation_with_common_noise():
    """dX = AX dt + σX dW with A antisymmetric: |X| is a scalar equation's solution."""
    sigma, p = 0.6, 6
    problem = SDEProblem(
        lambda t, y, args: 3 * jnp.stack([-y[1], y[0]]) - 0.5 * y,
        lambda t, y, args: sigma * y,
        np.ones(2),
        0.0,
        1.0,
        noise="scalar",
    )
    expected = p * -0.5 + p * (p - 1) / 2 * sigma**2
    assert moment_exponent(problem, p).value == pytest.approx(expected, rel=1e-10)


def test_samples_agree_with_the_exact_exponent():
    a, sigma, p = -1.0, 0.5, 3.0
    problem = _scalar(a, sigma)
    found = moment_exponent(
        problem,
        p,
        method="monte-carlo",
        dt=0.01,
        time=0.8,
        trajectories=8000,
        key=jax.random.key(0),
    )
    # Euler's step multiplies by a normal variable of this mean and variance.
    mean, variance = 1 + a * 0.01, sigma**2 * 0.01
    euler = np.log(mean**3 + 3 * mean * variance) / 0.01
    exact = p * a + p * (p - 1) * sigma**2 / 2
    assert abs(euler - exact) < 0.04
    assert found.converged
    assert abs(found.value - euler) < 3 * found.standard_error
    # What theory says of the error: the weights are lognormal.
    theory = np.sqrt(np.expm1((p * sigma) ** 2 * 0.8) / 8000) / 0.8
    assert found.standard_error == pytest.approx(theory, rel=0.2)
    assert found.effective[-1] > 10 * np.sqrt(8000)
    assert "carry the mean" in str(found)


@pytest.fixture(scope="module")
def sampled_oscillator():
    problem = to_stratonovich(_oscillator(1.0, 0.3, 0.5))
    return moment_exponent(
        problem,
        2,
        method="monte-carlo",
        solver="Heun",
        dt=0.05,
        time=10.0,
        trajectories=8000,
        key=jax.random.key(1),
    )


def test_sampled_second_moment_of_an_oscillator(sampled_oscillator):
    exact = moment_exponent(_oscillator(1.0, 0.3, 0.5), 2).value
    found = sampled_oscillator
    # Heun is of weak order one at the least, and of order two in the drift: 0.05².
    assert abs(found.value - exact) < 4 * found.standard_error + 0.0025
    assert found.standard_error < 0.01
    assert found.settings["transient"] == pytest.approx(2.5)


@pytest.mark.julia
def test_julia_samples_the_same_moment(julia):
    """Julia's noise is its own: two samples of one exponent."""
    exact = moment_exponent(_oscillator(1.0, 0.3, 0.5), 2).value
    found = moment_exponent(
        to_stratonovich(_oscillator(1.0, 0.3, 0.5)),
        2,
        method="monte-carlo",
        backend="julia",
        solver="Heun",
        dt=0.05,
        time=10.0,
        trajectories=4000,
        key=jax.random.key(6),
    )
    assert found.provenance.backend == "julia"
    # As above: a bias of 0.05² at most.
    assert abs(found.value - exact) < 4 * found.standard_error + 0.0025
    assert found.standard_error < 0.01


def test_a_run_goes_on_from_its_file_to_the_same_bit(tmp_path, monkeypatch):
    problem = _scalar(-1.0, 0.5)
    options = {
        "method": "monte-carlo",
        "dt": 0.05,
        "time": 2.0,
        "trajectories": 2000,
        "key": jax.random.key(7),
    }
    whole = moment_exponent(problem, 1, **options)
    advance, calls = DiffraxTangentFlow.advance, itertools.count()

    def cut_off(self, *args):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return advance(self, *args)

    monkeypatch.setattr(DiffraxTangentFlow, "advance", cut_off)
    save = tmp_path / "moment.npz"
    with pytest.raises(KeyboardInterrupt):
        moment_exponent(problem, 1, **options, save=save)
    resumed = moment_exponent(problem, 1, **options, save=save)
    np.testing.assert_array_equal(resumed.logarithms, whole.logarithms)
    # The trajectories serve every power.
    other = moment_exponent(problem, 0.5, **options, save=save)
    assert other.value != whole.value


def test_a_result_is_drawn_and_exported(sampled_oscillator, tmp_path):
    figure = sampled_oscillator.plot(tmp_path / "moment.png")
    assert len(figure.axes) == 2
    dataset = sampled_oscillator.to_xarray()
    assert dataset["logarithms"].shape == dataset["effective"].shape
    exact = moment_exponent(_scalar(-1.0, 0.5), 2)
    assert len(exact.plot().axes) == 1
    assert "exact" in str(exact)


def test_what_sampling_cannot_see_is_refused():
    """At t = 40 the second moment rests on paths that reach W = 2σt = 80, which have a
    probability near e^{-80}: none is among 8000."""
    problem = _scalar(-1.0, 1.0)
    options = {
        "method": "monte-carlo",
        "dt": 0.05,
        "trajectories": 8000,
        "key": jax.random.key(2),
    }
    with pytest.raises(AnalysisError, match=r"sampling cannot see.*carry it") as error:
        moment_exponent(problem, 2, time=40.0, **options)
    assert "seen up to about t = 0." in str(error.value)
    # And for as long as it says, it reports, and rightly; Euler's bias is below 0.1.
    found = moment_exponent(problem, 2, time=0.4, **options)
    assert abs(found.value - -1.0) < 3 * found.standard_error + 0.1


def test_the_reported_errors_are_honest():
    """Coverage over 200 experiments with lognormal weights, where the test is passed:
    of a nominal 95 %, between 90 and 99 %, which chance leaves 1 time in 500."""
    random = np.random.default_rng(3)
    rate, sigma, samples, steps = -0.3, 0.25, 2000, 12
    covered = 0
    for _ in range(200):
        growth = rate + sigma * random.standard_normal((samples, steps))
        found = sampled_growth(growth, 1.0, 1.0, 0)
        off = abs(found.slope - (rate + sigma**2 / 2))
        covered += bool(off < 1.96 * found.standard_error)
        assert found.effective[-1] > 10 * np.sqrt(samples)
    assert 0.90 <= covered / 200 <= 0.99


@pytest.mark.parametrize("shape", [0.2, 0.6, 1.0])
def test_the_tail_index_is_that_of_pareto(shape):
    random = np.random.default_rng(4)
    found = [
        tail_index(
            np.log(scipy.stats.genpareto.rvs(shape, size=20_000, random_state=random))
        )
        for _ in range(20)
    ]
    # The estimator's standard deviation is (1 + k)/√424 for its 424 largest samples.
    error = (1 + shape) / np.sqrt(424)
    assert np.mean(found) == pytest.approx(shape, abs=3 * error / np.sqrt(20) + 0.03)


@pytest.mark.slow
def test_the_slope_at_zero_is_the_lyapunov_exponent():
    problem = to_stratonovich(_oscillator(1.0, 0.3, 0.5))
    options = {"solver": "Heun", "dt": 0.05, "key": jax.random.key(5)}
    low, high = (
        moment_exponent(problem, p, time=20.0, trajectories=2000, **options).value
        for p in (-0.1, 0.1)
    )
    found = lyapunov_spectrum(problem, time=20.0, chains=256, **options)
    slope = (high - low) / 0.2
    # Both sampled: the slope of 2000 · 15 time units has half the spectrum's error.
    assert abs(slope - found.exponents[0]) < 4 * 1.5 * found.standard_errors[0]


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda: moment_exponent(_scalar(-1.0, 1.0), 0), ValueError, "other than zero"),
        (
            lambda: moment_exponent(_oscillator(1.0, 1.0, 1.0), 3, method="exact"),
            ValueError,
            "even `p`",
        ),
        (
            lambda: moment_exponent(_oscillator(1.0, 1.0, 1.0), 3),
            ValueError,
            "needs `key`",
        ),
        (
            lambda: moment_exponent(_scalar(-1.0, 1.0), 2, method="guess"),
            ValueError,
            "`method` must be",
        ),
        (
            lambda: moment_exponent(
                ODEProblem(lambda t, y, a: -y, np.ones(1), 0.0, 1.0), 2
            ),
            TypeError,
            "must be an SDEProblem",
        ),
        (
            lambda: moment_exponent(
                SDEProblem(
                    lambda t, y, a: -(y**3), lambda t, y, a: y, np.ones(1), 0.0, 1.0
                ),
                2,
                method="exact",
            ),
            ValueError,
            "must be linear",
        ),
        (
            lambda: moment_exponent(
                _oscillator(1.0, 1.0, 1.0), 3, dt=0.1, time=0.3, key=jax.random.key(0)
            ),
            ValueError,
            "shorter `dt`",
        ),
    ],
)
def test_bad_arguments(call, kind, match):
    with pytest.raises(kind, match=match):
        call()
