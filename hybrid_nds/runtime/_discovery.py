"""Finding Julia: explicit arguments, the saved configuration, the user's environment
variables, juliapkg."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Literal

from ._configuration import Configuration, configuration_path, load_configuration

MINIMUM_VERSION = (1, 10, 3)

Source = Literal["arguments", "configuration", "environment", "juliapkg"]


class JuliaNotFoundError(RuntimeError):
    """No usable Julia."""


@dataclasses.dataclass(frozen=True)
class Discovery:
    """Where Julia was found.

    **Fields:** what said so, the executable and the project (both `None` for
    juliapkg, which finds its own), and how many threads to start, in the words of
    Julia's `--threads` (`"4"`, `"auto"`).
    """

    source: Source
    exe: str | None
    project: str | None
    threads: str = "1"


_HOW_TO_GET = (
    'Install the bridge with `pip install "hybrid_nds[julia]"` and Julia with '
    "`hybrid-nds julia install`; on a machine without internet point to a Julia that "
    "has the packages with `hybrid-nds julia configure --exe JULIA --project FOLDER`. "
    "`hybrid-nds doctor` says what was found."
)


def how_to_get_julia() -> str:
    """How to get Julia, in one sentence or two."""
    return _HOW_TO_GET


def julia_source() -> Path:
    """The folder of the Julia package HybridNDS that belongs to this installation.

    **Raises:** `JuliaNotFoundError` if the installation is incomplete.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_julia" / "HybridNDS", package.parent / "julia"):
        if (folder / "Project.toml").is_file():
            return folder
    raise JuliaNotFoundError(
        f"The Julia package HybridNDS is missing from {package}; reinstall hybrid_nds."
    )


def discover(
    exe: str | None = None, project: str | None = None, threads: int | None = None
) -> Discovery:
    """Find out which Julia to run, without starting it.

    **Arguments:** `exe` and `project` together name a Julia explicitly; `threads` is
    how many threads it starts: this argument, else the environment variable
    `PYTHON_JULIACALL_THREADS`, else the saved configuration, else 1.

    **Returns:** a `Discovery`.

    **Raises:** `JuliaNotFoundError` when there is none or it cannot be used;
    `ValueError` when only one of `exe` and `project` is given, or for `threads` below
    1; `ConfigurationError` for a broken saved configuration.
    """
    if (exe is None) != (project is None):
        raise ValueError(
            "discover: `exe` and `project` must be given together, got "
            f"exe={exe!r}, project={project!r}."
        )
    if exe is not None and project is not None:
        count = _thread_count(threads, None)
        return _checked(Discovery("arguments", exe, project, count))
    saved = load_configuration()
    count = _thread_count(threads, saved)
    if saved is not None:
        return _checked(Discovery("configuration", saved.exe, saved.project, count))
    exe = os.environ.get("PYTHON_JULIACALL_EXE")
    project = os.environ.get("PYTHON_JULIACALL_PROJECT")
    if exe and project:
        return _checked(Discovery("environment", exe, project, count))
    if exe or project:
        raise JuliaNotFoundError(
            "PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT must be set together, "
            f"got exe={exe!r}, project={project!r}."
        )
    if importlib.util.find_spec("juliacall") is None:
        raise JuliaNotFoundError(f"juliacall is not installed. {_HOW_TO_GET}")
    if not juliapkg_resolved():
        raise JuliaNotFoundError(
            "No Julia is set up: there is no saved configuration at "
            f"{configuration_path()}, PYTHON_JULIACALL_EXE is not set, and juliapkg "
            f"has installed none. {_HOW_TO_GET}"
        )
    return Discovery("juliapkg", None, None, count)


def _thread_count(threads: int | None, saved: Configuration | None) -> str:
    if threads is not None:
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ValueError(
                "discover: `threads` must be an integer of at least 1, got "
                f"{threads!r}."
            )
        return str(threads)
    default = str(1 if saved is None else saved.threads)
    # As juliacall reads it: the interpreter's own option before the environment.
    option = sys._xoptions.get("juliacall-threads")
    return str(option or os.environ.get("PYTHON_JULIACALL_THREADS") or default)


def configured() -> bool:
    """Whether a Julia was promised here, usable or not."""
    names = ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT")
    if configuration_path().exists() or any(os.environ.get(name) for name in names):
        return True
    return juliapkg_resolved()


def juliapkg_resolved() -> bool:
    """Whether juliapkg has set up an environment that holds HybridNDS.

    An installation that was cut off does not count: to use it, juliapkg would go on
    with the downloads. An environment prepared for juliapkg's offline mode does.
    """
    if importlib.util.find_spec("juliapkg") is None:
        return False
    from juliapkg.deps import load_meta
    from juliapkg.state import STATE

    if load_meta() is None and not STATE["offline"]:
        return False
    for name in ("JuliaProject.toml", "Project.toml"):
        project = Path(STATE["project"]) / name
        if project.is_file():
            return "HybridNDS" in tomllib.loads(project.read_text("utf-8")).get(
                "deps", {}
            )
    return False


def _checked(found: Discovery) -> Discovery:
    assert found.exe is not None
    assert found.project is not None
    where = {
        "arguments": "the arguments",
        "configuration": f"{configuration_path()}",
        "environment": "PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT",
    }[found.source]
    check_julia(found.exe, found.project, where)
    if importlib.util.find_spec("juliacall") is None:
        raise JuliaNotFoundError(
            "A Julia is configured, but juliacall is not installed: "
            '`pip install "hybrid_nds[julia]"`.'
        )
    return found


def check_julia(exe: str, project: str, where: str) -> str:
    """Check that an executable is a Julia of a version we take, with a project.

    **Arguments:** the executable, the project folder, and who named them.

    **Returns:** the version, such as `"1.10.8"`.

    **Raises:** `JuliaNotFoundError`.
    """
    path = shutil.which(exe)
    if path is None:
        raise JuliaNotFoundError(
            f"`exe` from {where} is no executable file: {exe}. Name another with "
            "`hybrid-nds julia configure --exe JULIA --project FOLDER`."
        )
    if not (Path(project) / "Project.toml").is_file():
        raise JuliaNotFoundError(
            f"`project` from {where} holds no Project.toml: {project}. Name the folder "
            "of a Julia environment with `hybrid-nds julia configure`."
        )
    try:
        version = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=60, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JuliaNotFoundError(
            f"`exe` from {where} could not be run: {path}: {error}."
        ) from error
    match = re.search(r"julia version (\d+)\.(\d+)\.(\d+)", version)
    if match is None:
        raise JuliaNotFoundError(
            f"`exe` from {where} is not Julia: `{path} --version` says {version!r}."
        )
    version = tuple(int(part) for part in match.groups())
    if not MINIMUM_VERSION <= version < (2, 0, 0):
        expected = ".".join(map(str, MINIMUM_VERSION))
        raise JuliaNotFoundError(
            f"Julia {'.'.join(match.groups())} from {where} is of the wrong version; "
            f"{expected} or a later 1.x is needed. Install one with `hybrid-nds julia "
            "install`, or name one with `hybrid-nds julia configure`."
        )
    return ".".join(match.groups())


def bridge_version() -> str | None:
    """The installed version of juliacall, `None` if it is missing."""
    try:
        return importlib.metadata.version("juliacall")
    except importlib.metadata.PackageNotFoundError:
        return None
