"""Small numbers that are differences of large ones, against rational arithmetic."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem, SDEProblem
from hybrid_nds.stability import (
    mean_square_abscissa,
    mean_square_factor,
    moment_exponent,
    periodic_orbit,
)

# A step of round-off, far below the rates themselves.
NEAR = 1e-13


def geometric(a, b, dtype=jnp.float64, copies=1):
    """So many copies of dX = a X dt + b X dW, along one Brownian motion."""
    y0 = jnp.ones(copies, dtype)
    args = jnp.asarray([a, b], dtype)
    return SDEProblem(
        lambda t, y, args: args[0] * y,
        lambda t, y, args: args[1] * y,
        y0,
        0.0,
        1.0,
        args,
        noise="scalar",
    )


def exact_rate(problem, p):
    """p a + p (p − 1) b²/2 of the numbers that the problem holds."""
    a, b = (Fraction(float(x)) for x in problem.args)
    return p * a + Fraction(p * (p - 1), 2) * b**2


def within(value, error, exact):
    """Whether an error holds, and is no more than a few roundings."""
    return abs(Fraction(value) - exact) <= Fraction(error)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("b", [1e-6, 0.1, 0.3, 1e3, 1e6])
def test_moments_that_neither_grow_nor_decay(b, copies, dtype):
    # 2 a + b² of terms 1e13 times as large.
    problem = geometric(-(b**2) / 2 * (1 + NEAR), b, dtype, copies)
    exact = exact_rate(problem, 2)
    found = mean_square_abscissa(problem)
    assert within(found.value, found.error, exact)
    precision = float(jnp.finfo(dtype).eps)
    # Two copies have a threefold eigenvalue, which takes the root of the round-off
    # only where it is defective.
    assert found.error <= 100 * precision * b**2
    moment = moment_exponent(problem, 2)
    assert within(moment.value, (moment.high - moment.low) / 2, exact)
    # p = 4 has 4 a + 6 b² = 4 b² and no cancellation.
    fourth = moment_exponent(problem, 4)
    error = (fourth.high - fourth.low) / 2
    assert within(fourth.value, error, exact_rate(problem, 4))
    assert error <= 1e3 * precision * b**2


@pytest.mark.parametrize("scheme", ["Euler", "Milstein", "ImplicitEM", "SplitStep"])
@pytest.mark.parametrize("h", [1e-12, 1e-3, 1.0, 1e6])
def test_factors_of_a_step(scheme, h):
    # Near one for short steps; for long ones a difference of large terms, or of terms
    # that the implicit schemes make small.
    problem = geometric(-0.5 * (1 + NEAR), 1.0)
    a, b = (Fraction(float(x)) for x in problem.args)
    z, s = a * Fraction(h), b**2 * Fraction(h)
    exact = {
        "Euler": (1 + z) ** 2 + s,
        "Milstein": (1 + z) ** 2 + s + s**2 / 2,
        "ImplicitEM": (1 + s) / (1 - z) ** 2,
        "SplitStep": (1 + s) / (1 - z) ** 2,
    }[scheme]
    found = mean_square_factor(problem, scheme, h)
    assert within(found.value, found.error, exact)
    assert found.error <= 1e-14 * (1 + float(exact))
    # The rate of −1e-13 is beyond the round-off of its terms, of which each is 1; over
    # a step of 1e-12 it is not beyond that of one.
    assert found.exact_stable == (h > 1e-12)
    assert not mean_square_factor(geometric(-0.5, 1.0), scheme, h).exact_stable


def test_a_factor_of_long_steps_does_not_overflow():
    found = mean_square_factor(geometric(1.0, 1.0), "Euler", 1e6)
    # Beyond the largest number, whose logarithm is 710.
    assert found.exact >= 1.7e308


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("rate", [1e-2, 1e-4, 1e-6])
def test_multipliers_near_one(rate, dtype):
    # r' = ε r (1 − r²), θ' = 3: the multiplier e^{−2εT}, T = 2π/3.
    def field(t, y, rate):
        x, z = y
        r = rate * (1 - x**2 - z**2)
        return jnp.stack([r * x - 3 * z, 3 * x + r * z])

    start = jnp.asarray([1.001, 0.0], dtype)
    problem = ODEProblem(field, start, 0.0, 20.0, jnp.asarray(rate, dtype))
    found = periodic_orbit(problem, period=2.0943)
    exact = np.exp(-2 * float(problem.args) * 2 * np.pi / 3)
    assert abs(found.multipliers[0] - exact) <= found.multiplier_errors[0]
    assert found.multiplier_errors[0] <= (1e-8 if dtype == jnp.float64 else 1e-4)
    assert abs(found.trivial_multiplier - 1) <= found.multiplier_errors[0]
    assert abs(found.period - 2 * np.pi / 3) <= found.period_error


@pytest.mark.parametrize("s", [1e-12, 1e12])
def test_what_is_not_linear_is_seen_in_any_units(s):
    def cubic(t, y, s):
        return -y + (y / s) ** 2 * y

    problem = SDEProblem(
        cubic, lambda t, y, s: 0.5 * y, jnp.array([s]), 0.0, 1.0, jnp.asarray(s)
    )
    with pytest.raises(ValueError, match="must be linear"):
        mean_square_abscissa(problem)


@pytest.mark.parametrize("tau", [1e-12, 1e12])
def test_coefficients_that_change_are_seen_in_any_units(tau):
    def drift(t, y, tau):
        return -(1 + t / tau) * y / tau

    problem = SDEProblem(
        drift,
        lambda t, y, tau: 0.5 * y / jnp.sqrt(tau),
        jnp.ones(1),
        0.0,
        tau,
        jnp.asarray(tau),
    )
    with pytest.raises(ValueError, match="constant coefficients"):
        mean_square_abscissa(problem)


@pytest.mark.parametrize("rate", [1e-200, 1e200])
def test_rates_whose_squares_are_no_numbers(rate):
    A = jnp.array([[-1.0, 3.0], [-3.0, -1.0]])
    problem = ODEProblem(lambda t, y, r: r * (A @ y), jnp.ones(2), 0.0, 1.0, rate)
    found = mean_square_abscissa(problem)
    assert abs(found.value / rate + 2) <= found.error / rate <= 1e-13
