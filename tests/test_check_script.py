"""The script behind `make test` passes where its tools pass, and only there."""

import itertools
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "packaging" / "check.sh"
TOOLS = ("ruff", "pyright", "pytest")


def check(folder, failing, *options):
    """The script's exit status, with tools that fail only where their name is given."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    tools = "|".join(failing) or "none"
    python.write_text(f'#!/bin/sh\ncase "$2" in {tools}) exit 1 ;; esac\n')
    python.chmod(0o755)
    return subprocess.run(
        ["sh", str(SCRIPT), *options],
        env={"PATH": "/usr/bin:/bin", "VENV": str(folder)},
        capture_output=True,
    ).returncode


@pytest.mark.parametrize(
    "failing",
    [tools for n in range(4) for tools in itertools.combinations(TOOLS, n)],
)
def test_the_script_fails_where_a_tool_fails(tmp_path, failing):
    assert (check(tmp_path / "a folder", failing, "-q") != 0) is bool(failing)


def test_tests_are_left_out_of_lint(tmp_path):
    assert check(tmp_path, ("pytest",), "--lint") == 0
    assert check(tmp_path, ("pyright",), "--lint") != 0
