"""Analyses in other units: the scaled answer, whatever the unit of state and time."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem, SDEProblem
from hybrid_nds.stability import (
    continue_equilibria,
    contraction_rate,
    equilibria,
    fokker_planck,
    invariant_law,
    jacobian_spectrum,
    lyapunov_spectrum,
    mean_exit_time,
    mixing_rate,
    moment_exponent,
    periodic_orbit,
    stiffness,
)

# Units of state and time, and the origin in units of the state.
UNITS = [(1.0, 1.0, 0.0), (1e-12, 1e12, 0.0), (1e12, 1e-12, 0.0), (3e-7, 2e-9, 40.0)]


class InUnits(eqx.Module):
    """A field of order one, in units `s` of the state and `tau` of time, about `o`.

    The units are arguments, not constants: one compiled program serves them all."""

    field: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, t, y, args):
        s, tau, o, own = args
        return s / tau * self.field((y - o) / s, own)


class NoiseInUnits(eqx.Module):
    noise: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, t, y, args):
        s, tau, o, own = args
        return s / jnp.sqrt(tau) * self.noise((y - o) / s, own)


def ordinary(field, y0, span, units, own=0.0):
    s, tau, origin = units
    o = origin * s
    args = tuple(jnp.asarray(x) for x in (s, tau, o, own))
    return ODEProblem(InUnits(field), o + s * jnp.asarray(y0), 0.0, span * tau, args)


def stochastic(field, noise, y0, span, units):
    s, tau, origin = units
    o = origin * s
    args = tuple(jnp.asarray(x) for x in (s, tau, o, 0.0))
    return SDEProblem(
        InUnits(field),
        NoiseInUnits(noise),
        o + s * jnp.asarray(y0),
        0.0,
        span * tau,
        args,
        noise="diagonal",
    )


def rotation(u, own):
    # Eigenvalues −1 ± 3i and −20, in coordinates that are not orthogonal.
    x, y, z = u
    return jnp.stack([-x - 3 * y + z, 3 * x - y, -20 * z])


def cycle(u, own):
    # Radius one and period 2π/3; the second multiplier is e^{−2T}.
    x, y = u
    r = 1 - x**2 - y**2
    return jnp.stack([r * x - 3 * y, 3 * x + r * y])


@pytest.mark.parametrize("units", UNITS)
def test_linear_fields(units):
    s, tau, origin = units
    problem = ordinary(rotation, [1.0, 0.5, 0.2], 2.0, units)
    exact = np.array([-1 + 3j, -1 - 3j, -20])
    found = jacobian_spectrum(problem)
    np.testing.assert_allclose(found.eigenvalues * tau, exact, rtol=1e-9)
    box = (origin * s - s, origin * s + 1.5 * s)
    rest = equilibria(problem, region=box, starts=8)
    assert rest.kinds == ("stable focus",)
    assert abs(rest.points[0] / s - origin).max() <= max(
        2 * rest.errors[0] / s, 1e-15 * origin
    )
    assert rest.errors[0] < 1e-9 * s
    np.testing.assert_allclose(rest.eigenvalues[0] * tau, exact, rtol=1e-9)
    # The largest eigenvalue of (J + Jᵀ)/2.
    J = np.array([[-1.0, -3, 1], [3, -1, 0], [0, 0, -20]])
    largest = np.linalg.eigvalsh((J + J.T) / 2)[-1]
    rate = contraction_rate(problem, box, samples=16, refine=1).rate
    np.testing.assert_allclose(rate * tau, largest, rtol=1e-9)


@pytest.mark.parametrize("units", UNITS)
def test_branches(units):
    s, _tau, origin = units

    def of(parameter):
        return ordinary(lambda u, p: p - u**2, [0.7], 1.0, units, parameter)

    branch = continue_equilibria(of, 0.5, (-1.0, 1.0))
    u = branch.points[:, 0] / s - origin
    np.testing.assert_allclose(branch.parameters, u**2, atol=1e-13 * (1 + origin))
    assert [one.kind for one in branch.bifurcations] == ["fold"]
    assert branch.ended == ("interval", "interval")


@pytest.mark.parametrize("units", UNITS)
def test_orbits(units):
    s, tau, origin = units
    problem = ordinary(cycle, [1.1, 0.1], 20.0, units)
    found = periodic_orbit(problem, period=2.0 * tau)
    np.testing.assert_allclose(found.period / tau, 2 * np.pi / 3, rtol=1e-8)
    np.testing.assert_allclose(found.multipliers, np.exp(-4 * np.pi / 3), rtol=1e-6)
    assert found.point_error < 1e-6 * s * (1 + origin)


@pytest.mark.parametrize("units", UNITS)
def test_rates_along_a_solution(units):
    _s, tau, _origin = units
    problem = ordinary(rotation, [1.0, 0.5, 0.2], 2.0, units)
    found = lyapunov_spectrum(
        problem, solver="Dopri8", dt=0.01 * tau, time=20 * tau, transient=2 * tau
    )
    np.testing.assert_allclose(found.exponents * tau, [-1, -1, -20], rtol=0.02)
    measured = stiffness(problem, atol=1e-8 * units[0])
    np.testing.assert_allclose(measured.radii * tau, 20.0, rtol=1e-9)
    assert measured.explicit_finished


@pytest.mark.parametrize("units", UNITS)
def test_laws(units):
    s, tau, origin = units
    o = origin * s
    problem = stochastic(
        lambda u, own: -u, lambda u, own: jnp.ones_like(u), [0.0], 1.0, units
    )
    line = fokker_planck(problem, (o - 5 * s, o + 5 * s), cells=100)
    assert abs(line.gap * tau - 1) <= 2 * line.gap_error * tau
    np.testing.assert_allclose((line.mean - o) / s, 0, atol=1e-9 * (1 + origin))
    np.testing.assert_allclose(line.variance / s**2, (1 - np.exp(-2.0)) / 2, rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("units", UNITS)
def test_sampled_laws(units):
    s, tau, origin = units
    o = origin * s
    problem = stochastic(
        lambda u, own: -u, lambda u, own: jnp.ones_like(u), [0.0], 1.0, units
    )
    shared = {"key": jax.random.key(1), "dt": 0.02 * tau, "chains": 16}
    law = invariant_law(
        problem, time=50 * tau, transient=5 * tau, check_step=False, **shared
    )
    # Of 800 relaxation times half are independent samples: 0.7/√400, five times.
    np.testing.assert_allclose((law.mean - o) / s, 0, atol=0.18)
    np.testing.assert_allclose(law.covariance / s**2, 0.5, rtol=0.4)
    decay = mixing_rate(
        problem, time=100 * tau, transient=5 * tau, check_step=False, **shared
    )
    assert abs(decay.rates[0] * tau - 1) < 0.4
    exits = mean_exit_time(
        problem,
        (o - s, o + s),
        400,
        key=jax.random.key(2),
        dt=0.01 * tau,
        check_step=False,
    )
    exact = fokker_planck(problem, (o - s, o + s), cells=100, boundary="absorbing")
    assert exact.exit_times is not None
    middle = exact.exit_times[49:51].mean()
    assert abs(exits.mean - middle) < 5 * exits.standard_error
    # T = 2∫₀¹ e^{y²}∫₀^y e^{−z²} dz dy, the quadrature in SciPy.
    np.testing.assert_allclose(middle / tau, 1.44524561, rtol=1e-3)


@pytest.mark.parametrize("units", UNITS[:3])
def test_moments(units):
    _s, tau, _origin = units
    problem = stochastic(lambda u, own: -u, lambda u, own: 0.5 * u, [1.0], 1.0, units)
    # g(2) = 2a + b².
    found = moment_exponent(problem, 2)
    np.testing.assert_allclose(found.value * tau, -1.75, rtol=1e-12)


@pytest.mark.parametrize(("s", "tau"), [(1e12, 1e-12), (1e-12, 1e12)])
def test_the_ascent_of_a_contraction_rate_knows_no_unit(s, tau):
    # Hopf's normal form: the measure 1 − 2 r² of its symmetric part is largest at zero.
    def field(t, y, args):
        x, z = y / args[0]
        r = 1 - x**2 - z**2
        return args[0] / args[1] * jnp.stack([r * x - 3 * z, 3 * x + r * z])

    start = s * jnp.array([0.1, 0.1])
    problem = ODEProblem(field, start, 0.0, tau, jnp.array([s, tau]))
    found = contraction_rate(problem, (-s / 2, s / 2), samples=8)
    assert found.rate * tau == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("c", [1e-12, 1e12])
def test_equilibria_of_components_in_unlike_units(c):
    def field(t, y, c):
        return jnp.stack([-y[0] + c * y[1], -4 * y[1]])

    problem = ODEProblem(field, jnp.array([1.0, 1 / c]), 0.0, 5.0, jnp.array(c))
    found = equilibria(problem, region=([-1.0, -1 / c], [2.0, 2 / c]))
    assert found.kinds == ("stable node",)
    np.testing.assert_allclose(np.real(found.eigenvalues[0]), [-1.0, -4.0], rtol=1e-9)
