"""The closed forms of Lyapunov exponents, met by Julia's loops as well."""

import jax
import numpy as np
import pytest
from test_stability_lyapunov import (
    _HOPF_SUM,
    _LORENZ,
    _lorenz,
    _near_lorenz,
    _noisy_oscillator,
    _oscillator_exponent,
    _random_layers,
    _stochastic_hopf,
)

from hybrid_nds import ODEProblem
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.stability import lyapunov_spectrum

pytestmark = pytest.mark.julia


def test_noise_destabilised_oscillator(julia):
    omega, gamma, sigma = 1.0, 0.4, 2.0
    found = lyapunov_spectrum(
        _noisy_oscillator(omega, gamma, sigma),
        backend="julia",
        solver="Heun",
        dt=0.01,
        time=100.0,
        transient=10.0,
        chains=100,
        key=jax.random.key(3),
    )
    expected = _oscillator_exponent(omega, gamma, sigma)
    # Of weak order one: what it is off by at steps of 0.04, below 0.01, is a quarter.
    assert abs(found.exponents[0] - expected) < 4 * found.standard_errors[0] + 0.0025
    assert found.standard_errors[0] < 0.01
    assert found.sum == pytest.approx(-gamma, abs=1e-3)


def test_random_residual_network_at_infinite_depth(julia):
    found = lyapunov_spectrum(
        _random_layers(4),
        backend="julia",
        dt=0.01,
        time=40.0,
        transient=5.0,
        interval=0.1,
        chains=64,
        key=jax.random.key(2),
    )
    off = np.abs(found.exponents - (0.5 - np.arange(1, 5) / 4))
    # Euler's bias, as on the other stack.
    assert np.all(off < 4 * found.standard_errors + 0.005)


@pytest.mark.slow
def test_an_implicit_method_takes_strong_shear(julia):
    """The sum rule at b = 60, where explicit Euler overflows at twice the step."""
    problem = _stochastic_hopf(60.0)
    options = {
        "backend": "julia",
        "time": 20.0,
        "transient": 4.0,
        "chains": 32,
        "key": jax.random.key(4),
    }
    with pytest.raises(AnalysisError, match="diverged between"):
        lyapunov_spectrum(problem, solver="Euler", dt=0.001, **options)
    found = lyapunov_spectrum(problem, solver="STrapezoid", dt=0.0005, **options)
    assert abs(found.sum - _HOPF_SUM) < 4 * found.sum_error
    assert found.sum_error < 0.12
    assert found.low[0] > 0


@pytest.mark.slow
def test_lorenz_in_full(julia):
    found = lyapunov_spectrum(
        ODEProblem(_lorenz, np.array([1.0, 1.0, 20.0]), 0.0, 1.0),
        backend="julia",
        rtol=1e-9,
        atol=1e-9,
        interval=0.1,
        time=4000.0,
        transient=50.0,
        chains=8,
        initial=_near_lorenz,
        key=jax.random.key(1),
    )
    # An error of 0.001 at 32 000 time units: 0.005 is five of them.
    assert np.abs(found.exponents - _LORENZ).max() < 0.005
    assert found.sum == pytest.approx(-41 / 3, abs=1e-6)
