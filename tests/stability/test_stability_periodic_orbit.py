"""Periodic orbits against closed forms and published periods."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from hybrid_nds import ODEProblem
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.stability import periodic_orbit

# The known period of the limit cycle of Van der Pol's equation with μ = 1; held against
# SciPy below.
VAN_DER_POL = 6.6632868593231


def van_der_pol(t, y, mu):
    return jnp.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])


@pytest.mark.slow
def test_the_known_period_by_another_integrator():
    def rate(t, y):
        return [y[1], (1 - y[0] ** 2) * y[1] - y[0]]

    def crossing(t, y):
        return y[1]

    crossing.direction = -1
    run = scipy.integrate.solve_ivp(
        rate, (0, 60), [2.0, 0.0], "DOP853", events=crossing, rtol=1e-13, atol=1e-14
    )
    times = run.t_events[0]
    # The multiplier 8.6e-4 a turn leaves nothing of the start after six.
    assert times[-1] - times[-2] == pytest.approx(VAN_DER_POL, abs=2e-11)


def hopf(t, y, args):
    """The Hopf normal form: r' = s r (μ − r²), θ' = ω."""
    mu, omega, sign = args
    growth = sign * (mu - y["x"] ** 2 - y["z"] ** 2)
    return {
        "x": growth * y["x"] - omega * y["z"],
        "z": omega * y["x"] + growth * y["z"],
    }


def hopf_problem(mu=0.3, omega=2.0, sign=1.0):
    y0 = {"x": jnp.array(0.5), "z": jnp.array(0.1)}
    args = tuple(jnp.array(a) for a in (mu, omega, sign))
    return ODEProblem(hopf, y0, 0.0, 40.0, args)


BACKENDS = ["diffrax", pytest.param("julia", marks=pytest.mark.julia)]


@pytest.fixture
def backend(request):
    if request.param == "julia":
        request.getfixturevalue("julia")
    return request.param


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_hopf_normal_form(backend, sign):
    mu, omega = 0.3, 2.0
    found = periodic_orbit(hopf_problem(mu, omega, sign), period=3.0, backend=backend)
    assert found.stability == ("stable" if sign > 0 else "unstable")
    gap = found.period - 2 * np.pi / omega
    assert abs(gap) <= found.period_error < 1e-8
    assert abs(np.hypot(*found.point) - np.sqrt(mu)) <= found.point_error < 1e-8
    expected = np.exp(-sign * 4 * np.pi * mu / omega)
    assert abs(found.multipliers[0] - expected) <= found.multiplier_errors[0]
    assert found.multiplier_errors[0] < 1e-7 * max(1, expected)
    assert abs(found.trivial_multiplier - 1) < 1e-7
    np.testing.assert_allclose(found.exponents, [-sign * 2 * mu], atol=1e-7)
    # The orbit is a circle, walked through once and closed.
    radii = np.hypot(found.orbit[:, 0], found.orbit[:, 1])
    np.testing.assert_allclose(radii, np.sqrt(mu), atol=1e-8)
    np.testing.assert_allclose(found.orbit[60], -found.orbit[0], atol=1e-8)
    assert found.times[-1] == pytest.approx(found.period)
    assert set(found.state) == {"x", "z"}
    assert found.provenance.backend == backend


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_the_van_der_pol_oscillator(backend):
    problem = ODEProblem(van_der_pol, jnp.array([2.0, 0.0]), 0.0, 40.0, jnp.array(1.0))
    found = periodic_orbit(problem, period=6.5, backend=backend)
    # The published digits end at 5e-14.
    assert abs(found.period - VAN_DER_POL) <= found.period_error + 5e-14
    assert found.period_error < 1e-9
    assert abs(found.trivial_multiplier - 1) < 1e-9
    # Liouville's formula: the product of all multipliers is exp ∫ tr J dt, and
    # tr J = 1 − x². The trapezoidal rule converges spectrally on a closed orbit.
    mean = np.mean(1 - found.orbit[:-1, 0] ** 2)
    assert found.multipliers[0] == pytest.approx(np.exp(mean * found.period), rel=1e-5)
    # From a run to it, and from a guess of twice the period, the same orbit.
    if backend == "diffrax":
        settled = periodic_orbit(problem)
        assert settled.period == pytest.approx(found.period, abs=1e-10)
        twice = periodic_orbit(problem, period=13.2)
        assert twice.period == pytest.approx(found.period, abs=1e-10)


class Network(eqx.Module):
    """A continuous recurrent network: x' = −x + W tanh x."""

    weight: jax.Array

    def __call__(self, t, y, args):
        return -y + self.weight @ jnp.tanh(y)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_a_neural_field(backend):
    # Beyond the Hopf bifurcation at a real part of 1 of the eigenvalues 1.5 ± 2i of W.
    weight = jnp.array([[1.5, -2.0], [2.0, 1.5]])
    problem = ODEProblem(Network(weight), jnp.array([1.0, 0.0]), 0.0, 40.0)
    found = periodic_orbit(problem, backend=backend)
    assert found.stability == "stable"
    assert abs(found.trivial_multiplier - 1) < 1e-7
    # W commutes with the quarter turn R, and tanh is odd and acts on each component: if
    # x(t) is a solution, so is R x(t). The only orbit is then its own image, in a
    # quarter of the period.
    x, z = found.orbit[:, 0], found.orbit[:, 1]
    turned = np.stack([-z, x], axis=1)
    np.testing.assert_allclose(found.orbit[30], turned[0], atol=1e-7)
    # Liouville's formula, as above, with tr J = −2 + 1.5 Σ tanh'.
    mean = np.mean(-2 + 1.5 * (1 / np.cosh(found.orbit[:-1]) ** 2).sum(axis=1))
    assert found.multipliers[0] == pytest.approx(np.exp(mean * found.period), rel=1e-5)


def test_a_forced_field_keeps_its_period():
    # x' = −x + cos t has the orbit (cos t + sin t)/2 and the multiplier e^{−2π}.
    problem = ODEProblem(
        lambda t, y, args: -y + jnp.cos(t), jnp.array([3.0]), 0.0, 10.0
    )
    found = periodic_orbit(problem, period=2 * np.pi)
    assert found.point[0] == pytest.approx(0.5, abs=1e-10)
    assert found.period == 2 * np.pi
    assert found.trivial_multiplier is None
    assert abs(found.multipliers[0] - np.exp(-2 * np.pi)) <= 1e-11
    curve = (np.cos(found.times) + np.sin(found.times)) / 2
    np.testing.assert_allclose(found.orbit[:, 0], curve, atol=1e-9)
    with pytest.raises(ValueError, match="`period` must be one of the field"):
        periodic_orbit(problem, period=2.0)
    with pytest.raises(ValueError, match="give `period`"):
        periodic_orbit(problem)


@pytest.mark.slow
def test_single_precision_stays():
    problem = ODEProblem(
        van_der_pol,
        jnp.array([2.0, 0.0], jnp.float32),
        0.0,
        40.0,
        jnp.array(1.0, jnp.float32),
    )
    found = periodic_orbit(problem, period=6.5, solver="Tsit5")
    assert abs(found.period - VAN_DER_POL) < 1e-3
    assert found.stability == "stable"


def test_the_ends_that_are_no_orbit_are_named():
    still = hopf_problem()
    zero = {"x": 0.0, "z": 0.0}
    with pytest.raises(AnalysisError, match="zero at `guess`, which is an equilibrium"):
        periodic_orbit(still, zero, 3.0)
    # Below the bifurcation there is an equilibrium alone.
    ends = r"ended in an equilibrium|did not converge|shrank to zero"
    with pytest.raises(AnalysisError, match=ends):
        periodic_orbit(hopf_problem(mu=-0.5), period=3.0)
    with pytest.raises(AnalysisError, match=r"did not converge in \d+ shots.*`guess`"):
        periodic_orbit(still, {"x": 3.0, "z": 0.0}, 0.7, max_shots=3)
    away = ODEProblem(lambda t, y, args: y**2 + 1, jnp.array([1.0]), 0.0, 1.0)
    with pytest.raises(AnalysisError, match="could not be followed over a period"):
        periodic_orbit(away, period=5.0, max_steps=500)
    steady = ODEProblem(lambda t, y, args: -y, jnp.array([1.0]), 0.0, 1.0)
    with pytest.raises(AnalysisError, match="does not come back"):
        periodic_orbit(steady)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"period": -1.0}, "`period` must be a positive"),
        ({"period": 3.0, "max_shots": 0}, "`max_shots`"),
        ({"period": 3.0, "rtol": 1e-15}, "`rtol` must be at least"),
        ({"period": 3.0, "guess": jnp.ones(2)}, "structure of `problem.y0`"),
        ({"period": 3.0, "backend": "scipy"}, "`backend` must be one of"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        periodic_orbit(hopf_problem(), **options)


def test_an_orbit_prints_plots_and_turns_into_data(tmp_path):
    with jax.enable_x64(True):
        found = periodic_orbit(hopf_problem(), period=3.0)
    text = str(found)
    assert "stable periodic orbit, period 3.14159265" in text
    assert "trivial multiplier" in text
    assert json.loads(json.dumps(found.to_dict()))["stability"] == "stable"
    assert found.to_xarray()["orbit"].shape == (121, 2)
    assert len(found.plot(tmp_path / "o.png").axes) == 2
