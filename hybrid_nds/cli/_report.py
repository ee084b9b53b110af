"""Failing with words, not with a traceback."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console


def fail(message: object, code: int = 1) -> NoReturn:
    """Say on the standard error what went wrong, and exit."""
    Console(stderr=True, soft_wrap=True).print(f"error: {message}", markup=False)
    raise typer.Exit(code)
