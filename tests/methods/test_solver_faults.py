"""Known faults upstream: the page says what the tables do, and they what is done."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import BrownianPath, Event, ODEProblem, SDEProblem, solve
from hybrid_nds.backends import check_options
from hybrid_nds.backends.julia import _checks as julia_checks
from hybrid_nds.methods import (
    ODE_METHODS,
    SDE_METHODS,
    find_solver,
)
from hybrid_nds.methods._faults import (
    COARSE_OUTPUT_DIFFRAX,
    COARSE_OUTPUT_JULIA,
    IMEX_PRECISION,
    SCALAR_TOLERANCE,
)

SCRIPT = Path(__file__).parents[2] / "docs" / "assets" / "faults.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("faults", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_tables(script):
    assert script.PAGE.read_text(encoding="utf-8") == script.page()


def test_the_page_names_every_fault(script):
    page = script.page()
    for info in (*ODE_METHODS, *SDE_METHODS):
        for fault in info.faults:
            assert info.on(fault.stack) is not None, (info.name, fault)
            (line,) = (
                line
                for line in page.splitlines()
                if fault.where in line and fault.effect in line
            )
            assert f"`{info.on(fault.stack)}`" in line
            assert fault.remedy in line


def test_coarse_dense_output_is_met_by_steps():
    known = {"diffrax": COARSE_OUTPUT_DIFFRAX, "julia": COARSE_OUTPUT_JULIA}
    for info in ODE_METHODS:
        for stack, fault in known.items():
            assert (stack in info.coarse_output) == (fault in info.faults), info.name


@pytest.mark.parametrize(
    "name", [i.name for i in ODE_METHODS if IMEX_PRECISION in i.faults]
)
def test_imex_methods_are_refused_in_the_lesser_precision(name):
    decay = ODEProblem(lambda t, y, args: -y, jnp.ones(1, jnp.float32), 0.0, 1.0)
    with pytest.raises(ValueError, match="in float32 only where JAX runs in 32 bits"):
        solve(decay, solver=name)


@pytest.mark.parametrize(
    "name", [i.name for i in ODE_METHODS if SCALAR_TOLERANCE in i.faults]
)
def test_a_tolerance_for_each_component_is_refused(name):
    decay = ODEProblem(lambda t, y, args: -y, jnp.ones(2), 0.0, 1.0)
    with pytest.raises(ValueError, match="one number for `atol`"):
        solve(decay, "julia", solver=name, atol=np.array([1e-6, 1e-8]))


def checked(noise, solver, **options):
    """Check a stochastic solve as far as it goes without Julia."""
    shape = (2, 2) if noise == "general" else (2,)
    problem = SDEProblem(
        lambda t, y, args: -y,
        lambda t, y, args: jnp.full(shape, 0.1) * y[0],
        jnp.ones(2),
        0.0,
        1.0,
        noise=noise,
    )
    path = BrownianPath(jax.random.key(0), 2, 0.0, 1.0, 0.5, "space-time")
    shared = dict.fromkeys(
        ("rtol", "atol", "dt", "key", "saveat", "adjoint", "event", "max_steps")
    )
    full = check_options(
        problem,
        "julia",
        **(shared | options),
        solver=solver,
        path=path,
        progress=False,
        extra={},
    )
    info = find_solver(solver, "julia", "sde")
    julia_checks.check(problem, full, info)


@pytest.mark.parametrize(
    ("solver", "noise", "options", "match"),
    [
        ("PL1WM", "general", {}, "PL1WM of StochasticDiffEq 7 loses terms of the"),
        ("DRI1", "general", {"rtol": 0.1}, "matrix noise DRI1 estimates no error"),
        ("RKMilGeneral", "general", {"rtol": 0.1}, "RKMilGeneral draws the Lévy area"),
    ],
)
def test_refusals_say_what_the_table_does(solver, noise, options, match):
    with pytest.raises(ValueError, match=match):
        checked(noise, solver, **options)
    if options:
        checked(noise, solver)


@pytest.mark.filterwarnings("ignore:.*noise is said to be")
def test_lost_noise_is_warned_of():
    with pytest.warns(UserWarning, match="ISSEM .* it overwrites the noise of a step"):
        checked("diagonal", "ISSEM", rtol=0.1)


def test_coarse_events_are_warned_of():
    decay = ODEProblem(lambda t, y, args: -y, jnp.ones(1), 0.0, 1.0)
    options = {"event": Event(lambda t, y, args: y[0] - 0.5), "rtol": 1e-6}
    with pytest.warns(
        UserWarning, match="KenCarp5 of Diffrax, asked for events, finds them on its"
    ):
        solve(decay, solver="KenCarp5", **options)
    solve(decay, solver="Kvaerno5", **options)


def test_rows_carry_their_faults():
    stages = [f for f in find_solver("Kvaerno5", "julia").faults if "c₂" in f.effect]
    assert [f.version for f in stages] == ["OrdinaryDiffEqSDIRK 2.9.1"]


def index_one_pendulum():
    """The pendulum in Cartesian coordinates, from rest at the height of its pivot."""

    def field(t, s, args):
        x, y, u, v, tension = s
        residual = u**2 + v**2 - tension * (x**2 + y**2) - 9.81 * y
        return jnp.stack([u, v, -tension * x, -tension * y - 9.81, residual])

    mass = np.diag([1.0, 1.0, 1.0, 1.0, 0.0])
    start = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    return ODEProblem(field, start, 0.0, 3.0, mass_matrix=mass)


@pytest.mark.julia
@pytest.mark.slow
def test_radau_solves_stages_tightly_where_there_are_constraints(julia):
    problem = index_one_pendulum()
    options = {"solver": "RadauIIA5", "rtol": 1e-8, "throw": False}
    upstream = solve(problem, "julia", newton_tolerance=0.01, **options)
    assert upstream.outcome_name == "unstable"
    assert float(upstream.end_time) < 3
    found = solve(problem, "julia", **options)
    assert found.succeeded
    # Energy, of which the start has none: v²/2 + g y, and the length of the rod. Some
    # 250 steps of 1e-8, on squares of numbers up to 5.
    x, y, u, v, _ = np.asarray(found.ys[-1])
    assert abs((u**2 + v**2) / 2 + 9.81 * y) < 1e-4
    assert abs(x**2 + y**2 - 1) < 1e-4
