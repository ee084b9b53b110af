"""Finished batches on disk: written whole or not at all, read back to go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._core import atomic_file, check_writable_folder
from ..solution import Provenance
from ._plan import BlockResult
from ._tasks import BatchResult

_MANIFEST = "manifest.json"
_FORMAT = 1


class Checkpoint:
    """A folder that holds the finished blocks of one ensemble.

    **Arguments:** the folder, made if it is missing; the fingerprint of the ensemble,
    as plain data by what it covers; a description of the ensemble for readers.

    **Raises:** `ValueError` for a folder that holds another ensemble, or other things.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        fingerprint: Mapping[str, str],
        about: Mapping[str, Any],
    ):
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(
                f"ensemble: `save` must be a folder, but {self.folder} is a file."
            )
        path = self.folder / _MANIFEST
        if path.exists():
            self._compare(path, fingerprint)
            return
        self.check_writable()
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise ValueError(
                f"ensemble: `save` must be an empty folder or one of this same "
                f"ensemble, but {self.folder} holds other files."
            )
        manifest = {"format": _FORMAT, "fingerprint": dict(fingerprint), **about}
        text = json.dumps(manifest, indent=2, sort_keys=True, default=str) + "\n"
        with atomic_file(path) as file:
            file.write(text.encode())

    def check_writable(self) -> None:
        """Find out before the work whether blocks can be kept.

        **Raises:** `ValueError` for a folder that cannot be written to.
        """
        check_writable_folder("ensemble", "save", self.folder)

    def _compare(self, path: Path, fingerprint: Mapping[str, str]) -> None:
        try:
            found = json.loads(path.read_bytes())
            theirs = dict(found["fingerprint"])
            known = found["format"] == _FORMAT
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"ensemble: `save` holds a manifest that cannot be read, {path}: "
                f"{error}. Take another folder, or remove this one."
            ) from error
        if not known:
            raise ValueError(
                f"ensemble: `save` holds an ensemble of another format, {path}. Take "
                "another folder."
            )
        names = sorted(theirs.keys() | fingerprint.keys())
        other = [name for name in names if theirs.get(name) != fingerprint.get(name)]
        if other:
            raise ValueError(
                f"ensemble: `save` holds another ensemble: {self.folder} was written "
                f"with another {', '.join(other)}. Take another folder, or remove "
                "this one."
            )

    def write(self, batch: BatchResult) -> None:
        """Keep a finished batch."""
        origin = {
            "runner": batch.runner,
            "provenance": batch.provenance and batch.provenance.as_dict(),
        }
        arrays: dict[str, np.ndarray] = {
            "numbers": np.array([one.number for one in batch.results]),
            "origin": np.array(json.dumps(origin)),
        }
        for one in batch.results:
            arrays[f"{one.number}|outcomes"] = one.outcomes
            arrays[f"{one.number}|failed_times"] = one.failed_times
            for name, state in one.kept.items():
                for field, value in state.items():
                    arrays[f"{one.number}|kept|{field}|{name}"] = value
        numbers = arrays["numbers"]
        path = self.folder / f"blocks-{numbers[0]:08d}-{numbers[-1]:08d}.npz"
        with atomic_file(path) as file:
            np.savez(file, allow_pickle=False, **arrays)  # pyright: ignore

    def read(self) -> Iterator[BatchResult]:
        """The finished batches; those of a run cut short may overlap.

        **Raises:** `ValueError` for a file that is damaged.
        """
        for path in sorted(self.folder.glob("blocks-*.npz")):
            try:
                with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                    arrays = {name: file[name] for name in file.files}
                batch = _batch(arrays)
            # A damaged archive fails in any part of its reading.
            except Exception as error:
                raise ValueError(
                    f"ensemble: {path} is damaged ({error}). Remove this file; its "
                    "trajectories are solved again."
                ) from error
            yield batch


def _batch(arrays: Mapping[str, np.ndarray]) -> BatchResult:
    origin = json.loads(str(arrays["origin"]))
    fields = origin["provenance"]
    return BatchResult(
        tuple(_block(int(number), arrays) for number in arrays["numbers"]),
        None if fields is None else Provenance.from_dict(fields),
        origin["runner"],
    )


def _block(number: int, arrays: Mapping[str, np.ndarray]) -> BlockResult:
    kept: dict[str, dict[str, np.ndarray]] = {}
    start = f"{number}|kept|"
    for label, value in arrays.items():
        if label.startswith(start):
            field, name = label.removeprefix(start).split("|", 1)
            kept.setdefault(name, {})[field] = value
    return BlockResult(
        number, arrays[f"{number}|outcomes"], arrays[f"{number}|failed_times"], kept
    )
