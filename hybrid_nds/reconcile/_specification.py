"""Checks that every kind of fixture makes of its specification."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def check_keys(file: Path, spec: Mapping[str, Any], required: tuple[str, ...]) -> None:
    """Raise a `ValueError` that names the file and the keys it lacks."""
    missing = [key for key in required if key not in spec]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(f'`{key}`' for key in missing)}.")


def check_choice(file: Path, key: str, given: Any, choices: tuple[str, ...]) -> None:
    """Raise a `ValueError` that names the file, the key and what it may be."""
    if given not in choices:
        raise ValueError(
            f"{file}: `{key}` must be one of {', '.join(choices)}; got {given!r}."
        )
