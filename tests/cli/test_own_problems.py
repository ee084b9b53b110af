"""Problems of a user's own on the command line: solved, reconciled, analysed."""

import json
import sys

import numpy as np
import pytest

from hybrid_nds.cli._stability import analyses

MODULE = """
import jax.numpy as jnp
from hybrid_nds import ODEProblem, SDEProblem

decay = ODEProblem(
    lambda t, y, a: {"a": -y["a"], "b": y["a"]},
    {"a": jnp.ones(1), "b": jnp.zeros(1)}, 0.0, 2.0,
)
number = 3

def noisy():
    return SDEProblem(
        lambda t, y, a: -y, lambda t, y, a: 0.1 * y, jnp.ones(1), 0.0, 1.0,
        noise="diagonal",
    )
"""
OSCILLATOR = """
kind = "ode"
t0 = 0.0
t1 = 3.0
[y0]
angle = 1.0
speed = 0.0
[field]
angle = "speed"
speed = "-4*angle - 0.2*speed"
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a module and a file, that commands run in."""
    (tmp_path / "of_a_user.py").write_text(MODULE)
    (tmp_path / "oscillator.toml").write_text(OSCILLATOR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("of_a_user", None)


def exact(t):
    """The oscillator's angle from 1 at rest."""
    a, w = 0.1, np.sqrt(4 - 0.01)
    return np.exp(-a * t) * (np.cos(w * t) + a / w * np.sin(w * t))


def read(path):
    if path.suffix == ".csv":
        names, *rows = path.read_text().splitlines()
        values = np.array([row.split(",") for row in rows], float)
        return dict(zip(names.split(","), values.T, strict=True))
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        return parquet.read_table(path).to_pydict()
    if path.suffix == ".nc":
        xarray = pytest.importorskip("xarray")
        data = xarray.load_dataset(path, engine="scipy")
        angle, speed = data["ys"].values.T
        return {"t": data["time"].values, "angle": angle, "speed": speed}
    data = json.loads(path.read_text())
    angle, speed = np.array(data["ys"]).T
    return {"t": data["ts"], "angle": angle, "speed": speed}


@pytest.mark.parametrize("ending", ["csv", "parquet", "nc", "json"])
def test_a_solution_is_written_as_its_ending_says(run, here, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    file = here / f"solution.{ending}"
    result = run(
        *("solve", "oscillator.toml", "--times", "0,1.5,3", "--output", file),
        *("--rtol", 1e-10, "--atol", 1e-10, "--plot", here / "figure.png"),
    )
    assert result.exit_code == 0, result.output
    assert "angle" in result.output
    found = read(file)
    assert list(found)[:3] == ["t", "angle", "speed"]
    np.testing.assert_allclose(found["angle"], exact(np.array([0, 1.5, 3])), atol=1e-8)
    assert (here / "figure.png").read_bytes().startswith(b"\x89PNG")
    # Nothing is left beside what was asked for.
    names = {path.name for path in here.iterdir()}
    left = {"of_a_user.py", "oscillator.toml", "__pycache__", "config"}
    assert names - left == {file.name, "figure.png"}


def test_problems_of_a_module(run, here):
    result = run("solve", "of_a_user:decay", "--rtol", 1e-10, "--atol", 1e-10)
    assert result.exit_code == 0, result.output
    assert "0.13533528" in result.output
    first, again, other = (
        run("solve", "of_a_user:noisy", "--dt", 0.0625, "--seed", seed).output
        for seed in (1, 1, 2)
    )
    assert "Euler of diffrax, 16 steps" in first
    assert first == again != other


@pytest.mark.parametrize(
    ("words", "code", "match"),
    [
        (("solve", "of_a_user:nothing"), 1, "problems there: decay"),
        (("solve", "of_a_user:number"), 1, "got int"),
        (("solve", "of_nobody:decay"), 1, "No module named 'of_nobody'"),
        (("solve", "of_a_user:a.b"), 1, "package.module:name"),
        (("solve", "nowhere.toml"), 1, "nowhere"),
        (("solve", "oscillator.toml", "--output", "x.txt"), 2, "must be one of *.csv"),
        (
            ("stability", "run", "nothing", "oscillator.toml"),
            2,
            "there are",
        ),
        (
            ("stability", "run", "equilibria", "oscillator.toml"),
            2,
            "wants --set region",
        ),
        (
            ("stability", "run", "stiffness", "oscillator.toml", "--set", "tol=1"),
            2,
            "with a name of solver",
        ),
        (
            ("stability", "run", "equilibria", "oscillator.toml", "--set", "region=3"),
            1,
            "region",
        ),
        (("reconcile", "oscillator.toml", "--rung", "L7"), 2, "L0, L1, L2, L3"),
    ],
)
def test_what_is_wrong_is_said(run, here, words, code, match):
    result = run(*words)
    assert result.exit_code == code, result.output
    assert match in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_an_analysis_finds_what_its_function_finds(run, here):
    result = run(
        *("stability", "run", "jacobian_spectrum", "oscillator.toml"),
        *("--set", "y=[0.0, 0.0]", "--output", "found.json", "--plot", "found.png"),
    )
    assert result.exit_code == 0, result.output
    data = json.loads((here / "found.json").read_text())
    # λ² + 0.2 λ + 4 = 0.
    np.testing.assert_allclose(data["eigenvalues_real"], -0.1, rtol=1e-12)
    imaginary = np.abs(data["eigenvalues_imaginary"])
    np.testing.assert_allclose(imaginary, np.sqrt(3.99), rtol=1e-12)
    assert (here / "found.png").stat().st_size > 5000
    listed = run("stability", "list").output
    assert all(name in listed for name in analyses())
    assert "lyapunov_spectrum" in analyses()


def test_every_analysis_says_what_it_wants(run, here):
    """Each can be asked for: what stands between is named, never a traceback."""
    for name in analyses():
        result = run("stability", "run", name, "oscillator.toml", "--set", "none=1")
        assert result.exit_code == 2
        assert name in result.output


def test_reconcile_without_julia_compares_nothing(run, here):
    result = run(
        *("reconcile", "oscillator.toml", "--rung", "L0", "--rung", "L2"),
        *("--output", here / "report"),
    )
    assert result.exit_code == 1, result.output
    assert "nothing independent was compared" in result.output
    data = json.loads((here / "report" / "report.json").read_text())
    assert not data["passed"]


@pytest.mark.julia
def test_reconcile_of_ones_own(here, julia):
    from typer.testing import CliRunner

    from hybrid_nds.cli import app

    words = ["--no-cache", "reconcile", "oscillator.toml", "--backend", "julia"]
    result = CliRunner().invoke(app, [*words, "--rung", "L0", "--output", "report"])
    assert result.exit_code == 0, result.output
    page = (here / "report" / "report.html").read_text()
    assert "oscillator" in page
