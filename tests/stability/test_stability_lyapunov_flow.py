"""Lyapunov exponents: their dimension, the error of the discretization, and what is
refused."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem, SDEProblem
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.stability import lyapunov_spectrum
from hybrid_nds.stability.growth._kaplan_yorke import kaplan_yorke


def test_a_mass_matrix_is_refused():
    problem = ODEProblem(
        lambda t, y, a: -y, np.ones(2), 0.0, 1.0, mass_matrix=np.diag([1.0, 0.0])
    )
    with pytest.raises(ValueError, match="must have no mass matrix"):
        lyapunov_spectrum(problem)


@pytest.mark.parametrize(
    ("exponents", "expected"),
    [
        ([0.9, 0.0, -14.5], 2 + 0.9 / 14.5),
        ([-0.1, -0.2], 0.0),
        ([0.0, -1.0], 1.0),
        ([0.5, 0.2, -0.1], 3.0),
        ([1.0, -0.25, -0.25, -0.25, -0.5], 4.5),
    ],
)
def test_kaplan_yorke_dimension(exponents, expected):
    assert kaplan_yorke(np.array(exponents), len(exponents)) == pytest.approx(expected)


def test_too_few_exponents_tell_no_dimension():
    assert np.isnan(kaplan_yorke(np.array([1.0, 0.5]), 3))


def _decay(rate=-1.0, n=2, **options):
    return ODEProblem(lambda t, y, a: rate * y, np.ones(n), 0.0, 10.0, **options)


def _noisy(noise="diagonal"):
    return SDEProblem(
        lambda t, y, a: -y, lambda t, y, a: 0.5 * y, np.ones(2), 0.0, 10.0, noise=noise
    )


_KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda: lyapunov_spectrum(3), TypeError, "must be an ODEProblem or an SDEP"),
        (lambda: lyapunov_spectrum(_decay(), exponents=3), ValueError, "at most 2"),
        (lambda: lyapunov_spectrum(_decay(), chains=2), ValueError, "without `initial"),
        (
            lambda: lyapunov_spectrum(_decay(), chains=2, initial=lambda k: np.ones(2)),
            ValueError,
            "needs a `key`",
        ),
        (
            lambda: lyapunov_spectrum(_decay(), transient=11.0),
            ValueError,
            "leaves nothing of the span",
        ),
        (
            lambda: lyapunov_spectrum(_decay(), interval=1.0),
            ValueError,
            "holds 9 intervals",
        ),
        (
            lambda: lyapunov_spectrum(_decay(), dt=0.1, interval=0.25),
            ValueError,
            "`interval` must be whole steps of `dt`",
        ),
        (lambda: lyapunov_spectrum(_decay(), dt=-0.1), ValueError, "`dt` must be a"),
        (
            lambda: lyapunov_spectrum(_decay(), chains=2, initial=np.ones((3, 2))),
            ValueError,
            r"lyapunov_spectrum: `initial` must have shape \(2, 2\)",
        ),
        (lambda: lyapunov_spectrum(_decay(), level=95), ValueError, "`level` must be"),
        (lambda: lyapunov_spectrum(_decay(), time=-1.0), ValueError, "`time` must be"),
        (
            lambda: lyapunov_spectrum(_decay(), backend="fortran"),
            ValueError,
            "`backend` must be",
        ),
        (lambda: lyapunov_spectrum(_noisy(), dt=0.1), ValueError, "got neither"),
        (lambda: lyapunov_spectrum(_noisy(), key=_KEY), ValueError, "needs `dt`"),
        (
            lambda: lyapunov_spectrum(_noisy(), key=_KEY, dt=0.1, rtol=1e-3),
            ValueError,
            "fixed steps",
        ),
        (
            lambda: lyapunov_spectrum(_noisy(), key=_KEY, dt=0.1, solver="Heun"),
            ValueError,
            "interpretation",
        ),
        (
            lambda: lyapunov_spectrum(
                _noisy(), key=_KEY, dt=0.1, solver="ImplicitEuler"
            ),
            ValueError,
            "ImplicitEuler",
        ),
        (
            lambda: lyapunov_spectrum(
                ODEProblem(lambda t, y, a: -y, np.ones(1), 1.0, 0.0)
            ),
            ValueError,
            "must run forward",
        ),
    ],
)
def test_bad_arguments(call, kind, match):
    with pytest.raises(kind, match=match):
        call()


def test_an_orbit_that_escapes_is_an_error_that_says_when():
    """y' = y² from 1 is infinite at t = 1."""
    problem = ODEProblem(lambda t, y, a: y**2, np.array([1.0]), 0.0, 4.0)
    with pytest.raises(AnalysisError, match=r"between t = (0\.9|1).* escapes") as error:
        lyapunov_spectrum(problem, dt=0.01, solver="Tsit5")
    assert "no longer finite" in str(error.value)
    with pytest.raises(AnalysisError, match=r"from t = (0\.99|1\.00).* blows up"):
        lyapunov_spectrum(problem, interval=0.1)


def _undefined_late(t, y, args):
    return jnp.where(t > 1.25, jnp.nan, -1.0) * y


def _undefined_far(t, y, args):
    return jnp.where(y > 2.0, jnp.nan, 1.0) * y


@pytest.mark.parametrize("options", [{}, {"dt": 0.01, "solver": "Tsit5"}])
@pytest.mark.parametrize(
    ("field", "first"), [(_undefined_late, 1.25), (_undefined_far, math.log(2))]
)
@pytest.mark.parametrize(
    "backend", ["diffrax", pytest.param("julia", marks=pytest.mark.julia)]
)
def test_a_field_that_is_nan_is_named_with_its_time(backend, field, first, options):
    problem = ODEProblem(field, np.array([1.0]), 0.0, 4.0)
    with pytest.raises(AnalysisError, match=r"(not|no longer) finite") as error:
        lyapunov_spectrum(problem, backend=backend, **options)
    assert "stiff" not in str(error.value)
    times = re.findall(r"at t = ([0-9.]+[0-9])", str(error.value))
    # At the first step after it, of fixed ones; nearer under error control.
    near = (abs(float(time) - first - 0.005) <= 0.00501 for time in times)
    assert any(near), error.value


def test_a_drift_that_is_nan_is_named_along_a_path():
    problem = SDEProblem(
        _undefined_late,
        lambda t, y, args: 0.1 * y,
        np.array([1.0]),
        0.0,
        4.0,
        noise="diagonal",
    )
    # Named at an end of the interval of ten steps that holds 1.25.
    with pytest.raises(AnalysisError, match=r"drift is not finite at t = 1\.3"):
        lyapunov_spectrum(problem, key=jax.random.key(0), dt=0.01)


def _oscillator(t, y, args):
    return jnp.stack([y[1], -y[0]])


def _spiral(t, y, args):
    return jnp.stack([-0.1 * y[0] - 2 * y[1], 2 * y[0] - 0.1 * y[1]])


def _cycle(t, y, args):
    # Toward the unit circle: r' = r − r³, whose derivative at 1 is −2.
    r = 1 - y @ y
    return jnp.stack([r * y[0] - 3 * y[1], 3 * y[0] + r * y[1]])


_KNOWN = [(_oscillator, [0.0, 0.0]), (_spiral, [-0.1, -0.1]), (_cycle, [0.0, -2.0])]
_METHODS = [
    {},
    {"rtol": 1e-5, "atol": 1e-5},
    # Many steps an interval, of which larger tolerances take fewer.
    {"rtol": 1e-6, "atol": 1e-6, "interval": 1.0},
    {"solver": "Heun", "dt": 0.05},
    {"solver": "ImplicitEuler", "dt": 0.02},
    # In one step an interval, there is nothing longer to compare with.
    {"solver": "Bosh3", "dt": 0.05, "interval": 0.05},
]


_QUICK = [(_oscillator, 0), (_cycle, 2), (_cycle, 3)]


@pytest.mark.parametrize(
    ("field", "exact", "method"),
    [
        pytest.param(
            field,
            exact,
            method,
            marks=[] if (field, i) in _QUICK else [pytest.mark.slow],
            id=f"{field.__name__[1:]}-{i}",
        )
        for field, exact in _KNOWN
        for i, method in enumerate(_METHODS)
    ],
)
def test_intervals_hold_the_error_of_the_discretization(field, exact, method):
    """Exponents in closed form, of orbits that hardly vary: what is off is the scheme,
    by more than what a thousand intervals differ by."""
    problem = ODEProblem(field, np.array([1.0, 0.0]), 0.0, 40.0)
    found = lyapunov_spectrum(problem, **method, transient=20.0)
    assert np.all(found.low <= exact), found
    assert np.all(exact <= found.high), found
    assert abs(found.sum - np.sum(exact)) <= found.sum_error
    # Not by so much that any number would do: the error of a tolerance is its own size,
    # and where errors fall faster than assumed (here as its power 3/2), the difference
    # of two runs overstates the better one.
    off = np.abs(found.exponents - exact)
    assert np.all(
        found.discretization_errors
        <= np.maximum(1e-11 + 100 * np.max(off), 10 * method.get("rtol", 0.0))
    )
    alone = lyapunov_spectrum(problem, **method, transient=20.0, check_step=False)
    assert np.all(np.isnan(alone.discretization_errors))
    assert "not in the intervals" in str(alone)
    np.testing.assert_array_equal(alone.exponents, found.exponents)
    if field is _oscillator:
        assert np.any((alone.low > 0) | (alone.high < 0))


def test_steps_too_long_to_double_are_halved():
    """Euler's steps of 1.2 on y' = −y are stable, those of 2.4 are not, and at the root
    of its cubic term an equation with superlinear growth overflows."""
    problem = ODEProblem(lambda t, y, a: -y - y**3, np.array([0.5]), 0.0, 480.0)
    found = lyapunov_spectrum(problem, solver="Euler", dt=1.2, transient=48.0)
    # log|1 − 1.2|/1.2, where −1 is right.
    assert found.exponents[0] == pytest.approx(np.log(0.2) / 1.2, rel=1e-6)
    assert found.low[0] <= -1 <= found.high[0]


def test_a_discretization_error_above_the_tolerance_is_said():
    problem = ODEProblem(_oscillator, np.array([1.0, 0.0]), 0.0, 40.0)
    found = lyapunov_spectrum(problem, solver="Heun", dt=0.1, tolerance=1e-6)
    assert not found.converged
    assert any("error of the discretization" in note for note in found.notes)


def test_an_interval_too_long_for_the_spread_is_an_error():
    rates = jnp.array([1.0, -30.0])
    problem = ODEProblem(lambda t, y, a: rates * y, np.ones(2), 0.0, 40.0)
    options = {"solver": "Dopri8", "dt": 0.05}
    with pytest.raises(AnalysisError, match=r"take an interval of 0\.47"):
        lyapunov_spectrum(problem, interval=1.0, **options)
    found = lyapunov_spectrum(problem, interval=0.45, **options)
    # Dopri8 on y' = −30y at steps of 0.05: |R(−1.5) − e^{−1.5}| is about 1e-5.
    assert found.exponents == pytest.approx([1.0, -30.0], abs=2e-3)


def test_what_has_not_converged_says_so_with_its_trace():
    """Turning slowly toward the leading direction, with nothing left out."""
    a = jnp.array([[0.02, 1.0], [0.0, -0.02]])
    problem = ODEProblem(lambda t, y, args: a @ y, np.ones(2), 0.0, 20.0)
    found = lyapunov_spectrum(problem, solver="Dopri8", dt=0.1, transient=0.0)
    assert not found.converged
    assert "NOT CONVERGED" in str(found)
    assert "running means" in str(found)
    assert found.notes
    # What is said of the error covers what it is.
    assert np.all(np.abs(found.exponents - [0.02, -0.02]) < 4 * found.standard_errors)


def test_chains_on_two_attractors_are_told_apart():
    """y' = −y(y − 1)(y + 2) comes to rest at 1, with the exponent −3, and at −2, with
    the exponent −6."""
    problem = ODEProblem(lambda t, y, a: -y * (y - 1) * (y + 2), np.ones(1), 0.0, 40.0)
    options = {"solver": "Dopri8", "dt": 0.1, "transient": 20.0, "chains": 4}
    options["interval"] = 0.2
    starts = np.array([[0.5], [1.5], [-0.5], [-1.0]])
    found = lyapunov_spectrum(problem, initial=starts, **options)
    assert not found.converged
    assert "different attractors" in str(found)
    # Four chains are four observations, whatever their length.
    error = np.std([-3, -3, -6, -6], ddof=1) / 2
    assert found.standard_errors[0] == pytest.approx(error, rel=1e-6)
    assert found.low[0] < -6
    assert found.high[0] > -3
    alone = lyapunov_spectrum(problem, initial=np.abs(starts), **options)
    assert alone.converged, alone
    # Dopri8 at hλ = −0.3: its stability function is off by (0.3)⁹/9! in 0.1.
    assert alone.exponents[0] == pytest.approx(-3.0, abs=1e-8)


def test_single_precision_stays_single():
    """The published exponents of Lorenz's system, in 32 bits: round-off of 1e-7 a step
    is far below the error of the time average."""

    def lorenz(t, y, args):
        a, b, c = y
        return jnp.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])

    start = np.array([1.0, 1.0, 20.0], np.float32)
    with jax.enable_x64(False):
        problem = ODEProblem(lorenz, start, 0.0, 100.0)
        found = lyapunov_spectrum(problem, solver="Tsit5", dt=0.02)
    expected = np.array([0.9056, 0.0, -14.5723])
    assert np.all(np.abs(found.exponents - expected) < 4 * found.standard_errors)
    # Each logarithm is off by up to √ε of the spread, and 900 of them average out.
    assert found.sum == pytest.approx(-41 / 3, abs=2e-3)


def test_a_tolerance_that_is_not_met_says_what_would_do():
    found = lyapunov_spectrum(_noisy(), dt=0.1, key=_KEY, time=50.0, tolerance=1e-3)
    assert not found.converged
    assert any("times the `time`" in note for note in found.notes)
