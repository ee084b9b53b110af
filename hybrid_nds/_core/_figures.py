"""One look for all figures, in axes of their own or of the caller."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ._files import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart with any colour vision (Okabe & Ito 2008), without the yellow, which is
# too pale for lines on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5f5f5f")
GOOD, BAD, QUIET = COLORS[2], COLORS[1], "0.5"
_LOOK = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "0.4",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "grid.color": "0.9",
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    # No frame, and lines behind it are pale.
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "xtick.color": "0.4",
    "xtick.labelcolor": "black",
    "xtick.labelsize": 9,
    "ytick.color": "0.4",
    "ytick.labelcolor": "black",
    "ytick.labelsize": 9,
}
_OF_CYCLE = re.compile(r"C\d+")


@contextlib.contextmanager
def look() -> Iterator[None]:
    """A context in which matplotlib draws as this package does."""
    import matplotlib
    from cycler import cycler

    settings: dict[Any, Any] = {**_LOOK, "axes.prop_cycle": cycler(color=COLORS)}
    with matplotlib.rc_context(settings):
        yield


class Panels:
    """Where a result is drawn: in a figure of its own, or in axes of the caller.

    **Fields:** `figure`, matplotlib's, once `subplots` has been called; `axes`, the
    axes it gave.
    """

    def __init__(self, caller: str, ax: Any = None, managed: bool = False):
        self._caller, self._managed = caller, managed
        self._given = None if ax is None else [*np.ravel(np.asarray(ax, object))]
        self._before: set[Any] = set()
        self.figure: Any = None
        self.axes: list[Any] = []

    def subplots(
        self,
        rows: int = 1,
        columns: int = 1,
        *,
        size: tuple[float, float] = (6.4, 4.2),
        **layout: Any,
    ) -> Any:
        """The axes to draw in.

        **Arguments:** how many rows and columns of panels; the size of a figure of its
        own, in inches; and what `Figure.subplots` takes beside.

        **Returns:** one axes for one panel, else an array of them.

        **Raises:** `ValueError` where the caller gave another number of axes.
        """
        count = rows * columns
        if self._given is None:
            figure = self._new(size)
            found = figure.subplots(rows, columns, **layout)
            self.axes = [*np.ravel(found)]
        else:
            if len(self._given) != count:
                many = "one axes" if count == 1 else f"{count} axes, one a panel"
                raise ValueError(
                    f"{self._caller}.plot: `ax` must be {many}, got "
                    f"{len(self._given)}; make them by plt.subplots({rows}, {columns})."
                )
            self.axes = self._given
            for one in self._given:
                _prepare(one)
                self._before |= set(one.findobj())
            found = np.array(self._given, object).reshape(rows, columns)
            found = found.item() if count == 1 else np.squeeze(found)
        self.figure = self.axes[0].figure.figure
        return found

    def whole(self) -> Any:
        """An empty figure, for what makes its own axes.

        **Raises:** `ValueError` where the caller gave axes.
        """
        if self._given is not None:
            raise ValueError(
                f"{self._caller}.plot: `ax` must be None, got axes: this result lays "
                "out a figure of its own."
            )
        self.figure = self._new((6.4, 4.2))
        return self.figure

    def _new(self, size: tuple[float, float]) -> Any:
        if self._managed:
            import matplotlib.pyplot as plt

            return plt.figure(figsize=size, layout="constrained")
        from matplotlib.figure import Figure

        return Figure(figsize=size, layout="constrained")

    def settle(self) -> None:
        """Turn names of colours in the cycle into colours.

        Matplotlib looks them up when it renders, which may be outside of the look.
        """
        from matplotlib.colors import to_hex
        from matplotlib.lines import Line2D

        roots = [self.figure] if self._given is None else self.axes
        lines = {line for root in roots for line in root.findobj(Line2D)}
        for line in lines - self._before:
            for part in ("color", "markerfacecolor", "markeredgecolor"):
                color = getattr(line, f"get_{part}")()
                if isinstance(color, str) and _OF_CYCLE.fullmatch(color):
                    line.set(**{part: to_hex(color)})


def drawn(
    caller: str,
    draw: Callable[[Panels], None],
    *,
    path: str | os.PathLike[str] | None = None,
    ax: Any = None,
    managed: bool = False,
) -> Panels:
    """Draw something with the look of the package, whose settings end with it.

    **Arguments:** the name of the result, for errors; what draws; where to write the
    figure; the caller's axes; whether pyplot manages a new figure, and so shows it.

    **Returns:** where it was drawn.
    """
    with look():
        panels = Panels(caller, ax, managed)
        draw(panels)
        panels.settle()
        save_figure(panels.figure, path)
    return panels


def _prepare(axes: Axes) -> None:
    """Give empty axes of the caller the look; leave alone what others drew in."""
    if axes.has_data():
        return
    from cycler import cycler

    axes.set_prop_cycle(cycler(color=COLORS))
    axes.grid(True, color=_LOOK["grid.color"], linewidth=_LOOK["grid.linewidth"])
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
