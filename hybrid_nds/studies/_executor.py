"""Executors by their names on a command line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor


@contextlib.contextmanager
def executor_of(text: str | None) -> Iterator[Executor | int | None]:
    """What `processes:4` or `dask:ADDRESS` names.

    **Arguments:** the text, `None` for no executor.

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
            "--executor must be processes:N with N at least 1, or dask:ADDRESS, got "
            f"{text!r}."
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "--executor dask:… needs Dask: pip install distributed."
        ) from error
    with Client(what, timeout=10) as client:
        yield client.get_executor()
