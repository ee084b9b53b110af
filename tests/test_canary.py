"""The history of the ladder on the newest releases."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "packaging" / "canary.py"


@pytest.fixture(scope="module")
def canary():
    spec = importlib.util.spec_from_file_location("canary", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(versions, verdicts, passed=True):
    rungs = [
        {"rung": f"L{k}", "verdict": verdict} for k, verdict in enumerate(verdicts)
    ]
    return {
        "passed": passed,
        "reports": [{"name": "robertson", "rungs": rungs, "versions": versions}],
    }


def test_what_broke_is_told_with_the_versions_since_it_held(canary, tmp_path, capsys):
    files = [tmp_path / name for name in ("report.json", "history.json", "page.md")]

    def run(*arguments, **options):
        files[0].write_text(json.dumps(report(*arguments, **options)))
        return canary.main(*files), capsys.readouterr().out

    good = [["jax", "1"], ["diffrax", "1"]]
    assert run(good, ["passed", "passed"]) == (0, "")
    newer = [["jax", "2"], ["diffrax", "1"]]
    assert run(newer, ["passed", "passed"]) == (0, "")
    worse = [["jax", "2"], ["diffrax", "2"], ["lineax", "1"]]
    code, words = run(worse, ["passed", "failed"], passed=False)
    assert code == 1
    assert "- robertson L1\n" in words
    assert "- diffrax 1 → 2\n" in words
    assert "- lineax absent → 1\n" in words
    assert "jax 1" not in words
    # Still broken: what differs is told against the run that held, not the last one.
    code, words = run(worse, ["failed", "passed"], passed=False)
    assert "- diffrax 1 → 2\n" in words
    rows = files[2].read_text().splitlines()[4:]
    assert [row.split(" | ")[1] for row in rows] == [
        *("robertson L0", "robertson L1", "holds", "holds")
    ]
    assert "diffrax 1 → 2" in rows[1]


def test_what_compared_nothing_does_not_hold(canary, tmp_path, capsys):
    files = [tmp_path / name for name in ("report.json", "history.json", "page.md")]
    files[0].write_text(json.dumps(report([], ["not compared"], passed=False)))
    assert canary.main(*files) == 1
    assert "No earlier run held" in capsys.readouterr().out
    assert "incomplete" in files[2].read_text()


def test_the_real_report_is_read(canary, tmp_path):
    """Of a ladder climbed here, as `validate` writes it."""
    from hybrid_nds.reconcile import load_fixture, reconcile, write_reports

    one = reconcile(load_fixture("prothero_robinson"), rungs=["L0"], julia="recorded")
    write_reports([one], tmp_path, "recorded")
    data = json.loads((tmp_path / "report.json").read_text())
    run = canary.run_of(data, "2026-01-01")
    assert run["holds"]
    assert {"jax", "diffrax", "hybrid_nds"} <= set(run["versions"])
    assert canary.run_of(data | {"passed": False}, "")["holds"] is False
