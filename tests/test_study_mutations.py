"""Each study holds as it is, and fails with a model that is wrong."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds.studies import run_study
from hybrid_nds.studies._registry import OWN


@pytest.mark.parametrize("name", OWN)
def test_all_claims_hold(name):
    result = run_study(name, preset="quick", backends=("diffrax",))
    assert result.passed, str(result)


@pytest.mark.julia
@pytest.mark.parametrize("name", OWN)
def test_all_claims_hold_in_julia(julia, name):
    result = run_study(name, preset="quick", backends=("julia",))
    assert set(result.findings) == {"julia"}
    assert result.passed, str(result)


def _module(name):
    return importlib.import_module(f"hybrid_nds.studies.{name}")


def fails(name, config):
    result = run_study(name, config=config, backends=("diffrax",))
    return not result.passed


def test_every_study_has_a_mutation():
    mutated = {"depth_limit", "chen_fliess", "mirror_flow"}
    assert mutated == set(OWN)


def test_the_depth_limit_of_another_equation(monkeypatch):
    module = _module("depth_limit")
    right = module.field
    monkeypatch.setattr(module, "field", lambda t, y, args: -right(t, y, args))
    config = module.Config(depths=(16, 32, 64), random_networks=50)
    assert fails("depth_limit", config)


def test_a_series_of_another_system(monkeypatch):
    module = _module("chen_fliess")
    right = module.field
    monkeypatch.setattr(module, "field", lambda t, y, args: -right(t, y, args))
    assert fails("chen_fliess", module.Config(longest=6, horizons=(1.0,), sample=4))


def test_a_flow_with_the_bias_of_another_mirror(monkeypatch):
    module = _module("mirror_flow")

    class Shifted(module.HyperbolicEntropy):
        """The entropy of another scale."""

        def __init__(self, scale):
            super().__init__(2 * scale)

    monkeypatch.setattr(module, "HyperbolicEntropy", Shifted)
    config = module.Config(starts=(0.5,), condition_numbers=(1.0,))
    assert fails("mirror_flow", config)


def test_newtons_diffusion_with_the_drift_reversed(monkeypatch):
    module = _module("mirror_flow")
    right = module.newton_moments

    def wrong(t, y, args):
        mean, covariance = right(t, y, args)
        return -mean, covariance

    monkeypatch.setattr(module, "newton_moments", wrong)
    config = module.Config(starts=(1.0,), condition_numbers=(1.0,))
    assert fails("mirror_flow", config)


def test_chi_square_against_quadrature():
    module = _module("mirror_flow")
    mean, variance, precision = 0.4, 0.3, 1.7
    x = np.linspace(-12.0, 12.0, 200_001)
    density = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(
        2 * np.pi * variance
    )
    target = np.exp(-precision * x**2 / 2) * np.sqrt(precision / (2 * np.pi))
    expected = np.trapezoid(density**2 / target, x) - 1
    found = module.chi_square(
        np.array([mean]), np.array([[variance]]), np.array([[precision**0.5]])
    )
    # The trapezoidal rule of an analytic integrand converges faster than any power.
    assert found == pytest.approx(expected, rel=1e-10)


def test_the_words_of_a_constant_control_are_the_exponential_series():
    module = _module("chen_fliess")
    matrices = jnp.array([[[0.3]]])
    # One control, constantly sin(π/2) = 1 at t = 0 with the phase π/2.
    terms = module.words(0.0, jnp.ones((3, 1)), (matrices, jnp.array([jnp.pi / 2])))
    assert np.allclose(terms, [[0.0], [0.3], [0.3]], rtol=1e-15)
    # exp(x) - 1 - x at x = 0.5.
    assert module.remainder_bound(0.5, 1) == pytest.approx(np.expm1(0.5) - 0.5)


def test_a_deep_network_takes_the_layers_it_is_said_to():
    module = _module("depth_limit")
    key = jax.random.key(0)
    parts = tuple(jax.random.normal(k, (2, 2)) for k in jax.random.split(key))
    x = np.array([0.3, -0.7])
    found = module.network(jnp.asarray(x), parts, 3, 1)
    for number in range(3):
        s = number / 3
        weights = np.cos(2 * s) * parts[0] + np.sin(3 * s) * parts[1]
        x = x + np.asarray(weights) @ np.tanh(x) / 3
    assert np.allclose(found, x, rtol=1e-14)
