"""The command line as a test runs it."""

import pytest
from typer.testing import CliRunner

from hybrid_nds.cli import app


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a command where no Julia is configured."""
    monkeypatch.setenv("HYBRID_NDS_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("PYTHON_JULIACALL_EXE", raising=False)
    monkeypatch.delenv("PYTHON_JULIACALL_PROJECT", raising=False)
    monkeypatch.setattr(
        "hybrid_nds.runtime._discovery.juliapkg_resolved", lambda: False
    )
    # The settings of the test run stand.
    monkeypatch.setattr("hybrid_nds.cli.use_compilation_cache", lambda: None)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
