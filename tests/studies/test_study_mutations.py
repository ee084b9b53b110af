"""Each study holds as it is, and fails with a model that is wrong."""

import importlib
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special

from hybrid_nds.studies import run_study, write_pages
from hybrid_nds.studies._levels import slope_error
from hybrid_nds.studies._registry import OWN

PAGES = Path(__file__).parents[2] / "docs" / "studies"
# Seconds each, and of every direction of research; `study run --all --quick` and the
# slow tests run the others.
SHORT = {
    "chen_fliess",
    "mirror_flow",
}


def marked(name, *rest):
    """The parameters of a test of this study, which is slow but for a few."""
    marks = () if name in SHORT else (pytest.mark.slow,)
    return pytest.param(name, *rest, marks=marks)


EACH = [marked(name) for name in OWN]


@pytest.mark.parametrize("name", EACH)
def test_all_claims_hold(name, tmp_path):
    result = run_study(name, preset="quick", backends=("diffrax",))
    assert result.passed, str(result)
    # The page in the documentation is of this study: its text, and what it claims.
    page = (PAGES / f"{name}.md").read_text()
    fresh = write_pages([result], tmp_path)[0].read_text()
    assert page.split("\n## ")[0] == fresh.split("\n## ")[0]
    assert statements(fresh) <= statements(page)
    assert "**fails**" not in page
    assert "did not run" not in page
    assert (PAGES / "images" / f"{name}.png").exists()


def statements(page):
    """What the table of a page claims."""
    return set(re.findall(r"^\| ([^|]+) \| [=≤≥]", page, re.MULTILINE))


@pytest.mark.julia
@pytest.mark.parametrize("name", EACH)
def test_all_claims_hold_in_julia(julia, name):
    result = run_study(name, preset="quick", backends=("julia",))
    assert set(result.findings) == {"julia"}
    assert result.passed, str(result)


def _module(name):
    return importlib.import_module(f"hybrid_nds.studies._{name}")


def reversed_sign(right):
    return lambda t, y, args: -right(t, y, args)


def doubled(right):
    return lambda t, y, args: 2 * right(t, y, args)


def all_doubled(right):
    return lambda t, y, args: jax.tree.map(lambda x: 2 * x, right(t, y, args))


def all_reversed(right):
    return lambda t, y, args: jax.tree.map(lambda x: -x, right(t, y, args))


def halved(right):
    return lambda t, y, args: right(t, y, args) / 2


def damped(right):
    return lambda **given: right(**given, growth=-1.0)


def opposite_targets(right):
    return lambda inputs, targets, **given: right(inputs, -targets, **given)


def repelling(right):
    return lambda coupling, *given, **more: right(-coupling, *given, **more)


def hardly_leaking(right):
    return lambda t, y, args: right(t, y, args) + 0.95 * y


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


SHORT_TRAINING = {
    "methods": 1,
    "products": (-10.0, -1e3, -1e4),
    "scalings": ("equations and loss",),
    "steps": 150,
}
FEW_NETWORKS = {
    "width": 2,
    "depths": (4, 16),
    "powers": (0.5,),
    "networks": 500,
    "time": 4.0,
    "chains": 16,
}
FEW_TOKENS = {
    "tokens": 3,
    "inverse_temperatures": (1.0,),
    "cosines": (0.5,),
    "starts": 1,
    "splay": (-0.9, -0.4),
    "diagram_temperatures": (0.0,),
    "diagram_starts": 2,
    "dimension": 4,
}
ONE_TARGET = {
    "targets": ((1.0, 0.0),),
    "heights": (0.5, 1.0),
    "steps": 8,
    "trajectories": 100,
}
FEW_PATHS = {
    "steps": (16, 32, 64),
    "weak_steps": (4, 8, 16),
    "paths": 20,
    "weak_paths": 100,
    "frequencies": (2.0,),
    "area_steps": 16,
    "areas": 1000,
}
ONE_EQUATION = {
    "moments": (2.0,),
    "time": 5.0,
    "chains": 16,
    "trajectories": 4000,
    "scheme_drifts": (-0.5,),
    "scheme_noises": (0.3,),
}
ONE_EACH = {"starts": (1.0,), "condition_numbers": (1.0,)}
# By study: what of it is made wrong, how, and a configuration that sees it.
MUTATIONS = {
    "depth_limit": [
        ("field", reversed_sign, {"depths": (16, 32, 64), "random_networks": 50})
    ],
    "random_resnet": [("weights", doubled, FEW_NETWORKS)],
    "hidden_width": [
        (
            "field",
            reversed_sign,
            {"depths": (16, 32, 64), "widths": (1, 2, 4), "networks": 50},
        )
    ],
    "strong_weak_order": [("growth", reversed_sign, FEW_PATHS)],
    "linear_stochastic_stability": [
        ("drift", reversed_sign, ONE_EQUATION),
        ("diffusion", halved, ONE_EQUATION),
    ],
    "noise_destabilised_oscillator": [
        (
            "diffusion",
            halved,
            {"noises": (3.0,), "step": 1 / 32, "time": 10.0, "chains": 16},
        )
    ],
    "shear_induced_chaos": [
        (
            "StochasticHopf",
            damped,
            {"shears": (10.0,), "step": 1 / 128, "time": 10.0, "chains": 16},
        )
    ],
    "follmer_sampler": [
        (
            "sampler",
            reversed_sign,
            {
                "steps": 16,
                "samples": 500,
                "weak_steps": (8, 16, 32),
                "weak_samples": 200,
            },
        )
    ],
    "mean_field_langevin": [
        (
            "MeanFieldLangevin",
            opposite_targets,
            {"particles": (2, 4, 8), "networks": 100, "many": 100},
        )
    ],
    "noisy_attention": [
        (
            "CircleAttention",
            repelling,
            {"tokens": 16, "shares": (0.0, 0.5), "couplings": (4.0,), "draws": 100},
        )
    ],
    "attention_clustering": [
        ("tokens", reversed_sign, FEW_TOKENS),
        ("circle", reversed_sign, FEW_TOKENS),
    ],
    "attention_metastability": [
        (
            "tokens",
            doubled,
            {
                "inverse_temperatures": (4.0, 5.0),
                "cosines": (0.0,),
                "horizon": 2000.0,
            },
        )
    ],
    "contracting_rnn": [
        (
            "network",
            hardly_leaking,
            {"neurons": 2, "horizon": 20.0, "settled": 1.0, "trajectories": 50},
        )
    ],
    "controllability": [
        ("steered", all_reversed, ONE_TARGET),
        ("heisenberg", all_reversed, ONE_TARGET),
        ("linear_noise", doubled, ONE_TARGET | {"trajectories": 1000}),
        ("heisenberg_noise", doubled, ONE_TARGET | {"trajectories": 1000}),
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
    # Reversed, both would leave where they are defined before any claim is asked.
    "stiff_neural": [
        ("robertson", doubled, {"products": (-1.0,), "trajectories": 100}),
    ],
    "stiff_gradients": [
        ("linear", doubled, SHORT_TRAINING),
        ("robertson", doubled, SHORT_TRAINING),
    ],
    "bures_wasserstein": [("flow", all_doubled, {"sizes": (64, 128, 256)})],
}


def test_every_study_has_a_mutation():
    assert set(MUTATIONS) == set(OWN)
    assert set(OWN) > SHORT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (name, dict(changes))
        for name, all_ in MUTATIONS.items()
        for changes in {tuple(changes.items()) for _, _, changes in all_}
    ],
)
def test_what_sees_a_wrong_model_holds_with_the_right_one(name, changes):
    config = _module(name).Config(**changes)
    result = run_study(name, config=config, backends=("diffrax",))
    assert result.passed, str(result)


@pytest.mark.parametrize(
    ("name", "part", "wrong", "changes"),
    [marked(name, *mutation) for name, all_ in MUTATIONS.items() for mutation in all_],
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


@pytest.mark.parametrize("width", [2, 5])
def test_the_logarithm_of_a_deep_networks_square_is_that_of_its_limit(width):
    mean, variance = _module("random_resnet").mean_logarithm(width, 4096)
    # Of a finite depth L both are off by a term in 1/L of moderate constant.
    assert mean == pytest.approx(1 - 2 / width, abs=10 / 4096)
    assert variance == pytest.approx(4 / width, abs=10 / 4096)


@pytest.mark.parametrize("x", [0.3, 1.0, 2.0])
def test_the_normal_rule_keeps_steins_identity(x):
    nodes, shares = _module("hidden_width").normal_rule()
    left = np.sum(shares * nodes * np.tanh(nodes * x))
    right = x * np.sum(shares / np.cosh(nodes * x) ** 2)
    assert left == pytest.approx(right, rel=1e-13)
    assert np.sum(shares * nodes**4) == pytest.approx(3.0, rel=1e-13)


@pytest.mark.parametrize("cosine", [0.2, 0.9, 0.999])
def test_at_infinite_temperature_cosines_rise_logistically(cosine):
    found = _module("attention_clustering").arrival("SA", 0.0, 5, cosine)
    # Partial fractions of 5 / (2 (1 - c) (4 c + 1)).
    expected = np.log((4 * cosine + 1) / (1 - cosine)) / 2
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("height", [0.0, 0.5, 2.0])
def test_the_density_above_the_origin_is_its_closed_form(height):
    found = _module("controllability").density(height)
    assert found == pytest.approx(1 / (4 * np.cosh(np.pi * height) ** 2), abs=1e-12)


def test_eulers_covariance_of_a_double_integrator_is_a_sum_of_squares():
    n = 7
    found = _module("controllability").discrete_gramian(n)
    assert found[0, 0] == pytest.approx((n - 1) * n * (2 * n - 1) / 6 / n**3)
    assert found[1, 1] == pytest.approx(1.0)


def test_the_posterior_of_few_answers_against_quadrature():
    mean, deviation = _module("bures_wasserstein").posterior(5, 0.8)
    # A logistic posterior's tails fall as exp(-x) here.
    x = np.linspace(-60.0, 60.0, 400_001)
    density = np.exp(4 * x - 5 * np.logaddexp(0.0, x))
    density /= np.sum(density)
    assert mean == pytest.approx(np.sum(x * density), rel=1e-9)
    assert deviation**2 == pytest.approx(np.sum((x - mean) ** 2 * density), rel=1e-9)


def test_the_distance_of_gaussian_laws_on_a_line():
    distance = _module("bures_wasserstein").squared_distance
    laws = [(np.array([m]), np.array([[s**2]])) for m, s in ((0.5, 2.0), (-1.0, 0.7))]
    assert distance(*laws) == pytest.approx(1.5**2 + 1.3**2, rel=1e-12)


def test_the_error_of_a_slope_through_two_points():
    sizes, errors = np.array([1.0, np.e]), np.array([2.0, 4.0])
    # The difference of two logarithms, with errors of 0.1 and 0.2.
    found = slope_error(sizes, errors, np.array([0.2, 0.8]))
    assert found == pytest.approx(np.hypot(0.1, 0.2), rel=1e-12)


def test_the_factor_of_a_step_is_below_one_where_the_criterion_says():
    factor = _module("linear_stochastic_stability").theta_factor
    for theta in (0.0, 0.3, 0.5, 1.0):
        for z in (-4.0, -1.5, -0.2, 0.3):
            for s in (0.0, 0.7, 3.0):
                below = 2 * z + s + (1 - 2 * theta) * z**2 < 0
                assert (factor(z, s, theta) < 1) == below
    # (1 + s) / (1 - z)^2, the backward step.
    assert factor(-1.0, 0.5, 1.0) == pytest.approx(1.5 / 4)


def test_eulers_exponent_tends_to_that_of_the_equation():
    found = _module("linear_stochastic_stability").euler_exponent(0.5, 1.2, 1e-6)
    assert found == pytest.approx(0.5 - 0.72, abs=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_the_exponent_of_a_free_particle_in_noise_has_a_closed_form(sigma):
    # With the damping 2 and the frequency 1 the constant a is zero: Gamma functions.
    found = _module("noise_destabilised_oscillator").exponent(1.0, 2.0, sigma)
    gamma = scipy.special.gamma
    rate = 0.5 * (6 * sigma**2) ** (1 / 3) * gamma(1 / 2) / gamma(1 / 6)
    assert found == pytest.approx(rate - 1.0, rel=1e-9)


def test_the_sum_of_exponents_is_the_published_one():
    # Shear-induced chaos with all other parameters one.
    found = _module("shear_induced_chaos").sum_of_exponents()
    assert found == pytest.approx(-3.1504, abs=5e-5)


@pytest.mark.parametrize("beta", [0.1, 1.0, 4.0])
def test_the_threshold_of_attention_is_its_first_fourier_mode(beta):
    angles = 2 * np.pi * np.arange(64) / 64
    # The trapezoidal rule of a periodic analytic function.
    mode = np.mean(np.exp(beta * np.cos(angles)) * np.sin(angles) ** 2)
    found = _module("noisy_attention").threshold(beta, 0.7)
    assert found == pytest.approx(0.7 / mode, rel=1e-12)


def test_the_order_of_tokens_solves_its_equation():
    angles = 2 * np.pi * np.arange(64) / 64
    r = _module("noisy_attention").consistent(3.0, 1.0)
    weights = np.exp(3.0 * r * np.cos(angles))
    assert r > 0.1
    assert r == pytest.approx(weights @ np.cos(angles) / weights.sum(), rel=1e-10)


def test_the_free_energy_is_least_at_the_mean_field_law():
    module = _module("mean_field_langevin")
    alpha, tau = 0.5, 0.2
    rest = module.INPUT * module.TARGET / (alpha + module.INPUT**2)
    least = module.free_energy(rest, tau / alpha, alpha, tau)
    for mean, variance in ((rest + 0.1, 0.4), (rest, 0.5), (rest, 0.3)):
        assert module.free_energy(mean, variance, alpha, tau) > least


def test_the_cost_of_fine_steps_is_the_divergence_of_the_ends():
    module = _module("follmer_sampler")
    config = module.Config(mean=0.7, deviation=0.4)
    mean, variance, cost, _ = module.discrete(config, 20_000, 0.0)
    assert mean == pytest.approx(0.7, abs=1e-3)
    assert variance == pytest.approx(0.16, abs=1e-3)
    # KL(N(m, s²) | N(0, 1)) by quadrature.
    x = np.linspace(-4.0, 5.0, 20_001)
    density = np.exp(-(((x - 0.7) / 0.4) ** 2) / 2) / (0.4 * np.sqrt(2 * np.pi))
    ratio = -(((x - 0.7) / 0.4) ** 2) / 2 + x**2 / 2 - np.log(0.4)
    expected = np.trapezoid(density * ratio, x)
    assert module.divergence(0.7, 0.4) == pytest.approx(expected, rel=1e-9)
    assert cost == pytest.approx(expected, abs=2e-3)


def test_the_area_of_few_steps_by_its_matrix_of_signs():
    n, frequency = 5, 3.0
    signs = np.triu(np.ones((n, n)), 1) - np.tril(np.ones((n, n)), -1)
    form = np.eye(n) + (frequency / (2 * n)) ** 2 * signs @ signs.T
    found = _module("strong_weak_order").discrete_transform(frequency, n)
    assert found == pytest.approx(np.linalg.det(form) ** -0.5, rel=1e-12)


def test_two_tokens_meet_after_an_elementary_integral_at_infinite_temperature():
    found = _module("attention_metastability").meeting_time(0.0, 0.0)
    # Of 1 / (1 - c^2), from 0 to 0.9.
    assert found == pytest.approx(np.arctanh(0.9), rel=1e-10)


def test_the_stiffness_ratio_by_eigenvalues():
    module = _module("stiff_neural")
    y = np.array([0.7, 9e-6, 0.3])
    jacobian = jax.jacfwd(lambda y: module.Robertson(dtype=float)(0.0, y))(y)
    rates = np.sort(np.abs(np.linalg.eigvals(np.asarray(jacobian, float))))
    # The slow eigenvalue is found to the round-off of the fast one.
    assert module.stiffness_ratio(y) == pytest.approx(rates[2] / rates[1], rel=1e-3)


def test_stability_functions_are_the_exponential_to_their_order():
    module = _module("stiff_gradients")
    # Orders of the methods, and L-stability of all but the trapezoidal rule.
    orders = {
        "ImplicitEuler": 1,
        "Rosenbrock23": 2,
        "Kvaerno3": 3,
        "KenCarp4": 4,
        "Kvaerno5": 5,
        "Trapezoid": 2,
        "RadauIIA5": 5,
    }
    assert set(orders) == set(module.STABILITY_FUNCTIONS)
    for name, order in orders.items():
        above, below = module.STABILITY_FUNCTIONS[name]
        # To first order, the derivative at zero is one.
        assert module.slope(name, 0.0) == pytest.approx(1.0, abs=1e-12)
        gaps = [abs(above(z) / below(z) - np.exp(z)) for z in (-0.2, -0.1)]
        assert np.log2(gaps[0] / gaps[1]) == pytest.approx(order + 1, abs=0.35)
        assert (above.degree() < below.degree()) == (name != "Trapezoid")


def test_variations_by_differences():
    module = _module("stiff_gradients")
    by_rates = module.variations(0.5)[1]
    for column in range(3):
        ends = []
        for sign in (1, -1):
            slow, fast, back = module.RATES * (1 + sign * 1e-4 * np.eye(3)[column])

            def kinetics(t, y, slow=slow, fast=fast, back=back):
                a, b, c = slow * y[0], fast * y[1] ** 2, back * y[1] * y[2]
                return [c - a, a - b - c, b]

            found = scipy.integrate.solve_ivp(
                kinetics,
                (0.0, 0.5),
                [1.0, 0.0, 0.0],
                "Radau",
                rtol=1e-11,
                atol=1e-17,
            )
            ends.append(found.y[:, -1])
        difference = (ends[0] - ends[1]) / (2e-4 * module.RATES[column])
        # Of second order in a change of 1e-4, and tolerances of 1e-11 over 2e-4.
        np.testing.assert_allclose(by_rates[:, column], difference, rtol=1e-5)


def test_orders_and_constants_are_learned_from_rates():
    module = _module("stiff_neural")
    states = np.random.default_rng(0).uniform(0.1, 1.0, (20, 3))
    orders, constants = module.learn(states)
    expected = [[1, 0, 0], [0, 2, 0], [0, 1, 1]]
    assert np.allclose(orders, expected, atol=1e-10)
    assert np.allclose(np.exp(constants), module.RATES, rtol=1e-9)
