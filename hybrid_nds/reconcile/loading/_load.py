"""Loading fixtures: problems with known solutions, kept as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._fixtures import KINDS, Fixture, read_fixture
from .._sde_fixtures import StochasticFixture, read_stochastic_fixture
from .._specification import Table, read_toml
from ._folders import find_folder


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
    return fixture_of(folder, read_toml(folder / "problem.toml"))


def fixture_of(folder: Path, entries: Mapping[str, Any]) -> Fixture | StochasticFixture:
    """The fixture of what its `problem.toml` holds.

    **Raises:** `ValueError` naming the file and the key for one that is malformed.
    """
    spec = Table(folder / "problem.toml", entries)
    kind = spec.choice("kind", (*KINDS, "sde"))
    given = spec.table("parameters").all()
    parameters = Parameters(given)
    if "weights" in spec:
        weights = folder / spec.text("weights")
        if not weights.is_file():
            raise spec.wrong("weights", f"the name of a file in {folder}")
        parameters.update(read_toml(weights))
    read = read_stochastic_fixture if kind == "sde" else read_fixture
    fixture = read(folder, spec, parameters)
    check_read(spec, given, parameters)
    return dataclasses.replace(fixture, parameters=dict(parameters))


def check_read(spec: Table, given: Mapping[str, Any], parameters: Parameters) -> None:
    """Refuse what stands in a file and nobody has asked for.

    **Raises:** `ValueError`, naming the file and the keys.
    """
    unknown = [*spec.unread()]
    unknown += [f"parameters.{name}" for name in given if name not in parameters.read]
    if unknown:
        field = spec.entries.get("field")
        of_field = f"`field` = {field!r} and " if isinstance(field, str) else ""
        raise ValueError(
            f"{spec.file}: {', '.join(f'`{key}`' for key in unknown)} mean nothing for "
            f"{of_field}`kind` = {spec.text('kind')!r}; correct the spelling or leave "
            "them out."
        )


class Parameters(dict[str, Any]):
    """Parameters that remember which of them somebody asked for."""

    def __init__(self, entries: Mapping[str, Any]):
        super().__init__(entries)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)
