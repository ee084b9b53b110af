"""The environment that make's targets run in: made once, for what is asked, mended.

A Python of the test's own stands in: it makes empty environments and writes down what
pip is asked for.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "packaging" / "environment.sh"
PROJECT = '[project]\nrequires-python = ">=3.11"\n'
# The real Python answers questions; `-m venv` puts a copy of this, `-m pip` a note.
STAND_IN = """#!/bin/sh
case "$*" in
*"-m venv"*)
    if [ -e interrupted ]; then
        printf 'Traceback:\n  File "venv"\nKeyboardInterrupt\n' >&2
        exit 130
    fi
    for folder; do :; done
    rm -rf "$folder"
    mkdir -p "$folder/bin" "$folder/lib/python3.11/site-packages/jax-1.dist-info"
    touch "$folder/pyvenv.cfg"
    touch "$folder/lib/python3.11/site-packages/jax-1.dist-info/INSTALLER"
    cp "$0" "$folder/bin/python"
    ;;
*"-m pip install"*)
    for what; do :; done
    echo "$what" >> asked
    echo "WARNING: a location that is ignored"
    if [ -e offline ]; then echo "no matching distribution" >&2; exit 1; fi
    ;;
*"-m pip"*) ;;
*hybrid_nds*) test -e julia_is_configured ;;
*) exec {python} "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A folder with spaces in its name, with the script and a Python that stands in."""
    folder = tmp_path / "a path with spaces"
    (folder / "packaging").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / "packaging")
    (folder / "pyproject.toml").write_text(PROJECT)
    stand_in = folder / "stand in"
    stand_in.write_text(STAND_IN.replace("{python}", f"'{sys.executable}'"))
    stand_in.chmod(0o755)
    return folder


def ready(checkout, extra, python=None):
    """What the script prints, and what it asked pip for."""
    asked = checkout / "asked"
    asked.unlink(missing_ok=True)
    result = subprocess.run(
        ["sh", "packaging/environment.sh", ".venv", extra],
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(python or checkout / "stand in")},
        capture_output=True,
        text=True,
    )
    wanted = asked.read_text().split() if asked.exists() else []
    return result, wanted


def test_an_environment_is_made_once(checkout):
    result, asked = ready(checkout, "package")
    assert result.returncode == 0, result.stderr
    assert asked == ["."]
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 3
    assert "ignored" not in result.stdout
    again, asked = ready(checkout, "package")
    assert (again.returncode, again.stdout, asked) == (0, "", [])


@pytest.mark.parametrize(
    ("first", "second", "asked"),
    [
        ("package", "test", [".[test]"]),
        ("test", "package", []),
        ("test", "docs", []),
        ("docs", "package", []),
        ("docs", "julia", [".[julia]"]),
        ("julia", "test", [".[test]"]),
    ],
)
def test_only_what_is_missing_is_installed(checkout, first, second, asked):
    ready(checkout, first)
    assert ready(checkout, second)[1] == asked


def test_other_declarations_are_installed_again(checkout):
    ready(checkout, "package")
    (checkout / "pyproject.toml").write_text(PROJECT + 'dependencies = ["jax"]\n')
    result, asked = ready(checkout, "package")
    assert asked == ["."]
    assert "Making" not in result.stdout


def test_a_checkout_that_was_moved_is_installed_again(checkout):
    ready(checkout, "package")
    moved = checkout.rename(checkout.with_name("elsewhere"))
    assert ready(moved, "package")[1] == ["."]


def test_the_bridge_is_installed_where_a_julia_is_configured(checkout):
    (checkout / "julia_is_configured").touch()
    assert ready(checkout, "package")[1] == [".", ".[julia]"]
    assert ready(checkout, "package")[1] == []


def test_a_failure_of_pip_is_shown_whole_and_mended(checkout):
    (checkout / "offline").touch()
    result, _ = ready(checkout, "test")
    assert result.returncode == 1
    assert "a location that is ignored\nno matching distribution" in result.stderr
    assert ".venv/install.log" in result.stderr
    (checkout / "offline").unlink()
    result, asked = ready(checkout, "test")
    assert result.returncode == 0
    assert asked == [".[test]"]


def test_an_interrupt_of_making_the_environment_is_one_line(checkout):
    (checkout / "interrupted").touch()
    result, _ = ready(checkout, "package")
    assert result.returncode
    assert result.stderr == "make: .venv was not made; run the command again.\n"
    (checkout / "interrupted").unlink()
    assert ready(checkout, "package")[0].returncode == 0


def test_an_interrupted_installation_is_made_anew(checkout):
    ready(checkout, "package")
    (checkout / ".venv/.installed-package").unlink()
    next((checkout / ".venv").rglob("INSTALLER")).unlink()
    result, asked = ready(checkout, "package")
    assert "anew" in result.stdout
    assert "interrupted" in result.stdout
    assert asked == ["."]


def test_another_python_makes_the_environment_anew(checkout):
    ready(checkout, "package")
    newer = checkout / "newer"
    text = (checkout / "stand in").read_text()
    newer.write_text(
        text.replace('"$@"', '-c "import sys; sys.version_info = (3, 99, 0)\n$2"')
    )
    newer.chmod(0o755)
    result, asked = ready(checkout, "package", newer)
    ours = ".".join(map(str, sys.version_info[:2]))
    assert f"anew with Python 3.99: it has Python {ours}." in result.stdout
    assert asked == ["."]
    assert ready(checkout, "package", newer)[1] == []


@pytest.mark.parametrize("damage", ["dangling", "empty", "half"])
def test_a_broken_environment_is_made_anew(checkout, damage):
    environment = checkout / ".venv"
    (environment / "bin").mkdir(parents=True)
    if damage != "empty":
        (environment / "pyvenv.cfg").touch()
    if damage == "dangling":
        (environment / "bin" / "python").symlink_to("/nowhere/python3.11")
    result, asked = ready(checkout, "package")
    assert result.returncode == 0, result.stderr
    assert "anew" in result.stdout
    assert asked == ["."]


def test_a_folder_of_other_things_is_left_alone(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "thesis.tex").touch()
    result, asked = ready(checkout, "package")
    assert result.returncode == 1
    assert "no virtual environment" in result.stderr
    assert asked == []
    assert (checkout / ".venv" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("import sys; sys.version_info = (3, 10, 4)", "Python 3.10, and 3.11 or later"),
        ("import sys; sys.modules['ensurepip'] = None", "has no venv"),
        ("raise SystemExit(1)", "does not run"),
    ],
)
def test_a_python_that_does_not_serve_gets_one_line(checkout, answer, complaint):
    python = checkout / "another"
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c \"{answer}\n$2\"\n")
    python.chmod(0o755)
    result, asked = ready(checkout, "package", python)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert complaint in result.stderr
    assert "PYTHON=" in result.stderr
    assert asked == []
    assert not (checkout / ".venv").exists()
