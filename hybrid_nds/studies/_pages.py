"""Pages of a documentation, made of runs: what was asked, and what was found."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from .._core import write_text
from ._claim import Claim
from ._result import StudyResult

_IMAGES = "images"
# Formulas on lines of their own, which Markdown wants as paragraphs of their own.
_DISPLAY = re.compile(r"\s*\\\[(.+?)\\\]\s*", re.DOTALL)
# What Markdown would read in a line of a table.
_SPECIAL = {ord(sign): f"&#{ord(sign)};" for sign in "&<>|*_`[]\\$#~"}


def write_pages(
    results: Sequence[StudyResult], folder: str | os.PathLike[str]
) -> list[Path]:
    """Write a page in Markdown, with its figure, for each study that ran.

    A page has the question and the method of the study, as its docstring tells them,
    the claims with what was measured on each backend, the figure, the configuration and
    the versions: nothing in it is written by hand. Formulas stay TeX between `\\(` and
    `\\)`.

    **Arguments:** the results; the folder, made where it is missing. Figures go into
    its folder `images`.

    **Returns:** the paths of the pages. Every file is there whole or not at all.

    **Raises:** `ValueError` where none of the studies has findings.
    """
    folder = Path(folder)
    pages = []
    for result in results:
        if not result.findings:
            continue
        page = folder / f"{result.study.name}.md"
        result.plot(folder / _IMAGES / f"{result.study.name}.png")
        write_text(page, _page(result))
        pages.append(page)
    if not pages:
        raise ValueError("write_pages: none of `results` has findings; run a study.")
    return pages


def _page(result: StudyResult) -> str:
    study, backends = result.study, list(result.findings)
    claims = [c for found in result.findings.values() for c in found.claims]
    held = sum(claim.holds for claim in claims)
    versions = ", ".join(f"{n} {v}" for n, v in sorted(result.versions.items()))
    heads = ["claim", "expected", *backends, "tolerance"]
    lines = [
        f"# {study.title}",
        "",
        _DISPLAY.sub(r"\n\n\\[\1\\]\n\n", study.text),
        "",
        f"![{_plain(study.title)}]({_IMAGES}/{study.name}.png)",
        "",
        f"## {held} of {len(claims)} claims hold",
        "",
        _row(heads),
        _row(["---"] * len(heads)),
        *(_row(_cells(statement, of, backends)) for statement, of in result.rows()),
        "",
        *(f"- {_plain(note)}" for note in _notes(result)),
        "",
        f"Sources: {_plain(study.source)}.",
        "",
        "## The run",
        "",
        f"Preset {result.preset}, with {versions}.",
        "",
        "```json",
        json.dumps(result.to_dict()["config"], ensure_ascii=False),
        "```",
        "",
    ]
    return "\n".join(lines)


def _notes(result: StudyResult) -> list[str]:
    notes = [note for found in result.findings.values() for note in found.notes]
    notes += [f"{name} did not run: {why}." for name, why in result.missing.items()]
    notes += [f"{name} stopped: {why}" for name, why in result.errors.items()]
    return list(dict.fromkeys(notes))


def _cells(
    statement: str, claims: dict[str, Claim], backends: Sequence[str]
) -> list[str]:
    first = next(iter(claims.values()))
    level = "" if first.level is None else f"; level {first.level:.2g}"
    measured = [_measured(claims.get(backend)) for backend in backends]
    return [
        _plain(statement),
        f"{first.relation} {first.expected:.6g}<br><small>{_plain(first.source)}"
        "</small>",
        *measured,
        f"{first.tolerance:.2g}<br><small>{_plain(first.reason)}{level}</small>",
    ]


def _measured(claim: Claim | None) -> str:
    if claim is None:
        return "–"
    error = "" if claim.error is None else f" ± {claim.error:.2g}"
    verdict = "holds" if claim.holds else "**fails**"
    return f"{claim.measured:.6g}{error}<br>{verdict}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """A text on one line that Markdown shows as it stands."""
    return " ".join(text.split()).translate(_SPECIAL)
