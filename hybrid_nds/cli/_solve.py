"""`hybrid-nds solve`: one problem from a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from .._core import atomic_file, check_writable_file
from ._cache import Cache
from ._report import check_output, fail
from ._streams import console

# Components on the screen; the CSV file holds all.
_SHOWN = 8
# What a problem that its file calls stiff is solved with, as in `validate`.
_STIFF = {"diffrax": "Kvaerno5", "julia": "Rodas5P"}


def solve(
    problem: Annotated[Path, typer.Argument(help="A PROBLEM.toml, or its folder.")],
    backend: Annotated[str, typer.Option(help="diffrax or julia.")] = "diffrax",
    solver: Annotated[
        str | None,
        typer.Option(
            help="A solver's name; one for stiff problems by default where the file "
            "says `stiff = true`."
        ),
    ] = None,
    rtol: Annotated[float | None, typer.Option(help="Relative tolerance.")] = None,
    atol: Annotated[float | None, typer.Option(help="Absolute tolerance.")] = None,
    times: Annotated[
        str | None, typer.Option(help="Comma-separated times; the end by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the solution to this CSV file.")
    ] = None,
    cache: Cache = True,
) -> None:
    """Solve one problem given in TOML, and print the solution."""
    import numpy as np

    import hybrid_nds

    from ..reconcile import load_fixture

    try:
        saveat = None if times is None else [float(t) for t in times.split(",")]
    except ValueError:
        fail(f"--times must be numbers separated by commas, got {times!r}", 2)
    if output is not None:
        check_output(check_writable_file, "--output", output)
    try:
        with hybrid_nds.double_precision():
            fixture = load_fixture(problem)
            if solver is None and getattr(fixture, "stiff", False):
                solver = _STIFF.get(backend)
            solution = hybrid_nds.solve(
                fixture.problem,
                backend,
                solver=solver,
                rtol=rtol,
                atol=atol,
                saveat=saveat,
            )
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        fail(error)
    ts = np.asarray(solution.ts)
    ys = np.asarray(solution.ys).reshape(len(ts), -1)
    _show(solution, ts, ys)
    if output is not None:
        write_csv(output, ts, ys)
        typer.echo(f"Wrote {output}.")


def write_csv(path: Path, ts: Any, ys: Any) -> None:
    """Write times and states in full digits; a reader never sees half a file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["t", *(f"y{k + 1}" for k in range(ys.shape[1]))])
    for t, y in zip(ts, ys, strict=True):
        writer.writerow([repr(float(x)) for x in (t, *y)])
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())


def _show(solution: Any, ts: Any, ys: Any) -> None:
    screen = console(soft_wrap=True)
    shown = min(ys.shape[1], _SHOWN)
    cells = [
        [f"{t:.6g}", *(f"{x:.12g}" for x in y[:shown])]
        for t, y in zip(ts, ys, strict=True)
    ]
    for table in _tables([f"y{k + 1}" for k in range(shown)], cells, screen.width):
        screen.print(table)
    if shown < ys.shape[1]:
        screen.print(f"(the first {shown} of {ys.shape[1]} components)")
    where = solution.provenance
    steps = solution.stats.get("num_steps")
    screen.print(
        f"{solution.outcome_name}: {where.solver} of {where.backend}, "
        f"{int(steps)} steps, field {where.field}"
    )


def _tables(
    names: Sequence[str], cells: Sequence[Sequence[str]], width: int
) -> list[Table]:
    """Times and states in tables whose numbers are whole.

    A row a time, or where that is too wide a row a component, or several tables.

    **Arguments:** the components' names; a row for each time, which comes first; the
    width there is.
    """
    rows = [["t", *names], *cells]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if _width(widths) <= width:
        return [_table(rows)]
    flipped = [list(row) for row in zip(*rows, strict=True)]
    if _width([max(map(len, row)) for row in rows]) <= width:
        return [_table(flipped)]
    groups: list[list[int]] = [[]]
    for number in range(1, len(widths)):
        columns = [0, *groups[-1], number]
        if groups[-1] and _width([widths[k] for k in columns]) > width:
            groups.append([])
        groups[-1].append(number)
    return [_table([[row[k] for k in (0, *group)] for row in rows]) for group in groups]


def _width(widths: Sequence[int]) -> int:
    """The width of a table: a space on both sides of each column, and lines."""
    return sum(widths) + 3 * len(widths) + 1


def _table(rows: Sequence[Sequence[str]]) -> Table:
    table = Table()
    for heading in rows[0]:
        table.add_column(heading, no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    return table
