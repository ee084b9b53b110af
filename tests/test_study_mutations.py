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


def reversed_sign(right):
    return lambda t, y, args: -right(t, y, args)


def doubled(right):
    return lambda t, y, args: 2 * right(t, y, args)


def reversed_mean(right):
    def wrong(t, y, args):
        mean, covariance = right(t, y, args)
        return -mean, covariance

    return wrong


def other_scale(right):
    class Other(right):
        """The entropy of twice the scale."""

        def __init__(self, scale):
            super().__init__(2 * scale)

    return Other


ONE_EACH = {"starts": (1.0,), "condition_numbers": (1.0,)}
# By study: what of it is made wrong, how, and a configuration that sees it.
MUTATIONS = {
    "depth_limit": [
        ("field", reversed_sign, {"depths": (16, 32, 64), "random_networks": 50})
    ],
    "chen_fliess": [
        ("field", reversed_sign, {"longest": 6, "horizons": (1.0,), "sample": 4}),
        # Its controls have both signs: reversing one changes nothing.
        ("scalar_field", doubled, {"longest": 2, "horizons": (1.0,), "sample": 4}),
    ],
    "mirror_flow": [
        ("HyperbolicEntropy", other_scale, ONE_EACH),
        ("newton_moments", reversed_mean, ONE_EACH),
    ],
}


def test_every_study_has_a_mutation():
    assert set(MUTATIONS) == set(OWN)


@pytest.mark.parametrize(
    ("name", "part", "wrong", "changes"),
    [(name, *mutation) for name, all_ in MUTATIONS.items() for mutation in all_],
)
def test_a_wrong_model_makes_the_study_fail(monkeypatch, name, part, wrong, changes):
    module = _module(name)
    monkeypatch.setattr(module, part, wrong(getattr(module, part)))
    result = run_study(name, config=module.Config(**changes), backends=("diffrax",))
    assert not result.passed, str(result)


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
