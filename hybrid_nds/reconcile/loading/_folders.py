"""Where fixtures are: folders of text that Python and Julia both read.

They live in the checkout's `tests/fixtures` and travel in the wheel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .._specification import Table, read_toml

_PACKAGE = Path(__file__).resolve().parents[2]


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
        if kind is None or _stochastic(file) == (kind == "sde")
    )


def _stochastic(file: Path) -> bool:
    return Table(file, read_toml(file)).text("kind") == "sde"


def find_folder(name_or_path: str | Path) -> Path:
    """The folder of a fixture, by its name or from a path.

    **Raises:** `FileNotFoundError` for a fixture that is not there.
    """
    path = Path(name_or_path)
    if path.name == "problem.toml" and not (path / "problem.toml").is_file():
        path = path.parent
    if (path / "problem.toml").is_file():
        return path
    if isinstance(name_or_path, str):
        inside = fixtures_root() / name_or_path
        if (inside / "problem.toml").is_file():
            return inside
    if (path / "problem.toml").is_dir():
        raise FileNotFoundError(
            f"load_fixture: {path / 'problem.toml'} must be a file that describes a "
            "problem, and is a folder; rename it, or give the path of a folder with "
            "such a file."
        )
    if path.is_file():
        raise FileNotFoundError(
            f"load_fixture: the file that describes a problem must be named "
            f"problem.toml, got {str(path)!r}; rename it, in a folder of its own."
        )
    raise FileNotFoundError(
        f"load_fixture: no fixture {str(name_or_path)!r}; give the path of a folder "
        f"with a problem.toml, or one of: {', '.join(list_fixtures())}."
    )
