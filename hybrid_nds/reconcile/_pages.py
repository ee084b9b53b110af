"""Reports of the ladder as files: an HTML page, Markdown, JSON, and plots."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from .._core import atomic_file, data_uri, render_page, write_text
from ._names import RUNGS, TITLES, julia_words
from ._report import Figure, Report, RungResult

# The same words as in the README.
_MEANINGS = (
    (
        "L0",
        "field, Jacobian and time gradient, JAX against lowered Julia",
        "round-off × depth × condition of the expression",
    ),
    (
        "L1",
        "the same tableau in the same fixed steps",
        "round-off × steps × growth; for implicit ones also Newton's tolerance",
    ),
    (
        "L2",
        "each stack's own best solver, down a ladder of tolerances",
        "10 × growth × tolerance, and falling with it",
    ),
    (
        "L3",
        "what was wanted from the solution: a number, an exponent, a mean exit time, "
        "a distribution",
        "sensitivity × the limit of L2; for what is sampled, intervals at a stated "
        "level",
    ),
)
_JULIA = " (Julia)"


def write_reports(
    reports: Sequence[Report],
    folder: Path,
    julia: str,
    plots: Mapping[str, bytes] = MappingProxyType({}),
    *,
    partial: Sequence[Report] = (),
    planned: int | None = None,
) -> Path:
    """Write `report.html`, `report.md`, `report.json` and a plot for each problem.

    **Arguments:** the reports; the folder, made where it is missing; where Julia's
    results come from, `"live"`, `"recorded"` or `"absent"`; plots that are drawn
    already, by the name of the problem; reports of problems that were interrupted
    between rungs; and the number of problems that were to be taken up the ladder, by
    default as many as there are whole reports. With fewer of these the files say that
    the run was interrupted, and that it has not passed.

    **Returns:** the path of `report.html`, which holds its plots and its style. Every
    file is there whole or not at all.

    **Raises:** `ValueError` without reports.
    """
    whole, reports = reports, (*reports, *partial)
    if not reports:
        raise ValueError("write_reports: `reports` is empty; climb a problem first.")
    # Plots first: whoever finds a report finds its plots.
    images = {}
    for report in reports:
        image = plots.get(report.name) or draw(report)
        with atomic_file(folder / "plots" / f"{report.name}.png") as file:
            file.write(image)
        images[report.name] = data_uri(image)
    planned = len(reports) if planned is None else planned
    cut = f"interrupted, {len(whole)} of {planned}" if len(whole) < planned else ""
    page = folder / "report.html"
    write_text(folder / "report.json", _json(whole, partial, julia, cut))
    write_text(folder / "report.md", _markdown(whole, partial, julia, cut))
    write_text(page, _html(whole, partial, julia, cut, images))
    return page


def draw(report: Report) -> bytes:
    """The plot of a report, as PNG."""
    file = io.BytesIO()
    report.plot().savefig(file, format="png", dpi=130)
    return file.getvalue()


def _json(
    reports: Sequence[Report], partial: Sequence[Report], julia: str, cut: str
) -> str:
    data = {
        "schema": 1,
        "passed": not cut and all(report.passed for report in reports),
        "julia": julia,
        "reports": [json.loads(report.to_json()) for report in reports],
    }
    if cut:
        data["interrupted"] = cut
        data["partial"] = [json.loads(report.to_json()) for report in partial]
    return json.dumps(data, indent=2) + "\n"


def _markdown(
    reports: Sequence[Report], partial: Sequence[Report], julia: str, cut: str
) -> str:
    every = (*reports, *partial)
    verdicts = {report.verdict for report in every}
    found = [v for v in ("failed", "not compared") if v in verdicts]
    verdict = cut or next(iter(found), "passed")
    lines = [f"# Validation: {verdict}", ""]
    if cut:
        lines += [_summary(reports, partial, cut), ""]
    lines += [julia_words(julia), ""]
    lines += ["| problem | L0 | L1 | L2 | L3 |", "|---|---|---|---|---|"]
    for report in every:
        verdicts = {result.rung: result.verdict for result in report.rungs}
        cells = [verdicts.get(rung, "not climbed") for rung in RUNGS]
        lines.append(f"| {report.name} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    for report in every:
        text += f"\n{report.to_markdown()}\n![{report.name}](plots/{report.name}.png)\n"
    return text


def _html(
    reports: Sequence[Report],
    partial: Sequence[Report],
    julia: str,
    cut: str,
    images: dict[str, str],
) -> str:
    every = (*reports, *partial)
    climbed = {result.rung for report in every for result in report.rungs}
    return render_page(
        "hybrid_nds.reconcile",
        "ladder.html",
        reports=every,
        partial=partial,
        images=images,
        rungs=[rung for rung in RUNGS if rung in climbed],
        summary=_summary(reports, partial, cut),
        julia=julia_words(julia),
        mode=julia,
        stacks=_versions(every),
        meanings=_MEANINGS,
        titled=lambda rung: f"{rung} {TITLES[rung]}",
        julia_of=lambda report: julia_words(report.julia),
        share=_share,
        details=_details,
    )


def _summary(
    reports: Sequence[Report], partial: Sequence[Report] = (), cut: str = ""
) -> str:
    """How many problems hold, and which do not, in a sentence or two."""
    if cut:
        parts = [f"{cut.capitalize()}."]
        parts += [_summary(reports)] if reports else []
        names = ", ".join(report.name for report in partial)
        parts += [f"Some rungs alone are through: {names}."] if partial else []
        return " ".join(parts)
    total = len(reports)
    held = sum(report.passed for report in reports)
    failed = [r.name for r in reports if r.verdict == "failed"]
    if held == total:
        return f"All {total} problems hold." if total > 1 else "The one problem holds."
    sentence = f"{held} of {total} problem{'s hold' if total > 1 else ' holds'}"
    if failed:
        sentence += f"; {', '.join(failed)} fail{'s' if len(failed) == 1 else ''}"
    if rest := total - held - len(failed):
        sentence += f"; for {rest} nothing was compared"
    return f"{sentence}."


def _versions(reports: Sequence[Report]) -> dict[str, str]:
    """Versions by stack; a name with two versions, as records may have, shows both."""
    pairs = sorted({pair for report in reports for pair in report.versions})
    julia = [(n.removesuffix(_JULIA), v) for n, v in pairs if n.endswith(_JULIA)]
    python = [(n, v) for n, v in pairs if not n.endswith(_JULIA)]
    stacks = {"Python": python, "Julia": julia}
    return {
        stack: ", ".join(f"{n} {v}" for n, v in found)
        for stack, found in stacks.items()
        if found
    }


def _details(result: RungResult) -> str:
    """The worst share of a rung and the seconds it took, as far as there are any."""
    seconds = getattr(result, "seconds", None)
    parts = [] if result.worst is None else [_share(result.worst)]
    parts += [] if seconds is None else [f"{seconds:.1f} s"]
    return ", ".join(parts)


def _share(figure: Figure) -> str:
    """Measured over limit: in percent up to the limit, as a multiple beyond it."""
    share = figure.share
    if not math.isfinite(figure.measured):
        return "not finite"
    if math.isinf(share):
        return "limit is 0"
    if not figure.holds:
        return f"{share:.2g} ×" if share < 10 else f"{share:,.0f} ×"
    if 0 < share < 1e-3:
        return "< 0.1 %"
    return f"{100 * share:.2g} %" if share < 0.995 else "100 %"
