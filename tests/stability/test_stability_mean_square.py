"""Mean-square stability of linear equations and of schemes on them."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from hybrid_nds import ODEProblem, SDEProblem
from hybrid_nds.stability import (
    mean_square_abscissa,
    mean_square_factor,
    mean_square_stability,
)


def _linear(a, *b, noise="general", **options):
    """dX = AX dt + Σ B_j X dW_j."""
    a, b = jnp.asarray(a, float), jnp.asarray(b, float)
    if noise == "general":
        diffusion = lambda t, y, args: jnp.einsum("jkl,l->kj", args[1], y)
    else:
        diffusion = lambda t, y, args: args[1][0] @ y
    return SDEProblem(
        lambda t, y, args: args[0] @ y,
        diffusion,
        np.ones(len(a)),
        0.0,
        1.0,
        (a, b),
        noise=noise,
        **options,
    )


def _scalar(a, sigma, **options):
    return _linear([[a]], [[sigma]], noise="scalar", **options)


# One step from X = 1, as the papers write it, with the increment ΔW = √h ξ.
_MAPS = {
    ("EulerMaruyama", None): lambda z, r: 1 + z + r,
    ("Milstein", None): lambda z, r: 1 + z + r + 0.5 * r**2,
    ("ThetaMaruyama", 0.3): lambda z, r: (1 + 0.7 * z + r) / (1 - 0.3 * z),
    ("ThetaMilstein", 0.8): lambda z, r: (1 + 0.2 * z + r + 0.5 * r**2) / (1 - 0.8 * z),
    ("ImplicitEM", None): lambda z, r: (1 + r) / (1 - z),
    ("STrapezoid", None): lambda z, r: (1 + z / 2 + r) / (1 - z / 2),
    ("SplitStep", None): lambda z, r: (1 + r) / (1 - z),
}


@pytest.mark.parametrize(("scheme", "theta"), _MAPS)
def test_factors_are_those_of_the_schemes(scheme, theta):
    z, s = np.array([-2.3, -0.4, 0.2]), np.array([0.0, 0.7, 1.9])
    found = mean_square_stability(scheme, z, s, theta=theta)
    x, w = np.polynomial.hermite_e.hermegauss(20)
    w = w / w.sum()
    milstein = "Milstein" in scheme
    for i, row in enumerate(s):
        # Milstein's term is ½σ²(ΔW² − h): its h goes with the drift's.
        for j, column in enumerate(z):
            step = _MAPS[scheme, theta](column, np.sqrt(row) * x)
            if milstein:
                denominator = 1 - (theta or 0.0) * column
                step = step - 0.5 * row / denominator
            assert found.factor[i, j] == pytest.approx(np.sum(w * step**2), rel=1e-12)


@given(
    theta=st.floats(0, 1),
    z=st.floats(-20, 2),
    s=st.floats(0, 30),
)
@settings(max_examples=200, deadline=None)
def test_theta_maruyama_is_stable_where_theory_says(theta, z, s):
    """Stable iff 2λ + σ² + (1 − 2θ)hλ² < 0 (Higham 2000, theorem 4.1)."""
    boundary = 2 * z + s + (1 - 2 * theta) * z**2
    assume(abs(boundary) > 1e-9 * (1 + z**2 + s))
    assume(abs(1 - theta * z) > 1e-6)
    found = mean_square_stability("ThetaMaruyama", z, s, theta=theta)
    assert bool(found.stable.item()) == (boundary < 0)
    assert bool(found.exact_stable.item()) == (2 * z + s < 0)


@given(z=st.floats(-30, -0.01), s=st.floats(0, 60), theta=st.floats(0.5, 1))
@settings(max_examples=100, deadline=None)
def test_half_implicit_steps_never_lose_stability(z, s, theta):
    found = mean_square_stability("ThetaMaruyama", z, s, theta=theta)
    assume(abs(2 * z + s) > 1e-9 * (1 + z**2 + s))
    assert bool(found.stable.item()) >= bool(found.exact_stable.item())


@pytest.mark.parametrize("solver", ["Euler", "ItoMilstein"])
def test_closed_forms_agree_with_the_solvers_own_steps(solver):
    """The map of a step of Diffrax's solver, integrated over its increments."""
    from hybrid_nds.stability.growth import _mean_square_region

    z, s = np.meshgrid([-1.7, -0.2, 0.4], [0.0, 0.3, 2.1])
    found = mean_square_stability(solver, z[0], s[:, 0])
    own = _mean_square_region._by_quadrature(solver, z, s)
    assert own == pytest.approx(found.factor, rel=1e-11)


def test_heun_on_stratonovichs_form():
    """Heun multiplies by 1 + x + x²/2 with x = (λ − σ²/2)h + σΔW."""
    z, s = -0.8, 0.5
    m, v = z - s / 2, s
    # Moments of a normal variable x of mean m and variance v.
    second = m**2 + v
    third = m**3 + 3 * m * v
    fourth = m**4 + 6 * m**2 * v + 3 * v**2
    # (1 + x + x²/2)² = 1 + 2x + 2x² + x³ + x⁴/4.
    expected = 1 + 2 * m + 2 * second + third + fourth / 4
    found = mean_square_stability("Heun", z, s)
    assert found.factor.item() == pytest.approx(expected, rel=1e-12)


def test_linear_equation_in_one_dimension():
    for a, sigma in ((-1.0, 0.5), (0.2, 0.9)):
        found = mean_square_abscissa(_scalar(a, sigma))
        assert found.value == pytest.approx(2 * a + sigma**2, rel=1e-12)
        assert abs(found.value - (2 * a + sigma**2)) <= max(found.error, 1e-15)
        assert found.stable == (2 * a + sigma**2 < 0)
    # In Stratonovich's interpretation the drift of Itô's is a + σ²/2.
    found = mean_square_abscissa(_scalar(-1.0, 0.5, interpretation="stratonovich"))
    assert found.value == pytest.approx(-2 + 2 * 0.25, rel=1e-12)


def _oscillator(omega, gamma, sigma):
    return _linear(
        [[0, 1], [-(omega**2), -gamma]], [[0, 0], [sigma, 0]], noise="scalar"
    )


@pytest.mark.parametrize(("omega", "gamma"), [(1.0, 0.3), (2.0, 1.0)])
def test_noise_destabilised_oscillator_threshold(omega, gamma):
    """Second moments grow from σ² = 2γω₀² on (Arnold 1974, section 11.5)."""
    threshold = math.sqrt(2 * gamma) * omega
    at = mean_square_abscissa(_oscillator(omega, gamma, threshold))
    assert abs(at.value) <= 1e-12
    assert mean_square_abscissa(_oscillator(omega, gamma, 0.99 * threshold)).stable
    assert not mean_square_abscissa(_oscillator(omega, gamma, 1.01 * threshold)).stable


def test_without_noise_it_is_twice_the_spectral_abscissa():
    a = np.array([[-0.3, 5.0, 0.0], [-5.0, -0.3, 1.0], [0.0, 0.0, -2.0]])
    problem = ODEProblem(lambda t, y, args: jnp.asarray(a) @ y, np.ones(3), 0.0, 1.0)
    found = mean_square_abscissa(problem)
    assert found.value == pytest.approx(-0.6, abs=1e-12)


def test_commuting_noise():
    """Diagonal matrices: X_i grows with 2a_i + Σ_j b_ji², and products slower."""
    a, b = np.diag([-1.0, -0.8]), (np.diag([0.3, 0.9]), np.diag([0.4, 0.1]))
    found = mean_square_abscissa(_linear(a, *b))
    rates = 2 * np.diag(a) + sum(np.diag(one) ** 2 for one in b)
    assert found.value == pytest.approx(rates.max(), rel=1e-12)


@pytest.fixture(scope="module")
def plane():
    """Two Brownian motions on the plane, which do not commute."""
    return _linear(
        [[-1.0, 2.0], [-2.0, -1.5]], [[0.2, 0.5], [0.0, 0.1]], [[0.3, 0.0], [0.7, -0.2]]
    )


@pytest.mark.parametrize(
    ("scheme", "theta"),
    [("EulerMaruyama", None), ("ThetaMaruyama", 0.5), ("SplitStep", None)],
)
def test_factors_tend_to_the_equation(plane, scheme, theta):
    """log(factor)/h tends to the abscissa with the weak order, one."""
    abscissa = mean_square_abscissa(plane).value
    steps = np.array([0.02, 0.01, 0.005, 0.0025])
    found = [mean_square_factor(plane, scheme, h, theta=theta) for h in steps]
    errors = [abs(math.log(one.value) / one.dt - abscissa) for one in found]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    # Curvature of the error over these steps is below a tenth.
    assert slope == pytest.approx(1, abs=0.1)
    assert found[0].exact == pytest.approx(math.exp(0.02 * abscissa), rel=1e-12)


def test_matrix_factor_of_euler_is_that_of_its_own_steps(plane):
    """E[Φ⊗Φ] summed over the nine points of a rule exact for its degree."""
    h = 0.1
    a, b = (np.asarray(x) for x in plane.args)
    lifted = np.zeros((4, 4))
    # Three nodes integrate polynomials of degree five.
    nodes = {-math.sqrt(3.0): 1 / 6, 0.0: 2 / 3, math.sqrt(3.0): 1 / 6}
    for x, p in nodes.items():
        for y, q in nodes.items():
            phi = np.eye(2) + h * a + math.sqrt(h) * (x * b[0] + y * b[1])
            lifted += p * q * np.kron(phi, phi)
    radius = np.abs(np.linalg.eigvals(lifted)).max()
    assert mean_square_factor(plane, "Euler", h).value == pytest.approx(radius)


def test_milstein_on_commuting_matrices():
    """With diagonal matrices each component is a scalar equation."""
    a, sigma, h = np.array([-1.0, -3.0]), np.array([0.9, 0.4]), 0.3
    problem = SDEProblem(
        lambda t, y, args: a * y, lambda t, y, args: sigma * y, np.ones(2), 0.0, 1.0
    )
    found = mean_square_factor(problem, "ItoMilstein", h)
    z, s = a * h, sigma**2 * h
    assert found.value == pytest.approx(np.max((1 + z) ** 2 + s + s**2 / 2))


def test_noise_that_does_not_commute_is_refused_by_milstein(plane):
    with pytest.raises(ValueError, match=r"needs noise that commutes.*take Euler's"):
        mean_square_factor(plane, "Milstein", 0.1)


def test_a_region_is_drawn_and_exported(tmp_path):
    region = mean_square_stability(
        "Euler", np.linspace(-2.5, 0.5, 31), np.linspace(0, 2, 21)
    )
    assert region.to_xarray()["factor"].dims == ("sigma2_h", "lambda_h")
    # Euler's region is a parabola: 2z + z² + s < 0, within the equation's.
    z, s = np.meshgrid(region.lambda_h, region.sigma2_h)
    inside = 2 * z + z**2 + s < -1e-12
    np.testing.assert_array_equal(region.stable, inside)
    assert np.sum(region.stable & ~region.exact_stable) == 0
    figure = region.plot(tmp_path / "region.png")
    assert figure.axes[0].get_xlabel() == r"$\lambda h$"
    assert "loses a stability" in str(region)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mean_square_stability("Nothing", -1, 1), "`scheme` must be one of"),
        (lambda: mean_square_stability("ThetaMaruyama", -1, 1), "needs `theta`"),
        (lambda: mean_square_stability("Euler", -1, 1, theta=0.5), "takes no `theta`"),
        (
            lambda: mean_square_stability("ThetaMaruyama", -1, 1, theta=1.5),
            "between 0 and 1",
        ),
        (lambda: mean_square_stability("Euler", -1, -1), "`sigma2_h` must not be neg"),
        (lambda: mean_square_stability("Euler", [[1]], 1), "one-dimensional"),
        (lambda: mean_square_stability("ImplicitEM", 1.0, 1.0), "singular"),
        (lambda: mean_square_factor(_scalar(-1, 1), "Euler", 0.0), "`dt` must be a"),
    ],
)
def test_bad_arguments(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize(
    ("drift", "diffusion", "match"),
    [
        (lambda t, y, a: -(y**3), lambda t, y, a: y, "drift at t = 0.*not its deriv"),
        (lambda t, y, a: -y, lambda t, y, a: jnp.ones(1), "diffusion at zero"),
        (lambda t, y, a: 1 - y, lambda t, y, a: y, "drift at zero is"),
        (lambda t, y, a: -t * y, lambda t, y, a: y, "constant coefficients"),
    ],
)
def test_what_is_not_linear_is_refused(drift, diffusion, match):
    problem = SDEProblem(drift, diffusion, np.ones(1), 0.0, 1.0)
    with pytest.raises(ValueError, match=match):
        mean_square_abscissa(problem)
