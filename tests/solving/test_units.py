"""A problem in other units has the same solution in these units.

The state in units of s and time in units of τ, from 1e-12 to 1e12 each. Both are
numbers in `args`, so that one compiled program serves all units.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import brentq

from hybrid_nds import ODEProblem, SteadyState, solve

STEPS = 20
RATE = 5.0
UNITS = st.floats(-12, 12).map(lambda power: 10**power)


def decay(t, y, args):
    """y' = −5 y³ in units of `args`."""
    s, tau = args
    return -RATE * (y / s) ** 3 * s / tau


def problem(s, tau, dtype=jnp.float64, start=1.0):
    y0 = jnp.asarray([start * s], dtype)
    return ODEProblem(decay, y0, 0.0, tau, jnp.asarray([s, tau], dtype))


def implicit_euler():
    """Each step of z − y + 5 h z³ = 0 by bisection."""
    y, h = 1.0, 1 / STEPS
    for _ in range(STEPS):
        y = brentq(lambda z, y=y: z - y + RATE * h * z**3, 0.0, y, xtol=1e-15)
    return y


EXACT = 1 / np.sqrt(1 + 2 * RATE)


@pytest.mark.parametrize(
    ("solver", "fixed", "dtype", "expected", "limit"),
    [
        # Newton's iteration ends at 16 ε a step, errors do not grow, and 20 steps.
        ("ImplicitEuler", True, jnp.float64, implicit_euler(), 1e-13),
        ("ImplicitEuler", True, jnp.float32, implicit_euler(), 4e-5),
        # Of fifth and third order in steps of 1/20; both errors were seen to fall with
        # the step at that order.
        ("Kvaerno5", True, jnp.float64, EXACT, 1e-5),
        ("Kvaerno3", True, jnp.float64, EXACT, 1e-3),
        ("Tsit5", True, jnp.float64, EXACT, 1e-5),
        # Tolerances of 1e-6 and 1e-4 a step, of which a hundred may add up.
        ("Tsit5", False, jnp.float64, EXACT, 1e-4),
        ("Kvaerno5", False, jnp.float64, EXACT, 1e-4),
        ("Kvaerno5", False, jnp.float32, EXACT, 1e-2),
    ],
)
def test_solves_do_not_depend_on_units(solver, fixed, dtype, expected, limit):
    @settings(max_examples=25, deadline=None)
    @given(s=UNITS, tau=UNITS)
    def check(s, tau):
        options = {"dt": float(np.asarray(tau / STEPS, dtype))} if fixed else {}
        solution = solve(problem(s, tau, dtype), solver=solver, **options)
        assert solution.ys.dtype == dtype
        np.testing.assert_allclose(solution.ys[-1, 0] / s, expected, rtol=limit)

    check()


@settings(max_examples=25, deadline=None)
@given(s=UNITS, rate=st.floats(2, 8).map(lambda power: 10**power))
@pytest.mark.parametrize(
    "solver",
    [
        "ImplicitEuler",
        pytest.param("Kvaerno5", marks=pytest.mark.slow),
        pytest.param("KenCarp4", marks=pytest.mark.slow),
    ],
)
def test_stiff_relaxation_in_fixed_steps(solver, s, rate):
    # Prothero and Robinson: y' = −λ (y − cos t), y → cos t + sin t / λ + O(1/λ²). An
    # L-stable method ends there to its error on the slow curve, below h/λ.
    def field(t, y, args):
        return -args[1] * (y - args[0] * jnp.cos(t))

    problem = ODEProblem(field, jnp.array([2 * s]), 0.0, 1.0, jnp.array([s, rate]))
    found = float(solve(problem, solver=solver, dt=1 / 32).ys[-1, 0]) / s
    slow = np.cos(1.0) + np.sin(1.0) / rate
    limit = 2 / 32 / rate + 1 / rate**2
    # Round-off of a first slope λ y, of which a step brings h λ ε back.
    assert abs(found - slow) <= limit + 100 * rate / 32 * 2.0**-53


@settings(max_examples=25, deadline=None)
@given(s=UNITS)
def test_a_small_component_beside_a_large_one(s):
    # Two components that know nothing of each other, s times apart.
    def field(t, y, args):
        return -RATE * (y / args) ** 3 * args

    scales = jnp.array([1.0, s])
    problem = ODEProblem(field, scales, 0.0, 1.0, scales)
    found = solve(problem, solver="ImplicitEuler", dt=1 / STEPS).ys[-1] / scales
    np.testing.assert_allclose(found, implicit_euler(), rtol=1e-13)


def test_a_state_at_rest_stays():
    # An exact guess, whose updates are zero or round-off.
    problem = ODEProblem(lambda t, y, a: jnp.sin(y), jnp.array([0.0, np.pi]), 0.0, 1.0)
    found = solve(problem, solver="ImplicitEuler", dt=0.1).ys[-1]
    # sin of the double next to π is 1.2e-16, and decays towards it.
    np.testing.assert_allclose(found, [0.0, np.pi], atol=1e-15)


@settings(max_examples=25, deadline=None)
@given(s=UNITS, tau=UNITS)
def test_a_start_at_zero_in_any_units(s, tau):
    # y' = s − y in units of τ, from rest: 1 − 1/e.
    def field(t, y, args):
        return (args[0] - y) / args[1]

    problem = ODEProblem(field, jnp.zeros(1), 0.0, tau, jnp.array([s, tau]))
    found = float(solve(problem).ys[-1, 0]) / s
    np.testing.assert_allclose(found, 1 - np.exp(-1), rtol=1e-4)


def relaxation(t, y, args):
    u = y / args[0]
    return args[0] / args[1] * jnp.stack([1 - u[0] ** 2, u[0] - u[1]])


def relaxing(s, tau):
    """Two components that come to rest at s, at rates 2 and 1 in units of τ."""
    y0 = s * jnp.array([0.3, 0.0])
    return ODEProblem(relaxation, y0, 0.0, 1000 * tau, jnp.array([s, tau]))


@settings(max_examples=25, deadline=None)
@given(s=UNITS, tau=UNITS)
def test_a_steady_state_is_one_or_refused(s, tau):
    scaled = solve(relaxing(s, tau), event=SteadyState(time_scale=tau))
    assert scaled.outcome_name == "event"
    # The slow mode decays as exp(−t), to 1e-6 of the state.
    assert 10 < float(scaled.end_time) / tau < 25
    np.testing.assert_allclose(scaled.end_state / s, 1.0, rtol=1e-5)
    refusal = ""
    try:
        plain = solve(relaxing(s, tau), event=SteadyState())
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert "time_scale" in refusal
    else:
        # Newton's step to rest is at most 1e4 of the tolerances of 1e-6.
        np.testing.assert_allclose(plain.end_state / s, 1.0, rtol=2e-2)


@settings(max_examples=25, deadline=None)
@given(s=st.floats(-15, 15).map(lambda power: 10**power))
def test_single_precision_starts_from_a_component_at_zero(s):
    def field(t, y, args):
        u = y / args
        return args * jnp.stack([1 - u[0] ** 2, u[0] - u[1]])

    y0 = jnp.array([0.3 * s, 0.0], jnp.float32)
    problem = ODEProblem(field, y0, 0.0, 10.0, jnp.float32(s))
    found = np.asarray(solve(problem).ys[-1], float) / s
    first = np.tanh(np.arctanh(0.3) + 10.0)
    # The second follows it: within e⁻¹⁰ of rest, and tolerances of 1e-4 a step.
    np.testing.assert_allclose(found, [first, 1.0], atol=5e-3)


@pytest.mark.julia
@pytest.mark.parametrize(
    ("solver", "fixed", "dtype", "expected", "limit"),
    [
        # Newton's iteration ends at 1e-12 of the state, 2e-6 in float32, in 20 steps.
        ("ImplicitEuler", True, jnp.float64, implicit_euler(), 2e-11),
        pytest.param(
            *("ImplicitEuler", True, jnp.float32, implicit_euler(), 1e-4),
            marks=pytest.mark.slow,
        ),
        ("TRBDF2", True, jnp.float64, EXACT, 3e-3),
        ("Rodas5P", False, jnp.float64, EXACT, 1e-4),
        ("Tsit5", False, jnp.float32, EXACT, 1e-2),
    ],
)
def test_julia_does_not_depend_on_units(julia, solver, fixed, dtype, expected, limit):
    @settings(max_examples=25, deadline=None)
    @given(s=UNITS, tau=UNITS)
    def check(s, tau):
        options = {"dt": float(np.asarray(tau / STEPS, dtype))} if fixed else {}
        solution = solve(problem(s, tau, dtype), "julia", solver=solver, **options)
        assert solution.ys.dtype == dtype
        np.testing.assert_allclose(solution.ys[-1, 0] / s, expected, rtol=limit)

    check()
