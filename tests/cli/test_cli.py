"""The command line: what it prints, writes and exits with."""

import csv
import io
import json
import math
import os

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hybrid_nds.cli._cache import use_compilation_cache
from hybrid_nds.cli._ladder_table import LadderTable
from hybrid_nds.cli._solve import _tables
from hybrid_nds.cli._streams import console, use_any_encoding
from hybrid_nds.reconcile import (
    TELLING,
    Figure,
    Fixture,
    Report,
    RungResult,
    load_fixture,
)
from hybrid_nds.reconcile._names import RUNGS, TITLES


def test_doctor_without_julia(run):
    result = run("doctor", "--json")
    assert result.exit_code == 0, result.output
    findings = json.loads(result.output)
    status = {check["name"]: check["status"] for check in findings["checks"]}
    assert status == {"diffrax": "works", "julia": "absent"}
    julia = next(c for c in findings["checks"] if c["name"] == "julia")
    assert "hybrid-nds julia install" in julia["remedy"]


def test_doctor_with_a_broken_configuration(run, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "julia.toml").write_text("exe = ")
    result = run("doctor", "--json")
    assert result.exit_code == 1
    findings = json.loads(result.output)
    julia = next(c for c in findings["checks"] if c["name"] == "julia")
    assert julia["status"] == "broken"
    assert "not TOML" in julia["message"]


def test_configure_saves_shows_and_removes(run, tmp_path):
    exe = tmp_path / "julia"
    exe.write_text("#!/bin/sh\necho julia version 1.11.4\n")
    exe.chmod(0o755)
    (tmp_path / "Project.toml").write_text("")
    result = run("julia", "configure", "--exe", exe, "--project", tmp_path)
    assert result.exit_code == 0, result.output
    assert "Julia 1.11.4" in result.output
    assert str(exe) in run("julia", "configure", "--show").output.replace("\n", "")
    assert "Removed" in run("julia", "configure", "--remove").output
    assert "Nothing" in run("julia", "configure", "--remove").output


def test_configure_refuses_what_is_not_julia(run, tmp_path):
    result = run("julia", "configure", "--exe", "/bin/echo", "--project", tmp_path)
    assert result.exit_code == 1
    assert not (tmp_path / "config").exists()
    assert run("julia", "configure", "--exe", "julia").exit_code == 2


def test_solve_writes_a_table_that_is_right(run, tmp_path):
    fixture = load_fixture("prothero_robinson")
    output = tmp_path / "solution.csv"
    result = run(
        *("solve", fixture.path / "problem.toml"),
        *("--rtol", 1e-8, "--atol", 1e-8, "--output", output),
    )
    assert result.exit_code == 0, result.output
    assert "success" in result.output
    # The file says that the problem is stiff.
    assert "Kvaerno5 of diffrax" in result.output
    rows = list(csv.reader(output.read_text().splitlines()))
    assert rows[0] == ["t", "y1"]
    last = fixture.reference.ys[-1, 0]
    # Stiff and contracting: the error at the end is of the order of the tolerance.
    np.testing.assert_allclose(float(rows[1][1]), last, rtol=1e-6)
    assert [name for name in os.listdir(tmp_path) if name.endswith(".csv")] == [
        "solution.csv"
    ]


def test_solve_says_what_is_wrong(run, tmp_path):
    missing = run("solve", tmp_path / "nowhere.toml")
    assert missing.exit_code == 1
    assert "nowhere" in missing.output
    fixture = load_fixture("lorenz63").path
    assert "Tsit5" in run("solve", fixture, "--solver", "Tsit6").output
    assert run("solve", fixture, "--times", "1,x").exit_code == 2


def test_validate_without_julia_says_so_and_writes_its_report(run, tmp_path):
    folder = tmp_path / "report"
    result = run(
        *("validate", "--problem", "prothero_robinson", "--rung", "L0"),
        *("--rung", "L2", "--output", folder),
    )
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "recorded, not live" in lines[1]
    assert max(map(len, lines[:2])) <= 80
    assert lines[2].split() == ["problem", "L0", "field", "L2", "solution", "s"]
    name, *cells, seconds = lines[3].split()
    assert name == "prothero_robinson"
    assert cells[::2] == ["holds", "holds"]
    assert int(seconds) >= 0
    assert str(folder / "report.html") in "".join(lines[4:])
    data = json.loads((folder / "report.json").read_text())
    assert data["passed"]
    assert data["julia"] == "recorded"
    (report,) = data["reports"]
    assert [r["verdict"] for r in report["rungs"]] == ["passed"] * 2
    figures = [f for r in report["rungs"] for f in r["figures"]]
    assert all(math.isfinite(f["measured"]) for f in figures)
    assert "recorded" in (folder / "report.md").read_text()
    assert "prothero_robinson" in (folder / "report.html").read_text()
    assert (folder / "plots" / "prothero_robinson.png").stat().st_size > 10_000
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_validate_in_processes_says_the_same(run, tmp_path):
    """Two problems in two processes, to the last digit what one process finds."""
    found = []
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        result = run(
            *("validate", "--problem", "gbm", "--problem", "pendulum", "--rung", "L0"),
            *("--jobs", jobs, "--output", folder),
        )
        assert result.exit_code == 0, result.output
        data = json.loads((folder / "report.json").read_text())
        found.append(
            [
                (report["name"], f["claim"], f["measured"], f["limit"])
                for report in data["reports"]
                for r in report["rungs"]
                for f in r["figures"]
            ]
        )
    assert found[0] == found[1]
    assert found[0][0][0] == "gbm"


def test_the_default_tier_shows_every_kind_of_problem():
    """A stiff, a chaotic and a differential-algebraic problem, a network, and noise
    that is scalar, additive and not commutative."""
    fixtures = [load_fixture(name) for name in TELLING]
    ordinary = [f for f in fixtures if isinstance(f, Fixture)]
    stochastic = [f for f in fixtures if not isinstance(f, Fixture)]
    assert any(f.stiff for f in ordinary)
    assert any(f.problem.mass_matrix is not None for f in ordinary)
    assert any(f.analyses for f in ordinary)
    assert {f.problem.noise for f in stochastic} == {"scalar", "additive", "general"}
    assert all(set(RUNGS) == set(f.rungs) for f in stochastic)


def test_validate_refuses_unknown_names(run, tmp_path):
    assert run("validate", "--problem", "lorenz").exit_code == 2
    assert run("validate", "--rung", "L4").exit_code == 2
    assert run("validate", "--backend", "scipy").exit_code == 2
    assert run("validate", "--all", "--problem", "gbm").exit_code == 2
    taken = tmp_path / "file"
    taken.write_text("")
    refused = run("validate", "--output", taken)
    assert refused.exit_code == 2
    assert "cannot write" in refused.output


def test_validate_exits_with_failure_on_a_broken_rung(run, monkeypatch, tmp_path):
    from hybrid_nds.reconcile import _ode_plan as plan

    # A limit a thousand times below round-off cannot hold.
    monkeypatch.setattr(plan, "UNIT", plan.UNIT * 1e-3)
    result = run(
        *("validate", "--problem", "lorenz63", "--rung", "L1"),
        *("--output", tmp_path / "report"),
    )
    assert result.exit_code == 1
    assert "FAILS" in result.output
    assert "lorenz63" in result.output.splitlines()[-1]
    assert not json.loads((tmp_path / "report" / "report.json").read_text())["passed"]


def test_the_cache_of_compiled_programs_is_the_users_to_choose(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE")):
            monkeypatch.delenv(name)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path / "cache")
    # What is set while the test runs is taken back after it.
    monkeypatch.setattr(os, "environ", dict(os.environ))
    folder = use_compilation_cache()
    assert folder is not None
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path / "cache")
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(folder)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "own")
    assert use_compilation_cache() == tmp_path / "own"


@pytest.mark.parametrize("command", [["validate"], ["solve"], ["study", "run"]])
def test_the_cache_can_be_left_out_behind_a_command(run, monkeypatch, command):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("JAX_ENABLE_COMPILATION_CACHE", None)
    wrong = {"validate": ["--rung", "L4"], "solve": ["nowhere"], "study": []}
    result = run(*command, "--no-cache", *wrong[command[0]])
    assert "No such option" not in result.output
    assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "false"


def test_without_a_place_for_the_cache_commands_go_on(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path / "cache")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    assert use_compilation_cache() is None
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("terminal", [True, False])
def test_the_table_reads_in_every_terminal(encoding, terminal):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, force_terminal=terminal, width=80, no_color=True)
    names = ["linear_noncommutative", "gbm"]
    with LadderTable(console, names, RUNGS, TITLES) as table:
        for name in names:
            for rung, share in zip(RUNGS, (0.004, 0.123, 3.21, 4e5), strict=True):
                table.notify(name, rung, None)
                figures = (Figure("claim", share, 1.0, "why"),)
                table.notify(name, rung, RungResult(rung, figures, seconds=1.0))
    file.flush()
    text = Text.from_ansi(raw.getvalue().decode(encoding)).plain
    rows = [line for line in text.splitlines() if line.strip().startswith("gbm")]
    words = ["gbm", "holds", "<1%", "holds", "12%", "FAILS", "3.2x", "FAILS", "4e5x"]
    assert rows[-1].split() == [*words, "4"]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_a_dumb_terminal_gets_a_line_once_a_problem_is_through(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80)
    with LadderTable(console, ["gbm", "kubo"], ("L0",), TITLES) as table:
        held = RungResult("L0", (Figure("claim", 0.5, 1.0, "why"),), seconds=1.0)
        table.notify("gbm", "L0", held)
        assert file.getvalue().splitlines()[-1].split() == ["gbm", "holds", "50%", "1"]


@pytest.mark.parametrize(
    "settings", [{"LC_ALL": "C"}, {"LANG": "C"}, {"TERM": "dumb"}, {}]
)
def test_a_plain_locale_or_terminal_gets_ascii(monkeypatch, settings):
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "PYTHONIOENCODING", "PYTHONUTF8"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm"} | settings).items():
        monkeypatch.setenv(name, value)
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="utf-8")
    file.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", file)
    use_any_encoding()
    table = Table("±", title="[julia]")
    table.add_row("[bold]")
    console(width=40).print(table)
    file.flush()
    text = Text.from_ansi(raw.getvalue().decode()).plain
    assert text.isascii() == bool(settings)
    assert "[julia]" in text
    assert "[bold]" in text


@pytest.mark.parametrize(("times", "components"), [(1, 3), (1, 8), (2, 8), (9, 8)])
def test_every_number_is_shown_whole(times, components):
    """In 80 columns, with its exponent, whatever the size of the solution."""
    names = [f"y{k}" for k in range(components)]
    cells = [
        [str(t), *(f"-1.23456789{t}{k}e-100" for k in range(components))]
        for t in range(times)
    ]
    file = io.StringIO()
    screen = Console(file=file, width=80, soft_wrap=True)
    for table in _tables(names, cells, 80):
        screen.print(table)
    text = file.getvalue()
    assert all(number in text for row in cells for number in row)
    assert all(name in text for name in names)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("whole", [0, 1])
def test_an_interrupted_validation_has_not_passed(run, monkeypatch, tmp_path, whole):
    """After some problems, and after a rung of the next; all three files say so."""
    held = RungResult("L0", (Figure("claim", 0.5, 1.0, "why"),), seconds=1.0)

    def climb(names, rungs, mode, jobs, notify):
        for name in names[:whole]:
            yield Report(name, (held,), mode, ()), b"a picture"
        notify(names[whole], "L0", held)
        raise KeyboardInterrupt

    monkeypatch.setattr("hybrid_nds.cli._climb.climb", climb)
    chosen = ("--problem", "gbm", "--problem", "pendulum", "--problem", "kubo")
    result = run("validate", *chosen, "--output", tmp_path)
    assert result.exit_code == 130
    assert f"interrupted after {whole} of 3" in result.output
    words = f"interrupted, {whole} of 3"
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["passed"] is False
    assert data["interrupted"] == words
    assert len(data["reports"]) == whole
    (partial,) = data["partial"]
    assert [r["rung"] for r in partial["rungs"]] == ["L0"]
    markdown = (tmp_path / "report.md").read_text()
    assert markdown.startswith(f"# Validation: {words}\n")
    assert "passed" not in markdown.splitlines()[0]
    assert words.capitalize() in (tmp_path / "report.html").read_text()
