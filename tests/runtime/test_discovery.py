"""Which Julia, how many threads, and what juliapkg knows: rules of precedence."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hybrid_nds import runtime

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = ROOT / "tests" / "stand_in"


@pytest.fixture
def julia_anywhere(tmp_path, monkeypatch):
    """A program that calls itself Julia, and a project; nothing is configured."""
    for name in ("EXE", "PROJECT", "THREADS", "HANDLE_SIGNALS"):
        monkeypatch.delenv(f"PYTHON_JULIACALL_{name}", raising=False)
    monkeypatch.setenv("HYBRID_NDS_CONFIG", str(tmp_path / "config"))
    exe = tmp_path / "julia"
    exe.write_text("#!/bin/sh\necho julia version 1.10.8\n")
    exe.chmod(0o755)
    (tmp_path / "Project.toml").write_text("")
    return str(exe), str(tmp_path)


def _program(code: str, path: Path | None = None, **environment: str):
    """Run a program of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(path or "")} | environment,
    )


def test_threads_by_argument_environment_configuration_and_default(
    julia_anywhere, monkeypatch
):
    threads = lambda *given, **named: runtime.discover(*given, **named).threads
    assert threads(*julia_anywhere) == "1"
    runtime.save_configuration(runtime.Configuration(*julia_anywhere, 2))
    assert threads() == "2"
    monkeypatch.setenv("PYTHON_JULIACALL_THREADS", "auto")
    assert threads() == "auto"
    assert threads(*julia_anywhere) == "auto"
    assert threads(threads=5) == "5"
    # As in juliacall, the interpreter's option comes before the environment.
    monkeypatch.setitem(sys._xoptions, "juliacall-threads", "3")
    assert threads() == "3"


@pytest.mark.parametrize("threads", [0, -2, True, "4"])
def test_a_number_of_threads_that_makes_no_sense(julia_anywhere, threads):
    with pytest.raises(ValueError, match=f"at least 1, got {threads!r}"):
        runtime.discover(*julia_anywhere, threads)


_SETTINGS = """
    import os
    from hybrid_nds import runtime
    before = dict(os.environ)
    threads = runtime.session(threads={threads}).threads
    import juliacall
    print(threads, juliacall.SETTINGS["HANDLE_SIGNALS"])
    os.environ.pop("JULIA_CONDAPKG_BACKEND", None)
    before.pop("JULIA_CONDAPKG_BACKEND", None)
    assert dict(os.environ) == before
"""


@pytest.mark.parametrize(
    ("threads", "environment", "expected"),
    [
        (None, {}, "1 yes"),
        (None, {"PYTHON_JULIACALL_THREADS": "4"}, "4 yes"),
        (2, {"PYTHON_JULIACALL_THREADS": "4"}, "2 yes"),
        (1, {"PYTHON_JULIACALL_THREADS": "4"}, "1 yes"),
        (2, {"PYTHON_JULIACALL_HANDLE_SIGNALS": "no"}, "2 no"),
    ],
)
def test_the_session_starts_the_threads_and_signals_asked_for(
    julia_anywhere, threads, environment, expected
):
    runtime.save_configuration(runtime.Configuration(*julia_anywhere))
    code = _SETTINGS.format(threads=threads)
    result = _program(code, STAND_IN, **environment)
    assert result.stdout.strip() == expected, result.stderr


def test_a_bridge_that_somebody_else_imported_is_warned_of(julia_anywhere):
    runtime.save_configuration(runtime.Configuration(*julia_anywhere))
    early = {"PYTHON_JULIACALL_THREADS": "1"}
    code = """
        import warnings
        {first}
        from hybrid_nds import runtime
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            runtime.session()
            runtime.session()
        print(len(seen), *(w.message for w in seen))
    """
    result = _program(code.format(first="import juliacall"), STAND_IN, **early)
    assert result.stdout.startswith("1 juliacall was imported before"), result.stderr
    assert "hybrid_nds.JuliaWorker" in result.stdout
    result = _program(code.format(first=""), STAND_IN, **early)
    assert result.stdout.strip() == "0", result.stderr


_CONFIGURED = """
    from hybrid_nds import runtime
    try:
        source = runtime.discover().source
    except runtime.JuliaNotFoundError as error:
        source = "none"
        assert "juliapkg has installed none" in str(error), error
    print(runtime.configured(), source)
"""
_HOLDS = '[deps]\nHybridNDS = "5c4f9f0e-6c1d-4a52-9d0f-0b6f4c3f7a11"\n'


@pytest.mark.parametrize(
    ("files", "offline", "expected"),
    [
        ({}, "no", "False none"),
        ({"Project.toml": _HOLDS, "meta": ""}, "no", "True juliapkg"),
        ({"JuliaProject.toml": _HOLDS, "meta": ""}, "no", "True juliapkg"),
        # Another package's Julia, without ours in its environment.
        ({"Project.toml": "[deps]\n# HybridNDS\n", "meta": ""}, "no", "False none"),
        # Cut off: juliapkg writes the project first, and its own word last.
        ({"Project.toml": _HOLDS}, "no", "False none"),
        # Prepared by hand, for a machine without internet.
        ({"Project.toml": _HOLDS}, "yes", "True juliapkg"),
    ],
    ids=["nothing", "installed", "shared", "without_ours", "cut_off", "offline"],
)
def test_what_juliapkg_installed_counts(
    julia_anywhere, tmp_path, files, offline, expected
):
    pytest.importorskip("juliapkg")
    from juliapkg.deps import META_VERSION

    project = tmp_path / "environment"
    (project / "pyjuliapkg").mkdir(parents=True)
    for name, text in files.items():
        if name == "meta":
            name, text = "pyjuliapkg/meta.json", {"meta_version": META_VERSION}
            text = json.dumps(text)
        (project / name).write_text(text)
    result = _program(
        _CONFIGURED,
        PYTHON_JULIAPKG_PROJECT=str(project),
        PYTHON_JULIAPKG_OFFLINE=offline,
    )
    assert result.stdout.strip() == expected, result.stderr


@pytest.mark.parametrize("name", ["EXE", "PROJECT"])
def test_half_an_environment_was_promised_too(julia_anywhere, monkeypatch, name):
    monkeypatch.setenv(f"PYTHON_JULIACALL_{name}", julia_anywhere[0])
    assert runtime.configured()
    with pytest.raises(runtime.JuliaNotFoundError, match="set together"):
        runtime.discover()


def _declared(*path: Path) -> tuple[list[str], str]:
    """The folders juliapkg takes HybridNDS from, with this `sys.path`, and the Julia
    that is asked for."""
    pytest.importorskip("juliapkg")
    code = f"""
        import json, sys
        import juliapkg.deps
        sys.path[:] = {[str(folder) for folder in path]!r}
        sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in f.__module__]
        julia, packages = juliapkg.deps.find_requirements()
        ours = [one.path for one in packages if one.name == "HybridNDS" and one.dev]
        print(json.dumps([ours, str(julia)]))
    """
    result = _program(code)
    assert result.returncode == 0, result.stderr
    # It logs to the standard output, too.
    folders, julia = json.loads(result.stdout.splitlines()[-1])
    return folders, julia


def test_juliapkg_finds_the_declaration_of_a_checkout():
    # An editable installation puts the root of the checkout on the path.
    assert _declared(ROOT) == ([str(ROOT / "julia")], "^1.10.3")
    assert (ROOT / "julia" / "Project.toml").is_file()


def test_juliapkg_finds_the_declaration_of_an_installation(tmp_path):
    package = tmp_path / "hybrid_nds"
    package.mkdir()
    declared = (ROOT / "packaging" / "juliapkg.wheel.json").read_text()
    (package / "juliapkg.json").write_text(declared)
    assert _declared(tmp_path) == ([str(package / "_julia" / "HybridNDS")], "^1.10.3")


def test_without_the_package_nothing_is_declared():
    assert _declared(STAND_IN) == ([], "None")
