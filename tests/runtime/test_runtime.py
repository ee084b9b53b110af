"""Finding Julia: configuration files, discovery, and errors that say what to do."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from hybrid_nds import runtime
from hybrid_nds.runtime import _discovery as discovery


@pytest.fixture
def no_julia(tmp_path, monkeypatch):
    """A place with no Julia configured, and its configuration folder."""
    monkeypatch.setenv("HYBRID_NDS_CONFIG", str(tmp_path / "config"))
    for name in ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(discovery, "juliapkg_resolved", lambda: False)
    return tmp_path


def _fake_julia(folder: Path, version: str) -> str:
    exe = folder / "julia"
    exe.write_text(f"#!/bin/sh\necho julia version {version}\n")
    exe.chmod(0o755)
    return str(exe)


def _project(folder: Path) -> str:
    project = folder / "project"
    project.mkdir(exist_ok=True)
    (project / "Project.toml").write_text("[deps]\n")
    return str(project)


def _write(text: str) -> None:
    path = runtime.configuration_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_saved_configuration_comes_back(no_julia):
    saved = runtime.Configuration('C:\\Program "Files"\\julia', "/a b/ü", 2)
    path = runtime.save_configuration(saved)
    assert path.parent == no_julia / "config"
    assert runtime.load_configuration() == saved
    assert [p.name for p in path.parent.iterdir()] == ["julia.toml"]
    assert runtime.remove_configuration() == path
    assert runtime.load_configuration() is None
    assert runtime.remove_configuration() is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exe = ", "not TOML"),
        ('exe = "julia"\n', "`project` is missing"),
        ('exe = 3\nproject = "p"\n', "`exe` must be of type str"),
        ('exe = "j"\nproject = "p"\nthreads = 0\n', "`threads` must be at least 1"),
        ('exe = "j"\nproject = "p"\ncolour = 1\n', "unknown key 'colour'"),
    ],
    ids=["syntax", "missing", "type", "range", "unknown"],
)
def test_broken_configuration_names_file_key_and_remedy(no_julia, text, words):
    _write(text)
    with pytest.raises(runtime.ConfigurationError) as caught:
        runtime.load_configuration()
    message = str(caught.value)
    assert words in message
    assert str(runtime.configuration_path()) in message
    assert "hybrid-nds julia configure" in message


def test_nothing_configured_says_how_to_get_julia(no_julia):
    assert not runtime.configured()
    with pytest.raises(runtime.JuliaNotFoundError) as caught:
        runtime.discover()
    for words in ("hybrid_nds[julia]", "julia install", "julia configure"):
        assert words in str(caught.value)


def test_arguments_come_before_the_configuration(no_julia):
    exe, project = _fake_julia(no_julia, "1.11.2"), _project(no_julia)
    runtime.save_configuration(runtime.Configuration("/nowhere/julia", project))
    found = runtime.discover(exe, project)
    assert (found.source, found.exe) == ("arguments", exe)


def test_configuration_comes_before_the_environment(no_julia, monkeypatch):
    exe, project = _fake_julia(no_julia, "1.10.3"), _project(no_julia)
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", "/nowhere/julia")
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", project)
    runtime.save_configuration(runtime.Configuration(exe, project, 3))
    found = runtime.discover()
    assert (found.source, found.threads) == ("configuration", "3")
    runtime.remove_configuration()
    with pytest.raises(runtime.JuliaNotFoundError, match="/nowhere/julia"):
        runtime.discover()
    assert runtime.configured()


@pytest.mark.parametrize("version", ["1.9.4", "1.10.2", "2.0.0"])
def test_wrong_version_is_refused(no_julia, version):
    exe, project = _fake_julia(no_julia, version), _project(no_julia)
    with pytest.raises(runtime.JuliaNotFoundError, match=r"wrong version; 1\.10\.3"):
        runtime.discover(exe, project)


def test_what_is_not_julia_is_refused(no_julia):
    project = _project(no_julia)
    with pytest.raises(runtime.JuliaNotFoundError, match="is not Julia"):
        runtime.discover("/bin/echo", project)
    with pytest.raises(runtime.JuliaNotFoundError, match="no executable file"):
        runtime.discover(project, project)
    with pytest.raises(runtime.JuliaNotFoundError, match=r"no Project\.toml"):
        runtime.discover(_fake_julia(no_julia, "1.10.8"), str(no_julia))
    with pytest.raises(ValueError, match="together"):
        runtime.discover(exe="julia")


def test_half_an_environment_is_refused(no_julia, monkeypatch):
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", "julia")
    with pytest.raises(runtime.JuliaNotFoundError, match="set together"):
        runtime.discover()


def test_only_the_main_thread_starts_julia(no_julia, monkeypatch):
    monkeypatch.setattr(runtime._session, "_SESSION", None)
    caught = []

    def call():
        try:
            runtime.session()
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "must be started in the main thread" in caught[0]
    assert "hybrid_nds.runtime.session() there first" in caught[0]
    assert "worker=hybrid_nds.JuliaWorker()" in caught[0]


def test_import_touches_neither_julia_nor_jax_flags():
    code = """
        import sys
        import hybrid_nds, hybrid_nds.runtime, hybrid_nds.lowering
        import jax
        assert "juliacall" not in sys.modules and "juliapkg" not in sys.modules
        assert not jax.config.read("jax_enable_x64")
    """
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment
    )


def test_the_runtime_is_imported_without_jax():
    # A worker process sets JAX's environment before JAX reads it.
    code = "import sys, hybrid_nds.runtime; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_julia_source_is_found():
    assert (runtime.julia_source() / "src" / "HybridNDS.jl").is_file()


def _live(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.julia
def test_versions_are_reported(julia):
    versions = dict(julia.versions)
    assert versions["Julia"].startswith("1.")
    assert {"HybridNDS", "SciMLBase", "juliacall"} <= set(versions)
    assert julia.threads == 1


@pytest.mark.julia
def test_julia_exceptions_become_python_exceptions(julia):
    with pytest.raises(runtime.JuliaExecutionError, match="DomainError") as caught:
        julia.call(julia.main.seval("() -> sqrt(-1.0)"))
    assert caught.value.kind == "DomainError"
    assert "left its domain" in str(caught.value)


@pytest.mark.julia
def test_python_exceptions_pass_through_julia(julia):
    def broken():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        julia.call(julia.main.seval("f -> f()"), broken)


@pytest.mark.julia
def test_whoever_listens_for_signals_goes_on_listening(julia):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing)
    try:
        julia.call(julia.main.seval("() -> 1"))
        after = signal.set_wakeup_fd(-1)
        # Where nobody listens, Julia does, for compiled programs that enter it.
        julia.call(julia.main.seval("() -> 1"))
        julias = signal.set_wakeup_fd(-1)
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)
    assert after == writing
    assert julias not in (-1, writing)


@pytest.mark.slow
@pytest.mark.julia
def test_early_juliacall_is_warned_of(julia):
    found = julia.discovery
    if found.exe is None:
        pytest.skip("juliapkg finds the same Julia whoever asks first")
    result = _live(f"""
        import os, warnings
        os.environ["PYTHON_JULIACALL_EXE"] = {found.exe!r}
        os.environ["PYTHON_JULIACALL_PROJECT"] = {found.project!r}
        os.environ["JULIA_CONDAPKG_BACKEND"] = "Null"
        import juliacall
        from hybrid_nds import runtime
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            runtime.session()
        assert any("imported before" in str(w.message) for w in seen), seen
    """)
    assert result.returncode == 0, result.stderr


@pytest.mark.julia
@pytest.mark.parametrize(
    "threads",
    [
        1,
        pytest.param(2, marks=pytest.mark.slow),
        pytest.param(4, marks=pytest.mark.slow),
    ],
)
def test_signals_during_a_solve_leave_the_process_alive(julia, threads):
    code = f"""
        import signal, socket
        import jax
        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp
        import hybrid_nds

        def solve(t1, steps):
            problem = hybrid_nds.ODEProblem(
                lambda t, y, a: jnp.stack([y[1], -y[0]]), jnp.ones(2), 0.0, t1
            )
            return hybrid_nds.solve(problem, "julia", solver="Tsit5", max_steps=steps)

        hybrid_nds.runtime.session(threads={threads})
        solve(1.0, 1000)
        handler = signal.getsignal(signal.SIGINT)
        for _ in range(2):
            print("ready", flush=True)
            try:
                # Days of oscillation: only an interrupt ends it in time.
                solve(1e12, 2**40)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        assert signal.getsignal(signal.SIGINT) is handler
        # Another signal ends nothing, and is passed on to who listens for it. The clock
        # sends it from outside Python: no thread of ours runs during a solve.
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        while signal.getitimer(signal.ITIMER_REAL)[0]:
            assert solve(1e5, 2**40).outcome_name == "success"
        assert ours.recv(10) == bytes([signal.SIGALRM])
        print("alive", solve(1.0, 1000).outcome_name, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        # The signal comes from outside: no thread of that process could send it
        # while Julia runs.
        for _ in range(2):
            assert process.stdout.readline().strip() == "ready"
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline().strip() == "interrupted"
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert out.split() == ["alive", "success"], err
