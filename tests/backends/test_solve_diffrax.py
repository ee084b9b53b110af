"""Solves with Diffrax against closed forms: orders, accuracy, saving, failures."""

import warnings

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest
from helpers import slope, tree_allclose

from hybrid_nds import ODEProblem, Outcome, SolveError, solve
from hybrid_nds.methods import ODE_METHODS
from hybrid_nds.solution import outcome_name

pytestmark = pytest.mark.usefixtures("strict_promotion")


def oscillator(t, y, args):
    return jnp.stack([y[1], -y[0]])


def logistic(t, y, rate):
    return rate * y * (1 - y)


def logistic_exact(t, rate, y0):
    grown = y0 * np.exp(rate * t)
    return grown / (1 - y0 + grown)


# Kepler's problem with eccentricity 0.3: nonlinear, and solved in closed form up to
# Kepler's equation E - e sin E = t, which Newton's method solves to round-off.
ECCENTRICITY = 0.3
PERIHELION = np.array(
    [1 - ECCENTRICITY, 0, 0, np.sqrt((1 + ECCENTRICITY) / (1 - ECCENTRICITY))]
)


def kepler(t, y, args):
    cubed = (y[0] ** 2 + y[1] ** 2) ** 1.5
    return jnp.stack([y[2], y[3], -y[0] / cubed, -y[1] / cubed])


def kepler_exact(t):
    e, anomaly = ECCENTRICITY, np.array(t)
    for _ in range(50):
        residual = anomaly - e * np.sin(anomaly) - t
        anomaly = anomaly - residual / (1 - e * np.cos(anomaly))
    radius, minor = 1 - e * np.cos(anomaly), np.sqrt(1 - e**2)
    position = [np.cos(anomaly) - e, minor * np.sin(anomaly)]
    velocity = [-np.sin(anomaly) / radius, minor * np.cos(anomaly) / radius]
    return np.stack(position + velocity, axis=-1)


# Steps per orbit, in the asymptotic range and above round-off (and, for the implicit
# ones, above the 7e-11 to which stages are solved).
STEPS = {1: (8000, 16000), 2: (1000, 2000), 3: (800, 1600), 4: (400, 800)}
STEPS |= {5: (200, 400), 8: (100, 140)}
ORDERED = [info for info in ODE_METHODS if info.diffrax and info.order]


@pytest.mark.parametrize("info", ORDERED, ids=lambda info: info.name)
def test_order(info):
    problem = ODEProblem(kepler, PERIHELION, 0.0, 2 * np.pi)
    counts = (1600, 3200) if info.name == "Kvaerno4" else STEPS[info.order]
    errors = []
    for count in counts:
        dt = 2 * np.pi / count
        solution = solve(
            problem, solver=info.name, dt=dt, saveat="steps", max_steps=20_000
        )
        assert int(solution.stats["num_steps"]) in (count, count + 1)
        exact = kepler_exact(np.asarray(solution.ts))
        errors.append(np.max(np.abs(np.asarray(solution.ys) - exact)))
    # The next term of the error moves the slopes by 0.01 to 0.15 at these steps, and
    # by 0.3 for Dopri8, which reaches round-off with shorter ones. A wrong tableau
    # moves them by one or more.
    allowed = 0.3 if info.order == 8 else 0.2
    assert abs(slope(1 / np.array(counts), errors) - info.order) < allowed


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["Bosh3", "Tsit5", "Dopri8", "KenCarp5", "Kvaerno5"])
def test_saved_times_are_as_accurate_as_steps(solver):
    problem = ODEProblem(kepler, PERIHELION, 0.0, 2 * np.pi)
    errors = {}
    for name, saveat in {
        "times": np.linspace(0, 2 * np.pi, 12),
        "steps": "steps",
    }.items():
        for tolerance in (1e-5, 1e-8):
            solution = solve(
                problem, solver=solver, rtol=tolerance, atol=tolerance, saveat=saveat
            )
            exact = kepler_exact(np.asarray(solution.ts))
            difference = np.asarray(solution.ys) - exact
            errors[name, tolerance] = np.max(np.abs(difference))
    # Interpolation between steps costs these solvers a factor of 1.5 at most, or 13 to
    # 75 where they are not made to step to the saved times. At the loose tolerance
    # the largest error may fall between the saved times.
    assert errors["times", 1e-8] < 3 * errors["steps", 1e-8]
    # Error control per step with order p delivers tol^(p/(p+1)): for p = 3, three
    # decades of tolerance give 178.
    assert errors["times", 1e-5] / errors["times", 1e-8] > 100


def test_linear_problem_in_closed_form():
    matrix = np.array([[-1.0, 2.0], [0.0, -3.0]])
    field = lambda t, y, a: jnp.matmul(a, y)
    problem = ODEProblem(field, np.ones(2), 0.0, 1.0, matrix)
    # y2 = exp(-3t); y1' = -y1 + 2 exp(-3t) gives y1 = 2 exp(-t) - exp(-3t).
    exact = [2 * np.exp(-1) - np.exp(-3), np.exp(-3)]
    solution = solve(problem, rtol=1e-10, atol=1e-12)
    assert solution.outcome == Outcome.success
    assert solution.ts.tolist() == [1.0]
    # About 30 steps, each within the tolerance.
    np.testing.assert_allclose(solution.ys[0], exact, rtol=30e-10)


def test_logistic_growth_in_closed_form():
    times = np.linspace(0.0, 8.0, 17)
    problem = ODEProblem(logistic, 0.1, 0.0, 8.0, 1.5)
    solution = solve(problem, rtol=1e-9, atol=1e-12, saveat=times)
    np.testing.assert_allclose(
        solution.ys, logistic_exact(times, 1.5, 0.1), rtol=100e-9
    )


@pytest.mark.slow
def test_backward_in_time():
    times = np.linspace(2.0, -1.0, 7)
    y0 = np.array([np.cos(2.0), -np.sin(2.0)])
    problem = ODEProblem(oscillator, y0, 2.0, -1.0)
    options = {"rtol": 1e-9, "atol": 1e-9}
    exact = np.stack([np.cos(times), -np.sin(times)], axis=-1)
    for solver in ("Tsit5", "Kvaerno5"):
        solution = solve(problem, saveat=times, solver=solver, **options)
        np.testing.assert_array_equal(solution.ts, times)
        np.testing.assert_allclose(solution.ys, exact, atol=100e-9)
    steps = solve(problem, saveat="steps", **options)
    assert np.all(np.diff(steps.ts) < 0)
    assert (float(steps.ts[0]), float(steps.ts[-1])) == (2.0, -1.0)
    dense = solve(problem, saveat="dense", **options)
    np.testing.assert_allclose(dense.evaluate(0.5), [np.cos(0.5), -np.sin(0.5)], 1e-7)
    fixed = solve(problem, dt=-0.01, solver="Bosh3")
    # Third order: 300 steps of 0.01^4 / 24.
    np.testing.assert_allclose(fixed.ys[-1], exact[-1], atol=300 * 1e-8 / 24)


def test_stiff_problem_with_every_implicit_solver():
    # Prothero-Robinson: y = cos t whatever the stiffness.
    field = lambda t, y, a: -1e6 * (y - jnp.cos(t)) - jnp.sin(t)
    problem = ODEProblem(field, 1.0, 0.0, 2.0)
    for solver in ("KenCarp4", "Kvaerno3", "Kvaerno4", "Kvaerno5"):
        solution = solve(problem, solver=solver, rtol=1e-6, atol=1e-8)
        # Stiff order reduction costs digits in y, at most the tolerance a step; an
        # explicit solver would need 6e5 steps for stability alone.
        assert int(solution.stats["num_steps"]) < 300
        np.testing.assert_allclose(solution.ys[-1], np.cos(2.0), rtol=1e-4)


def test_tight_tolerances_on_van_der_pol():
    # Where Diffrax's own root finder fails. The reference is published: the IVP test
    # set's VDPOL at t = 2, mu = 1e3 in scaled time, given to 15 digits.
    field = lambda t, y, eps: jnp.stack([y[1], ((1 - y[0] ** 2) * y[1] - y[0]) / eps])
    problem = ODEProblem(field, np.array([2.0, 0.0]), 0.0, 2.0, 1e-6)
    solution = solve(problem, solver="Kvaerno5", rtol=1e-10, atol=1e-10)
    published = [1.706167732170483, -0.8928097010247975]
    # The step errors add up over a few thousand steps, and the fast jumps damp them.
    np.testing.assert_allclose(solution.ys[-1], published, rtol=1e-7)


def test_a_tolerance_below_the_last_place_of_the_state():
    # Robertson's second component is 1e-7 to 1e-5; its absolute tolerance is far below
    # the round-off of the others. The components add up to one whatever the solver.
    def field(t, y, args):
        slow = -0.04 * y[0] + 1e4 * y[1] * y[2]
        fast = 3e7 * y[1] ** 2
        return jnp.stack([slow, -slow - fast, fast])

    problem = ODEProblem(field, np.array([1.0, 0.0, 0.0]), 0.0, 40.0)
    solution = solve(problem, solver="Kvaerno5", rtol=1e-9, atol=1e-18)
    # Published with the examples of LSODE and CVODE; four digits here, so that the
    # last of 2.842e-1 is half a unit, 1.8e-4, at most.
    published = [7.158e-1, 9.185e-6, 2.842e-1]
    np.testing.assert_allclose(solution.ys[-1], published, rtol=2e-4)
    np.testing.assert_allclose(np.sum(solution.ys[-1]), 1.0, rtol=1e-12)


@pytest.mark.slow
def test_an_exact_first_guess_is_no_divergence():
    # Nothing moves, so that each stage is solved by its first guess.
    problem = ODEProblem(lambda t, y, a: 0.0 * y, np.ones(2), 0.0, 1.0)
    for solver in ("Kvaerno5", "KenCarp4"):
        assert solve(problem, solver=solver).ys.tolist() == [[1.0, 1.0]]


def test_states_keep_structure_shapes_and_dtype():
    y0 = {"a": jnp.ones((2, 3)), "b": (jnp.zeros(()), jnp.full(4, 2.0))}
    field = lambda t, y, a: jax.tree.map(lambda leaf: -leaf, y)
    solution = solve(ODEProblem(field, y0, 0.0, 1.0), saveat=[0.5, 1.0])
    decayed = [np.exp(-0.5), np.exp(-1.0)]
    exact = jax.tree.map(
        lambda leaf: np.stack([np.asarray(leaf) * factor for factor in decayed]), y0
    )
    assert tree_allclose(solution.ys, exact, rtol=1e-5)
    assert tree_allclose(
        solution.end_state, jax.tree.map(lambda leaf: leaf[-1], exact), rtol=1e-5
    )


@pytest.mark.parametrize(
    "solver", ["Tsit5", pytest.param("Kvaerno5", marks=pytest.mark.slow)]
)
def test_single_precision_stays_single(solver):
    problem = ODEProblem(logistic, np.float32(0.1), 0.0, 3.0, np.float32(1.5))
    for saveat in ("steps", "dense", [1.0, 2.0, 3.0]):
        solution = solve(problem, solver=solver, saveat=saveat)
        assert solution.ts.dtype == solution.ys.dtype == np.float32
        assert solution.end_state.dtype == np.float32
        exact = logistic_exact(3.0, 1.5, 0.1)
        # The default tolerance of float32 is 1e-4, over about ten steps.
        np.testing.assert_allclose(solution.ys[-1], exact, rtol=1e-3)
    assert solve(problem, solver=solver, dt=0.1).ys.dtype == np.float32


@pytest.mark.slow
def test_kencarp_in_single_precision_wants_jax_in_single_precision():
    problem = ODEProblem(logistic, np.float32(0.1), 0.0, 3.0, np.float32(1.5))
    with pytest.raises(ValueError, match=r"KenCarp4 solves in float32 only where"):
        solve(problem, solver="KenCarp4")
    with jax.enable_x64(False):
        solution = solve(problem, solver="KenCarp4", saveat=[1.0, 2.0])
        assert solution.ys.dtype == np.float32
        exact = logistic_exact(np.array([1.0, 2.0]), 1.5, 0.1)
        np.testing.assert_allclose(solution.ys, exact, rtol=1e-3)


def test_steps_start_at_the_start_and_end_at_the_end():
    problem = ODEProblem(oscillator, np.array([1.0, 0.0]), 0.0, 3.0)
    solution = solve(problem, saveat="steps")
    assert (float(solution.ts[0]), float(solution.ts[-1])) == (0.0, 3.0)
    assert np.all(np.diff(solution.ts) > 0)
    assert len(solution.ts) == int(solution.stats["num_accepted_steps"]) + 1
    assert solution.ys.shape == (len(solution.ts), 2)


def test_dense_output():
    problem = ODEProblem(oscillator, np.array([1.0, 0.0]), 0.0, 3.0)
    solution = solve(problem, saveat="dense", rtol=1e-9, atol=1e-9)
    assert solution.ts.tolist() == [3.0]
    for t in (0.0, 0.7, 3.0):
        # Interpolation errs no more than 1.5 times the steps for Tsit5.
        np.testing.assert_allclose(
            solution.evaluate(t), [np.cos(t), -np.sin(t)], atol=100e-9
        )
    with pytest.raises(ValueError, match=r"`t` must lie within .* 3.0, got 3.5"):
        solution.evaluate(3.5)
    times = np.linspace(0.0, 3.0, 6).reshape(2, 3)
    np.testing.assert_allclose(
        solution.evaluate(times),
        np.stack([np.cos(times), -np.sin(times)], axis=-1),
        atol=100e-9,
    )
    with pytest.raises(ValueError, match=r"got -1.0"):
        solution.evaluate([1.0, -1.0])
    with pytest.raises(ValueError, match=r'saveat="dense"'):
        solve(problem).evaluate(0.5)
    plain = solve(problem, saveat=diffrax.SaveAt(dense=True))
    assert plain.evaluate(1.0).shape == (2,)


# The times are then a tree, which Diffrax alone has; annotations leave it out.
@pytest.mark.usefixtures("unchecked_types")
def test_a_diffrax_saveat_keeps_its_shape():
    problem = ODEProblem(oscillator, np.array([1.0, 0.0]), 0.0, 3.0)
    saveat = diffrax.SaveAt(
        subs={
            "end": diffrax.SubSaveAt(t1=True),
            "energy": diffrax.SubSaveAt(
                ts=np.array([1.0, 2.0]), fn=lambda t, y, a: jnp.sum(y * y)
            ),
        }
    )
    solution = solve(problem, saveat=saveat)
    assert solution.ts["energy"].tolist() == [1.0, 2.0]
    np.testing.assert_allclose(solution.ys["energy"], [1.0, 1.0], rtol=1e-5)
    assert solution.ys["end"].shape == (1, 2)


@pytest.mark.slow
def test_diffrax_objects_pass_through():
    problem = ODEProblem(oscillator, np.array([1.0, 0.0]), 0.0, 3.0)
    solver = diffrax.Kvaerno5(root_finder=optimistix.Newton(1e-9, 1e-9))
    controller = diffrax.PIDController(rtol=1e-8, atol=1e-8, dtmax=0.01)
    solution = solve(
        problem,
        solver=solver,
        stepsize_controller=controller,
        adjoint=diffrax.DirectAdjoint(),
        max_steps=1000,
    )
    assert int(solution.stats["num_steps"]) >= 300
    assert solution.provenance.solver == "Kvaerno5"
    np.testing.assert_allclose(solution.ys[-1], [np.cos(3.0), -np.sin(3.0)], 1e-6)
    by_name = solve(
        problem,
        solver="Kvaerno5",
        stepsize_controller=diffrax.StepTo(ts=np.linspace(0.0, 3.0, 31)),
    )
    assert int(by_name.stats["num_steps"]) == 30


def test_provenance():
    problem = ODEProblem(oscillator, np.array([1.0, 0.0]), 0.0, 3.0)
    provenance = solve(problem, solver="DP5", rtol=1e-5, dt=0.1).provenance
    plain = provenance.as_dict()
    assert plain["backend"] == "diffrax"
    assert plain["solver"] == "Dopri5"
    assert plain["field"] == "jax"
    assert (plain["rtol"], plain["atol"], plain["dt"]) == (1e-5, 1e-9, 0.1)
    assert plain["versions"]["diffrax"] == diffrax.__version__
    fixed = solve(problem, solver="Euler", dt=0.1).provenance
    assert (fixed.rtol, fixed.atol, fixed.dt) == (None, None, 0.1)


def test_fixed_steps_find_room_for_themselves():
    problem = ODEProblem(logistic, 0.1, 0.0, 1.0, 1.0)
    # More than both defaults: 4096 for saved steps, 100 000 otherwise.
    steps = solve(problem, solver="Euler", dt=1 / 5000, saveat="steps")
    assert len(steps.ts) in (5001, 5002)
    many = solve(problem, solver="Euler", dt=1 / 150_000)
    assert int(many.stats["num_steps"]) in (150_000, 150_001)


def test_running_out_of_steps():
    problem = ODEProblem(oscillator, np.array([1.0, 0.0]), 0.0, 100.0)
    with pytest.raises(
        SolveError, match=r"max_steps_reached.*after 10 steps"
    ) as caught:
        solve(problem, max_steps=10, saveat=[0.1, 50.0])
    solution = caught.value.solution
    assert outcome_name(caught.value.outcome) == "max_steps_reached"
    assert "stiff" in str(caught.value)
    # What was reached is there, and only that.
    assert solution.ts.tolist() == [0.1]
    np.testing.assert_allclose(solution.ys[0, 0], np.cos(0.1), rtol=1e-5)
    assert 0.1 < float(solution.end_time) < 50.0
    quiet = solve(problem, max_steps=10, saveat=[0.1, 50.0], throw=False)
    assert quiet.outcome_name == "max_steps_reached"
    assert not quiet.succeeded


def test_an_implicit_solver_is_not_told_to_be_implicit():
    problem = ODEProblem(oscillator, np.array([1.0, 0.0]), 0.0, 100.0)
    with pytest.raises(SolveError) as caught:
        solve(problem, max_steps=3, solver="Kvaerno5")
    assert "If the problem is stiff" not in str(caught.value)


@pytest.mark.slow
def test_a_state_that_becomes_nan_is_no_success():
    # y = 1/(1 - t) blows up at t = 1; fixed steps walk over it into infinity, and
    # Diffrax itself reports success.
    problem = ODEProblem(lambda t, y, a: y**2, 1.0, 0.0, 3.0)
    with pytest.raises(SolveError, match=r"NaN, infinite.*\(unstable\)"):
        solve(problem, solver="Tsit5", dt=0.1)
    for saveat in (None, [0.5, 3.0], "steps", "dense"):
        solution = solve(problem, dt=0.1, saveat=saveat, throw=False)
        assert solution.outcome == Outcome.unstable


def test_a_blow_up_under_error_control_fails():
    problem = ODEProblem(lambda t, y, a: y**2, 1.0, 0.0, 3.0)
    solution = solve(problem, max_steps=2000, throw=False)
    assert not solution.succeeded
    # The blow-up of the numerical solution, at tolerances of 1e-6 a step.
    assert float(solution.end_time) <= 1.0 + 1e-5


def test_a_step_that_may_not_shrink_is_told():
    problem = ODEProblem(lambda t, y, a: y**2, 1.0, 0.0, 3.0)
    controller = diffrax.PIDController(1e-8, 1e-8, dtmin=1e-2, force_dtmin=False)
    solution = solve(problem, stepsize_controller=controller, throw=False)
    assert solution.outcome == Outcome.step_size_too_small


def test_a_failing_stage_equation_is_told():
    # No real root: the stage equation of implicit Euler, z = h (1 + (y+z)^2), has
    # none for h = 1.
    problem = ODEProblem(lambda t, y, a: 1 + y**2, 0.0, 0.0, 3.0)
    solution = solve(problem, solver="ImplicitEuler", dt=1.0, throw=False)
    assert solution.outcome == Outcome.nonlinear_solve_failed


def test_progress_is_shown(capsys):
    problem = ODEProblem(oscillator, np.array([1.0, 0.0]), 0.0, 3.0)
    solve(problem, progress=True).ys.block_until_ready()
    jax.effects_barrier()
    assert "100.00%" in capsys.readouterr().out
    solve(problem).ys.block_until_ready()
    jax.effects_barrier()
    assert capsys.readouterr().out == ""


def test_solves_do_not_warn():
    problem = ODEProblem(logistic, 0.1, 0.0, 1.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(problem, saveat="steps", solver="Dopri8")
