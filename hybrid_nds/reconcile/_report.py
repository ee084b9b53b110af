"""What the ladder found: figures, verdicts, and the report that holds them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np

from .._core import (
    BAD,
    GOOD,
    DrawnResult,
    Panels,
    Records,
    Unit,
    Variable,
    record_variables,
    text_of,
)
from ._names import (
    ALONE,
    RUNGS as RUNGS,
    TITLES as TITLES,
    julia_words as julia_words,
)

Verdict = Literal["passed", "failed", "not compared", "not applicable"]


@dataclasses.dataclass(frozen=True)
class Figure:
    """One comparison: what was compared, how far it is off, how far it may be.

    **Fields:** the claim; the measured value; the limit; how the limit was
    derived; an abscissa for ladders (the tolerance), `None` elsewhere; whether what it
    is held to is independent of it, as another stack, a reference or a value of theory
    are, and a stack's own result is not; and the size of the quantity, |y| + scale for
    states. Measured values and limits are in the units of the quantity itself. A figure
    holds if its measured value is a number not above its limit.
    """

    claim: str
    measured: float
    limit: float
    derivation: str
    at: float | None = None
    independent: bool = True
    size: float = 1.0

    @property
    def relative(self) -> float:
        """The measured value in parts of the size of the quantity."""
        return self.measured / self.size

    @property
    def holds(self) -> bool:
        """Whether the measured value is within the limit."""
        return bool(math.isfinite(self.measured) and self.measured <= self.limit)

    @property
    def share(self) -> float:
        """The measured value over its limit; infinite if there is no such number."""
        if not math.isfinite(self.measured) or math.isnan(self.limit):
            return math.inf
        if self.limit == 0:
            return math.inf if self.measured > 0 else 0.0
        return self.measured / self.limit


def alone(figures: Sequence[Figure]) -> str:
    """Why figures compare nothing, empty where they do, or where one fails."""
    telling = any(figure.independent or not figure.holds for figure in figures)
    return "" if telling else ALONE


@dataclasses.dataclass(frozen=True)
class RungResult(DrawnResult):
    """One rung of one problem.

    **Fields:** its name; its figures; the reason why there are none, or why none is a
    comparison; the seconds it took, `None` where nobody looked; and whether it has
    something to compare on this problem, with a second stack or a reference at hand.
    """

    rung: str
    figures: Annotated[tuple[Figure, ...], Records("figure", "")] = ()
    reason: str = ""
    seconds: Annotated[float | None, Unit("s")] = None
    applies: bool = True

    @property
    def verdict(self) -> Verdict:
        """Failed if a figure does not hold; passed if all hold and one of them is held
        to something independent; else not compared, or not applicable."""
        if not all(f.holds for f in self.figures):
            return "failed"
        if any(f.independent for f in self.figures):
            return "passed"
        return "not compared" if self.applies else "not applicable"

    @property
    def worst(self) -> Figure | None:
        """The figure closest to its limit, or furthest beyond; among those that fail
        or compare something, where there are any."""
        telling = [f for f in self.figures if f.independent or not f.holds]
        return max(telling or self.figures, key=lambda f: f.share, default=None)

    def summary(self) -> str:
        """A few lines for people: the verdict and every figure with its limit."""
        lines = [f"{self.rung} {TITLES[self.rung]}: {self.verdict}"]
        lines += [f"  {self.reason}"] if self.reason else []
        for f in self.figures:
            word = "" if f.holds else ": DOES NOT HOLD"
            lines.append(f"  {f.claim}: {f.measured:.2e} of {f.limit:.2e}{word}")
        return "\n".join(lines)

    def draw(self, panels: Panels) -> None:
        axes = panels.subplots(size=(5.4, 1.6))
        _plot_shares(axes, [self])
        axes.set_title(f"{self.rung} {TITLES[self.rung]}: {self.verdict}")


@dataclasses.dataclass(frozen=True)
class Report(DrawnResult):
    """How far two solver stacks agree on one problem, rung by rung.

    **Fields:** the problem's name; a rung result a rung; where the Julia side comes
    from (`"live"`, `"recorded"` or `"absent"`); and versions by name.
    """

    name: str
    rungs: Annotated[tuple[RungResult, ...], Records("rung")]
    julia: str
    versions: tuple[tuple[str, str], ...]

    @property
    def passed(self) -> bool:
        """Whether no rung failed and at least one compared something; see `verdict`."""
        return self.verdict == "passed"

    @property
    def verdict(self) -> Verdict:
        """`"failed"` if a rung failed; `"passed"` if one passed and none failed;
        `"not compared"` where nothing independent was compared."""
        verdicts = {rung.verdict for rung in self.rungs}
        for found in ("failed", "passed", "not compared"):
            if found in verdicts:
                return found
        return "not applicable"

    def rung(self, name: str) -> RungResult:
        """The result of one rung.

        **Raises:** `KeyError` for a rung that was not climbed.
        """
        for result in self.rungs:
            if result.rung == name:
                return result
        raise KeyError(f"no rung {name!r}; there are {[r.rung for r in self.rungs]}")

    def to_dict(self) -> dict[str, Any]:
        """The report as plain, JSON-ready data."""
        return {"schema": 1, **super().to_dict()}

    def variables(self) -> Mapping[str, Variable]:
        """The figures of all rungs, a column each property, and their rungs."""
        rungs = [r.rung for r in self.rungs for _ in r.figures]
        figures = [f for r in self.rungs for f in r.figures]
        columns = record_variables(figures, "figure", "")
        return {"rung": Variable(("figure",), np.array(rungs, str)), **columns}

    def to_json(self) -> str:
        """The report as JSON; numbers that are not finite become strings."""
        return json.dumps(_plain(self.to_dict()), indent=2)

    def to_markdown(self) -> str:
        """The report as Markdown: a table of rungs, and a table a rung."""
        lines = [f"## {self.name}", "", julia_words(self.julia), ""]
        lines += [
            "| rung | verdict | measured | limit | claim |",
            "|---|---|---|---|---|",
        ]
        for r in self.rungs:
            worst = r.worst
            cells = ("", "", r.reason)
            if worst is not None:
                cells = (f"{worst.measured:.2e}", f"{worst.limit:.2e}", _claim(r))
            title = f"{r.rung} {TITLES[r.rung]}"
            lines.append(f"| {title} | {r.verdict} | {' | '.join(cells)} |")
        for r in self.rungs:
            if not r.figures:
                continue
            lines += ["", f"### {r.rung} {TITLES[r.rung]}", ""]
            lines += ["| claim | measured | limit | holds |", "|---|---|---|---|"]
            lines += [
                f"| {f.claim} | {f.measured:.2e} | {f.limit:.2e} | "
                f"{'yes' if f.holds else '**no**'} |"
                for f in r.figures
            ]
            lines += [""] + [f"- {text}" for text in _derivations(r.figures)]
        return "\n".join(lines) + "\n"

    def draw(self, panels: Panels) -> None:
        ladder = [f for r in self.rungs for f in r.figures if f.at is not None]
        rungs = [r for r in self.rungs if r.figures]
        # Narrow, so that a page on a phone shows it near its size.
        heights = [0.9 + 0.25 * len(rungs)] + ([4.4] if ladder else [])
        size = (5.4, sum(heights) + 0.3)
        found = panels.subplots(len(heights), size=size, height_ratios=heights)
        axes = [*np.ravel(found)]
        _plot_shares(axes[0], rungs)
        axes[0].set_title(f"{self.name}: {self.verdict}", parse_math=False)
        if ladder:
            _plot_ladder(axes[1], ladder)

    def summary(self) -> str:
        from rich.table import Table

        table = Table(title=f"{self.name} ({julia_words(self.julia)})")
        for heading in ("rung", "verdict", "measured", "limit", "closest claim"):
            table.add_column(heading)
        for r in self.rungs:
            worst = r.worst
            cells = ("", "", r.reason)
            if worst is not None:
                cells = (f"{worst.measured:.1e}", f"{worst.limit:.1e}", _claim(r))
            table.add_row(f"{r.rung} {TITLES[r.rung]}", r.verdict, *cells)
        return text_of(table, width=80)


def _claim(result: RungResult) -> str:
    """The closest claim, and why it is no comparison."""
    claim = "" if result.worst is None else result.worst.claim
    return f"{claim} ({result.reason})" if result.reason else claim


def _derivations(figures: Sequence[Figure]) -> list[str]:
    return list(dict.fromkeys(f.derivation for f in figures))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _plot_shares(axes: Any, rungs: Sequence[RungResult]) -> None:
    least, most = 1e-6, 1e6
    highest = 1.0
    for row, result in enumerate(rungs):
        for one in result.figures:
            share = min(max(one.share, least), most)
            marker, colour = ("o", GOOD) if one.holds else ("x", BAD)
            axes.plot(share, row, marker, color=colour)
            highest = max(highest, share)
    axes.set_xscale("log")
    axes.set_xlim(least / 2, 10 * highest)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.text(1.0, -0.55, "limit", ha="center", va="bottom", fontsize=9)
    axes.set_yticks(range(len(rungs)), [f"{r.rung} {TITLES[r.rung]}" for r in rungs])
    axes.set_ylim(max(len(rungs), 1) - 0.5, -0.5)
    axes.set_xlabel(
        "measured / limit of each figure (10⁻⁶ or less at the left edge)", size=9
    )


def _plot_ladder(axes: Any, ladder: Sequence[Figure]) -> None:
    claims = dict.fromkeys(f.claim for f in ladder)
    for claim, style in zip(claims, itertools.cycle(("o-", "s--", "^:")), strict=False):
        points = sorted((f.at or 0.0, f.relative) for f in ladder if f.claim == claim)
        axes.loglog(*zip(*points, strict=True), style, mfc="none", label=claim)
    # Against the reference the limit is the tighter of two at each tolerance.
    lowest: dict[float, float] = {}
    for f in ladder:
        limit = f.limit / f.size
        lowest[f.at or 0.0] = min(limit, lowest.get(f.at or 0.0, limit))
    limits = zip(*sorted(lowest.items()), strict=True)
    axes.loglog(*limits, "k-", linewidth=1, label="smallest limit")
    axes.set_xlabel("relative tolerance")
    axes.set_ylabel("largest error\nrelative to |y| + scale")
    # Below the axes the legend hides no line.
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))
