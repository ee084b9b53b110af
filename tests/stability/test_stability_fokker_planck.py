"""The Fokker–Planck equation on the line, against closed forms."""

import math
import re
from decimal import Decimal, localcontext
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from hypothesis import given, settings, strategies as st

from hybrid_nds import SDEProblem, to_stratonovich
from hybrid_nds.stability import fokker_planck
from hybrid_nds.stability.long_run._birth_death import BirthDeathChain


def ornstein_uhlenbeck(theta=1.0, sigma=0.5, y0=0.8):
    return SDEProblem(
        lambda t, y, args: -theta * y,
        lambda t, y, args: sigma * jnp.ones_like(y),
        jnp.array([y0]),
        0.0,
        1.0,
        noise="additive",
        interpretation="ito",
    )


def gradient(force, noise, interpretation="ito", y0=0.1):
    return SDEProblem(
        lambda t, y, args: force(y),
        lambda t, y, args: noise(y),
        jnp.array([y0]),
        0.0,
        1.0,
        noise="diagonal",
        interpretation=interpretation,
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(
    theta=st.floats(0.2, 3.0),
    sigma=st.floats(0.2, 1.5),
    time=st.floats(0.01, 5.0),
    cells=st.sampled_from([60, 100]),
)
def test_mass_is_kept_and_nothing_is_negative(theta, sigma, time, cells):
    found = fokker_planck(
        ornstein_uhlenbeck(theta, sigma), (-3.0, 3.0), cells=cells, times=[time]
    )
    assert abs(found.mass[0] - 1) < 1e-12
    assert np.all(found.density >= 0)


@pytest.mark.slow
def test_ornstein_uhlenbeck_has_its_mean_and_variance():
    # Mean y₀e^{−θt}, variance σ²(1 − e^{−2θt})/2θ (Uhlenbeck & Ornstein 1930).
    theta, sigma, y0 = 1.3, 0.6, 0.8
    times = np.array([0.2, 1.0, 8.0])
    found = fokker_planck(
        ornstein_uhlenbeck(theta, sigma, y0), (-4.0, 4.0), cells=800, times=times
    )
    variance = sigma**2 * -np.expm1(-2 * theta * times) / (2 * theta)
    # Second order in the cell, 0.01 wide: a mass put into cells has moments off by some
    # tenths of its square, and the last mean is 2e-5 of the deviation.
    np.testing.assert_allclose(
        found.mean, y0 * np.exp(-theta * times), rtol=7e-4, atol=0.01**2 / 10
    )
    np.testing.assert_allclose(found.variance, variance, rtol=7e-4)
    # The stated error bounds the true one, in L¹ and so in every bounded mean.
    normal = scipy.special.ndtr(
        (found.edges[None] - y0 * np.exp(-theta * times)[:, None])
        / np.sqrt(variance)[:, None]
    )
    exact = np.diff(normal, axis=1)
    width = found.edges[1] - found.edges[0]
    off = np.abs(found.density * width - exact).sum(axis=1)
    assert np.all(off <= 2 * found.density_errors + 1e-12)


def test_the_spectral_gap_of_ornstein_uhlenbeck_is_its_rate():
    found = fokker_planck(ornstein_uhlenbeck(0.7, 0.5), (-4.0, 4.0), cells=400)
    assert abs(found.gap - 0.7) <= 2 * found.gap_error
    assert found.gap_error < 1e-3


@pytest.mark.parametrize("interpretation", ["ito", "stratonovich"])
def test_the_stationary_density_is_that_of_zero_flux(interpretation):
    # p ∝ exp(∫2f/g²)/g² in Itô's reading: f = −x, g² = 1 + x² gives (1 + x²)^{−2}.
    problem = gradient(lambda y: -y, lambda y: jnp.sqrt(1 + y**2))
    if interpretation == "stratonovich":
        problem = to_stratonovich(problem)
    found = fokker_planck(problem, (-6.0, 6.0), cells=600)
    assert found.stationary is not None
    exact = (1 + found.x**2) ** -2.0
    exact /= exact.sum() * (found.x[1] - found.x[0])
    # Second order in cells of 0.02, on coefficients that vary over one.
    np.testing.assert_allclose(found.stationary, exact, rtol=2 * 0.02**2 * 5)


def test_the_error_falls_with_the_square_of_the_cells():
    exact = 0.5**2 * -np.expm1(-2.0) / 2
    off = [
        abs(
            fokker_planck(
                ornstein_uhlenbeck(1.0, 0.5, 0.0), (-3.0, 3.0), cells=n
            ).variance[0]
            - exact
        )
        for n in (50, 100, 200)
    ]
    np.testing.assert_allclose(np.log2(np.divide(off[:-1], off[1:])), 2, atol=0.1)


def test_gradient_systems_have_their_boltzmann_density():
    # V = x⁴/4 − x²/2, noise √(2ε): p ∝ e^{−V/ε}, exact over a cell for constant slope.
    noise = 0.3
    problem = gradient(
        lambda y: y - y**3, lambda y: jnp.sqrt(2 * noise) * jnp.ones_like(y)
    )
    found = fokker_planck(problem, (-2.5, 2.5), cells=500)
    weights = np.exp((found.x**2 / 2 - found.x**4 / 4) / noise)
    weights /= weights.sum() * (found.x[1] - found.x[0])
    # The trapezoidal rule for the force: h²V'''/12ε a cell, summed over the domain:
    # h²/(12ε)·(V''(2.5) − V''(0)) = 5e-4.
    np.testing.assert_allclose(found.stationary, weights, rtol=6e-4)


def test_mean_exit_times_are_those_of_the_backward_equation():
    # The double well from −1 to its top at 0: T = ε⁻¹∫e^{V/ε}∫e^{−V/ε}
    # (Gardiner 2009, equation 5.5.23).
    noise = 0.1

    def potential(x):
        return x**4 / 4 - x**2 / 2

    def inner(y):
        return scipy.integrate.quad(lambda z: np.exp(-potential(z) / noise), -3, y)[0]

    exact = (
        scipy.integrate.quad(
            lambda y: np.exp(potential(y) / noise) * inner(y), -1, 0, epsrel=1e-9
        )[0]
        / noise
    )
    problem = gradient(
        lambda y: y - y**3, lambda y: jnp.sqrt(2 * noise) * jnp.ones_like(y), y0=-1.0
    )
    found = fokker_planck(
        problem, (-3.0, 0.0), cells=600, boundary=("reflecting", "absorbing")
    )
    assert found.exit_times is not None
    assert found.exit_time_errors is not None
    time = np.interp(-1.0, found.x, found.exit_times)
    error = np.interp(-1.0, found.x, found.exit_time_errors)
    assert abs(time - exact) <= 2 * error
    assert error < 1e-3 * exact
    # Mass leaves at about one over that time.
    assert abs(found.gap * exact - 1) < 0.05


def test_brownian_motion_between_absorbing_ends():
    # Survival from the middle of (0, 1): (4/π) Σ (−1)^k e^{−(2k+1)²π²t/2}/(2k+1).
    problem = SDEProblem(
        lambda t, y, args: 0 * y,
        lambda t, y, args: jnp.ones_like(y),
        jnp.array([0.5]),
        0.0,
        0.3,
        noise="additive",
        interpretation="ito",
    )
    found = fokker_planck(problem, (0.0, 1.0), cells=200, boundary="absorbing")
    k = np.arange(20)
    series = (-1.0) ** k * np.exp(-((2 * k + 1) ** 2) * np.pi**2 * 0.15) / (2 * k + 1)
    np.testing.assert_allclose(found.mass[0], 4 / np.pi * series.sum(), rtol=1e-4)
    np.testing.assert_allclose(found.gap, np.pi**2 / 2, rtol=1e-4)
    assert found.exit_times is not None
    np.testing.assert_allclose(
        found.exit_times, found.x * (1 - found.x), atol=0.005**2 * 2
    )


def test_an_initial_density_is_normalised():
    found = fokker_planck(
        ornstein_uhlenbeck(),
        (-3.0, 3.0),
        times=[0.0],
        initial=lambda x: 7 * jnp.exp(-(x**2) / 2 / 0.3**2),
    )
    assert abs(found.mass[0] - 1) < 1e-12
    np.testing.assert_allclose(found.variance, 0.3**2, rtol=1e-3)


def test_the_result_shows_itself(tmp_path):
    found = fokker_planck(ornstein_uhlenbeck(), (-3.0, 3.0), times=[0.1, 1.0])
    assert "mass 1" in str(found)
    assert found.to_xarray()["density"].shape == (2, 400)
    assert len(found.plot(tmp_path / "density.png").axes[0].lines) == 3


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"domain": (1.0, -1.0)}, "`domain` must be two finite increasing"),
        ({"cells": 7}, "`cells` must be an even number"),
        ({"times": [1.0, 0.5]}, "`times` must increase"),
        ({"times": [-1.0]}, "no earlier than t0"),
        ({"boundary": "open"}, "`boundary` must be"),
        ({"domain": (1.0, 2.0)}, "not within `domain`"),
        ({"initial": lambda x: x}, "`initial` must return"),
    ],
)
def test_bad_input_is_named(change, match):
    given = {"domain": (-3.0, 3.0), **change}
    with pytest.raises(ValueError, match=match):
        fokker_planck(ornstein_uhlenbeck(), **given)


def test_problems_that_cannot_be_are_named():
    plane = SDEProblem(
        lambda t, y, args: -y,
        lambda t, y, args: jnp.ones_like(y),
        jnp.zeros(2),
        0.0,
        1.0,
        noise="additive",
        interpretation="ito",
    )
    with pytest.raises(ValueError, match="a state of one number"):
        fokker_planck(plane, (-1.0, 1.0))
    moving = gradient(lambda y: -y, lambda y: 1 + 0 * y)
    moving = SDEProblem(
        # At t0 it is at rest.
        lambda t, y, args: -y + jnp.cos(t),
        moving.diffusion,
        moving.y0,
        0.0,
        1.0,
        noise="diagonal",
        interpretation="ito",
    )
    with pytest.raises(ValueError, match="must not depend on time"):
        fokker_planck(moving, (-1.0, 1.0))
    vanishing = gradient(lambda y: -y, lambda y: y)
    with pytest.raises(ValueError, match="must not vanish"):
        fokker_planck(vanishing, (-1.0, 1.0))
    with pytest.raises(TypeError, match="must be an SDEProblem"):
        fokker_planck(jax.numpy.ones(1), (-1.0, 1.0))


def exact_rate(up, down, digits=200):
    """The slowest rate of a chain with absorption from rates in many digits: the least
    eigenvalue but zero of the tridiagonal generator, by bisection on Sturm's count."""
    n = len(up) - 1
    with localcontext(prec=digits):
        up, down = [[Decimal(float(r)) for r in rates] for rates in (up, down)]
        leaving = [up[i + 1] + down[i] for i in range(n)]
        products = [up[i + 1] * down[i + 1] for i in range(n - 1)]

        def below(x):
            count, pivot = 0, Decimal(1)
            for i in range(n):
                pivot = leaving[i] - x - (products[i - 1] / pivot if i else 0)
                count += pivot < 0
            return count

        wanted = 2 if down[0] == 0 and up[-1] == 0 else 1
        low, high = Decimal(10) ** -150, 2 * max(leaving)
        for _ in range(600):
            middle = (low * high).sqrt()
            low, high = (low, middle) if below(middle) >= wanted else (middle, high)
        return float(low)


@pytest.mark.parametrize("ends", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_rates_over_eighty_powers_of_ten_keep_their_digits(ends):
    random = np.random.default_rng(ends)
    for n in (2, 3, 9):
        up, down = 10.0 ** random.uniform(-40, 40, (2, n + 1))
        down[0], up[-1] = down[0] * ends[0], up[-1] * ends[1]
        chain = BirthDeathChain(up, down)
        np.testing.assert_allclose(
            chain.slowest_rate(), exact_rate(up, down), rtol=chain.round_off
        )
        if not any(ends):
            continue
        # By rational numbers, which round nothing.
        u, d = ([Fraction(float(r)) for r in rates] for rates in (up, down))
        lost, gained, shares = d[0], Fraction(1), []
        for i in range(n):
            shares.append((u[i + 1] / (lost + u[i + 1]), gained / (lost + u[i + 1])))
            if i < n - 1:
                factor = d[i + 1] / (lost + u[i + 1])
                lost, gained = factor * lost, 1 + factor * gained
        time, exact = Fraction(0), []
        for share, own in reversed(shares):
            time = share * time + own
            exact.insert(0, float(time))
        np.testing.assert_allclose(chain.exit_times(), exact, rtol=chain.round_off)
        # The equations themselves, so that the elimination above is not taken on trust.
        times = [Fraction(0), *map(Fraction, exact), Fraction(0)]
        left = [
            (u[i + 1] + d[i]) * times[i + 1] - u[i + 1] * times[i + 2] - d[i] * times[i]
            for i in range(n)
        ]
        sizes = [(u[i + 1] + d[i]) * times[i + 1] for i in range(n)]
        for value, size in zip(left, sizes, strict=True):
            assert abs(value - 1) <= Fraction(chain.round_off) * (1 + 2 * size)


@pytest.mark.parametrize("height", [12.5, 36.0, 50.0, 200.0])
def test_rare_exits_hold_within_their_errors(height):
    # Kramers' problem V = x⁴/4 − x²/2: the mean time over the top is ε⁻¹∫e^{V/ε}∫
    # e^{−V/ε}, to 1/T at these heights the gap as well, by the trapezoidal rule on
    # cells of 1e-5, whose error is below h²V''/12ε = 4e-8 at the highest.
    noise = 0.25 / height
    y = np.linspace(-1.5, 0.0, 150_001)
    potential = (y**4 / 4 - y**2 / 2) / noise
    weights = np.exp(-potential - height)
    inner = np.concatenate([[0.0], np.cumsum((weights[1:] + weights[:-1]) / 2)])
    outer = np.exp(potential) * inner * (y[1] - y[0])
    for dtype in (jnp.float64, jnp.float32):
        problem = SDEProblem(
            lambda t, x, args: x - x**3,
            lambda t, x, args: jnp.full_like(x, np.sqrt(2 * noise)),
            jnp.array([-1.0], dtype),
            0.0,
            1.0,
            noise="additive",
        )
        one = fokker_planck(
            problem, (-1.5, 0.0), cells=200, boundary=("reflecting", "absorbing")
        )
        two = fokker_planck(problem, (-1.5, 1.5), cells=200)
        assert one.exit_times is not None
        assert one.exit_time_errors is not None
        i = int(np.argmin(np.abs(one.x + 1)))
        known = y >= one.x[i]
        exact = np.trapezoid(outer[known], y[known]) / noise * np.exp(height)
        # The mean time from the bottom differs from 1/gap by a share of about ε.
        for value, error, right, model in (
            (one.exit_times[i], one.exit_time_errors[i], exact, 0.0),
            (one.gap, one.gap_error, 1 / exact, noise),
            (two.gap, two.gap_error, 1 / exact, noise),
        ):
            assert abs(value - right) <= 2 * error + model * right
            assert error < 0.15 * right


@pytest.mark.parametrize("noise", [0.005, 0.00125, 0.0005])
def test_coarse_cells_are_told_by_the_errors_or_refused(noise):
    # The wells have V'' = 2: a normal layer of variance ε/2, in cells of width h.
    problem = gradient(
        lambda y: y - y**3, lambda y: jnp.sqrt(2 * noise) * jnp.ones_like(y)
    )
    fine = fokker_planck(problem, (-2.0, 2.0), cells=800)
    for cells in (20, 60, 100, 200):
        if 2 * (4 / cells) ** 2 / noise > 2:
            with pytest.raises(ValueError, match="narrower than the layer at x = "):
                fokker_planck(problem, (-2.0, 2.0), cells=cells)
            continue
        found = fokker_planck(problem, (-2.0, 2.0), cells=cells)
        assert abs(found.gap - fine.gap) <= 2 * found.gap_error + fine.gap_error


@pytest.mark.parametrize(
    ("rate", "noise", "cells"),
    [(1e4, 1e-3, 400), (1e3, 0.05, 400), (100.0, 0.02, 400), (1.0, 0.003, 200)],
)
def test_cells_wider_than_the_density_are_refused(rate, noise, cells):
    problem = ornstein_uhlenbeck(rate, noise, 0.0)
    with pytest.raises(ValueError, match=r"take cells=(\d+) or more") as refusal:
        fokker_planck(problem, (-1.0, 1.0), cells=cells)
    # With what it says, the gap is within its error.
    enough = int(re.findall(r"cells=(\d+)", str(refusal.value))[0])
    # √2 cells to a standard deviation on a domain of 2.
    deviation = noise / math.sqrt(2 * rate)
    assert enough == pytest.approx(2 / math.sqrt(2) / deviation, rel=0.01)
    # On less of it where these are thousands.
    part = min(1.0, 500 / enough)
    few = 2 * math.ceil(enough * part / 2)
    found = fokker_planck(problem, (-part, part), cells=few)
    assert abs(found.gap - rate) <= found.gap_error


@pytest.mark.parametrize("place", [0.0, 1 / 3, 1 / 2])
@pytest.mark.parametrize("curvature", [0.1, 0.5, 1.0, 1.8])
def test_errors_of_densities_within_few_cells_are_honest(place, curvature):
    # Normal, of variance h² over the curvature, with its mean in part of a cell.
    cells, h = 40, 0.05
    variance, mean = h**2 / curvature, place * h
    problem = SDEProblem(
        lambda t, y, m: m - y,
        lambda t, y, m: math.sqrt(2 * variance) + 0 * y,
        jnp.array([mean]),
        0.0,
        30.0,
        jnp.asarray(mean),
        noise="additive",
        interpretation="ito",
    )
    found = fokker_planck(problem, (-1.0, 1.0), cells=cells)
    normal = scipy.stats.norm(mean, math.sqrt(variance))
    masses = np.diff(normal.cdf(found.edges)) / (normal.cdf(1) - normal.cdf(-1))
    error = float(np.abs(found.density[-1] * h - masses).sum())
    # An estimate from two meshes, of second order: right but for a fifth.
    assert error <= 1.25 * found.density_errors[-1] <= 5 * error


def test_mass_after_a_long_time_is_what_the_gap_leaves():
    # From the well's bottom, mass falls as e^{−gap·t} from the first relaxation on; at
    # ΔV/ε = 36 the time is 1e20 of the fastest jumps.
    noise = 0.25 / 36
    problem = gradient(
        lambda y: y - y**3, lambda y: jnp.sqrt(2 * noise) * jnp.ones_like(y), y0=-1.0
    )
    times = [1e14, 1e16]
    found = fokker_planck(
        problem,
        (-2.0, 0.0),
        cells=100,
        times=times,
        boundary=("reflecting", "absorbing"),
    )
    np.testing.assert_allclose(
        found.mass, np.exp(-found.gap * np.array(times)), rtol=1e-9
    )


def test_rates_beyond_double_precision_are_not_known_to_be_zero():
    # Uphill over a thousand D.
    problem = gradient(lambda y: 1 + 0 * y, lambda y: 2e-3**0.5 * jnp.ones_like(y))
    found = fokker_planck(
        problem, (0.0, 1.0), cells=400, boundary=("absorbing", "reflecting")
    )
    assert found.exit_times is not None
    assert found.gap == 0 < found.gap_error
    assert np.all(found.exit_times[1:] > 1e300)
