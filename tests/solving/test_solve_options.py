"""The options of `solve`: each bad one is named, before any backend runs."""

import os
import subprocess
import sys

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

from hybrid_nds import (
    Event,
    ODEProblem,
    SDEProblem,
    SteadyState,
    find_solver,
    solve,
    solver_names,
)
from hybrid_nds.backends import check_options, default_tolerances
from hybrid_nds.methods import ODE_METHODS


def decay(t, y, args):
    return -y


@pytest.fixture
def problem():
    return ODEProblem(decay, jnp.ones(2), 0.0, 1.0)


def checked(problem, stack="diffrax", **options):
    names = ("solver", "rtol", "atol", "dt", "saveat", "adjoint", "event", "max_steps")
    shared = {name: options.pop(name, None) for name in names}
    return check_options(problem, stack, **shared, progress=False, extra=options)


BAD = {
    "backend": (
        {"backend": "matlab"},
        ValueError,
        "`backend` must be one of diffrax, julia",
    ),
    "backend type": ({"backend": None}, ValueError, "`backend` must be one of"),
    "solver": ({"solver": "Tsit9"}, ValueError, "'Tsit9'. It has: auto, .*Tsit5"),
    "solver of julia": (
        {"solver": "Rodas5P"},
        ValueError,
        "'Rodas5P' exists only on the julia backend",
    ),
    "solver type": ({"solver": 5}, TypeError, "must be a name or a Diffrax solver"),
    "no error estimate": ({"solver": "Euler"}, ValueError, "pass `dt` alone"),
    "no error estimate, object": (
        {"solver": diffrax.Euler()},
        ValueError,
        "pass `dt` alone",
    ),
    "negative rtol": ({"rtol": -1e-3}, ValueError, "`rtol` must be finite and not neg"),
    "nan atol": ({"atol": np.nan}, ValueError, "`atol` must be finite and not neg"),
    "infinite rtol": ({"rtol": np.inf}, ValueError, "`rtol` must be finite"),
    "text rtol": ({"rtol": "1e-3"}, TypeError, "`rtol` must be a real number"),
    "both zero": ({"rtol": 0, "atol": 0.0}, ValueError, "must not both be zero"),
    "unresolved rtol": ({"rtol": 1e-16}, ValueError, "at least 8.9e-16 .*Loosen it"),
    "tolerances twice": (
        {"rtol": 1e-3, "stepsize_controller": diffrax.PIDController(1e-3, 1e-3)},
        ValueError,
        "not both",
    ),
    "zero dt": ({"dt": 0.0}, ValueError, "`dt` must be finite and not zero"),
    "nan dt": ({"dt": np.nan}, ValueError, "`dt` must be finite and not zero"),
    "dt of the wrong sign": ({"dt": -0.1}, ValueError, "sign of t1 - t0.*dt=-0.1"),
    "text dt": ({"dt": "0.1"}, TypeError, "`dt` must be a real number"),
    "unknown saveat": ({"saveat": "all"}, ValueError, "`saveat` must be None.*'all'"),
    "saveat type": ({"saveat": object()}, ValueError, "`saveat` must be"),
    "ragged saveat": ({"saveat": [[0.1], 0.2]}, TypeError, "`saveat` must be"),
    "empty saveat": ({"saveat": []}, ValueError, "one-dimensional array of at least"),
    "scalar saveat": ({"saveat": 0.5}, ValueError, r"one-dimensional.*shape \(\)"),
    "nan in saveat": ({"saveat": [0.1, np.nan]}, ValueError, "`saveat` must be finite"),
    "disordered saveat": (
        {"saveat": [0.1, 0.3, 0.2]},
        ValueError,
        "must strictly increase.*0.3 before 0.2 at index 1",
    ),
    "repeated saveat": ({"saveat": [0.1, 0.1]}, ValueError, "must strictly increase"),
    "saveat outside": ({"saveat": [0.5, 1.5]}, ValueError, "within the span.*1.5 at"),
    "saveat before": ({"saveat": [-0.5, 0.5]}, ValueError, "within the span.*-0.5 at"),
    "max_steps": ({"max_steps": 0}, ValueError, "`max_steps` must be at least 1"),
    "fractional max_steps": ({"max_steps": 1.5}, TypeError, "must be an integer"),
    "boolean max_steps": ({"max_steps": True}, TypeError, "must be an integer"),
    "event": ({"event": decay}, TypeError, r"got function. Wrap a condition as Event"),
    "no events": ({"event": []}, ValueError, "`event` is an empty list"),
    "boolean condition": (
        {"event": Event(lambda t, y, a: y[0] < 0)},
        ValueError,
        "must return a real scalar that crosses zero, got a boolean",
    ),
    "condition of a vector": (
        {"event": [SteadyState(), Event(decay)]},
        ValueError,
        "`event` 1 must return a real scalar",
    ),
    "condition raises": (
        {"event": Event(lambda t, y, a: y[7, 7])},
        ValueError,
        "`event` 0 could not be evaluated",
    ),
    "adjoint": ({"adjoint": "magic"}, ValueError, "one of backsolve, direct, forward"),
    "backsolve with event": (
        {"adjoint": "backsolve", "event": SteadyState()},
        ValueError,
        "cannot differentiate through an `event`",
    ),
    "backsolve with steps": (
        {"adjoint": "backsolve", "saveat": "steps"},
        ValueError,
        'adjoint="backsolve"` cannot save `saveat="steps"`',
    ),
    "backsolve with KenCarp": (
        {"adjoint": "backsolve", "solver": "KenCarp4"},
        ValueError,
        "cannot run KenCarp4 backward",
    ),
    "implicit with times": (
        {"adjoint": "implicit", "saveat": [0.5]},
        ValueError,
        "differentiates a steady state",
    ),
    "solver state": (
        {"saveat": diffrax.SaveAt(t1=True, solver_state=True)},
        ValueError,
        "asks for the solver's state",
    ),
    "unknown option": ({"rhs": "callback"}, TypeError, "takes no option rhs"),
    "controller": ({"stepsize_controller": 1}, TypeError, "must be a Diffrax step"),
    "root finder of an explicit solver": (
        {"root_finder": optimistix.Newton(1e-8, 1e-8)},
        ValueError,
        "`root_finder` is for implicit solvers",
    ),
    "root finder twice": (
        {
            "root_finder": optimistix.Newton(1e-8, 1e-8),
            "solver": diffrax.Kvaerno5(),
        },
        ValueError,
        "holds its own",
    ),
    "progress": ({"progress": 1}, TypeError, "`progress` must be True, False or"),
}


@pytest.mark.parametrize(("options", "error", "match"), BAD.values(), ids=BAD)
def test_refuses(problem, options, error, match):
    with pytest.raises(error, match=match):
        solve(problem, **options)


def test_refuses_what_is_no_problem():
    with pytest.raises(
        TypeError, match=r"`problem` must be an ODEProblem or an SDEProblem, got tuple"
    ):
        solve((decay, 1.0))  # pyright: ignore


def test_a_mass_matrix_is_for_julia():
    problem = ODEProblem(decay, jnp.ones(2), 0.0, 1.0, mass_matrix=np.eye(2))
    with pytest.raises(ValueError, match=r'`mass_matrix`; solve.*backend="julia"'):
        solve(problem)


def test_an_infinite_span_needs_an_event():
    problem = ODEProblem(decay, jnp.ones(2), 0.0, np.inf)
    with pytest.raises(ValueError, match=r"`event` must end the solve"):
        solve(problem)


def test_backward_solves_want_backward_options():
    problem = ODEProblem(decay, jnp.ones(2), 1.0, 0.0)
    with pytest.raises(ValueError, match=r"negative for a backward solve"):
        solve(problem, dt=0.1)
    with pytest.raises(ValueError, match=r"must strictly decrease"):
        solve(problem, saveat=[0.2, 0.8])
    with pytest.raises(ValueError, match=r"within the span from 1.0 to 0.0"):
        solve(problem, saveat=[0.8, -0.2])
    assert solve(problem, saveat=[1.0, 0.2, 0.0]).ys.shape == (3, 2)


def test_single_precision_refuses_what_it_cannot_resolve():
    problem = ODEProblem(decay, jnp.ones(2, jnp.float32), 0.0, 1.0)
    with pytest.raises(ValueError, match=r"at least 4.8e-07 .*enable x64"):
        solve(problem, rtol=1e-8)
    with pytest.raises(ValueError, match=r"too small to advance time in float32"):
        solve(eqx.tree_at(lambda p: p.t0, problem, jnp.float32(0.5)), dt=1e-9)
    # Different in float64, equal in float32.
    with pytest.raises(ValueError, match=r"must strictly increase"):
        solve(problem, saveat=[0.5, 0.5 + 1e-9])


def test_events_refuse_bad_parts():
    with pytest.raises(TypeError, match=r"`condition` must be a callable"):
        Event(1.0)  # pyright: ignore
    with pytest.raises(ValueError, match=r'"up", "down" or None, got True'):
        Event(decay, True)  # pyright: ignore
    with pytest.raises(ValueError, match=r"`atol` must not be negative"):
        SteadyState(atol=-1.0)


def test_importing_touches_neither_julia_nor_the_settings_of_jax():
    code = (
        "import sys, jax, hybrid_nds\n"
        "problem = hybrid_nds.ODEProblem(lambda t, y, a: -y, 1.0, 0.0, 1.0)\n"
        "assert hybrid_nds.solve(problem).ys.dtype == 'float32'\n"
        "assert not {'juliacall', 'hybrid_nds.backends.julia'} & set(sys.modules)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_default_tolerances():
    assert default_tolerances(np.float64) == (1e-6, 1e-9)
    assert default_tolerances(np.float32) == (1e-4, 1e-6)


def test_normal_form(problem):
    adaptive = checked(problem)
    assert (float(adaptive.rtol), float(adaptive.atol)) == (1e-6, 1e-9)
    assert not adaptive.fixed_steps
    assert not checked(problem, rtol=1e-3, dt=0.1).fixed_steps
    fixed = checked(problem, dt=0.1, saveat=[0, 1])
    assert fixed.fixed_steps
    assert fixed.saveat.dtype == np.float64
    assert checked(problem, max_steps=np.int64(7)).max_steps == 7
    event = Event(lambda t, y, a: y[0])
    assert checked(problem, event=event).event == (event,)


TRANSLATED = {
    "end": (diffrax.SaveAt(t1=True), None),
    "dense": (diffrax.SaveAt(dense=True), "dense"),
    "dense and end": (diffrax.SaveAt(t1=True, dense=True), "dense"),
    "steps": (diffrax.SaveAt(t0=True, steps=True), "steps"),
}


@pytest.mark.parametrize(("given", "plain"), TRANSLATED.values(), ids=TRANSLATED)
def test_a_diffrax_saveat_is_translated_for_julia(problem, given, plain):
    assert checked(problem, "julia", saveat=given).saveat == plain
    assert checked(problem, "diffrax", saveat=given).saveat is given


def test_the_times_of_a_diffrax_saveat_are_checked_for_julia(problem):
    times = np.array([0.25, 0.5])
    given = diffrax.SaveAt(ts=times)
    np.testing.assert_array_equal(checked(problem, "julia", saveat=given).saveat, times)
    with pytest.raises(ValueError, match=r"within the span"):
        checked(problem, "julia", saveat=diffrax.SaveAt(ts=[0.5, 2.0]))


UNTRANSLATED = {
    "function": diffrax.SaveAt(t1=True, fn=lambda t, y, a: y[0]),
    "every second step": diffrax.SaveAt(t0=True, steps=2),
    "steps without the start": diffrax.SaveAt(steps=True),
    "solver state": diffrax.SaveAt(t1=True, solver_state=True),
    "two": diffrax.SaveAt(subs=[diffrax.SubSaveAt(t1=True)]),
}


@pytest.mark.parametrize("given", UNTRANSLATED.values(), ids=UNTRANSLATED)
def test_other_diffrax_saveats_stay_with_diffrax(problem, given):
    with pytest.raises(ValueError, match=r"only the Diffrax backend takes every"):
        checked(problem, "julia", saveat=given)


def test_a_diffrax_event_stays_with_diffrax(problem):
    event = diffrax.Event(lambda t, y, args, **kwargs: y[0])
    with pytest.raises(TypeError, match=r"runs on the Diffrax backend only"):
        checked(problem, "julia", event=event)


def test_traced_options_pass(problem):
    @jax.jit
    def run(rtol, dt, times):
        options = checked(problem, rtol=rtol, dt=dt, saveat=times)
        return options.rtol, options.dt, options.saveat

    run(-1.0, 0.0, jnp.array([3.0, 2.0]))


def test_names_are_known_on_both_sides():
    assert find_solver("DP5", "diffrax") is find_solver("Dopri5", "julia")
    assert find_solver("tsit5", "julia").julia == "Tsit5"
    assert find_solver(None, "diffrax").diffrax == "Tsit5"
    assert find_solver(None, "julia").julia == "DefaultODEAlgorithm"
    assert find_solver(diffrax.Bosh3(), "julia").julia == "BS3"
    with pytest.raises(ValueError, match=r"only on the diffrax backend"):
        find_solver("ReversibleHeun", "julia")
    with pytest.raises(ValueError, match=r"the julia backend has, got 'Nope'.*Vern9"):
        find_solver("Nope", "julia")


def test_the_table_of_solvers_is_sound():
    every = [name.casefold() for s in ODE_METHODS for name in {s.name, *s.aliases}]
    assert len(every) == len(set(every))
    for info in ODE_METHODS:
        assert (info.julia is None) == (info.julia_package is None)
        assert info.diffrax is not None or info.julia is not None
        if info.twin:
            assert info.diffrax is not None
            assert info.julia is not None
    names = set(solver_names("julia"))
    # What the first release promises to run on Julia.
    assert names >= set(
        "default Tsit5 Vern7 Vern9 DP5 BS3 Rosenbrock23 Rodas5P FBDF QNDF TRBDF2 "
        "KenCarp4 Kvaerno3 Kvaerno4 Kvaerno5 RadauIIA5 ImplicitEuler Euler Heun "
        "Midpoint Ralston ROCK4".split()
    )


IN_DIFFRAX = [info for info in ODE_METHODS if info.diffrax is not None]


@pytest.mark.parametrize("info", IN_DIFFRAX, ids=lambda info: info.name)
def test_the_table_agrees_with_diffrax(info, problem):
    solver = getattr(diffrax, info.diffrax)()
    if info.order is None:
        return
    assert solver.order(diffrax.ODETerm(decay)) == info.order
    assert isinstance(solver, diffrax.AbstractAdaptiveSolver) == bool(info.adaptive)
    assert isinstance(solver, diffrax.AbstractImplicitSolver) == info.implicit


def test_more_fixed_steps_than_can_be_kept_are_refused():
    problem = ODEProblem(lambda t, y, args: -y, jnp.ones(1), 0.0, 1.0)
    with pytest.raises(ValueError, match=r"`dt` makes 1e\+12 steps.*max_steps"):
        solve(problem, dt=1e-12)


def test_more_steps_of_a_path_than_can_be_kept_are_refused():
    noise = lambda t, y, args: jnp.ones_like(y)
    problem = SDEProblem(lambda t, y, args: -y, noise, jnp.ones(1), 0.0, 1.0)
    with pytest.raises(ValueError, match=r"`dt` makes 1\.1e\+12 steps"):
        solve(problem, solver="Euler", dt=2.0**-40, key=jax.random.key(0))


def test_a_path_given_as_the_component_of_a_plot_is_told_where_it_belongs():
    problem = ODEProblem(lambda t, y, args: -y, jnp.ones(1), 0.0, 1.0)
    with pytest.raises(TypeError, match=r"plot\(path='s.png'\)"):
        solve(problem, solver="Euler", dt=0.5).plot("s.png")
