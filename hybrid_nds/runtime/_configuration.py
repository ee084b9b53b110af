"""The saved user configuration: which Julia to run, where nothing can be downloaded."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from pathlib import Path

import platformdirs

from .._core import atomic_file

_KEYS = {"exe": str, "project": str, "threads": int}
_REPAIR = (
    "Write it anew with `hybrid-nds julia configure --exe JULIA --project FOLDER`, or "
    "remove it with `hybrid-nds julia configure --remove`."
)


class ConfigurationError(RuntimeError):
    """A saved configuration that cannot be read or used."""


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Which Julia to run.

    **Fields:** `exe`, the Julia executable; `project`, the folder of an environment
    that holds PythonCall and HybridNDS; `threads`, how many Julia threads to start.
    """

    exe: str
    project: str
    threads: int = 1


def configuration_path() -> Path:
    """The file of the saved configuration, in the user's configuration folder.

    The environment variable `HYBRID_NDS_CONFIG` names another folder.
    """
    folder = os.environ.get("HYBRID_NDS_CONFIG") or platformdirs.user_config_dir(
        "hybrid_nds", appauthor=False
    )
    return Path(folder) / "julia.toml"


def load_configuration() -> Configuration | None:
    """The saved configuration, `None` if there is none.

    **Raises:** `ConfigurationError` for a file that is not valid, naming the file,
    the key and the command that mends it.
    """
    path = configuration_path()
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}. {_REPAIR}") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}. {_REPAIR}") from None
    for key, value in table.items():
        if key not in _KEYS:
            raise ConfigurationError(
                f"{path}: unknown key {key!r}; there are {', '.join(_KEYS)}. {_REPAIR}"
            )
        if not isinstance(value, _KEYS[key]) or isinstance(value, bool):
            raise ConfigurationError(
                f"{path}: `{key}` must be of type {_KEYS[key].__name__}, got "
                f"{value!r}. {_REPAIR}"
            )
    for key in ("exe", "project"):
        if key not in table:
            raise ConfigurationError(f"{path}: the key `{key}` is missing. {_REPAIR}")
    if table.get("threads", 1) < 1:
        raise ConfigurationError(
            f"{path}: `threads` must be at least 1, got {table['threads']}. {_REPAIR}"
        )
    return Configuration(**table)


def save_configuration(configuration: Configuration) -> Path:
    """Save a configuration; a reader sees the old file or the new one, never half.

    **Returns:** the file that was written.
    """
    path = configuration_path()
    lines = [
        f"exe = {_quoted(configuration.exe)}",
        f"project = {_quoted(configuration.project)}",
        f"threads = {configuration.threads}",
    ]
    with atomic_file(path) as file:
        file.write(("\n".join(lines) + "\n").encode())
    return path


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def remove_configuration() -> Path | None:
    """Remove the saved configuration; its path, or `None` if there was none."""
    path = configuration_path()
    try:
        path.unlink()
    except FileNotFoundError:
        return None
    return path
