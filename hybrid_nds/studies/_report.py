"""The report: one HTML page that needs nothing beside it, and a file for machines."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from .._core import data_uri, render_page, write_text
from ._result import StudyResult


def write_report(
    results: Sequence[StudyResult], folder: str | os.PathLike[str]
) -> Path:
    """Write `report.html`, `results.json` and a figure for each study.

    The page holds its figures and its style: it can be sent by mail and read on a
    phone, without a network.

    **Arguments:** the results; the folder, made where it is missing.

    **Returns:** the page's path. Every file is there whole or not at all.

    **Raises:** `ValueError` without results.
    """
    if not results:
        raise ValueError("write_report: `results` is empty; run a study first.")
    folder = Path(folder)
    ran = [result for result in results if result.ran]
    plain = {
        "schema": 1,
        "passed": bool(ran) and all(result.passed for result in ran),
        "studies": [result.to_dict() for result in results],
    }
    write_text(folder / "results.json", json.dumps(plain, indent=1, allow_nan=False))
    figures = {}
    for result in results:
        if result.findings:
            path = folder / f"{result.study.name}.png"
            result.plot(path)
            figures[result.study.name] = data_uri(path.read_bytes())
    versions = {n: v for r in results for n, v in r.versions.items()}
    text = render_page(
        "hybrid_nds.studies",
        "studies.html",
        results=results,
        claims=[c for r in results for f in r.findings.values() for c in f.claims],
        versions=", ".join(f"{n} {v}" for n, v in sorted(versions.items())),
        figures=figures,
        notes=_notes,
    )
    page = folder / "report.html"
    write_text(page, text)
    return page


def _notes(result: StudyResult) -> list[str]:
    """The notes of all backends, each once."""
    return list(dict.fromkeys(n for f in result.findings.values() for n in f.notes))
