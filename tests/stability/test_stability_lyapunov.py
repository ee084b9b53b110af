"""Lyapunov spectra of ordinary and stochastic problems against closed forms."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import hybrid_nds
from hybrid_nds import ODEProblem, SDEProblem, StoredPath
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.backends import Integration
from hybrid_nds.backends.diffrax import diffrax_tangent_flow
from hybrid_nds.backends.diffrax._stability import DiffraxTangentFlow
from hybrid_nds.stability import lyapunov_spectrum
from hybrid_nds.stability.growth._lyapunov_result import spectrum_of

# Sprott, Chaos and Time-Series Analysis (2003), at σ=10, ρ=28, β=8/3.
_LORENZ = np.array([0.9056, 0.0, -14.5723])


def _lorenz(t, y, args):
    a, b, c = y
    return jnp.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])


def _near_lorenz(key):
    return jnp.array([1.0, 1.0, 20.0]) + jax.random.normal(key, (3,))


def _linear(t, y, a):
    return a @ y


def _within(found, expected, errors):
    """Whether a figure is within four of its own standard errors, and a bias."""
    return np.abs(found.exponents - expected) < 4 * found.standard_errors + errors


@pytest.mark.slow
def test_lorenz():
    problem = ODEProblem(_lorenz, np.array([1.0, 1.0, 20.0]), 0.0, 200.0)
    found = lyapunov_spectrum(problem, solver="Dopri8", dt=0.02, interval=0.1)
    assert found.converged, found
    assert np.all(_within(found, _LORENZ, 0))
    assert found.standard_errors.max() < 0.1
    # The mean of div f along the same run, by JAX's own derivatives of the field.
    states = hybrid_nds.solve(problem, dt=0.01, saveat=np.linspace(20, 200, 50)).ys
    jacobians = jax.vmap(lambda y: jax.jacfwd(_lorenz, 1)(0.0, y, None))(states)
    divergence = float(jnp.mean(jnp.trace(jacobians, axis1=1, axis2=2)))
    assert divergence == pytest.approx(-41 / 3, abs=1e-12)
    assert found.sum == pytest.approx(divergence, abs=1e-6)
    assert found.sum_error < 1e-6
    expected = 2 + _LORENZ[0] / -_LORENZ[2]
    assert abs(found.dimension - expected) < 4 * found.dimension_error
    assert found.exponents == pytest.approx(found.trace[-1])
    assert found.trace_times[-1] == pytest.approx(180)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [{"solver": "Tsit5", "dt": 0.005}, {"rtol": 1e-9, "atol": 1e-9}]
)
def test_lorenz_in_full(method):
    problem = ODEProblem(_lorenz, np.array([1.0, 1.0, 20.0]), 0.0, 1.0)
    key = jax.random.key(1)
    found = lyapunov_spectrum(
        problem,
        **method,
        interval=0.1,
        time=4000.0,
        transient=50.0,
        chains=8,
        initial=_near_lorenz,
        key=key,
    )
    assert found.converged, found
    # An error of 0.0012 at 32 000 time units: 0.005 is four of them.
    assert np.abs(found.exponents - _LORENZ).max() < 0.005
    assert found.sum == pytest.approx(-41 / 3, abs=1e-6)


def _matrix(seed):
    """A matrix of the eigenvalues 0.3, −0.2, −0.9, with oblique eigenvectors."""
    basis = np.random.default_rng(seed).standard_normal((3, 3)) + 2 * np.eye(3)
    return basis @ np.diag([0.3, -0.2, -0.9]) @ np.linalg.inv(basis)


@pytest.mark.parametrize("seed", range(4))
def test_linear_equation_with_real_eigenvalues(seed):
    problem = ODEProblem(_linear, np.ones(3), 0.0, 1.0, _matrix(seed))
    found = lyapunov_spectrum(
        problem, solver="Dopri8", dt=0.1, time=60.0, transient=60.0
    )
    # The slowest alignment, exp(-0.5 · 60) ~ 1e-13, divided by the time; the scheme of
    # order eight at steps of 0.1 is off by less than 1e-11.
    assert found.exponents == pytest.approx([0.3, -0.2, -0.9], abs=1e-10)
    assert found.sum == pytest.approx(np.trace(_matrix(seed)), abs=1e-10)


def test_linear_equation_with_a_complex_pair():
    # The growth of one turn averages out but for the last: an error of
    # log(condition)/time.
    a = np.array([[-0.1, 2.0], [-3.0, -0.1]])
    problem = ODEProblem(_linear, np.ones(2), 0.0, 1.0, a)
    found = lyapunov_spectrum(
        problem, solver="Dopri8", dt=0.1, time=300.0, transient=1.0
    )
    bound = np.log(np.linalg.cond(np.linalg.eig(a)[1])) / 300
    assert np.abs(found.exponents - -0.1).max() < bound
    # The sum sees no turns.
    assert found.sum == pytest.approx(-0.2, abs=1e-9)


def _geometric(a, sigma):
    return SDEProblem(
        lambda t, y, args: args[0] * y,
        lambda t, y, args: args[1] * y,
        np.ones(1),
        0.0,
        1.0,
        (np.array(a), np.array(sigma)),
        noise="scalar",
    )


@pytest.fixture(scope="module")
def many_seeds():
    """200 chains with noise of their own: as 200 runs with a seed each."""
    found = lyapunov_spectrum(
        _geometric(0.1, 0.5),
        dt=0.02,
        interval=0.1,
        time=100.0,
        transient=0.0,
        chains=200,
        key=jax.random.key(5),
    )
    return found


def _euler_bias(a, sigma, h):
    """E log(1 + ah + σ√h ξ)/h less a − σ²/2, by quadrature."""
    # Up to 9.7 standard deviations, where the logarithm is still of a positive number.
    x, w = np.polynomial.hermite_e.hermegauss(30)
    mean = np.sum(w * np.log(1 + a * h + sigma * np.sqrt(h) * x)) / np.sum(w)
    return mean / h - (a - sigma**2 / 2)


def test_linear_stochastic_equation(many_seeds):
    bias = _euler_bias(0.1, 0.5, 0.02)
    # Three standard errors; the bias of Euler's method is known, and small.
    off = many_seeds.exponents - (0.1 - 0.125)
    assert abs(bias) < 0.2 * many_seeds.standard_errors[0]
    assert np.all(np.abs(off) < 3 * many_seeds.standard_errors)
    # What theory says the error is: σ/√T.
    assert many_seeds.standard_errors[0] == pytest.approx(
        0.5 / np.sqrt(200 * 100), rel=0.15
    )


def test_errors_are_honest(many_seeds):
    """Coverage of the 95 % intervals over 200 seeds: between 90 and 99 %, which an
    exact interval leaves with probability below 0.002."""
    covered = 0
    flow = diffrax_tangent_flow(
        _geometric(0.1, 0.5),
        1,
        Integration("diffrax", dt=0.02, key=jax.random.key(6)),
        interval=0.1,
        span=100.0,
    )
    ones = np.ones((200, 1))
    growth = flow.advance(ones, ones[:, :, None], 0, 1000, 1024).growth
    for one in growth:
        found = spectrum_of(
            one[None],
            interval=0.1,
            dimension=1,
            level=0.95,
            tolerance=None,
            settings={},
            provenance=flow.provenance,
        )
        covered += bool(found.low[0] <= -0.025 <= found.high[0])
    assert 0.90 <= covered / 200 <= 0.99


def _random_layers(d):
    def diffusion(t, h, args):
        # Column (i, j) is the entry ij of a matrix of independent Brownian motions.
        columns = jnp.eye(d)[:, :, None] * h / np.sqrt(d)
        return columns.reshape(d, d * d)

    return SDEProblem(
        lambda t, h, args: jnp.zeros_like(h),
        diffusion,
        np.ones(d) / np.sqrt(d),
        0.0,
        1.0,
        noise="general",
    )


def test_random_residual_network_at_infinite_depth():
    d = 4
    found = lyapunov_spectrum(
        _random_layers(d),
        dt=0.01,
        time=40.0,
        transient=5.0,
        interval=0.1,
        chains=64,
        key=jax.random.key(2),
    )
    expected = 0.5 - np.arange(1, d + 1) / d
    # Euler's method is off by O(h): in long runs by 0.018 ± 0.0015 at h = 0.04, 0.0084
    # at 0.02.
    assert np.all(_within(found, expected, 0.005)), found
    assert found.standard_errors.max() < 0.02


def _noisy_oscillator(omega, gamma, sigma):
    return SDEProblem(
        lambda t, y, args: jnp.stack([y[1], -(omega**2) * y[0] - gamma * y[1]]),
        lambda t, y, args: jnp.stack([jnp.zeros_like(y[0]), sigma * y[0]]),
        np.array([1.0, 0.0]),
        0.0,
        1.0,
        noise="scalar",
        # The correction Dg g vanishes: both interpretations are one.
        interpretation="stratonovich",
    )


def _oscillator_exponent(omega, gamma, sigma):
    """Imkeller & Lederer (2001), equation 20."""
    a = omega**2 - gamma**2 / 4
    # u = v²: no root at zero.
    weight = lambda v: np.exp(-(2 / sigma**2) * (a * v**2 + v**6 / 12))
    above = scipy.integrate.quad(lambda v: 2 * v**2 * weight(v), 0, np.inf)[0]
    below = scipy.integrate.quad(lambda v: 2 * weight(v), 0, np.inf)[0]
    return -gamma / 2 + 0.5 * above / below


def test_noise_destabilised_oscillator():
    omega, gamma, sigma = 1.0, 0.4, 2.0
    expected = _oscillator_exponent(omega, gamma, sigma)
    # Stable without noise, unstable with it.
    assert expected > 0.05
    found = lyapunov_spectrum(
        _noisy_oscillator(omega, gamma, sigma),
        solver="Heun",
        dt=0.01,
        time=50.0,
        transient=5.0,
        chains=100,
        key=jax.random.key(3),
    )
    assert found.converged
    # Of weak order one: what it is off by at steps of 0.04, below 0.01, is a quarter.
    assert abs(found.exponents[0] - expected) < 4 * found.standard_errors[0] + 0.0025
    assert found.standard_errors[0] < 0.02
    # Itô's formula for the determinant: d log det V = −γ dt, without noise.
    assert found.sum == pytest.approx(-gamma, abs=1e-3)


def _stochastic_hopf(b):
    def drift(t, z, args):
        x, y = z
        r = x * x + y * y
        return jnp.stack([x - y - r * (x - args * y), x + y - r * (y + args * x)])

    return SDEProblem(
        drift,
        lambda t, z, args: jnp.ones_like(z),
        np.array([1.0, 0.0]),
        0.0,
        1.0,
        np.array(b),
        noise="additive",
    )


# 2 − 4 E s, where s = |z|² is a normal variable of mean and variance 1 given s > 0.
_HOPF_SUM = 2 - 4 * (1 + scipy.stats.norm.pdf(1) / scipy.stats.norm.cdf(1))


def _hopf_spectrum(b, time, **method):
    return lyapunov_spectrum(
        _stochastic_hopf(b),
        **method,
        time=time,
        transient=4.0,
        chains=32,
        key=jax.random.key(4),
    )


def test_stochastic_hopf_sum_rule():
    assert pytest.approx(-3.1504, abs=5e-5) == _HOPF_SUM
    found = _hopf_spectrum(5.0, 20.0, dt=0.01)
    # SRA1 is of weak order two: its bias is far below the error.
    assert abs(found.sum - _HOPF_SUM) < 4 * found.sum_error
    assert found.sum_error < 0.12


@pytest.mark.slow
def test_shear_induced_chaos():
    """The sum is the same for every b, and the top exponent changes sign between b = 5
    and b = 10: shown at these by their intervals."""
    found = {b: _hopf_spectrum(b, 60.0, dt=0.005) for b in (2.0, 5.0, 10.0)}
    for spectrum in found.values():
        assert abs(spectrum.sum - _HOPF_SUM) < 4 * spectrum.sum_error
        assert spectrum.sum_error < 0.08
    assert found[5.0].high[0] < 0
    assert found[10.0].low[0] > 0


@pytest.mark.slow
def test_an_implicit_solver_takes_strong_shear():
    found = _hopf_spectrum(20.0, 20.0, dt=0.01, solver="Kvaerno3")
    assert found.provenance.solver == "Kvaerno3"
    # Of order three in the drift; frequencies near 60 at steps of 0.01 leave 0.1.
    assert abs(found.sum - _HOPF_SUM) < 4 * found.sum_error + 0.1
    assert found.low[0] > 0


def test_explicit_steps_overflow_where_shear_is_strong():
    with pytest.raises(AnalysisError, match=r"diverged between t = .*shorter `dt`"):
        lyapunov_spectrum(
            _stochastic_hopf(60.0),
            solver="Euler",
            dt=0.05,
            time=100.0,
            key=jax.random.key(0),
        )


def test_a_given_path_is_followed():
    """dX = AX dt + σX dW is e^{At} times the number exp(σW − σ²t/2): every exponent is
    shifted by one and the same, known from the path."""
    sigma, steps = 0.4, 2**13
    a = np.array([[0.2, 0.5], [0.0, -0.4]])
    problem = SDEProblem(
        lambda t, y, args: a @ y - 0.5 * sigma**2 * y,
        lambda t, y, args: sigma * y,
        np.ones(2),
        0.0,
        64.0,
        noise="scalar",
        interpretation="stratonovich",
    )
    dt = 64 / steps
    increments = np.sqrt(dt) * np.random.default_rng(7).standard_normal((steps, 1))
    path = StoredPath(increments, t0=0.0, t1=64.0)
    found = lyapunov_spectrum(problem, path=path, transient=32.0, interval=0.0625)
    counted = increments[steps // 2 :, 0]
    eigenvalues = np.array([0.2, -0.4])
    # A Heun step multiplies by 1 + x + x²/2 along each eigenvector; what is left is the
    # alignment of the directions, exp(-0.6 · 32).
    x = (eigenvalues[:, None] - sigma**2 / 2) * dt + sigma * counted
    exact = np.log(1 + x + x**2 / 2).sum(axis=1) / 32
    assert found.exponents == pytest.approx(exact, abs=1e-8)
    # And the equation's own exponents, over this path: at most μσ²h/2 + 3σ⁴h/8 off,
    # and the sum of σ³dW³/6, of standard deviation 6e-5.
    moved = sigma * np.sum(counted) / 32 - sigma**2 / 2
    assert found.exponents == pytest.approx(eigenvalues + moved, abs=7e-4)
    assert found.provenance.solver == "Heun"


def test_a_run_goes_on_from_its_file_to_the_same_bit(tmp_path, monkeypatch):
    problem = _geometric(0.1, 0.5)
    options = {"dt": 0.05, "time": 400.0, "chains": 2, "key": jax.random.key(0)}
    whole = lyapunov_spectrum(problem, **options)
    advance, calls = DiffraxTangentFlow.advance, itertools.count()

    def cut_off(self, *args):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return advance(self, *args)

    monkeypatch.setattr(DiffraxTangentFlow, "advance", cut_off)
    with pytest.raises(KeyboardInterrupt):
        lyapunov_spectrum(problem, **options, save=tmp_path / "run.npz")
    assert (tmp_path / "run.npz").exists()
    resumed = lyapunov_spectrum(problem, **options, save=tmp_path / "run.npz")
    for field in ("exponents", "standard_errors", "trace", "finite_time"):
        np.testing.assert_array_equal(getattr(resumed, field), getattr(whole, field))
    other = options | {"key": jax.random.key(1)}
    with pytest.raises(ValueError, match="another noise"):
        lyapunov_spectrum(problem, **other, save=tmp_path / "run.npz")


def test_a_result_is_printed_drawn_and_exported(many_seeds, tmp_path):
    assert "0.95 interval" in str(many_seeds)
    assert "NOT CONVERGED" not in str(many_seeds)
    dataset = many_seeds.to_xarray()
    assert float(dataset["exponents"][0]) == many_seeds.exponents[0]
    assert dataset.attrs["chains"] == 200
    figure = many_seeds.plot(tmp_path / "spectrum.png")
    assert len(figure.axes) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        many_seeds.converged = False


def test_double_precision_is_taken_without_the_global_setting():
    with jax.enable_x64(True):
        problem = _geometric(0.1, 0.5)
    with jax.enable_x64(False):
        found = lyapunov_spectrum(
            problem, dt=0.05, time=400.0, key=jax.random.key(0), chains=2
        )
    again = lyapunov_spectrum(
        problem, dt=0.05, time=400.0, key=jax.random.key(0), chains=2
    )
    np.testing.assert_array_equal(found.exponents, again.exponents)
