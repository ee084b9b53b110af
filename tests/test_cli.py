"""The command line: what it prints, writes and exits with."""

import csv
import json
import math
import os

import numpy as np
import pytest
from typer.testing import CliRunner

from hybrid_nds.cli import app
from hybrid_nds.reconcile import load_fixture


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a command where no Julia is configured."""
    monkeypatch.setenv("HYBRID_NDS_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("PYTHON_JULIACALL_EXE", raising=False)
    monkeypatch.delenv("PYTHON_JULIACALL_PROJECT", raising=False)
    monkeypatch.setattr("hybrid_nds.runtime.discovery.juliapkg_resolved", lambda: False)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


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
    assert "not TOML" in julia["words"]


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
        *("solve", fixture.path / "problem.toml", "--solver", "Kvaerno5"),
        *("--rtol", 1e-8, "--atol", 1e-8, "--output", output),
    )
    assert result.exit_code == 0, result.output
    assert "success" in result.output
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


@pytest.mark.slow
def test_validate_without_julia_says_so_and_writes_its_report(run, tmp_path):
    folder = tmp_path / "report"
    result = run("validate", "--problem", "lorenz63", "--output", folder)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0].startswith("No live Julia")
    data = json.loads((folder / "report.json").read_text())
    assert data["passed"]
    assert data["julia"] == "recorded"
    (report,) = data["reports"]
    assert [r["verdict"] for r in report["rungs"]] == ["passed"] * 4
    figures = [f for r in report["rungs"] for f in r["figures"]]
    assert all(math.isfinite(f["measured"]) for f in figures)
    assert "recorded" in (folder / "report.md").read_text()
    assert (folder / "plots" / "lorenz63.png").stat().st_size > 10_000
    assert not list(folder.glob(".*"))


def test_validate_refuses_unknown_names(run):
    assert run("validate", "--problem", "lorenz").exit_code == 2
    assert run("validate", "--rung", "L4").exit_code == 2
    assert run("validate", "--backend", "scipy").exit_code == 2


def test_validate_exits_with_failure_on_a_broken_rung(run, monkeypatch, tmp_path):
    from hybrid_nds.reconcile import rungs

    # A limit a thousand times below round-off cannot hold.
    monkeypatch.setattr(rungs, "UNIT", rungs.UNIT * 1e-3)
    result = run(
        *("validate", "--problem", "lorenz63", "--rung", "L1"),
        *("--output", tmp_path / "report"),
    )
    assert result.exit_code == 1
    assert "failed" in result.output
    assert not json.loads((tmp_path / "report" / "report.json").read_text())["passed"]
