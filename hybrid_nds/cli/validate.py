"""`hybrid-nds validate`: every fixture up the ladder."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from ._report import fail

if TYPE_CHECKING:
    from ..reconcile import Report


def validate(
    problem: Annotated[
        list[str] | None,
        typer.Option(help="A fixture; may be repeated. All by default."),
    ] = None,
    rung: Annotated[
        list[str] | None, typer.Option(help="L0, L1, L2 or L3; may be repeated.")
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="julia: demand a live Julia; diffrax: recorded Julia results even "
            "where Julia is; auto: live where a Julia is configured."
        ),
    ] = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Processes to run in.")] = 1,
    output: Annotated[
        Path | None, typer.Option(help="Write report.md, report.json and plots here.")
    ] = None,
) -> None:
    """Take every fixture up the ladder of agreement and say which rungs hold."""
    from ..reconcile import list_fixtures
    from ..reconcile.report import RUNGS
    from ..runtime import configured

    known = list_fixtures()
    names = problem or list(known)
    rungs = [r for r in RUNGS if r in rung] if rung else list(RUNGS)
    for name in names:
        if name not in known:
            fail(f"--problem: no fixture {name!r}; there are {', '.join(known)}.", 2)
    for name in rung or []:
        if name not in RUNGS:
            fail(f"--rung must be one of {', '.join(RUNGS)}, got {name!r}.", 2)
    modes = {"auto": "auto", "julia": "live", "diffrax": "recorded"}
    if backend not in modes:
        fail(f"--backend must be one of {', '.join(modes)}, got {backend!r}.", 2)
    mode = modes[backend]
    if mode == "auto":
        mode = "live" if configured() else "recorded"
    console = Console(soft_wrap=True)
    console.print(
        "Julia runs live: both stacks are compared as they are here."
        if mode == "live"
        else "No live Julia: Diffrax is compared with recorded Julia results."
    )
    started = time.monotonic()
    reports: list[Report] = []
    try:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=console,
            transient=True,
        ) as bar:
            task = bar.add_task("climbing", total=len(names))
            for report in _climb(names, rungs, mode, jobs):
                reports.append(report)
                bar.update(task, advance=1, description=report.name)
    except KeyboardInterrupt:
        fail("interrupted; nothing was written.", 130)
    except Exception as error:
        fail(f"{type(error).__name__}: {error}")
    console.print(_table(reports, rungs))
    if output is not None:
        write_reports(reports, output, mode)
        console.print(f"Wrote {output / 'report.md'}, report.json and plots.")
    failed = [report.name for report in reports if not report.passed]
    seconds = time.monotonic() - started
    if failed:
        fail(f"{len(failed)} of {len(reports)} problems failed: {', '.join(failed)}.")
    console.print(f"All {len(reports)} problems hold ({seconds:.0f} s).")


def _climb(
    names: Sequence[str], rungs: Sequence[str], mode: str, jobs: int
) -> Iterator[Report]:
    if jobs == 1:
        for name in names:
            yield climb_fixture(name, rungs, mode)
        return
    # JAX and Julia both hold threads that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        tasks = [pool.submit(climb_fixture, name, rungs, mode) for name in names]
        for task in tasks:
            yield task.result()


def climb_fixture(name: str, rungs: Sequence[str], mode: str) -> Report:
    """Take one fixture up the ladder; runs in a worker process with `--jobs`."""
    from ..reconcile import load_fixture, reconcile

    return reconcile(load_fixture(name), rungs=rungs, julia=mode)


def _table(reports: Sequence[Report], rungs: Sequence[str]) -> Table:
    from ..reconcile.report import TITLES

    table = Table(title="Problems and rungs: worst figure / its limit")
    table.add_column("problem")
    for rung in rungs:
        table.add_column(f"{rung} {TITLES[rung]}")
    colours = {"passed": "green", "failed": "red", "not applicable": "dim"}
    for report in reports:
        cells = []
        for rung in rungs:
            result = report.rung(rung)
            worst = result.worst
            text = "-" if worst is None else f"{worst.measured:.0e} / {worst.limit:.0e}"
            if result.verdict == "failed":
                text += " failed"
            cells.append(f"[{colours[result.verdict]}]{text}[/]")
        table.add_row(report.name, *cells)
    return table


def write_reports(reports: Sequence[Report], folder: Path, mode: str) -> None:
    """Write the report and its plots, each file whole or not at all.

    **Arguments:** the reports, the folder, and where Julia's results come from.
    """
    from ..files import write_text
    from ..reconcile.report import julia_words

    # Plots first: whoever finds a report finds its plots.
    for report in reports:
        report.plot(folder / "plots" / f"{report.name}.png")
    passed = all(report.passed for report in reports)
    lines = [
        f"# Validation: {'passed' if passed else 'failed'}",
        "",
        julia_words(mode),
        "",
    ]
    lines += ["| problem | L0 | L1 | L2 | L3 |", "|---|---|---|---|---|"]
    for report in reports:
        verdicts = {result.rung: result.verdict for result in report.rungs}
        cells = [verdicts.get(rung, "not climbed") for rung in ("L0", "L1", "L2", "L3")]
        lines.append(f"| {report.name} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    for report in reports:
        text += f"\n{report.to_markdown()}\n![{report.name}](plots/{report.name}.png)\n"
    data = {
        "schema": 1,
        "passed": passed,
        "julia": mode,
        "reports": [json.loads(report.to_json()) for report in reports],
    }
    whole = json.dumps(data, indent=2) + "\n"
    for name, content in (("report.json", whole), ("report.md", text)):
        write_text(folder / name, content)
