"""JAX's persistent compilation cache, for the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .._core import processor

# Beyond it JAX drops what was used longest ago.
_MOST_BYTES = 2**30


def _leave_cache(cache: bool) -> bool:
    """Have JAX, which no command has imported yet, use no cache."""
    if not cache:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    return cache


Cache = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        callback=_leave_cache,
        expose_value=False,
        help="Keep what JAX compiles in the user's cache folder, for the next run.",
    ),
]
"""The option of a command that compiles, for those who give it behind its name."""


def use_compilation_cache() -> Path | None:
    """Have JAX keep compiled programs in the user's cache folder.

    A second run of a command then compiles nothing. The user's own settings of JAX
    stand, and so does a JAX that is running already. A program is compiled for one kind
    of processor, and each kind has its folder: several machines may share a home.

    **Returns:** the folder, `None` where it cannot be written.
    """
    import platformdirs

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    folder = platformdirs.user_cache_path("hybrid_nds") / "xla" / processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    settings = {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(_MOST_BYTES),
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    return folder
