"""What a notebook shows of an object: its summary, and its numbers on demand."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table

# More rows than anybody reads in a cell.
_MOST_ROWS = 40


def text_of(table: Table, width: int) -> str:
    """A table as plain text, the same in a terminal, a notebook and a file.

    **Arguments:** the table, cells of which are taken as they stand; the most columns
    of a line.
    """
    from rich.console import Console

    console = Console(
        width=width,
        color_system=None,
        force_terminal=False,
        # In a notebook rich would show the table beside, and color what it returns.
        force_jupyter=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as shown:
        console.print(table)
    return shown.get()


def page_of(summary: str, tables: Mapping[str, Iterable[Sequence[Any]]]) -> str:
    """A piece of HTML: a text as it stands, and tables that open when they are asked
    for.

    **Arguments:** the text; for each table its title and its rows, the first of them
    the heading.
    """
    parts = [f"<pre>{html.escape(summary)}</pre>"]
    for title, rows in tables.items():
        head, *body = [[html.escape(str(cell)) for cell in row] for row in rows]
        if not body:
            continue
        more = len(body) - _MOST_ROWS
        if more > 0:
            body = [*body[:_MOST_ROWS], [f"… and {more} more"]]
        lines = ["".join(f"<th>{cell}</th>" for cell in head)]
        lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in body]
        table = "".join(f"<tr>{line}</tr>" for line in lines)
        parts.append(
            f"<details><summary>{html.escape(title)}</summary>"
            f"<table>{table}</table></details>"
        )
    return f"<div>{''.join(parts)}</div>"


def size_of(values: Any) -> str:
    """The dtype and shape of an array, or the number that it is, in words."""
    array = np.asarray(values)
    if array.ndim == 0:
        return f"{array}"
    return f"{array.dtype}[{', '.join(map(str, array.shape))}]"


def range_of(values: Any) -> str:
    """The smallest and the largest of some real numbers, empty for others."""
    array = np.asarray(values)
    if array.ndim == 0 or array.dtype.kind not in "iuf" or not array.size:
        return ""
    known = array[np.isfinite(array)]
    missing = array.size - known.size
    span = f"{known.min():.6g} to {known.max():.6g}" if known.size else ""
    lost = f"{missing} not finite" if missing else ""
    return ", ".join(part for part in (span, lost) if part)
