"""Running a study on the backends that are here."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from .._core import double_precision
from ..analysis import SavedProgress
from ..runtime import configured, running, session
from ._claim import Claim
from ._findings import Findings
from ._registry import find_study
from ._result import StudyResult
from ._study import BACKENDS, PRESETS, Study
from ._sweep import Sweep, code_fingerprint

_HEAD = "findings"
_PACKAGES = ("hybrid_nds", "jax", "diffrax", "equinox")
NO_JULIA = "no Julia is configured (see `hybrid-nds julia configure`)"


def run_study(
    study: Study | str,
    *,
    preset: str = "default",
    config: Any = None,
    backends: Sequence[str] | None = None,
    executor: Executor | int | None = None,
    save: str | os.PathLike[str] | None = None,
    keep_errors: bool = False,
    progress: bool = False,
) -> StudyResult:
    """Run a study and say which of its claims hold.

    **Arguments:**

    - `study`: a study or its name.
    - `preset`: `"default"`, minutes on two cores; `"quick"`, seconds; `"paper"`, for a
        larger machine.
    - `config`: a configuration of one's own, in place of a preset.
    - `backends`: those to run on; by default those of the study that are here.
    - `executor`: where its sweeps run: any `concurrent.futures.Executor`, a number of
        worker processes, or `None` for this process.
    - `save`: a folder. Each point of a sweep and the findings of each backend are
        written there as soon as they are there, and what is there already is not run
        again; `None` keeps nothing.
    - `keep_errors`: whether an error of a backend becomes part of the result and the
        others go on, or is raised.
    - `progress`: whether to show bars.

    Everything runs in double precision.

    **Returns:** a [`StudyResult`][hybrid_nds.studies.StudyResult].

    **Raises:** `ValueError` or `TypeError` for arguments that do not fit; what the
    study raises, unless errors are kept.
    """
    if isinstance(study, str):
        study = find_study(study)
    if preset not in PRESETS:
        raise ValueError(
            f"run_study: `preset` must be one of {', '.join(PRESETS)}, got {preset!r}."
        )
    if config is None:
        config = study.presets[preset]
    elif not isinstance(config, kind := type(study.presets["default"])):
        raise TypeError(
            f"run_study: `config` of {study.name!r} must be a {kind.__name__} "
            f"({kind.__module__}), got {type(config).__name__}."
        )
    else:
        preset = "custom"
    chosen, missing = _backends(study, backends)
    findings: dict[str, Findings] = {}
    errors: dict[str, str] = {}
    for backend in chosen:
        kept = _kept(study, config, backend, save)
        if (found := _read(kept)) is None:
            folder = None if save is None else Path(save) / study.name / "points"
            sweep = Sweep(study.name, backend, executor, folder, progress)
            try:
                with double_precision():
                    found = study.run(config, backend, sweep)
            except Exception as error:
                if not keep_errors:
                    raise
                errors[backend] = f"{type(error).__name__}: {error}"
                continue
            _write(kept, found)
        findings[backend] = found
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    # What is read from kept files may be asked for in any thread, Julia in one alone.
    main = threading.current_thread() is threading.main_thread()
    if "julia" in findings and main and running():
        versions |= dict(session().versions)
    return StudyResult(study, preset, config, findings, missing, errors, versions)


def _backends(
    study: Study, backends: Sequence[str] | None
) -> tuple[list[str], Mapping[str, str]]:
    """The backends to run on, and why others of the study do not."""
    if backends is None:
        here = [name for name in study.backends if name != "julia" or configured()]
        missing = {} if len(here) == len(study.backends) else {"julia": NO_JULIA}
        return here, missing
    if isinstance(backends, str) or any(name not in BACKENDS for name in backends):
        raise ValueError(
            f"run_study: `backends` must be a sequence of some of "
            f"{', '.join(BACKENDS)}, got {backends!r}."
        )
    chosen = [name for name in study.backends if name in backends]
    if not chosen:
        return [], {
            name: f"the study runs on {', '.join(study.backends)} alone"
            for name in backends
        }
    return chosen, {
        name: "not asked for" for name in study.backends if name not in backends
    }


def _kept(
    study: Study, config: Any, backend: str, save: str | os.PathLike[str] | None
) -> SavedProgress:
    """Where the findings of a backend are kept: configuration and code name it."""
    fingerprint = {
        "config": json.dumps(dataclasses.asdict(config), default=str),
        **code_fingerprint(study.module),
    }
    path = None
    if save is not None:
        key = hashlib.sha256("\n".join(fingerprint.values()).encode()).hexdigest()
        path = Path(save) / study.name / f"{backend}-{key[:20]}.npz"
    return SavedProgress(f"study {study.name!r}", path, fingerprint)


def _write(kept: SavedProgress, found: Findings) -> None:
    head = {
        "claims": [claim.to_dict() for claim in found.claims],
        "notes": list(found.notes),
    }
    arrays = {f"data.{name}": np.asarray(array) for name, array in found.data.items()}
    kept.write({_HEAD: np.array(json.dumps(head)), **arrays})


def _read(kept: SavedProgress) -> Findings | None:
    arrays = kept.read()
    if arrays is None:
        return None
    head = json.loads(str(arrays.pop(_HEAD)))
    return Findings(
        claims=[Claim.from_dict(claim) for claim in head["claims"]],
        data={name.removeprefix("data."): array for name, array in arrays.items()},
        notes=head["notes"],
    )
