"""Files that appear under their names only when they are whole."""

from __future__ import annotations

import contextlib
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
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.parent / f".partial-{secrets.token_hex(8)}"
    try:
        # With the permissions that any new file gets here, as others may read it.
        with open(name, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole or not at all, as UTF-8."""
    with atomic_file(path) as file:
        file.write(text.encode())


def save_figure(
    figure: Figure, path: str | os.PathLike[str] | None, resolution: int = 150
) -> None:
    """Write a figure whole or not at all, in the format of its suffix (PNG without).

    **Arguments:** the figure; where to, `None` for nowhere; dots an inch.
    """
    if path is not None:
        kind = Path(path).suffix.lstrip(".") or "png"
        with atomic_file(path) as file:
            figure.savefig(file, format=kind, dpi=resolution)
