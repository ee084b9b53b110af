"""A worker process whose Julia is a stand-in: fixtures for what surrounds it."""

import os
from pathlib import Path

import pytest

import hybrid_nds
from hybrid_nds import runtime

STAND_IN = Path(__file__).parent / "stand_in"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A saved configuration of a Julia that is none, with a stand-in for the bridge."""
    folder = tmp_path_factory.mktemp("julia")
    exe = folder / "julia"
    exe.write_text("#!/bin/sh\necho julia version 1.10.8\n")
    exe.chmod(0o755)
    (folder / "Project.toml").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_NDS_CONFIG", str(folder / "config"))
        patch.syspath_prepend(str(STAND_IN))
        for name in ("THREADS", "HANDLE_SIGNALS"):
            patch.delenv(f"PYTHON_JULIACALL_{name}", raising=False)
        runtime.save_configuration(runtime.Configuration(str(exe), str(folder)))
        yield dict(os.environ) | {"PYTHONPATH": str(STAND_IN)}


@pytest.fixture(scope="module")
def worker(environment):
    """One worker for all tests that leave it as it is, or mend it."""
    with hybrid_nds.JuliaWorker() as made:
        yield made
