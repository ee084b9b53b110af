"""Errors that list what is accepted: the list is the table, and all of it is taken."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import hybrid_nds
from hybrid_nds import (
    BrownianPath,
    NativePath,
    ODEProblem,
    SDEProblem,
    ensemble,
    models,
    runtime,
    solve,
    stability,
    studies,
)
from hybrid_nds.cli import app
from hybrid_nds.lowering import lower
from hybrid_nds.methods import find_solver, solver_names
from hybrid_nds.reconcile import list_fixtures, load_fixture, reconcile
from hybrid_nds.reconcile.loading._expression import FUNCTIONS, parse_expression
from hybrid_nds.training import LawLoss, TrajectoryLoss

# Names that annotations exclude are what is tested.
pytestmark = pytest.mark.usefixtures("unchecked_types")

KEY = jax.random.key(0)
ODE = ODEProblem(lambda t, y, a: -y, jnp.ones(2), 0.0, 1.0)
SDE = SDEProblem(
    lambda t, y, a: -y, lambda t, y, a: 0.5 * y, jnp.ones(1), 0.0, 1.0, noise="scalar"
)
NONSENSE = "nonsense"
LISTING = re.compile(
    r"(?:one of|some of|there are|It has|it takes):? (.*?)"
    r"(?:;? ?,? got|, or a |\.\s|\.$)"
)


def backend(name, folder):
    # For another reason refused by Julia's, before Julia is started.
    solve(ODE, name, adjoint="direct", dt=0.5, solver="Heun")


def solver(stack, kind):
    return lambda name, folder: find_solver(name, stack, kind)


def option(problem, stack):
    more = {"key": KEY, "dt": 0.5} if problem is SDE else {"dt": 0.5}
    more |= {} if stack == "diffrax" else {"progress": NONSENSE}
    return lambda name, folder: solve(problem, stack, **more, **{name: object()})


def in_julia(**given):
    # What is looked at last is wrong, so that Julia is not started.
    return solve(ODE, "julia", specialize=NONSENSE, **given)


def preconditioned(name, folder):
    # So that Julia is not started: in that form there is no sparse Jacobian.
    solve(ODE, "julia", solver="FBDF", form="scalar", preconditioner=name)


def study(**given):
    given = {"direction": "algorithms", "backends": ("diffrax",)} | given
    return studies.study(title="A title.", source="None.", **given)


def saved(dtype, folder):
    value = np.zeros(2, dtype if dtype != NONSENSE else "datetime64[s]")
    hybrid_nds.save(folder / "model", value)


def configuration(key, folder):
    path = runtime.configuration_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {"exe": '"x"', "project": '"x"'} | {key: "1" if key == "threads" else '"x"'}
    path.write_text("".join(f"{name} = {x}\n" for name, x in given.items()))
    runtime.load_configuration()


def scheme(name, folder):
    theta = {"theta": 0.5} if name.startswith("Theta") else {}
    stability.mean_square_factor(SDE, name, 0.1, **theta)


def branch(kind, folder):
    stability.continue_equilibria(
        lambda p: ODEProblem(lambda t, y, a: a - y, jnp.ones(1), 0.0, 1.0, p),
        1.0,
        (0.9, 1.1),
    ).find(kind)


def expression(name, folder):
    try:
        parse_expression(f"{name}(1)", ())
    except ValueError as error:
        # As the file's error, which it is a part of, ends.
        raise ValueError(f"{error}.") from None


def command(*words):
    def call(value, folder):
        result = CliRunner().invoke(app, [*words, value])
        if result.exit_code == 2:
            raise ValueError(" ".join(result.output.split()))

    return call


ALL = object()
STACKS = ("diffrax", "julia")
NOISE = ("additive", "scalar", "diagonal", "commutative", "general")
MEANING = ("ito", "stratonovich")
RUNGS = ("L0", "L1", "L2", "L3")
PRESETS = ("default", "quick", "paper")
OWN = studies.find_study("mirror_flow")
# Where the error stands; what calls with a value; the values; those that are tried,
# where to try all would be to run all.
CASES: list[tuple[str, Any, Any, Any]] = [
    ("solving/_solve", backend, STACKS, ALL),
    *(
        ("methods/_table", solver(stack, kind), solver_names(stack, kind), ALL)
        for stack in STACKS
        for kind in ("ode", "sde")
    ),
    (
        "backends/diffrax/_parts",
        lambda name, _: solve(ODE, adjoint=name, solver="Heun", dt=0.5),
        ("recursive_checkpoint", "direct", "forward", "backsolve", "implicit"),
        ALL,
    ),
    (
        "backends/diffrax/_ode",
        option(ODE, "diffrax"),
        ("root_finder", "step_to_saveat", "stepsize_controller"),
        ALL,
    ),
    ("backends/diffrax/_sde", option(SDE, "diffrax"), ("stepsize_controller",), ALL),
    (
        "backends/julia/_checks",
        option(ODE, "julia"),
        (
            "form",
            "jacobian",
            "newton_tolerance",
            "preconditioner",
            "recorded_steps",
            "rhs",
            "specialize",
            "step_to_saveat",
            "worker",
        ),
        ALL,
    ),
    (
        "backends/julia/_checks",
        option(SDE, "julia"),
        ("newton_tolerance", "rhs", "theta", "worker"),
        ALL,
    ),
    (
        "training/_trajectories",
        lambda name, _: TrajectoryLoss((0.0, 1.0), backend=name),
        ("diffrax", "julia"),
        ALL,
    ),
    (
        "backends/julia/_checks",
        lambda name, _: in_julia(rhs=name),
        ("lowered", "callback"),
        ALL,
    ),
    (
        "backends/julia/_checks",
        lambda name, _: in_julia(form=name),
        ("array", "scalar"),
        ALL,
    ),
    (
        "backends/julia/_checks",
        lambda name, _: in_julia(solver="Rodas5P", jacobian=name),
        ("auto", "dense", "sparse", "matrix-free"),
        ALL,
    ),
    (
        "backends/julia/_preconditioner",
        preconditioned,
        ("ilu", "multigrid", "block-jacobi"),
        ALL,
    ),
    (
        "lowering/_lower",
        lambda name, _: lower(ODE.field, 0.0, ODE.y0, form=name),
        ("array", "scalar"),
        ALL,
    ),
    (
        "lowering/_lower",
        lambda name, _: lower(ODE.field, 0.0, ODE.y0, part=name),
        ("field", "jacobian", "time_gradient", "product"),
        ALL,
    ),
    (
        "problems/_sde",
        lambda name, _: SDEProblem(
            SDE.drift,
            lambda t, y, a: jnp.ones((1, 1) if name in NOISE[3:] else 1),
            SDE.y0,
            0.0,
            1.0,
            noise=name,
        ),
        NOISE,
        ALL,
    ),
    (
        "problems/_sde",
        lambda name, _: SDEProblem(
            SDE.drift, SDE.diffusion, SDE.y0, 0.0, 1.0, interpretation=name
        ),
        MEANING,
        ALL,
    ),
    (
        "noise/_path",
        lambda name, _: BrownianPath(KEY, 1, 0.0, 1.0, 0.5, name),
        ("none", "space-time", "space-time-time"),
        ALL,
    ),
    (
        "noise/_native",
        lambda name, _: NativePath(KEY, 1, 0.0, 1.0, 2, name),
        ("none", "space-time", "space-time-time"),
        ALL,
    ),
    (
        "ensembles/_checks",
        lambda name, _: ensemble(SDE, 2, key=KEY, dt=0.5, paths=name),
        (None, "shared", "native"),
        ALL,
    ),
    (
        "ensembles/_result",
        lambda name, _: ensemble(SDE, 2, key=KEY, dt=0.5).plot(kind=name),
        ("band", "paths", "histogram"),
        ALL,
    ),
    (
        "training/_laws",
        lambda name, _: LawLoss((0.0, 1.0), name),
        ("energy", "mmd", "sinkhorn"),
        ALL,
    ),
    (
        "studies/_study",
        lambda name, _: study(direction=name),
        ("continuous models", "discretization", "algorithms"),
        ALL,
    ),
    ("studies/_study", lambda name, _: study(backends=(name,)), STACKS, ALL),
    (
        "studies/_claim",
        lambda name, _: studies.Claim("s", 0.0, "s", 0.0, 0.0, "r", name),
        ("=", "≤", "≥"),
        ALL,
    ),
    (
        "studies/_run",
        lambda name, _: studies.run_study(OWN, preset=name, backends=()),
        PRESETS,
        ALL,
    ),
    (
        "studies/_run",
        lambda name, _: studies.run_study(OWN, backends=[name]),
        STACKS,
        (),
    ),
    (
        "studies/_registry",
        lambda name, _: studies.find_study(name),
        studies.study_names(),
        ALL,
    ),
    (
        "models/_checks",
        lambda name, _: models.ContractingODE(2, norm=name, key=KEY),
        ("1", "2", "inf"),
        ALL,
    ),
    (
        "models/_checks",
        lambda name, _: models.NeuralSDE(2, noise=name, key=KEY),
        NOISE,
        ALL,
    ),
    (
        "models/_checks",
        lambda name, _: models.NeuralSDE(2, interpretation=name, key=KEY),
        MEANING,
        ALL,
    ),
    (
        "models/_checks",
        lambda name, _: models.Attention(2, normalization=name),
        ("softmax", "mean"),
        ALL,
    ),
    ("models/_saving", saved, None, ALL),
    ("runtime/_configuration", configuration, ("exe", "project", "threads"), ALL),
    ("stability/growth/_mean_square_schemes", scheme, None, ALL),
    (
        "stability/local/_continuation",
        branch,
        ("fold", "hopf", "branch point"),
        ALL,
    ),
    (
        "reconcile/_ladder",
        lambda name, _: reconcile(ODE, rungs=(name,)),
        RUNGS,
        ("L0",),
    ),
    (
        "reconcile/loading/_folders",
        lambda name, _: load_fixture(name),
        list_fixtures(),
        list_fixtures()[:2],
    ),
    (
        "reconcile/loading/_expression",
        expression,
        tuple(FUNCTIONS),
        (),
    ),
    ("cli/_rungs", command("reconcile", "lorenz63", "--rung"), RUNGS, ()),
    (
        "cli/_stability",
        lambda name, _: command("stability", "run", name)("lorenz63", _),
        None,
        (),
    ),
    (
        "models/_spatial",
        lambda value, folder: models.ReactionDiffusion(
            lambda u: u, jnp.ones(1), boundary=value
        ),
        ("periodic", "neumann"),
        ALL,
    ),
    ("cli/_rungs", command("validate", "--rung"), RUNGS, ()),
    ("cli/_validate", command("validate", "--problem"), list_fixtures(), ()),
    ("cli/_validate", command("validate", "--backend"), ("auto", *STACKS), ()),
    (
        "cli/_study",
        command("study", "run", "mirror_flow", "--backend"),
        ("auto", *STACKS),
        (),
    ),
]
IDS = [f"{where}-{i}" for i, (where, *_) in enumerate(CASES)]
# Lists that follow from one file's contents, or one problem's, and not from a table.
OTHERS = {
    "reconcile/_specification",
    "reconcile/_fixtures",
    "reconcile/_report",
    "backends/_saved_times",
    "backends/_solver",
    "methods/_choice",
}


@pytest.fixture
def place(monkeypatch, tmp_path):
    monkeypatch.setenv("HYBRID_NDS_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr("hybrid_nds.cli.use_compilation_cache", lambda: None)
    return tmp_path


# Where a value passes, another argument may be refused, as those of `option` are.
ELSEWHERE = re.compile(r"(solve|ensemble|Ensemble\.plot): ")


def listed(call, value, folder):
    """What an error lists, `None` where a call is not refused for its value."""
    try:
        call(value, folder)
    except runtime.JuliaNotFoundError:
        return None
    except (TypeError, ValueError, RuntimeError, FileNotFoundError) as error:
        text = str(error)
        found = LISTING.search(text)
        if found is None and not ELSEWHERE.match(text):
            raise
        return found and [x.strip("'") for x in found[1].split(", ")]
    return None


@pytest.mark.parametrize(("where", "call", "values", "tried"), CASES, ids=IDS)
def test_what_is_listed_is_accepted(where, call, values, tried, place):
    found = listed(call, NONSENSE, place)
    assert found is not None
    names = found if values is None else [str(x) for x in values]
    assert sorted(found) == sorted(names)
    assert len(found) == len(set(found)) > 0
    known = names if values is None else list(values)
    for value in known if tried is ALL else tried:
        assert listed(call, value, place) is None, value


def test_every_list_is_among_them():
    root = Path(models.__file__).parents[1]
    pattern = re.compile(
        r"(?:one of|some of|there are|it takes|has:)[ \"\n]*f?\"?\s*"
        r"\{(?:', '\.join\(|listing)"
    )
    found = {
        str(path.relative_to(root).with_suffix(""))
        for path in root.rglob("*.py")
        if pattern.search(path.read_text())
    }
    assert len(found) > 20
    assert found <= {where for where, *_ in CASES} | OTHERS
