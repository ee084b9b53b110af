"""The table of `hybrid-nds validate`, which fills while rungs are climbed.

Plain letters alone, and 80 columns: it reads alike in a terminal of any encoding, in a
log, and aloud.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..reconcile import RungResult

_COLOURS = {"passed": "green", "failed": "bold red"}
# A verdict and a share.
_WIDTH = 10


class LadderTable:
    """Problems by rungs, each cell the verdict and the worst figure as a share of its
    limit.

    In a terminal the whole table is drawn anew as it fills; elsewhere, and in a dumb
    one, a line is printed for each problem once it is through.

    **Arguments:** where to print; the problems and the rungs; the rungs' titles.
    """

    def __init__(
        self,
        console: Console,
        names: Sequence[str],
        rungs: Sequence[str],
        titles: dict[str, str],
    ):
        self._console, self._names, self._rungs = console, list(names), list(rungs)
        self._titles = titles
        self._cells: dict[tuple[str, str], RungResult | None] = {}
        self._live: Live | None = None
        heads = [max(len(self._head(rung)), _WIDTH) for rung in self._rungs]
        self._widths = [max(len(name) for name in (*names, "problem")), *heads]

    def __enter__(self) -> LadderTable:
        # A dumb terminal cannot draw anew.
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                get_renderable=self._table,
                console=self._console,
                refresh_per_second=4,
                transient=True,
            )
            self._live.__enter__()
        else:
            self._print_row("problem", [self._head(rung) for rung in self._rungs], "s")
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)
            self._console.print(self._table())

    def notify(self, name: str, rung: str, result: RungResult | None) -> None:
        """A rung of a problem begins, or has ended with a result."""
        self._cells[name, rung] = result
        if self._live is None and self._finished(name):
            cells = [_cell(self._cells[name, rung]) for rung in self._rungs]
            self._print_row(name, cells, f"{self._seconds(name):.0f}")

    def results(self, name: str) -> tuple[RungResult, ...]:
        """The rungs of a problem that have ended."""
        found = (self._cells.get((name, rung)) for rung in self._rungs)
        return tuple(result for result in found if result is not None)

    def _head(self, rung: str) -> str:
        return f"{rung} {self._titles[rung]}"

    def _finished(self, name: str) -> bool:
        return all(self._cells.get((name, rung)) is not None for rung in self._rungs)

    def _seconds(self, name: str) -> float:
        return sum(result.seconds or 0.0 for result in self.results(name))

    def _print_row(self, name: str, cells: Sequence[str], seconds: str) -> None:
        row = "  ".join(
            f"{cell:<{width}}"
            for cell, width in zip((name, *cells), self._widths, strict=True)
        )
        self._console.print(
            f"{row} {seconds:>4}", markup=False, highlight=False, soft_wrap=True
        )

    def _table(self) -> Table:
        table = Table(
            box=_PLAIN if _ascii(self._console) else box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("problem", no_wrap=True)
        for rung in self._rungs:
            table.add_column(self._head(rung), no_wrap=True)
        table.add_column("s", justify="right", no_wrap=True)
        for name in self._names:
            cells = [self._text(name, rung) for rung in self._rungs]
            seconds = self._seconds(name)
            table.add_row(name, *cells, f"{seconds:.0f}" if seconds else "")
        return table

    def _text(self, name: str, rung: str) -> Text:
        if (name, rung) not in self._cells:
            return Text("")
        result = self._cells[name, rung]
        verdict = "running" if result is None else result.verdict
        return Text(_cell(result), style=_COLOURS.get(verdict, "dim"))


_PLAIN = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def _ascii(console: Console) -> bool:
    return not console.encoding.lower().startswith("utf")


def _cell(result: RungResult | None) -> str:
    """The verdict, and the worst figure as a share of its limit."""
    if result is None:
        return "..."
    worst = result.worst
    if worst is None or result.verdict == "not compared":
        return "-"
    word = "holds" if result.verdict == "passed" else "FAILS"
    return f"{word} {_share(worst.share)}".rstrip()


def _share(share: float) -> str:
    """A share of a limit in four letters or so."""
    if not math.isfinite(share):
        return ""
    if share >= 10:
        return f"{share:.0e}x".replace("e+0", "e").replace("e+", "e")
    if share > 1:
        return f"{share:.1f}x"
    percent = 100 * share
    return "<1%" if percent < 1 else f"{percent:.0f}%"
