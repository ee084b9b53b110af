"""Claims, findings, sweeps, runs that go on, reports and the command."""

import dataclasses
import importlib.metadata
import json
import math
import os
import signal
import subprocess
import sys
import textwrap

import hypothesis.strategies as st
import numpy as np
import pytest
from helpers import EntryPoint
from hypothesis import given
from typer.testing import CliRunner

from hybrid_nds import studies
from hybrid_nds.studies import (
    Claim,
    Findings,
    Sweep,
    _registry as registry,
    run_study,
    study,
    write_pages,
    write_report,
)
from hybrid_nds.studies._executor import executor_of
from hybrid_nds.tasks import _executors as executors

numbers = st.floats(-1e6, 1e6)


def claim(**changes):
    given = {
        "statement": "two and two are four",
        "expected": 4.0,
        "source": "counting",
        "measured": 4.0,
        "tolerance": 0.0,
        "reason": "exact",
    }
    return Claim(**given | changes)


@given(numbers, numbers, st.floats(0, 1e6))
def test_the_relation_of_a_claim_decides(expected, measured, tolerance):
    given = {"expected": expected, "measured": measured, "tolerance": tolerance}
    off = measured - expected
    assert claim(**given).holds == (abs(off) <= tolerance)
    assert claim(**given, relation="≤").holds == (off <= tolerance)
    assert claim(**given, relation="≥").holds == (-off <= tolerance)


@given(st.sampled_from(["=", "≤", "≥"]))
def test_what_is_no_number_never_holds(relation):
    for measured in (math.nan, math.inf, -math.inf):
        assert not claim(measured=measured, relation=relation).holds


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tolerance": -1.0}, "`tolerance` must be finite and not negative, got -1.0"),
        ({"tolerance": math.inf}, "`tolerance` must be finite"),
        ({"expected": math.nan}, "`expected` must be finite, got nan"),
        ({"relation": "<"}, "`relation` must be one of =, ≤, ≥, got '<'"),
        ({"level": 1.5}, "between 0 and 1, got 1.5"),
    ],
)
def test_bad_claims_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        claim(**changes)


def test_findings_hold_what_a_report_needs():
    with pytest.raises(ValueError, match="`claims` is empty"):
        Findings(())
    with pytest.raises(ValueError, match="'two and two are four' is there twice"):
        Findings((claim(), claim(measured=5.0)))
    with pytest.raises(TypeError, match="must hold Claim objects, got str"):
        Findings(("four",))
    with pytest.raises(TypeError, match="must be an array of numbers or texts"):
        Findings((claim(),), {"x": object()})


@dataclasses.dataclass(frozen=True)
class Config:
    points: tuple[int, ...] = (1, 2, 3)
    factor: float = 2.0
    folder: str = ""


def double(point):
    """Twice the number, and a note of who asked, where a folder is given."""
    number, factor, folder = point
    if folder:
        with open(os.path.join(folder, f"{number}"), "a") as file:
            file.write("x")
    return {"value": number * factor, "square": np.array([number, number**2])}


@study(
    title="Doubling & <halving>",
    direction="algorithms",
    source="counting",
    quick=Config(points=(1, 2)),
)
def doubling(config: Config, backend: str, sweep: Sweep) -> Findings:
    """Is twice a number its double?

    All of them are tried.
    """
    points = [(number, config.factor, config.folder) for number in config.points]
    values = [float(row["value"]) for row in sweep(double, points)]
    off = np.array(values) - 2 * np.array(config.points)
    return Findings(
        (claim(statement="doubles", expected=0.0, measured=np.max(np.abs(off))),),
        {"values": values},
        ("All is exact.",),
    )


@doubling.figure
def draw(figure, config, findings):
    axes = figure.subplots()
    for backend, found in findings.items():
        axes.plot(config.points, found.data["values"], label=backend)


def test_a_study_knows_its_parts():
    assert doubling.name == "doubling"
    assert doubling.question == "Is twice a number its double?"
    assert doubling.presets["default"] == doubling.presets["paper"] == Config()
    assert doubling.presets["quick"].points == (1, 2)


def test_studies_that_cannot_be_are_refused():
    given = {"title": "", "source": ""}
    with pytest.raises(ValueError, match="`direction` must be one of"):
        study(direction="up", **given)
    with pytest.raises(ValueError, match="`backends` must be some of"):
        study(direction="algorithms", backends=("torch",), **given)
    with pytest.raises(TypeError, match=r"must take \(config, backend, sweep\)"):
        study(direction="algorithms", **given)(lambda config: None)

    def loose(config: dict, backend: str, sweep: Sweep) -> Findings:
        """No."""

    with pytest.raises(TypeError, match="annotated with a frozen dataclass"):
        study(direction="algorithms", **given)(loose)

    def mute(config: Config, backend: str, sweep: Sweep) -> Findings: ...

    with pytest.raises(ValueError, match="needs a docstring"):
        study(direction="algorithms", **given)(mute)
    with pytest.raises(TypeError, match="`quick` must be a Config, got int"):
        study(direction="algorithms", quick=3, **given)(mute)


def test_a_run_finds_and_a_wrong_one_fails():
    result = run_study(doubling, backends=("diffrax",))
    assert result.passed
    assert result.missing == {"julia": "not asked for"}
    wrong = run_study(doubling, config=Config(factor=3.0), backends=("diffrax",))
    assert not wrong.passed
    assert wrong.preset == "custom"
    assert "FAILS" in str(wrong)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"preset": "fast"}, ValueError, "`preset` must be one of"),
        ({"config": 3}, TypeError, "`config` of 'doubling' must be a Config"),
        ({"backends": "diffrax"}, ValueError, "must be a sequence of some of"),
        ({"backends": ("torch",)}, ValueError, "must be a sequence of some of"),
        ({"executor": 0}, ValueError, "at least 1 worker process, got 0"),
    ],
)
def test_bad_runs_are_refused(options, kind, words):
    with pytest.raises(kind, match=words):
        run_study(doubling, **{"backends": ("diffrax",)} | options)


def test_what_is_there_is_not_run_again(tmp_path):
    asked, saved = tmp_path / "asked", tmp_path / "saved"
    asked.mkdir()

    def run(points):
        config = Config(points=points, folder=str(asked))
        return run_study(doubling, config=config, backends=("diffrax",), save=saved)

    first = run((1, 2))
    # Points that another configuration shares are taken over, too.
    second = run((1, 2, 3))
    assert run((1, 2, 3)).to_dict() == second.to_dict()
    assert {path.name: path.read_text() for path in asked.iterdir()} == {
        "1": "x",
        "2": "x",
        "3": "x",
    }
    assert first.passed
    assert second.findings["diffrax"].data["values"].tolist() == [2.0, 4.0, 6.0]


def test_a_sweep_on_processes_gives_the_same(tmp_path):
    asked = tmp_path / "asked"
    asked.mkdir()
    points = [(number, 2.0, str(asked)) for number in range(5)]
    sweep = Sweep("doubling", "diffrax", executor=2, folder=tmp_path / "points")
    found = sweep(double, points)
    alone = Sweep("doubling", "diffrax")(double, [(n, 2.0, "") for n in range(5)])
    for one, other in zip(found, alone, strict=True):
        assert one["value"] == other["value"]
        assert np.array_equal(one["square"], other["square"])
    assert sorted(path.read_text() for path in asked.iterdir()) == ["x"] * 5
    assert len(list((tmp_path / "points").glob("*.npz"))) == 5


def kill_once(point):
    """Kills its own process at the first point with this number, once."""
    number, folder = point
    flag = os.path.join(folder, "killed")
    if number == 2 and not os.path.exists(flag):
        open(flag, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_process_loses_no_point(tmp_path):
    points = [(number, str(tmp_path)) for number in range(6)]
    found = Sweep("killing", "diffrax", executor=2)(kill_once, points)
    assert [int(value) for value in found] == list(range(6))


@pytest.mark.slow
def test_a_killed_worker_of_dask_loses_no_point(tmp_path):
    distributed = pytest.importorskip("distributed")
    points = [(number, str(tmp_path)) for number in range(6)]
    # One thread each, and a nanny that starts another worker in place of a dead one.
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
    ):
        address = f"dask:{cluster.scheduler_address}"
        with executor_of(address) as executor:
            sweep = Sweep("killing", "diffrax", executor, tmp_path / "points")
            found = sweep(kill_once, points)
    assert (tmp_path / "killed").exists()
    assert [int(value) for value in found] == list(range(6))
    assert len(list((tmp_path / "points").glob("*.npz"))) == 6


def test_values_that_cannot_be_kept_are_refused():
    with pytest.raises(TypeError, match="must give an array, a number"):
        Sweep("odd", "diffrax")(lambda point: object(), [1])


def test_a_report_is_one_page(tmp_path):
    result = run_study(doubling, backends=("diffrax",))
    page = write_report([result], tmp_path).read_text()
    assert "Doubling &amp; &lt;halving&gt;" in page
    assert "<halving>" not in page
    assert "1 of 1 studies hold; 1 of 1 claims" in " ".join(page.split())
    # Nothing is loaded from elsewhere.
    assert "http" not in page
    assert page.count('src="') == page.count('src="data:image/png;base64,')
    plain = json.loads((tmp_path / "results.json").read_text())
    assert plain["passed"]
    assert plain["studies"][0]["findings"]["diffrax"]["claims"][0]["holds"]
    assert (tmp_path / "doubling.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="`results` is empty"):
        write_report([], tmp_path)


def test_pages_tell_of_a_run(tmp_path):
    odd = study(title="A * of | pipes", direction="algorithms", source="<counting>")

    def pipes(config: Config, backend: str, sweep: Sweep) -> Findings:
        """Is \\(1\\) one? Then \\[ 1 = 1 \\] holds."""
        return Findings((claim(statement="E|x| of _all_"),), {}, ("A <note>.",))

    pipes = odd(pipes)
    pipes.figure(lambda figure, config, findings: figure.subplots())
    results = [run_study(one, backends=("diffrax",)) for one in (pipes, doubling)]
    pages = write_pages(results, tmp_path)
    assert [page.name for page in pages] == ["pipes.md", "doubling.md"]
    text = pages[0].read_text()
    # Formulas in lines of their own; in tables nothing that Markdown reads as its own.
    assert "\n\n\\[ 1 = 1 \\]\n\n" in text
    assert "| E&#124;x&#124; of &#95;all&#95; | = 4<br>" in text
    assert "A &#60;note&#62;." in text
    assert "1 of 1 claims hold" in text
    assert "Preset default" in text
    for one in results:
        figure = tmp_path / "images" / f"{one.study.name}.png"
        assert figure.read_bytes()[:4] == b"\x89PNG"
    wrong = run_study(doubling, config=Config(factor=3.0), backends=("diffrax",))
    assert "**fails**" in write_pages([wrong], tmp_path)[0].read_text()
    with pytest.raises(ValueError, match="none of `results` has findings"):
        write_pages([run_study(doubling, backends=())], tmp_path)


def test_a_backend_that_stops_is_told_of(tmp_path):
    config = Config(folder="/nowhere at all")
    given = {"config": config, "backends": ("diffrax",)}
    with pytest.raises(FileNotFoundError):
        run_study(doubling, **given)
    result = run_study(doubling, **given, keep_errors=True)
    assert not result.passed
    page = write_report([result], tmp_path).read_text()
    assert "diffrax stopped: FileNotFoundError" in page


def test_what_did_not_run_neither_holds_nor_fails(tmp_path):
    alone = study(title="Alone", direction="algorithms", source="", backends=("julia",))
    result = run_study(alone(doubling._run), backends=("diffrax",))
    assert not result.ran
    assert not result.passed
    page = write_report([result], tmp_path).read_text()
    assert "not run" in page
    assert ">fails<" not in page
    assert not json.loads((tmp_path / "results.json").read_text())["passed"]


def test_one_julia_serves_all_who_ask():
    one = executors.julia_beside("ensemble", None)
    assert executors.julia_beside("study 'doubling'", None) is one


@pytest.fixture
def offered(monkeypatch):
    """Makes a study one that another package offers."""

    def offer(one):
        monkeypatch.setattr(
            importlib.metadata,
            "entry_points",
            lambda group: [EntryPoint(one.name, one)],
        )

    registry._others.cache_clear()
    yield offer
    registry._others.cache_clear()


@pytest.fixture
def others(offered):
    offered(doubling)


def test_studies_of_other_packages_are_found(others):
    assert studies.study_names()[-1] == "doubling"
    assert studies.find_study("doubling") is doubling
    with pytest.raises(ValueError, match="no study 'tripling'; there are"):
        studies.find_study("tripling")


def command(*arguments):
    from hybrid_nds.cli import app

    return CliRunner().invoke(app, ["study", *arguments])


def test_the_command_lists_runs_and_reports(others, tmp_path):
    listed = command("list")
    assert listed.exit_code == 0
    assert "doubling" in listed.output
    given = ("run", "doubling", "--quick", "--backend", "diffrax", "--out")
    done = command(*given, str(tmp_path), "--pages", str(tmp_path / "pages"))
    assert done.exit_code == 0, done.output
    assert "All 1 studies hold" in done.output
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "pages" / "doubling.md").exists()


@pytest.mark.slow
def test_the_command_on_a_cluster_survives_a_worker(offered, tmp_path):
    distributed = pytest.importorskip("distributed")
    folder = str(tmp_path)

    def dying(config: Config, backend: str, sweep: Sweep) -> Findings:
        """Is every point there once?"""
        points = [(number, config.folder) for number in range(6)]
        total = sum(int(number) for number in sweep(kill_once, points))
        return Findings((claim(expected=15.0, measured=total),))

    made = study(
        title="Dying", direction="algorithms", source="", quick=Config(folder=folder)
    )(dying)
    made.figure(lambda figure, config, findings: figure.subplots())
    offered(made)
    given = ("run", "dying", "--quick", "--backend", "diffrax", "--out", folder)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        done = command(*given, "--executor", f"dask:{cluster.scheduler_address}")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "killed").exists()
    assert len(list((tmp_path / "saved/dying/points").glob("*.npz"))) == 6
    assert json.loads((tmp_path / "results.json").read_text())["passed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "name the studies to run, or say --all"),
        (("run", "nothing"), "no study 'nothing'"),
        (("run", "depth_limit", "--quick", "--paper"), "exclude each other"),
        (("run", "depth_limit", "--backend", "torch"), "--backend must be one of"),
        (("run", "depth_limit", "--executor", "threads:2"), "--executor must be"),
        (("run", "depth_limit", "--executor", "dask:no.json"), "Start the scheduler"),
    ],
)
def test_the_command_refuses(arguments, words):
    done = command(*arguments)
    assert done.exit_code == 2
    assert words in done.output


def test_an_interrupted_command_goes_on(tmp_path):
    # The third point stops the program as Ctrl-C does; it runs once more without.
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from hybrid_nds.studies import Sweep

        folder = Path(sys.argv[1])

        def one(number):
            if number == 2 and not (folder / "again").exists():
                (folder / "again").touch()
                os.kill(os.getpid(), signal.SIGINT)
            with open(folder / f"{number}", "a") as file:
                file.write("x")
            return number

        print(sum(int(x) for x in Sweep("s", "diffrax", folder=folder / "p")(
            one, range(4))))
        """
    )
    path = tmp_path / "script.py"
    path.write_text(script)
    given = [sys.executable, str(path), str(tmp_path)]
    first = subprocess.run(given, capture_output=True, text=True)
    assert "KeyboardInterrupt" in first.stderr
    second = subprocess.run(given, capture_output=True, text=True)
    assert second.stdout.strip() == "6", second.stderr
    assert [(tmp_path / f"{n}").read_text() for n in range(4)] == ["x"] * 4
