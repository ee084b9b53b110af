"""Outputs that cannot be written are found before the work; any encoding is printed."""

import os
import stat
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from typer.testing import CliRunner

from hybrid_nds import ODEProblem, ensemble
from hybrid_nds._core import check_writable_file, check_writable_folder
from hybrid_nds.analysis import SavedProgress
from hybrid_nds.cli import app
from hybrid_nds.reconcile.loading import fixtures_root
from hybrid_nds.studies import Sweep
from hybrid_nds.training import fit


def _never(*arguments, **options):
    raise AssertionError("the work began")


@pytest.fixture
def taken(tmp_path):
    """A path within a file, where no folder can be."""
    file = tmp_path / "file"
    file.write_text("")
    return file / "inside"


def _ensemble(place):
    # A field that is traced for its shape alone: a solve would count more.
    problem = ODEProblem(lambda t, y, args: -y, jnp.array([1.0]), 0.0, 1.0)
    starts = jnp.ones((4, 1))
    ensemble(problem, 4, initial=starts, key=jax.random.key(0), save=place)


def _fit(place):
    model = eqx.nn.Linear(1, 1, key=jax.random.key(0))
    data = np.ones((4, 1))
    fit(
        model,
        data,
        lambda m, b, k: jnp.mean(m(b[0])),
        optax.sgd(0.1),
        steps=2,
        key=jax.random.key(0),
        checkpoint=place,
    )


CALLS = {
    "ensemble": (_ensemble, "ensemble: `save` must be a folder"),
    "fit": (_fit, "fit: `checkpoint` must be a folder"),
    "study": (
        lambda place: Sweep("demo", "diffrax", folder=place)(_never, [1.0]),
        "study 'demo': `save` must be a file that can be written",
    ),
    "analysis": (
        lambda place: SavedProgress("analysis", place / "run.npz", {}).read(),
        "analysis: `save` must be a file that can be written",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_functions_refuse_what_cannot_be_written(name, taken, monkeypatch):
    monkeypatch.setattr("hybrid_nds.ensembles._ensemble.make_blocks", _never)
    monkeypatch.setattr("hybrid_nds.training._training.Program", _never)
    call, words = CALLS[name]
    with pytest.raises(ValueError, match=words) as error:
        call(taken)
    assert f"{taken.parent} is a file" in str(error.value)


FIXTURE = str(fixtures_root() / "lorenz63")
COMMANDS = {
    "solve": ("solve", FIXTURE, "--output"),
    "validate": ("validate", "--problem", "gbm", "--output"),
    "study": ("study", "run", "depth_limit", "--quick", "--out"),
    "pages": ("study", "run", "depth_limit", "--quick", "--out", "{}", "--pages"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_refuse_what_cannot_be_written(name, taken, monkeypatch, tmp_path):
    monkeypatch.setattr("hybrid_nds.solve", _never)
    monkeypatch.setattr("hybrid_nds.cli._climb.climb", _never)
    monkeypatch.setattr("hybrid_nds.studies.run_study", _never)
    words = [word.format(tmp_path / "out") for word in COMMANDS[name]]
    done = CliRunner().invoke(app, ["--no-cache", *words, str(taken / "deeper")])
    assert done.exit_code == 2, done.output
    assert f"`{words[-1]}` must be a f" in done.stderr
    assert f"{taken.parent} is a file" in done.stderr
    # Nothing is left of a refusal.
    assert not (tmp_path / "out").exists()


def test_a_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(ValueError, match="`save` must be a file, got the folder"):
        check_writable_file("f", "save", tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_without_permission(tmp_path, monkeypatch):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(tmp_path, os.W_OK):

        def refuse(self, **options):
            raise PermissionError(13, "Permission denied", str(self))

        # Who tests is the superuser, to whom permissions do not apply.
        monkeypatch.setattr("pathlib.Path.touch", refuse)
    for name, check in (("out", check_writable_folder), ("a", check_writable_file)):
        with pytest.raises(ValueError, match=f"f: `{name}` .*: Permission denied"):
            check("f", name, tmp_path / "deep" / "er")
    tmp_path.chmod(stat.S_IRWXU)


def test_a_check_leaves_nothing(tmp_path):
    check_writable_folder("f", "out", tmp_path / "a" / "b")
    check_writable_file("f", "out", tmp_path / "a" / "b.csv")
    assert list(tmp_path.iterdir()) == []


ENCODINGS = pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
PRINTING = {
    "help": ("--help",),
    "list": ("study", "list"),
    "study": ("study", "run", "--help"),
    "show": ("julia", "configure", "--show"),
    "doctor": ("doctor",),
    "solve": ("solve", FIXTURE, "--times", "0.1,0.2"),
    "wrong": ("solve", "Föhn−±αλ…/problem.toml"),
}


@ENCODINGS
@pytest.mark.parametrize("name", PRINTING)
def test_commands_print_in_any_encoding(name, encoding, monkeypatch, tmp_path):
    monkeypatch.setenv("HYBRID_NDS_CONFIG", str(tmp_path))
    if name == "doctor":
        found = {
            "name": "julia",
            "status": "absent",
            "message": "λ ≤ 1 ± 2…",
            "remedy": "−",
        }
        findings = {"versions": {"β": "1"}, "jax": {"devices": ["é"]}, "julia": {}}
        findings["jax"]["double_precision"] = True
        # The command hides the module of its name.
        monkeypatch.setattr(
            sys.modules["hybrid_nds.cli._doctor"],
            "examine",
            lambda: findings | {"checks": [found]},
        )
    done = CliRunner(charset=encoding).invoke(app, ["--no-cache", *PRINTING[name]])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.exit_code == (name == "wrong")
    text = (done.stdout_bytes + done.stderr_bytes).decode(encoding)
    if name == "wrong" and encoding == "ascii":
        assert "Fohn-+/-alphalambda..." in text.replace("\n", "")
    if name == "doctor" and encoding == "ascii":
        assert "lambda <= 1 +/- 2..." in text


def test_the_program_itself_prints_in_ascii():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    code = (
        "import sys; from hybrid_nds.cli import main; sys.argv[1:] = ['--help']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
