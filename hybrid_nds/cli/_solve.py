"""`hybrid-nds solve`: one problem from a file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .._core import atomic_file, check_writable_file
from ._report import check_output, fail


def solve(
    problem: Annotated[Path, typer.Argument(help="A PROBLEM.toml, or its folder.")],
    backend: Annotated[str, typer.Option(help="diffrax or julia.")] = "diffrax",
    solver: Annotated[str | None, typer.Option(help="A solver's name.")] = None,
    rtol: Annotated[float | None, typer.Option(help="Relative tolerance.")] = None,
    atol: Annotated[float | None, typer.Option(help="Absolute tolerance.")] = None,
    times: Annotated[
        str | None, typer.Option(help="Comma-separated times; the end by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the solution to this CSV file.")
    ] = None,
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
    console = Console(soft_wrap=True)
    shown = min(ys.shape[1], 8)
    table = Table()
    for heading in ("t", *(f"y{k + 1}" for k in range(shown))):
        table.add_column(heading)
    for t, y in zip(ts, ys, strict=True):
        table.add_row(f"{t:.6g}", *(f"{x:.12g}" for x in y[:shown]))
    console.print(table)
    if shown < ys.shape[1]:
        console.print(f"(the first {shown} of {ys.shape[1]} components)")
    where = solution.provenance
    steps = solution.stats.get("num_steps")
    console.print(
        f"{solution.outcome_name}: {where.solver} of {where.backend}, "
        f"{int(steps)} steps, field {where.field}",
        markup=False,
    )
