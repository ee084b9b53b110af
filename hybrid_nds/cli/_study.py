"""`hybrid-nds study`: named experiments with claims, and their report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from .._core import check_writable_folder
from ._cache import Cache
from ._report import check_output, fail
from ._streams import console

if TYPE_CHECKING:
    from ..studies import Study, StudyResult

study = typer.Typer(help="Named experiments with claims.", no_args_is_help=True)


@study.command("list")
def list_studies() -> None:
    """List all studies, those of other installed packages too."""
    from ..studies import find_study, study_names

    table = Table()
    for head in ("study", "title", "direction", "backends"):
        table.add_column(head, overflow="fold")
    for name in study_names():
        try:
            found = find_study(name)
        except Exception as error:
            # One broken package must not hide the others.
            table.add_row(name, f"{type(error).__name__}: {error}", "", "")
            continue
        backends = ", ".join(found.backends)
        table.add_row(name, found.title, found.direction, backends)
    console().print(table)


@study.command("run")
def run_studies(
    names: Annotated[list[str] | None, typer.Argument(help="Studies to run.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Run all studies.")] = False,
    quick: Annotated[bool, typer.Option(help="Seconds a study; for tests.")] = False,
    paper: Annotated[bool, typer.Option(help="For a larger machine.")] = False,
    backend: Annotated[
        str, typer.Option(help="diffrax, julia, or auto: those that are here.")
    ] = "auto",
    executor: Annotated[
        str | None,
        typer.Option(help="processes:N, dask:ADDRESS or dask:FILE.json, for sweeps."),
    ] = None,
    out: Annotated[Path, typer.Option(help="A folder for results.")] = Path("studies"),
    pages: Annotated[
        Path | None, typer.Option(help="A folder for pages in Markdown, too.")
    ] = None,
    cache: Cache = True,
) -> None:
    """Run studies, print their claims, write a report; goes on where it was cut off."""
    from ..studies import executor_of, run_study, write_pages, write_report

    if every == bool(names):
        fail("name the studies to run, or say --all.", 2)
    if quick and paper:
        fail("--quick and --paper exclude each other.", 2)
    backends = {"auto": None, "diffrax": ("diffrax",), "julia": ("julia",)}
    if backend not in backends:
        fail(f"--backend must be one of {', '.join(backends)}, got {backend!r}.", 2)
    chosen = _chosen(names or [], every)
    for option, folder in (("--out", out), ("--pages", pages)):
        if folder is not None:
            check_output(check_writable_folder, option, folder)
    preset: Any = "quick" if quick else "paper" if paper else "default"
    screen = console(soft_wrap=True)
    results: list[StudyResult] = []
    try:
        with executor_of(executor) as where:
            for number, one in enumerate(chosen, 1):
                started = time.monotonic()
                screen.print(f"{number} of {len(chosen)}: {one.title}")
                result = run_study(
                    one,
                    preset=preset,
                    backends=backends[backend],
                    executor=where,
                    save=out / "saved",
                    keep_errors=True,
                    progress=screen.is_terminal,
                )
                results.append(result)
                screen.print(str(result))
                screen.print(f"  ({time.monotonic() - started:.0f} s)")
    except KeyboardInterrupt:
        fail(
            f"interrupted; what is finished is in {out / 'saved'}, go on likewise.", 130
        )
    except (ValueError, ImportError, OSError) as error:
        fail(str(error), 2)
    screen.print(f"Wrote {write_report(results, out)}, results.json and figures.")
    if pages is not None and any(result.findings for result in results):
        screen.print(f"Wrote {len(write_pages(results, pages))} pages to {pages}.")
    ran = [result for result in results if result.ran]
    failed = [result.study.name for result in ran if not result.passed]
    if failed:
        fail(f"{len(failed)} of {len(ran)} studies failed: {', '.join(failed)}.")
    if not ran:
        fail(f"none of the studies runs on {backend}.")
    screen.print(f"All {len(ran)} studies hold.")


def _chosen(names: list[str], every: bool) -> list[Study]:
    from ..studies import find_study, study_names

    try:
        return [find_study(name) for name in (study_names() if every else names)]
    except (ValueError, TypeError) as error:
        fail(str(error), 2)
