"""Compiled programs of the suite on disk: shared by the workers of a run, and kept.

A run compiles many programs several times: every worker its own, and all of them again
after compiled functions were let go. A program read from disk costs a tenth of that.
JAX's key of an entry holds the program, the versions, the flags and the processor; an
entry that cannot be read is warned of and compiled again.
"""

import os
import shutil
from pathlib import Path

import jax

# Some thousands of programs of 20 kB; every change of the code adds new ones.
MOST_BYTES = 2**30
SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def share(folder: Path) -> None:
    """Keep what this process and its children compile in a folder."""
    settings = {"jax_compilation_cache_dir": str(folder), **SETTINGS}
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


def prune(folder: Path) -> None:
    """Start anew where a folder has grown too large."""
    if sum(entry.stat().st_size for entry in os.scandir(folder)) > MOST_BYTES:
        shutil.rmtree(folder)
        folder.mkdir()
