"""Progress bars of long analyses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(
    shown: bool, title: str, total: int, done: int = 0
) -> Iterator[Callable[[int], None]]:
    """A progress bar that counts to `total`.

    **Arguments:** whether to show it at all, its title, the count it ends at, and the
    count it starts from.

    **Returns:** a context that gives a function to advance the bar by a count.
    """
    if not shown:
        yield lambda count: None
        return
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
        # Work that is done before the first drawing is shown, too.
        bar.refresh()
