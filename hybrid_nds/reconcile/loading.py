"""Finding fixtures: problems with known solutions, kept as text.

Python and Julia read the same folders. They live in the checkout's `tests/fixtures` and
travel in the wheel.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from ._specification import check_keys
from .fixtures import Fixture, read_fixture
from .stochastic_fixtures import StochasticFixture, read_stochastic_fixture

_PACKAGE = Path(__file__).resolve().parents[1]


def fixtures_root() -> Path:
    """The folder that holds the fixtures: the wheel's own or the checkout's.

    **Raises:** `FileNotFoundError` naming the places looked at.
    """
    candidates = (_PACKAGE / "_fixtures", _PACKAGE.parent / "tests" / "fixtures")
    for candidate in candidates:
        if any(candidate.glob("*/problem.toml")):
            return candidate
    raise FileNotFoundError(
        f"No fixtures in {' or '.join(map(str, candidates))}. Reinstall hybrid_nds, "
        "or give load_fixture the path of a fixture's folder."
    )


def list_fixtures(kind: Literal["ode", "sde"] | None = None) -> tuple[str, ...]:
    """The names of the fixtures there are, in alphabetical order.

    **Arguments:** `kind`, `"sde"` for stochastic problems, `"ode"` for the others,
    differential-algebraic ones included, or `None` for all.

    **Raises:** `ValueError` for another kind.
    """
    if kind not in ("ode", "sde", None):
        raise ValueError(
            f'list_fixtures: `kind` must be "ode", "sde" or None, got {kind!r}.'
        )
    files = sorted(fixtures_root().glob("*/problem.toml"))
    return tuple(
        file.parent.name
        for file in files
        if kind is None or (_read(file)["kind"] == "sde") == (kind == "sde")
    )


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
    folder = _find(name_or_path)
    file = folder / "problem.toml"
    spec = _read(file)
    check_keys(file, spec, ("kind", "parameters"))
    parameters = dict(spec["parameters"])
    if "weights" in spec:
        parameters |= tomllib.loads((folder / spec["weights"]).read_text("utf-8"))
    read = read_stochastic_fixture if spec["kind"] == "sde" else read_fixture
    return read(folder, spec, parameters)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not valid TOML: {error}") from error


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.name == "problem.toml":
        path = path.parent
    if (path / "problem.toml").is_file():
        return path
    if isinstance(name_or_path, str):
        inside = fixtures_root() / name_or_path
        if (inside / "problem.toml").is_file():
            return inside
    raise FileNotFoundError(
        f"load_fixture: no fixture {str(name_or_path)!r}; give the path of a folder "
        f"with a problem.toml, or one of: {', '.join(list_fixtures())}."
    )
