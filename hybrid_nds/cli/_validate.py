"""`hybrid-nds validate`: fixtures up the ladder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from .._core import check_writable_folder
from ._cache import Cache
from ._report import check_output, fail
from ._rungs import Rungs, chosen
from ._streams import console


def validate(
    problem: Annotated[
        list[str] | None,
        typer.Option(help="A fixture; may be repeated. Seven telling ones by default."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Take every fixture.")] = False,
    rung: Rungs = None,
    backend: Annotated[
        str,
        typer.Option(
            help="julia: demand a live Julia; diffrax: recorded Julia results even "
            "where Julia is; auto: live where a Julia is configured."
        ),
    ] = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes to run in; one for each core by default."),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="A folder for report.html, report.md, report.json.")
    ] = Path("report"),
    cache: Cache = True,
) -> None:
    """Take problems up the ladder of agreement and say which rungs hold."""
    from ..reconcile import (
        TELLING,
        TITLES,
        Report,
        julia_words,
        list_fixtures,
        write_reports,
    )
    from ..runtime import configured
    from ._climb import climb, default_jobs
    from ._ladder_table import LadderTable

    known = list_fixtures()
    if every and problem:
        fail("--all and --problem exclude each other.", 2)
    names = list(known) if every else list(dict.fromkeys(problem or TELLING))
    for name in names:
        if name not in known:
            fail(f"--problem: no fixture {name!r}; there are {', '.join(known)}.", 2)
    rungs = chosen(rung)
    modes = {"auto": "auto", "julia": "live", "diffrax": "recorded"}
    if backend not in modes:
        fail(f"--backend must be one of {', '.join(modes)}, got {backend!r}.", 2)
    mode = modes[backend]
    if mode == "auto":
        mode = "live" if configured() else "recorded"
    check_output(check_writable_folder, "--output", output)
    jobs = jobs or default_jobs(len(names), mode)
    screen = console(soft_wrap=True)
    processes = "" if jobs == 1 else f", in {jobs} processes"
    screen.print(
        f"{_problems(len(names))} up the ladder of agreement{processes}.\n"
        f"{julia_words(mode)}",
        soft_wrap=False,
    )
    started = time.monotonic()
    reports: dict[str, Report] = {}
    plots: dict[str, bytes] = {}
    interrupted = False
    table = LadderTable(screen, names, rungs, TITLES)
    try:
        with table:
            for report, plot in climb(names, rungs, mode, jobs, table.notify):
                reports[report.name], plots[report.name] = report, plot
    except KeyboardInterrupt:
        interrupted = True
    except Exception as error:
        fail(f"{type(error).__name__}: {error}")
    seconds = time.monotonic() - started
    finished = [reports[name] for name in names if name in reports]
    partial = [
        Report(name, table.results(name), mode, ())
        for name in names
        if name not in reports and table.results(name)
    ]
    if not finished and not partial:
        fail("interrupted before a rung was through; nothing was written.", 130)
    try:
        page = write_reports(
            finished, output, mode, plots, partial=partial, planned=len(names)
        )
    except OSError as error:
        fail(f"the report could not be written: {error}")
    failed = [report.name for report in finished if report.verdict == "failed"]
    idle = [report.name for report in finished if not report.passed]
    others = len(known) - len(names)
    more = "" if every or problem else f" --all takes the other {others}, too."
    if interrupted:
        fail(
            f"interrupted after {len(finished)} of {_problems(len(names))}; what was "
            f"through is in {page}.",
            130,
        )
    if failed:
        fail(
            f"{len(failed)} of {_problems(len(finished))} failed: {', '.join(failed)}. "
            f"Report: {page}."
        )
    if idle:
        fail(
            f"{len(idle)} of {_problems(len(finished))}: nothing was compared "
            f"({', '.join(idle)}). Report: {page}."
        )
    verdict = "holds" if len(finished) == 1 else "all hold"
    screen.print(
        f"{_problems(len(finished))}: {verdict} ({seconds:.0f} s). A percentage is the "
        f"worst figure\nas a share of its limit. Report: {page}.{more}"
    )


def _problems(count: int) -> str:
    return "1 problem" if count == 1 else f"{count} problems"
