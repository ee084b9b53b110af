"""System images: built whole or not at all, used only for what they were built from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_nds import runtime
from hybrid_nds.runtime import _image

RECORD = (
    "import os; open(os.environ['PYTHON_JULIACALL_TRACE_COMPILE'], 'w').write('uses')"
)
STAND_IN = Path(__file__).resolve().parents[1] / "stand_in"
USES = [sys.executable, "-c", RECORD]
# A program that calls itself Julia: it makes the compiler's environment, and writes the
# recorded uses into the image.
JULIA = """#!/bin/sh
if [ "$1" = --version ]; then echo julia version 1.10.8; exit; fi
folder=${2#--project=}
if [ $# = 3 ]; then mkdir -p "$folder"; echo made > "$folder/Manifest.toml"; exit; fi
if [ -e "$4/broken" ]; then echo ERROR: no C compiler; exit 3; fi
if [ -e "$4/slow" ]; then touch "$5"; touch "$4/started"; sleep 60; fi
cat "$folder/Manifest.toml" "$6" > "$5"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A configured Julia with nothing built for it."""
    monkeypatch.setenv("HYBRID_NDS_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(_image, "image_folder", lambda: tmp_path / "images")
    monkeypatch.setattr(_image, "bridge_version", lambda: "0.9.37")
    for name in ("HYBRID_NDS_SYSTEM_IMAGE", "PYTHON_JULIACALL_SYSIMAGE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Project.toml").write_text("")
    (folder / "Manifest.toml").write_text('[[deps.HybridNDS]]\npath = "package"\n')
    (folder / "package" / "src").mkdir(parents=True)
    (folder / "package" / "src" / "HybridNDS.jl").write_text("module HybridNDS end")
    exe = tmp_path / "julia"
    exe.write_text(JULIA)
    exe.chmod(0o755)
    runtime.save_configuration(runtime.Configuration(str(exe), str(folder)))
    return folder


def _build(**options):
    return runtime.build_image(USES, report=lambda line: None, **options)


def _status():
    return runtime.find_image(runtime.discover()).status


pytestmark = pytest.mark.skipif(os.name != "posix", reason="the program is a script")


def test_what_was_built_is_used(project):
    assert _status() == "absent"
    path = _build()
    assert path.read_text() == "made\nuses"
    assert runtime.find_image(runtime.discover()).path == path
    assert runtime.remove_images() == [path]
    assert _status() == "absent"


def test_the_session_starts_from_it(project, tmp_path):
    path = _build()
    program = f"""
import os
from pathlib import Path
from hybrid_nds import runtime
from hybrid_nds.runtime import _image
_image.image_folder = lambda: Path({str(tmp_path / "images")!r})
runtime.session()
import juliacall
print(juliacall.SETTINGS.get("SYSIMAGE"), os.environ.get("PYTHON_JULIACALL_SYSIMAGE"))
"""
    places = [str(STAND_IN), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    for setting, expected in (("yes", str(path)), ("no", "None")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env=environment | {"HYBRID_NDS_SYSTEM_IMAGE": setting},
        )
        assert done.stdout.split() == [expected, "None"], done.stderr


def test_a_compiler_of_ones_own(project, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "Manifest.toml").write_text("own\n")
    assert _build(compiler=own).read_text() == "own\nuses"


@pytest.mark.parametrize(
    "change",
    [
        lambda project: (project / "Manifest.toml").write_text("# other versions"),
        lambda project: (project / "LocalPreferences.toml").write_text("[Package]"),
        lambda project: (project / "package/src/HybridNDS.jl").write_text("# new"),
        lambda project: (project / "package/src/more.jl").write_text(""),
        lambda project: (project.parent / "julia").write_text(JULIA + "# newer"),
    ],
    ids=["versions", "preferences", "source", "new_file", "julia"],
)
def test_an_image_of_something_else_is_ignored(project, change):
    first = _build()
    change(project)
    assert _status() == "ignored"
    # The new one takes the place of the old.
    second = _build()
    assert second != first
    assert not first.exists()
    assert _status() == "used"


def test_another_processor_has_an_image_of_its_own(project, monkeypatch):
    first = _build()
    monkeypatch.setattr(_image, "processor", lambda: "another")
    assert _status() == "ignored"
    second = _build()
    assert first.exists()
    assert runtime.find_image(runtime.discover()).path == second


def test_it_can_be_turned_off(project, monkeypatch):
    _build()
    monkeypatch.setenv("HYBRID_NDS_SYSTEM_IMAGE", "no")
    assert _status() == "absent"


def test_the_users_own_image_stands(project, monkeypatch):
    _build()
    monkeypatch.setenv("PYTHON_JULIACALL_SYSIMAGE", "/somewhere/image.so")
    assert _status() == "ignored"


def test_an_old_bridge_takes_none(project, monkeypatch):
    _build()
    monkeypatch.setattr(_image, "bridge_version", lambda: "0.9.34")
    found = runtime.find_image(runtime.discover())
    assert found.status == "ignored"
    assert "0.9.35" in found.message


def test_a_failure_says_what_was_printed_and_leaves_the_old_image(project):
    path = _build()
    (project / "broken").touch()
    with pytest.raises(runtime.SystemImageError, match="no C compiler"):
        _build()
    with pytest.raises(runtime.SystemImageError, match="typical uses failed"):
        runtime.build_image([sys.executable, "-c", "1/0"], report=lambda line: None)
    assert path.exists()
    assert not list(path.parent.glob(".building*"))


def test_an_interrupt_leaves_nothing_behind(project, tmp_path):
    (project / "slow").touch()
    program = f"""
import os, signal, threading, time
from pathlib import Path
from hybrid_nds import runtime
from hybrid_nds.runtime import _image
_image.image_folder = lambda: Path({str(tmp_path / "images")!r})
def interrupt():
    while not Path({str(project / "started")!r}).exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    runtime.build_image({USES!r}, report=lambda line: None)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50
    )
    assert done.stdout.strip() == "interrupted", done.stderr
    left = [path.name for path in (tmp_path / "images").iterdir()]
    assert left == ["compiler"]
