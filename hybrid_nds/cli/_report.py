"""Failing with a message, not with a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import typer

from ._streams import console


def fail(message: object, code: int = 1) -> NoReturn:
    """Say on the standard error what went wrong, and exit."""
    console(stderr=True, soft_wrap=True).print(f"error: {message}")
    raise typer.Exit(code)


def check_output(check: Callable[..., Any], option: str, path: Path) -> None:
    """Exit before the work where its results could not be written.

    **Arguments:** `check_writable_file` or `check_writable_folder`; the option; what it
    names.
    """
    try:
        check("hybrid-nds", option, path)
    except ValueError as error:
        fail(f"cannot write there: {error}", 2)
