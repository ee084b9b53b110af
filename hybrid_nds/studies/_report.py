"""The report: one HTML page that needs nothing beside it, and a file for machines."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import write_text
from ._claim import Claim
from ._report_style import STYLE
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
            figures[result.study.name] = path.read_bytes()
    page = folder / "report.html"
    write_text(page, _page(results, figures))
    return page


def _page(results: Sequence[StudyResult], figures: Mapping[str, bytes]) -> str:
    """The report as the text of one HTML page; figures by study, as PNG."""
    claims = [c for r in results for f in r.findings.values() for c in f.claims]
    held = sum(claim.holds for claim in claims)
    passed = sum(result.passed for result in results)
    ran = sum(result.ran for result in results)
    everything = {n: v for r in results for n, v in r.versions.items()}
    versions = ", ".join(f"{n} {v}" for n, v in sorted(everything.items()))
    contents = "\n".join(
        f'<li><a href="#{_text(r.study.name)}">{_text(r.study.title)}</a> '
        f"{_outcome(r)}</li>"
        for r in results
    )
    body = "\n".join(_section(r, figures.get(r.study.name)) for r in results)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>hybrid_nds: studies</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>Studies of neural dynamical systems</h1>
<p class="sum">{passed} of {ran} studies hold; {held} of {len(claims)} claims.
</p>
<p class="small">{_text(versions)}</p>
<nav aria-label="Studies"><ol>
{contents}
</ol></nav>
{body}
</main>
</body>
</html>
"""


def _section(result: StudyResult, figure: bytes | None) -> str:
    study = result.study
    backends = list(result.findings)
    parts = [
        f'<section id="{_text(study.name)}">',
        f"<h2>{_text(study.title)} {_outcome(result)}</h2>",
        f'<p class="small">{_text(study.direction)}; preset {_text(result.preset)}; '
        f"{_text(study.source)}</p>",
        f"<p>{_text(study.question)}</p>",
    ]
    parts += [
        f'<p class="stopped">{_text(backend)} stopped: {_text(why)}</p>'
        for backend, why in result.errors.items()
    ]
    parts += [
        f'<p class="small">{_text(backend)} did not run: {_text(why)}.</p>'
        for backend, why in result.missing.items()
    ]
    if figure is not None:
        data = base64.b64encode(figure).decode()
        parts += [
            f'<img src="data:image/png;base64,{data}" '
            f'alt="Figure: {_text(study.title)}">',
            _table(result, backends),
        ]
    notes = dict.fromkeys(n for f in result.findings.values() for n in f.notes)
    parts += [f'<p class="small">{_text(note)}</p>' for note in notes]
    return "\n".join([*parts, "</section>"])


def _table(result: StudyResult, backends: Sequence[str]) -> str:
    heads = "".join(f"<th scope=col>{_text(backend)}</th>" for backend in backends)
    rows = []
    for statement, claims in result.rows():
        first = next(iter(claims.values()))
        cells = "".join(
            f'<td data-label="{_text(backend)}">{_measured(claims.get(backend))}</td>'
            for backend in backends
        )
        level = "" if first.level is None else f"; level {first.level:.2g}"
        rows.append(
            f'<tr><td data-label="claim">{_text(statement)}</td>'
            f'<td data-label="expected">{_text(first.relation)} {first.expected:.6g}'
            f'<div class="small">{_text(first.source)}</div></td>{cells}'
            f'<td data-label="tolerance">{first.tolerance:.2g}'
            f'<div class="small">{_text(first.reason)}{level}</div></td></tr>'
        )
    return (
        "<table><thead><tr><th scope=col>claim</th><th scope=col>expected</th>"
        f"{heads}<th scope=col>tolerance</th></tr></thead><tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table>"
    )


def _measured(claim: Claim | None) -> str:
    if claim is None:
        return "–"
    error = "" if claim.error is None else f" ± {claim.error:.2g}"
    return f"{claim.measured:.6g}{error} {_verdict(claim.holds)}"


def _outcome(result: StudyResult) -> str:
    if not result.ran:
        return '<span class="small">not run</span>'
    return _verdict(result.passed)


def _verdict(holds: bool) -> str:
    word = "holds" if holds else "fails"
    return f'<span class="{word}">{word}</span>'


def _text(text: str) -> str:
    return html.escape(str(text), quote=True)
