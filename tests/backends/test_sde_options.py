"""The table of stochastic solvers, and the options that a stochastic solve refuses."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hybrid_nds
from hybrid_nds import (
    BrownianPath,
    ODEProblem,
    SDEProblem,
    StoredPath,
    find_solver,
    solve,
    solver_names,
)
from hybrid_nds.backends import check_options
from hybrid_nds.methods import SDE_METHODS, default_method, suitable

KEY = jax.random.key(0)


def decay(t, y, args):
    return -y


DIFFUSIONS = {
    "diagonal": lambda t, y, a: 0.1 * y,
    "scalar": lambda t, y, a: 0.1 * y,
    "additive": lambda t, y, a: 0.1 * jnp.ones(2),
    "additive matrix": lambda t, y, a: 0.1 * jnp.ones((2, 2)),
    "commutative": lambda t, y, a: jnp.stack([0.1 * y, 0.2 * y], axis=-1),
    "general": lambda t, y, a: jnp.stack([0.1 * y, jnp.ones(2)], axis=-1),
}


def make(noise="diagonal", interpretation="ito", **changes):
    arguments = {
        "drift": decay,
        "diffusion": DIFFUSIONS[noise],
        "y0": np.ones(2),
        "t0": 0.0,
        "t1": 1.0,
        "noise": noise.split()[0],
        "interpretation": interpretation,
    } | changes
    return SDEProblem(**arguments)


IN_DIFFRAX = [info for info in SDE_METHODS if info.diffrax]


@pytest.mark.parametrize("info", IN_DIFFRAX, ids=lambda info: info.name)
def test_rows_agree_with_diffrax(info):
    """Its markers, its Lévy areas, and the order it states for the noise it means."""
    solver = getattr(diffrax, info.diffrax)()
    ito = isinstance(solver, diffrax.AbstractItoSolver)
    stratonovich = isinstance(solver, diffrax.AbstractStratonovichSolver)
    if info.noise == ("additive",):
        assert info.interpretations == ("ito", "stratonovich")
    else:
        expected = (("ito",) if ito else ()) + (
            ("stratonovich",) if stratonovich else ()
        )
        assert info.interpretations == expected
    areas = {
        diffrax.AbstractSpaceTimeLevyArea: "space-time",
        diffrax.AbstractSpaceTimeTimeLevyArea: "space-time-time",
    }
    minimal = getattr(solver, "minimal_levy_area", None)
    assert info.levy_area == areas.get(minimal, "none")
    stated = solver.strong_order(None)
    if info.name in ("ItoMilstein", "StratonovichMilstein", "SlowRK"):
        # They state the order for commutative noise.
        assert info.strong_order["commutative"] == stated
    else:
        assert min(info.strong_order.values()) == stated
    if isinstance(solver, diffrax.AbstractSRK):
        assert ("diffrax" in info.adaptive) == (solver.tableau.b_error is not None)
        assert (info.noise == ("additive",)) == solver.tableau.is_additive_noise()


def test_twins():
    twins = {info.name for info in SDE_METHODS if info.twin}
    assert twins == {"Euler", "Heun", "SRA1"}
    assert find_solver("EulerHeun", "julia", "sde").twin is False
    assert all(info.diffrax and info.julia for info in SDE_METHODS if info.twin)


def test_table():
    names = [info.name for info in SDE_METHODS]
    assert len(set(names)) == len(names)
    for info in SDE_METHODS:
        assert info.diffrax or info.julia
        # A method of strong order p has at least weak order p.
        assert all(order <= 3 for order in info.strong_order.values())
        assert info.order >= min(info.strong_order.values(), default=0)
        assert set(info.strong_order) <= set(info.noise)


@pytest.mark.parametrize("stack", ["diffrax", "julia"])
def test_names(stack):
    names = solver_names(stack, "sde")
    assert list(names) == sorted(names, key=str.casefold)
    for name in names:
        assert find_solver(name.upper(), stack, "sde").on(stack) is not None


@pytest.mark.parametrize(
    ("noise", "interpretation", "adaptive", "diffrax_name", "julia_name"),
    [
        ("additive", "ito", False, "SRA1", "SRA1"),
        ("additive", "stratonovich", True, "SRA1", "SRA1"),
        ("general", "ito", False, "Euler", "Euler"),
        ("diagonal", "stratonovich", False, "Heun", "Heun"),
        ("general", "stratonovich", True, "SPaRK", "LambaEulerHeun"),
        ("diagonal", "stratonovich", True, "SPaRK", "RKMil"),
        ("diagonal", "ito", True, None, "SOSRI"),
        ("general", "ito", True, None, "LambaEM"),
    ],
)
def test_defaults(noise, interpretation, adaptive, diffrax_name, julia_name):
    problem = make(noise, interpretation)
    assert default_method(problem.kind, "julia", adaptive=adaptive).name == julia_name
    if diffrax_name is None:
        with pytest.raises(ValueError, match=r"to_stratonovich\(problem\)"):
            default_method(problem.kind, "diffrax", adaptive=adaptive)
    else:
        found = default_method(problem.kind, "diffrax", adaptive=adaptive)
        assert found.name == diffrax_name


@pytest.mark.parametrize("stack", ["diffrax", "julia"])
@pytest.mark.parametrize("noise", DIFFUSIONS)
@pytest.mark.parametrize("interpretation", ["ito", "stratonovich"])
def test_what_does_not_suit_is_refused(stack, noise, interpretation):
    """Every method is either suitable, or refused with the way out."""
    problem = make(noise, interpretation)
    able = suitable(problem.kind, stack)
    assert able
    for info in SDE_METHODS:
        if info.on(stack) is None:
            continue
        arguments = {
            "solver": info.name.lower(),
            "path": BrownianPath(
                KEY, problem.noise_dimension, 0.0, 1.0, 0.5, "space-time-time"
            ),
            "rtol": None,
            "atol": None,
            "dt": None,
            "key": None,
            "saveat": None,
            "adjoint": None,
            "event": None,
            "max_steps": None,
            "progress": False,
            "extra": {},
        }
        if info in able:
            options = check_options(problem, stack, **arguments)
            assert options.solver == info.name
            continue
        if not info.takes(problem.kind):
            match = f"{info.name} takes no '{problem.noise}' noise.*these do: "
        elif not info.converges_to(problem.kind):
            other = "stratonovich" if interpretation == "ito" else "ito"
            match = (
                f"converges to the solution in the '{other}' interpretation.*"
                rf"to_{other}\(problem\)"
            )
        else:
            match = "underdamped_langevin"
        with pytest.raises(ValueError, match=match):
            check_options(problem, stack, **arguments)


def path(**changes):
    arguments = {"shape": 2, "t0": 0.0, "t1": 1.0, "dt": 0.25} | changes
    return BrownianPath(KEY, **arguments)


STEP = {"key": KEY, "dt": 0.25}
# Made in its test: collecting compiles nothing.
REFUSALS = {
    "no path": lambda: ({"dt": 0.25}, ValueError, "`key`.* or `path`.*; got neither"),
    "key and path": lambda: (
        {"key": KEY, "path": path()},
        ValueError,
        "`key`.* or `path`.*; got both",
    ),
    "no key": lambda: (
        {"key": 3, "dt": 0.25},
        TypeError,
        "`key` must be one random key",
    ),
    "many keys": lambda: (
        {"key": jax.random.split(KEY), "dt": 0.25},
        TypeError,
        "`key` must be one random key",
    ),
    "no step": lambda: ({"key": KEY}, ValueError, "needs `dt`"),
    "step that does not divide": lambda: (
        {"key": KEY, "dt": 0.3},
        ValueError,
        r"solve: `dt` must divide the span from 0\.0 to 1\.0 .* got 0\.3",
    ),
    "negative step": lambda: (
        {"key": KEY, "dt": -0.25},
        ValueError,
        r"`dt` must be positive .* no backward direction; got -0\.25",
    ),
    "no number": lambda: (
        {"key": KEY, "dt": "small"},
        TypeError,
        "`dt` must be a real number",
    ),
    "tiny step": lambda: (
        {"key": KEY, "dt": 1e-18},
        ValueError,
        "too small to advance time in float64",
    ),
    "another step": lambda: (
        {"path": path(), "dt": 0.125},
        ValueError,
        r"step of the grid of `path`, 0\.25, got 0\.125; .* path\.with_steps\(8\)",
    ),
    "path of another size": lambda: (
        {"path": path(shape=3)},
        ValueError,
        "must hold 2 Brownian motions, as the 'diagonal' noise",
    ),
    "path of another span": lambda: (
        {"path": path(t1=2.0)},
        ValueError,
        r"span of `problem`, from 0\.0 to 1\.0, got from 0\.0 to 2\.0",
    ),
    "path of another dtype": lambda: (
        {"path": path(dtype=jnp.float32)},
        TypeError,
        "dtype of the state, float64, got float32",
    ),
    "path without area": lambda: (
        {
            "path": path(),
            "solver": "SPaRK",
            "problem": make("diagonal", "stratonovich"),
        },
        ValueError,
        "needs a path with levy_area='space-time', but `path` has 'none'",
    ),
    "no path at all": lambda: (
        {"path": np.zeros((5, 2))},
        TypeError,
        "`path` must be a BrownianPath, a NativePath or a StoredPath, got ndarray",
    ),
    "stored path, adaptive": lambda: (
        {
            "path": StoredPath(np.ones((4, 2)), np.ones((4, 2)), t0=0.0, t1=1.0),
            "solver": "SPaRK",
            "rtol": 1e-3,
            "problem": make("diagonal", "stratonovich"),
        },
        ValueError,
        "a StoredPath is known on its grid alone",
    ),
    "unknown solver": lambda: (
        STEP | {"solver": "Milstein"},
        ValueError,
        "got 'Milstein'. It has: ALIGN, EM, Euler",
    ),
    "solver of ordinary problems": lambda: (
        STEP | {"solver": "Tsit5"},
        ValueError,
        "one for stochastic problems",
    ),
    "solver of the other stack": lambda: (
        STEP | {"solver": "SOSRI"},
        ValueError,
        'exists only on the julia backend; pass backend="julia"',
    ),
    "no solver": lambda: (
        STEP | {"solver": 5},
        TypeError,
        "a name or a Diffrax solver",
    ),
    "Diffrax object of the other interpretation": lambda: (
        STEP | {"solver": diffrax.Heun()},
        ValueError,
        r"Heun converges .*'stratonovich'.*hybrid_nds\.to_stratonovich",
    ),
    "wrapped Diffrax object": lambda: (
        STEP | {"solver": diffrax.HalfSolver(diffrax.SPaRK())},
        ValueError,
        "SPaRK converges",
    ),
    "no error estimate": lambda: (
        STEP | {"solver": "ItoMilstein", "rtol": 1e-3},
        ValueError,
        "ItoMilstein has no error estimate on the diffrax backend",
    ),
    "Diffrax object without error estimate": lambda: (
        STEP | {"solver": diffrax.ItoMilstein(), "rtol": 1e-3},
        ValueError,
        r"ItoMilstein has no error estimate.*diffrax\.HalfSolver",
    ),
    "zero tolerances": lambda: (
        STEP | {"rtol": 0.0, "atol": 0.0},
        ValueError,
        "must not both be zero",
    ),
    "time between steps": lambda: (
        STEP | {"saveat": np.array([0.25, 0.6])},
        ValueError,
        r"`saveat` must hold times of the steps.*got 0\.6 at index 1, nearest to 0\.5",
    ),
    "time outside": lambda: (
        STEP | {"saveat": np.array([1.5])},
        ValueError,
        "within the span",
    ),
    "dense": lambda: (
        STEP | {"saveat": "dense"},
        ValueError,
        "no interpolation follows it",
    ),
    "event": lambda: (
        STEP | {"event": hybrid_nds.SteadyState()},
        ValueError,
        "takes no `event`",
    ),
    "max_steps": lambda: (
        STEP | {"max_steps": 0},
        ValueError,
        "`max_steps` must be at least",
    ),
    "option of neither": lambda: (
        STEP | {"root_finder": 1},
        TypeError,
        "no option root_finder",
    ),
    "adjoint": lambda: (
        STEP | {"adjoint": "implicit"},
        ValueError,
        'adjoint="implicit"',
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refuses(name):
    options, error, match = REFUSALS[name]()
    problem = options.pop("problem", None) or make()
    with pytest.raises(error, match=match):
        solve(problem, **options)


def test_an_ordinary_problem_takes_no_path():
    problem = ODEProblem(decay, np.ones(2), 0.0, 1.0)
    for option in ({"key": KEY}, {"path": path()}):
        with pytest.raises(TypeError, match="are for an SDEProblem"):
            solve(problem, **option)


def test_saved_times_are_those_of_the_grid():
    """A time that misses a step by rounding stands for that step."""
    problem = make(t0=0.1, t1=1.0)
    options = check_options(
        problem,
        "diffrax",
        solver=None,
        rtol=None,
        atol=None,
        dt=0.1,
        key=KEY,
        path=None,
        saveat=[0.1 + 0.1, 0.30000000000000004, 0.7, 1.0],
        adjoint=None,
        event=None,
        max_steps=None,
        progress=False,
        extra={},
    )
    grid = np.asarray(options.path.times)
    np.testing.assert_array_equal(options.saveat, grid[[1, 2, 6, 9]])
    assert options.solver == "Euler"
    assert options.path.steps == 9
    assert options.fixed_steps
