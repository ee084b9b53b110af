"""`hybrid-nds reconcile`: one problem of one's own up the ladder."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import typer

from .._core import check_writable_folder
from ._cache import Cache
from ._problem import Problem, read_problem
from ._report import check_output, fail
from ._rungs import Rungs, chosen
from ._streams import console


def reconcile(
    problem: Problem,
    rung: Rungs = None,
    backend: Annotated[
        str,
        typer.Option(
            help="julia: demand a live Julia; auto: take it where one is configured."
        ),
    ] = "auto",
    gradients: Annotated[
        bool, typer.Option(help="Compare gradients by start and parameters, too.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="A folder for report.html, report.md, report.json."),
    ] = None,
    cache: Cache = True,
) -> None:
    """Take one problem to both solver stacks, and say on which rungs they agree."""
    from .. import reconcile as room
    from ._ladder_table import LadderTable

    rungs = chosen(rung)
    if backend not in ("auto", "julia"):
        fail(f"--backend must be auto or julia, got {backend!r}.", 2)
    if output is not None:
        check_output(check_writable_folder, "--output", output)
    screen = console(soft_wrap=True)
    try:
        given = read_problem(problem)
        name = re.sub(r"[^\w.-]", "_", given.name) or "problem"
        table = LadderTable(screen, [name], rungs, room.TITLES)
        with table:
            report = room.reconcile(
                given.problem if given.fixture is None else given.fixture,
                rungs=rungs,
                gradients=gradients,
                julia="live" if backend == "julia" else "auto",
                progress=lambda one: table.notify(name, one, None),
                finished=lambda result: table.notify(name, result.rung, result),
            )
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        fail(error)
    report = dataclasses.replace(report, name=name)
    screen.print(str(report))
    if output is not None:
        page = room.write_reports([report], output, report.julia)
        screen.print(f"Report: {page}.")
    if report.verdict == "failed":
        fail("a rung failed.")
    if not report.passed:
        fail("nothing independent was compared: a live Julia is needed.")
