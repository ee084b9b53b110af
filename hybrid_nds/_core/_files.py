"""Files that appear under their names only when they are whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Write a file that is there whole or not at all, whatever cuts the writing off.

    **Arguments:** `path`; its folder is made where it is missing.

    **Returns:** a context that gives a binary file to write to.

    **Raises:** `OSError` where the file cannot be made, of the kind that the system
    tells (`IsADirectoryError`, `PermissionError`), naming the path.
    """
    path = Path(path).absolute()
    if path.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, "Cannot write a file: this is a folder; add a name", str(path)
        )
    name = path.parent / f".partial-{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # With the permissions that any new file gets here, as others may read it.
        opened = open(name, "xb")  # noqa: SIM115
    except OSError as error:
        reason = error.strerror or str(error)
        if any(one.exists() and not one.is_dir() for one in path.parents):
            reason = "a folder of its path is a file"
        raise OSError(
            error.errno,
            f"Cannot write a file: {reason}; take another path, or change the "
            "permissions of its folder",
            str(path),
        ) from error
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def check_writable_folder(
    caller: str, name: str, folder: str | os.PathLike[str]
) -> None:
    """Find out before the work whether files can be written to a folder.

    **Arguments:** who asks and the argument's name, for errors; the folder, which need
    not be there yet: then that is tried which it would be made in.

    **Raises:** `ValueError`, naming the argument and the folder.
    """
    folder = Path(folder).absolute()
    requirement = f"`{name}` must be a folder that can be written to, got {folder}"
    _check(caller, requirement, folder)


def _check(caller: str, requirement: str, folder: Path) -> None:
    there = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
    try:
        # The folder of another user may be entered and not written to.
        probe = there / f".probe-{secrets.token_hex(8)}"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        reason = f"{there}: {error.strerror or error}"
        if not there.is_dir():
            reason = f"{there} is a file"
        raise ValueError(
            f"{caller}: {requirement}: {reason}. Take another folder, or change its "
            "permissions."
        ) from error


def check_writable_file(caller: str, name: str, path: str | os.PathLike[str]) -> None:
    """Find out before the work whether a file can be written.

    **Arguments:** who asks and the argument's name, for errors; the file, whose folder
    need not be there yet.

    **Raises:** `ValueError`, naming the argument and the file.
    """
    path = Path(path).absolute()
    if path.is_dir():
        raise ValueError(f"{caller}: `{name}` must be a file, got the folder {path}.")
    _check(
        caller, f"`{name}` must be a file that can be written, got {path}", path.parent
    )


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole or not at all, as UTF-8."""
    with atomic_file(path) as file:
        file.write(text.encode())


def save_figure(figure: Figure, path: str | os.PathLike[str] | None) -> None:
    """Write a figure whole or not at all, in the format of its suffix (PNG without).

    **Arguments:** the figure; where to, `None` for nowhere.
    """
    if path is not None:
        kind = Path(path).suffix.lstrip(".") or "png"
        with atomic_file(path) as file:
            figure.savefig(file, format=kind, dpi=150)
