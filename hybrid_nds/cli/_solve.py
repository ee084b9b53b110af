"""`hybrid-nds solve`: one problem from a file or a module."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ._cache import Cache
from ._output import RESULTS, TABLES, Plot, check_files, write_result, write_table
from ._problem import Problem, read_problem
from ._report import fail
from ._streams import console

# Components on the screen; a file holds all.
_SHOWN = 8
# Times in a figure where none are given.
_DRAWN = 401


def solve(
    problem: Problem,
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
    dt: Annotated[
        float | None, typer.Option(help="The step; without one tolerances hold.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the Brownian path of a stochastic problem.")
    ] = 0,
    times: Annotated[
        str | None, typer.Option(help="Comma-separated times; the end by default.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write the solution: times and states to .csv or .parquet, with the "
            "provenance to .nc or .json."
        ),
    ] = None,
    plot: Plot = None,
    cache: Cache = True,
) -> None:
    """Solve one problem, and print the solution."""
    import jax.random as jr
    import numpy as np

    import hybrid_nds
    from hybrid_nds.methods import STIFF_SOLVERS

    try:
        saveat = None if times is None else [float(t) for t in times.split(",")]
    except ValueError:
        fail(f"--times must be numbers separated by commas, got {times!r}", 2)
    check_files(output, plot, (*TABLES, *RESULTS))
    try:
        with hybrid_nds.double_precision():
            given = read_problem(problem)
            if solver is None and given.stiff:
                solver = STIFF_SOLVERS.get(backend)
            options: dict[str, Any] = {} if dt is None else {"dt": dt}
            if saveat is None and plot is not None:
                ends = float(given.problem.t0), float(given.problem.t1)
                saveat = np.linspace(*ends, _DRAWN).tolist()
            if given.problem.kind.follows_path:
                options["key"] = jr.key(seed)
            solution = hybrid_nds.solve(
                given.problem,
                backend,
                solver=solver,
                rtol=rtol,
                atol=atol,
                saveat=saveat,
                **options,
            )
            ts = np.asarray(solution.ts)
            ys = np.asarray(given.problem.flat_state.flatten(solution.ys))
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        fail(error)
    rows = slice(None if times else -1, None)
    _show(solution, given.components, ts[rows], ys[rows])
    if output is not None:
        if output.suffix in TABLES:
            write_table(output, given.components, ts, ys)
        else:
            write_result(output, solution)
        typer.echo(f"Wrote {output}.")
    if plot is not None:
        named = dict(zip(given.components, ys.T, strict=True))
        dataclasses.replace(solution, ys=named).plot(path=plot)
        typer.echo(f"Drew {plot}.")


def _show(solution: Any, names: Sequence[str], ts: Any, ys: Any) -> None:
    screen = console(soft_wrap=True)
    shown = min(ys.shape[1], _SHOWN)
    cells = [
        [f"{t:.6g}", *(f"{x:.12g}" for x in y[:shown])]
        for t, y in zip(ts, ys, strict=True)
    ]
    for table in _tables(names[:shown], cells, screen.width):
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
