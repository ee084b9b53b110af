"""Executors by their names on a command line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def executor_of(text: str | None) -> Iterator[Executor | int | None]:
    """What `processes:4`, `dask:ADDRESS` or `dask:FILE.json` names.

    **Arguments:** the text, `None` for no executor; a file is one that a scheduler of
    Dask wrote to be found by (`dask scheduler --scheduler-file FILE.json`).

    **Returns:** a context that gives an executor, a number of processes, or `None`.

    **Raises:** `ValueError` for another text; `ImportError` without Dask; `OSError`
    where no scheduler answers at the address.
    """
    if text is None:
        yield None
        return
    kind, _, what = text.partition(":")
    if kind == "processes" and what.isdecimal() and int(what) > 0:
        yield int(what)
        return
    if kind != "dask" or not what:
        raise ValueError(
            "--executor must be processes:N with N at least 1, dask:ADDRESS or "
            f"dask:FILE.json, got {text!r}."
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "--executor dask:… needs Dask: pip install distributed."
        ) from error
    where: dict[str, Any] = {"address": what}
    if what.endswith(".json"):
        # Dask would wait for it for ever.
        if not Path(what).is_file():
            raise FileNotFoundError(
                f"--executor {text}: there is no such file. Start the scheduler first, "
                f"with --scheduler-file {what}, in a folder that both machines see."
            )
        where = {"scheduler_file": what}
    with Client(**where, timeout=10) as client:
        yield client.get_executor()
