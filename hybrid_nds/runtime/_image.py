"""System images: Julia with its packages compiled into one file, for a fast start."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import platformdirs

from .._core import atomic_file, processor
from ._discovery import (
    Discovery,
    JuliaNotFoundError,
    bridge_version,
    discover,
    julia_source,
)

OFF = "HYBRID_NDS_SYSTEM_IMAGE"
"""With `no` in this environment variable Julia starts without the image."""

# juliacall takes an image that holds PythonCall from this version on.
_BRIDGE = (0, 9, 35)
_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")

Status = Literal["used", "absent", "ignored"]


class SystemImageError(RuntimeError):
    """A system image that could not be built."""


@dataclasses.dataclass(frozen=True)
class SystemImage:
    """Whether a Julia starts from a system image.

    **Fields:** `status`, `"used"`, `"absent"` or `"ignored"`; `path`, the file, `None`
    where none is used; `message`, why, in a sentence.
    """

    status: Status
    path: Path | None
    message: str


def image_folder() -> Path:
    """The folder of the system images, in the user's cache folder."""
    return platformdirs.user_cache_path("hybrid_nds", appauthor=False) / "julia"


def find_image(found: Discovery) -> SystemImage:
    """The system image for a Julia, without starting it.

    An image holds the packages of one environment, compiled for one kind of processor:
    it is used where the environment's files, the Julia package HybridNDS, juliacall
    and the processor are those that it was built for.

    **Arguments:** which Julia, from `discover`.

    **Returns:** a `SystemImage`.
    """
    if os.environ.get(OFF, "").lower() in ("no", "0", "false"):
        return SystemImage("absent", None, f"{OFF} turns it off.")
    if os.environ.get("PYTHON_JULIACALL_SYSIMAGE"):
        return SystemImage("ignored", None, "PYTHON_JULIACALL_SYSIMAGE names another.")
    located = _located(found)
    built = sorted(image_folder().glob(f"*{_SUFFIX}"))
    if not built or located is None:
        return SystemImage("absent", None, f"None is built; {_COMMAND} builds one.")
    version = tuple(map(int, re.findall(r"\d+", bridge_version() or "")[:3]))
    if version < _BRIDGE:
        wanted = ".".join(map(str, _BRIDGE))
        return SystemImage("ignored", None, f"It needs juliacall {wanted} or later.")
    path = image_folder() / f"{_key(*located)}{_SUFFIX}"
    if path in built:
        return SystemImage("used", path, str(path))
    return SystemImage(
        "ignored",
        None,
        "What is built is of other versions, of another environment or for another "
        f"processor; {_COMMAND} builds it anew.",
    )


_COMMAND = "`hybrid-nds julia image`"


def build_image(
    uses: list[str],
    *,
    compiler: str | os.PathLike[str] | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Build the system image for the Julia that `discover` finds.

    PackageCompiler.jl compiles PythonCall, HybridNDS and StochasticDiffEq into one
    file, with everything that a program of typical uses had compiled: a quarter of an
    hour or more, and some gigabytes of memory. What was built before for the same
    environment and processor is removed.

    **Arguments:** `uses`, the command of a Python program that starts this package's
    Julia and does what is to be compiled in advance; `compiler`, the folder of a Julia
    environment that holds PackageCompiler, by default one that is made in the cache
    folder, from Julia's registry; `report`, told what is done.

    **Returns:** the file.

    **Raises:** `JuliaNotFoundError` without a usable Julia; `SystemImageError` where a
    step fails, with what it printed last.
    """
    found = discover()
    located = _located(found)
    if located is None:
        raise JuliaNotFoundError(
            "juliapkg has installed no Julia yet: `hybrid-nds julia install`."
        )
    exe, project = located
    folder = image_folder()
    folder.mkdir(parents=True, exist_ok=True)
    script = str(julia_source() / "image" / "build.jl")
    path = folder / f"{_key(exe, project)}{_SUFFIX}"
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder) as work:
        statements = os.path.join(work, "statements.jl")
        image = os.path.join(work, f"image{_SUFFIX}")
        # Nothing is to look for a Python while Julia compiles PythonCall.
        settings = {
            "JULIA_CONDAPKG_BACKEND": "Null",
            "JULIA_PYTHONCALL_EXE": sys.executable,
        }
        if compiler is None:
            compiler = folder / "compiler"
            if not (compiler / "Manifest.toml").is_file():
                report("Installing PackageCompiler.jl from Julia's registry ...")
                command = [exe, "--startup-file=no", f"--project={compiler}", script]
                _run(command, settings, "PackageCompiler could not be installed")
        report("Recording what typical uses compile ...")
        recording = {"PYTHON_JULIACALL_TRACE_COMPILE": statements, OFF: "no"}
        _run(uses, recording, "The typical uses failed")
        report("Compiling (a quarter of an hour or more) ...")
        arguments = [script, project, image, statements]
        command = [exe, "--startup-file=no", f"--project={compiler}", *arguments]
        _run(command, settings, "PackageCompiler failed")
        remove_images(project)
        os.replace(image, path)
        with atomic_file(path.with_suffix(".json")) as file:
            about = {"project": project, "processor": processor()}
            file.write(json.dumps(about).encode())
    return path


def remove_images(project: str | None = None) -> list[Path]:
    """Remove system images.

    **Arguments:** `project`, to remove those of one environment for this kind of
    processor; all of them without it.

    **Returns:** the files that were removed.
    """
    removed = []
    for path in sorted(image_folder().glob(f"*{_SUFFIX}")):
        beside = path.with_suffix(".json")
        if project is not None:
            try:
                about = json.loads(beside.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                about = {}
            if about != {"project": project, "processor": processor()}:
                continue
        # A running Julia has the file open: it goes when that ends.
        path.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)
        removed.append(path)
    return removed


def _located(found: Discovery) -> tuple[str, str] | None:
    """The executable and the project of a Julia, without resolving anything."""
    if found.exe is not None and found.project is not None:
        return shutil.which(found.exe) or found.exe, os.path.abspath(found.project)
    from juliapkg.deps import load_meta
    from juliapkg.state import STATE

    meta = load_meta()
    exe = None if meta is None else meta.get("executable")
    return None if exe is None else (exe, os.path.abspath(STATE["project"]))


def _key(exe: str, project: str) -> str:
    """A digest of all that an image is built from."""
    digest = hashlib.sha256()
    executable = os.path.realpath(exe)
    for part in (executable, project, processor(), bridge_version() or ""):
        digest.update(part.encode() + b"\0")
    digest.update(str(os.stat(executable).st_mtime_ns).encode())
    for path in _sources(Path(project)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:24]


def _sources(project: Path) -> Iterator[Path]:
    """The files that say what an environment holds, and the sources of HybridNDS."""
    files = (*project.glob("*Project.toml"), *project.glob("*Manifest*.toml"))
    yield from sorted((*files, *project.glob("*Preferences.toml")))
    package = julia_source()
    for manifest in sorted(project.glob("*Manifest*.toml")):
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            entry = tomllib.loads(manifest.read_text(encoding="utf-8"))["deps"]
            package = project / entry["HybridNDS"][0]["path"]
    for part in ("src", "ext"):
        yield from sorted((package / part).rglob("*.jl"))


def _run(command: list[str], settings: dict[str, str], failure: str) -> None:
    """Run a program to its end, and no longer than this one runs."""
    environment = os.environ | settings
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=os.name == "posix",
    )
    try:
        output, _ = process.communicate()
    except BaseException:
        # Its own children compile on without it.
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        raise
    if process.returncode:
        last = "\n".join(output.strip().splitlines()[-15:])
        raise SystemImageError(f"{failure} (exit status {process.returncode}):\n{last}")
