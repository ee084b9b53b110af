"""Loading fixtures: problems with known solutions, kept as text."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ._folders import find_folder, read_specification
from ._specification import check_keys
from .fixtures import Fixture, read_fixture
from .stochastic_fixtures import StochasticFixture, read_stochastic_fixture


def load_fixture(name_or_path: str | Path) -> Fixture | StochasticFixture:
    """A fixture by its name, or from a folder of one's own.

    **Arguments:** `name_or_path`, one of
    [`list_fixtures`][hybrid_nds.reconcile.list_fixtures], or the path of a folder
    that holds a `problem.toml`, or of the latter.

    **Returns:** a [`Fixture`][hybrid_nds.reconcile.Fixture], or for a stochastic
    problem a [`StochasticFixture`][hybrid_nds.reconcile.StochasticFixture]; its problem
    in double precision whatever JAX's global flag says: solve it within
    [`double_precision`][hybrid_nds.double_precision].

    **Raises:** `FileNotFoundError` for a fixture that is not there, `ValueError`
    naming the file and the key for one that is malformed.
    """
    folder = find_folder(name_or_path)
    file = folder / "problem.toml"
    spec = read_specification(file)
    check_keys(file, spec, ("kind", "parameters"))
    parameters = dict(spec["parameters"])
    if "weights" in spec:
        parameters |= tomllib.loads((folder / spec["weights"]).read_text("utf-8"))
    read = read_stochastic_fixture if spec["kind"] == "sde" else read_fixture
    return read(folder, spec, parameters)
