"""What a solve in Julia returns: times, states, events, dense output, failures."""

import ctypes

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from helpers import tree_allclose

from hybrid_nds import Event, ODEProblem, SolveError, SteadyState, solve
from hybrid_nds.backends.julia._layout import COUNTS, KEEP, Report
from hybrid_nds.solution import OUTCOME_NAMES

pytestmark = pytest.mark.julia

# Ten times the tolerance asked for: the problems here last some ten time constants.
RTOL, ATOL = 1e-9, 1e-9
NEAR = {"rtol": 0.0, "atol": 1e-8}


def _decay(rate=2.0, t1=1.0, y0=1.0):
    return ODEProblem(
        lambda t, y, args: -args * y, np.array([y0]), 0.0, t1, np.array(rate)
    )


def _oscillator(t0=0.0, t1=10.0):
    """Position cos(t), velocity -sin(t)."""
    return ODEProblem(
        lambda t, y, args: {"x": y["v"], "v": -y["x"]},
        {"x": np.cos([t0]), "v": -np.sin([t0])},
        t0,
        t1,
    )


def _run(problem, **options):
    return solve(problem, "julia", **({"rtol": RTOL, "atol": ATOL} | options))


def test_both_sides_read_reports_alike(julia):
    module, main = julia.module, julia.main
    assert int(main.fieldcount(module.Report)) == len(Report._fields_)
    assert int(main.sizeof(module.Report)) == ctypes.sizeof(Report)
    assert int(module.COUNTS) == COUNTS
    for kind, names in ((module.Outcome, OUTCOME_NAMES), (module.Keep, KEEP)):
        assert int(main.length(main.instances(kind))) == len(names)


def test_end_alone(julia):
    solution = _run(_decay())
    np.testing.assert_array_equal(solution.ts, [1.0])
    np.testing.assert_allclose(solution.ys, [[np.exp(-2.0)]], **NEAR)
    assert solution.outcome_name == "success"
    assert solution.event_index is None
    assert solution.message == ""
    assert float(solution.end_time) == 1.0
    np.testing.assert_array_equal(solution.end_state, solution.ys[-1])


def test_times_asked_for_with_both_ends(julia):
    times = np.array([0.0, 0.25, 0.7, 1.0])
    solution = _run(_decay(), saveat=times)
    np.testing.assert_array_equal(solution.ts, times)
    np.testing.assert_allclose(solution.ys[:, 0], np.exp(-2 * times), **NEAR)


def test_every_step_from_the_start(julia):
    solution = _run(_decay(), saveat="steps")
    assert solution.ts[0] == 0.0
    assert solution.ts[-1] == 1.0
    assert len(solution.ts) == solution.stats["num_accepted_steps"] + 1
    np.testing.assert_allclose(solution.ys[:, 0], np.exp(-2 * solution.ts), **NEAR)


@pytest.mark.slow
def test_steps_end_at_the_times_where_asked(julia):
    times = np.array([0.2, 0.5, 0.9])
    coarse = {"solver": "Kvaerno5", "saveat": times, "rtol": 1e-6, "atol": 1e-6}
    between = _run(_oscillator(), step_to_saveat=False, **coarse)
    at_steps = _run(_oscillator(), step_to_saveat=True, **coarse)
    default = _run(_oscillator(), **coarse)
    # Every time saved costs one step that ends there.
    assert at_steps.stats["num_steps"] > between.stats["num_steps"]
    error = lambda s: np.abs(s.ys["x"][:, 0] - np.cos(times)).max()
    assert error(at_steps) < error(between)
    assert tree_allclose(default.ys, at_steps.ys, rtol=0.0)


@pytest.mark.parametrize("solver", ["Tsit5", "Rodas5P", "Vern9", "default"])
def test_dense_output(solver, julia):
    solution = _run(_decay(), saveat="dense", solver=solver)
    for t in (0.0, 0.31, 1.0):
        np.testing.assert_allclose(solution.evaluate(t), [np.exp(-2 * t)], **NEAR)
    many = np.linspace(0.0, 1.0, 7)
    np.testing.assert_allclose(solution.evaluate(many)[:, 0], np.exp(-2 * many), **NEAR)
    with pytest.raises(ValueError, match=r"`t` must lie within .* got 1\.5"):
        solution.evaluate(1.5)


def test_dense_output_outlives_other_solves(julia):
    problem = _decay()
    solution = _run(problem, saveat="dense", solver="Vern7")
    _run(_decay(rate=5.0), saveat="dense", solver="Vern7")
    np.testing.assert_allclose(solution.evaluate(0.5), [np.exp(-1.0)], **NEAR)


@pytest.mark.parametrize(
    "solver", ["Tsit5", pytest.param("Kvaerno5", marks=pytest.mark.slow), "FBDF"]
)
def test_backward_time(solver, julia):
    problem = _oscillator(t0=3.0, t1=1.0)
    times = np.array([3.0, 2.5, 1.0])
    solution = _run(problem, saveat=times, solver=solver)
    # The error gathers over an oscillation: at most a tolerance a step, and that of the
    # interpolation at the times between.
    near = {"rtol": 0.0, "atol": 1e-9 * solution.stats["num_steps"]}
    np.testing.assert_allclose(solution.ys["x"][:, 0], np.cos(times), **near)
    np.testing.assert_allclose(solution.ys["v"][:, 0], -np.sin(times), **near)


def test_pytree_states_keep_structure_and_row_order(julia):
    y0 = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": (np.array(2.0), np.arange(4.0).reshape(2, 1, 2)),
    }
    weights = jax.tree.map(lambda leaf: 0.1 * (1.0 + leaf), y0)
    field = lambda t, y, args: jax.tree.map(lambda w, x: -w * x, args, y)
    problem = ODEProblem(field, y0, 0.0, 2.0, weights)
    solution = _run(problem, saveat=np.array([1.0, 2.0]))
    expected = jax.tree.map(
        lambda w, x: np.stack([x * np.exp(-w), x * np.exp(-2 * w)]), weights, y0
    )
    assert tree_allclose(solution.ys, expected, **NEAR)
    assert jtu.tree_structure(solution.end_state) == jtu.tree_structure(y0)


@pytest.mark.slow
def test_single_precision_stays_single(julia):
    problem = ODEProblem(
        lambda t, y, args: -args * y,
        np.ones(2, np.float32),
        np.float32(0.0),
        np.float32(1.0),
        np.array([1.0, 2.0], np.float32),
    )
    solution = solve(problem, "julia", saveat="steps")
    assert solution.ys.dtype == np.float32
    assert solution.ts.dtype == np.float32
    # The defaults in single precision: 1e-4 a step, in a field that contracts.
    bound = 1e-4 * solution.stats["num_steps"]
    np.testing.assert_allclose(solution.ys[-1], np.exp([-1.0, -2.0]), atol=bound)


def test_new_weights_are_used(julia):
    for rate in (1.0, 3.0, 0.5):
        solution = _run(_decay(rate=rate))
        np.testing.assert_allclose(solution.ys[0, 0], np.exp(-rate), **NEAR)


def test_weights_changed_in_place_are_used(julia):
    rate = np.array([1.0])
    args = {"rate": rate}
    problem = ODEProblem(
        lambda t, y, args: -args["rate"] * y, np.array([1.0]), 0.0, 1.0, args
    )
    first = float(_run(problem).ys[0, 0])
    rate[0] = 2.0
    second = float(_run(problem).ys[0, 0])
    args["rate"] = np.array([3.0])
    third = float(_run(problem).ys[0, 0])
    np.testing.assert_allclose([first, second, third], np.exp([-1, -2, -3]), **NEAR)


def test_numbers_in_args_are_compiled_in_and_told_apart(julia):
    for rate in (1.0, 2.0, 1):
        problem = ODEProblem(
            lambda t, y, args: -args * y, np.array([1.0]), 0.0, 1.0, rate
        )
        np.testing.assert_allclose(_run(problem).ys[0, 0], np.exp(-rate), **NEAR)


def test_mass_matrix_scales_the_field(julia):
    problem = ODEProblem(
        lambda t, y, args: -y,
        np.array([1.0, 1.0]),
        0.0,
        1.0,
        mass_matrix=np.array([[2.0, 0.0], [0.0, 0.5]]),
    )
    solution = _run(problem, solver="Rodas5P")
    np.testing.assert_allclose(solution.ys[0], np.exp([-0.5, -2.0]), **NEAR)


@pytest.mark.parametrize("solver", ["default", "Rodas5P", "FBDF", "QNDF"])
def test_singular_mass_matrix(solver, julia):
    # y' = -z with 0 = z - y t: y = exp(-t²/2).
    problem = ODEProblem(
        lambda t, u, args: {"y": -u["z"], "z": u["z"] - u["y"] * t},
        {"y": np.array(1.0), "z": np.array(0.0)},
        0.0,
        1.0,
        mass_matrix=np.diag([1.0, 0.0]),
    )
    solution = _run(problem, solver=solver, rtol=1e-8, atol=1e-8)
    bound = 1e-8 * solution.stats["num_steps"]
    np.testing.assert_allclose(solution.ys["y"], np.exp([-0.5]), atol=bound)
    np.testing.assert_allclose(solution.ys["z"], np.exp([-0.5]), atol=bound)


def test_singular_mass_matrix_of_an_autonomous_problem(julia):
    # RadauIIA5 of OrdinaryDiffEqFIRK 2.8 fails (and says so) where the algebraic
    # equations depend on time.
    problem = ODEProblem(
        lambda t, u, args: {"y": -u["z"], "z": u["z"] - u["y"]},
        {"y": np.array(1.0), "z": np.array(1.0)},
        0.0,
        1.0,
        mass_matrix=np.diag([1.0, 0.0]),
    )
    solution = _run(problem, solver="RadauIIA5", rtol=1e-8, atol=1e-8)
    bound = 1e-8 * solution.stats["num_steps"]
    np.testing.assert_allclose(solution.ys["z"], np.exp([-1.0]), atol=bound)


def test_inconsistent_start_of_a_dae(julia):
    problem = ODEProblem(
        lambda t, u, args: jnp.stack([-u[1], u[1] - u[0]]),
        np.array([1.0, 0.5]),
        0.0,
        1.0,
        mass_matrix=np.diag([1.0, 0.0]),
    )
    with pytest.raises(SolveError, match="initial state does not satisfy the alg"):
        _run(problem, solver="Rodas5P")


@pytest.mark.parametrize("solver", ["Tsit5", "Rodas5P", "default"])
def test_event_stops_at_the_crossing(solver, julia):
    event = Event(lambda t, y, args: y["x"][0])
    solution = _run(_oscillator(), event=event, solver=solver)
    assert solution.outcome_name == "event"
    assert solution.event_index == 0
    np.testing.assert_allclose(solution.ts, [np.pi / 2], **NEAR)
    np.testing.assert_allclose(solution.ys["v"], [[-1.0]], **NEAR)


@pytest.mark.parametrize(
    ("direction", "when"), [("up", 1.5), ("down", 0.5), (None, 0.5)]
)
def test_event_direction(direction, when, julia):
    event = Event(lambda t, y, args: y["x"][0], direction)
    solution = _run(_oscillator(), event=event)
    np.testing.assert_allclose(solution.end_time, when * np.pi, **NEAR)


def test_event_direction_is_along_a_backward_solve(julia):
    event = Event(lambda t, y, args: y["x"][0], "up")
    solution = _run(_oscillator(t0=6.0, t1=0.0), event=event)
    # Backward from 6, cos falls to zero at 3π/2 and rises through zero at π/2.
    np.testing.assert_allclose(solution.end_time, np.pi / 2, **NEAR)


@pytest.mark.slow
def test_event_leaves_out_later_times_and_tells_which(julia):
    events = [
        Event(lambda t, y, args: y["x"][0] - 2.0),
        Event(lambda t, y, args: y["x"][0]),
    ]
    times = np.linspace(0.0, 10.0, 21)
    solution = _run(_oscillator(), event=events, saveat=times)
    assert solution.event_index == 1
    np.testing.assert_array_equal(solution.ts, [0.0, 0.5, 1.0, 1.5])
    np.testing.assert_allclose(solution.ys["x"][:, 0], np.cos(solution.ts), **NEAR)
    np.testing.assert_allclose(solution.end_time, np.pi / 2, **NEAR)


def test_event_zero_at_the_start_is_none(julia):
    event = Event(lambda t, y, args: y["v"][0])
    solution = _run(_oscillator(), event=event)
    np.testing.assert_allclose(solution.end_time, np.pi, **NEAR)


def test_event_that_never_fires(julia):
    solution = _run(_oscillator(), event=Event(lambda t, y, args: y["x"][0] - 2.0))
    assert solution.outcome_name == "success"
    assert solution.event_index == -1
    assert float(solution.end_time) == 10.0


def test_event_reads_its_own_parameters(julia):
    for level in (0.5, 0.25):
        event = Event(lambda t, y, args: y[0] - args["level"])
        problem = ODEProblem(
            lambda t, y, args: -args["rate"] * y,
            np.array([1.0]),
            0.0,
            10.0,
            {"rate": np.array(2.0), "level": np.array(level)},
        )
        solution = _run(problem, event=event)
        np.testing.assert_allclose(solution.end_time, -np.log(level) / 2, **NEAR)


def test_steady_state_over_an_infinite_span(julia):
    problem = ODEProblem(
        lambda t, y, args: 1.0 - args * y, np.zeros(1), 0.0, np.inf, np.array(4.0)
    )
    event = SteadyState(rtol=0.0, atol=1e-6)
    solution = _run(problem, event=event)
    assert solution.outcome_name == "event"
    assert solution.event_index == 0
    # |f| = 4 |y - 1/4| is below the tolerance, and was not a step earlier.
    np.testing.assert_allclose(solution.end_state, [0.25], rtol=0, atol=1e-6 / 4)
    before = _run(problem, event=event, saveat="steps").ys[-2]
    assert abs(1 - 4 * float(before[0])) > 1e-6


def test_steps_run_out(julia):
    with pytest.raises(SolveError, match=r"max_steps_reached.*MaxIters") as caught:
        _run(_oscillator(), solver="Tsit5", max_steps=5)
    assert caught.value.solution.stats["num_steps"] == 5
    assert 0 < float(caught.value.solution.end_time) < 10


def test_blow_up_is_no_success(julia):
    # y' = y² from 1 is infinite at t = 1.
    problem = ODEProblem(lambda t, y, args: y**2, np.array([1.0]), 0.0, 2.0)
    solution = _run(problem, solver="Tsit5", throw=False)
    assert solution.outcome_name in ("unstable", "step_size_too_small")
    assert float(solution.end_time) == pytest.approx(1.0, abs=1e-3)


def test_field_that_turns_nan_is_unstable(julia):
    problem = ODEProblem(lambda t, y, args: -jnp.sqrt(y), np.array([0.01]), 0.0, 1.0)
    solution = solve(problem, "julia", solver="Euler", dt=0.15, throw=False)
    assert solution.outcome_name == "unstable"


def test_scalar_form_agrees_with_the_array_form(julia):
    field = lambda t, y, args: {"x": y["v"], "v": -y["x"] - args * y["v"] * t}
    problem = ODEProblem(
        field,
        {"x": np.array([1.0, 2.0]), "v": np.zeros(2)},
        0.0,
        3.0,
        np.array(0.3),
    )
    for solver in ("Tsit5", "Rodas5P"):
        array = _run(problem, solver=solver)
        scalar = _run(problem, solver=solver, form="scalar")
        full = _run(problem, solver=solver, specialize=True)
        assert tree_allclose(scalar.ys, array.ys, **NEAR)
        assert tree_allclose(full.ys, array.ys, **NEAR)


def test_provenance(julia):
    solution = _run(_decay(), solver="dopri5")
    where = solution.provenance
    assert (where.backend, where.solver, where.field) == ("julia", "DP5", "lowered")
    assert (where.rtol, where.atol, where.dt) == (RTOL, ATOL, None)
    versions = dict(where.versions)
    assert {"hybrid_nds", "jax", "Julia", "SciMLBase", "juliacall"} <= set(versions)
    assert versions["Julia"].startswith("1.")


def test_progress_is_shown_and_harmless(julia, capsys):
    solution = _run(_decay(), progress=True)
    np.testing.assert_allclose(solution.ys, [[np.exp(-2.0)]], **NEAR)
