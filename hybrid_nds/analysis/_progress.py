"""How far a long analysis has come, on disk: to go on from after an interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .._core import atomic_file, check_writable_file

_FORMAT = 1
_HEAD = "hybrid_nds"


class SavedProgress:
    """One file that holds the state of one long analysis.

    The file is replaced whole after each segment of work, so that a run that was cut
    off at any time goes on from the last segment it finished, to the same result.

    **Arguments:**

    - `caller`: the analysis, for messages.
    - `path`: the file, `None` for none: nothing is kept.
    - `fingerprint`: what the result depends on, by name; see `hybrid_nds.problems`.

    **Raises:** `ValueError` for a file of another analysis, or a damaged one.
    """

    def __init__(
        self,
        caller: str,
        path: str | os.PathLike[str] | None,
        fingerprint: Mapping[str, str],
    ):
        self._caller = caller
        self._path = None if path is None else Path(path)
        self._fingerprint = dict(fingerprint)
        if self._path is not None and self._path.is_dir():
            raise ValueError(
                f"{caller}: `save` must be a file, but {self._path} is a folder."
            )

    def read(self) -> dict[str, np.ndarray] | None:
        """The arrays of the last segment, `None` where nothing was kept yet.

        **Raises:** `ValueError` for a file of another analysis, a damaged one, or one
        that is yet to be written and cannot be.
        """
        if self._path is None:
            return None
        if not self._path.exists():
            check_writable_file(self._caller, "save", self._path)
            return None
        try:
            with self._path.open("rb") as raw, np.load(raw) as file:
                arrays = {name: file[name] for name in file.files}
            head = json.loads(str(arrays.pop(_HEAD)))
            theirs, known = dict(head["fingerprint"]), head["format"] == _FORMAT
        # A damaged archive fails in any part of its reading.
        except Exception as error:
            raise ValueError(
                f"{self._caller}: `save` cannot be read, {self._path}: {error}. Take "
                "another file, or remove this one."
            ) from error
        names = sorted(theirs.keys() | self._fingerprint.keys())
        other = [n for n in names if theirs.get(n) != self._fingerprint.get(n)]
        if other or not known:
            what = ", ".join(other) or "format"
            raise ValueError(
                f"{self._caller}: `save` holds another analysis: {self._path} was "
                f"written with another {what}. Take another file, or remove this one."
            )
        return arrays

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the state after one more segment, in place of the one before."""
        if self._path is None:
            return
        head = {"format": _FORMAT, "fingerprint": self._fingerprint}
        with atomic_file(self._path) as file:
            np.savez(
                file,
                allow_pickle=False,
                **{_HEAD: np.array(json.dumps(head))},
                **arrays,
            )  # pyright: ignore
