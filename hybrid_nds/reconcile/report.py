"""What the ladder found: figures, verdicts, and the report that holds them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure as Canvas

from ..files import save_figure

Verdict = Literal["passed", "failed", "not applicable"]
RUNGS = ("L0", "L1", "L2", "L3")
TITLES = {
    "L0": "field",
    "L1": "scheme",
    "L2": "solution",
    "L3": "observable",
}


@dataclasses.dataclass(frozen=True)
class Figure:
    """One comparison: what was compared, how far it is off, how far it may be.

    **Fields:** the claim in words; the measured value; the limit; how the limit was
    derived; and an abscissa for ladders (the tolerance), `None` elsewhere. A figure
    holds if its measured value is a number not above its limit.
    """

    claim: str
    measured: float
    limit: float
    derivation: str
    at: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the measured value is within the limit."""
        return bool(math.isfinite(self.measured) and self.measured <= self.limit)

    @property
    def share(self) -> float:
        """The measured value as a share of the limit; infinite where it is no number,
        or above a limit of zero."""
        if not math.isfinite(self.measured):
            return math.inf
        if self.limit == 0:
            return math.inf if self.measured > 0 else 0.0
        return self.measured / self.limit


@dataclasses.dataclass(frozen=True)
class RungResult:
    """One rung of one problem: its figures, or why it does not apply; and the seconds
    it took, `None` where nobody looked."""

    rung: str
    figures: tuple[Figure, ...] = ()
    reason: str = ""
    seconds: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Passed if there are figures and all hold."""
        if not self.figures:
            return "not applicable"
        return "passed" if all(f.holds for f in self.figures) else "failed"

    @property
    def worst(self) -> Figure | None:
        """The figure closest to its limit, or furthest beyond."""
        if not self.figures:
            return None
        return max(self.figures, key=_share)


def _share(figure: Figure) -> float:
    return figure.share


@dataclasses.dataclass(frozen=True)
class Report:
    """How far two solver stacks agree on one problem, rung by rung.

    **Fields:** the problem's name; a rung result a rung; where the Julia side comes
    from (`"live"`, `"recorded"` or `"absent"`); and versions by name.
    """

    name: str
    rungs: tuple[RungResult, ...]
    julia: str
    versions: tuple[tuple[str, str], ...]

    @property
    def passed(self) -> bool:
        """Whether no rung failed and at least one applied."""
        verdicts = [rung.verdict for rung in self.rungs]
        return "failed" not in verdicts and "passed" in verdicts

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
        return {
            "schema": 1,
            "name": self.name,
            "passed": self.passed,
            "julia": self.julia,
            "versions": dict(self.versions),
            "rungs": [
                {
                    "rung": r.rung,
                    "verdict": r.verdict,
                    "reason": r.reason,
                    "seconds": r.seconds,
                    "figures": [
                        dataclasses.asdict(f) | {"holds": f.holds} for f in r.figures
                    ],
                }
                for r in self.rungs
            ],
        }

    def to_json(self) -> str:
        """The report as JSON; numbers that are not finite become strings."""
        return json.dumps(_plain(self.to_dict()), indent=2)

    def to_markdown(self) -> str:
        """The report as Markdown: a table of rungs, and a table a rung."""
        lines = [f"## {self.name}", "", _JULIA_WORDS[self.julia], ""]
        lines += [
            "| rung | verdict | measured | limit | claim |",
            "|---|---|---|---|---|",
        ]
        for r in self.rungs:
            worst = r.worst
            cells = ("", "", r.reason)
            if worst is not None:
                cells = (f"{worst.measured:.2e}", f"{worst.limit:.2e}", worst.claim)
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
            lines += [""] + [f"- {words}" for words in _derivations(r.figures)]
        return "\n".join(lines) + "\n"

    def plot(self, path: str | Path | None = None) -> Canvas:
        """Measured against allowed: one bar a figure, and the tolerance ladder.

        **Arguments:** `path`, where to write the figure as PNG, atomically.

        **Returns:** the matplotlib figure.
        """
        canvas = Canvas(figsize=(10, 4.2), layout="constrained")
        left, right = canvas.subplots(1, 2)
        _plot_loads(left, self)
        _plot_ladder(right, self)
        canvas.suptitle(f"{self.name}: {'passed' if self.passed else 'failed'}")
        save_figure(canvas, path, 110)
        return canvas

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table(title=f"{self.name} ({_JULIA_WORDS[self.julia]})")
        for heading in ("rung", "verdict", "measured", "limit", "closest claim"):
            table.add_column(heading)
        for r in self.rungs:
            worst = r.worst
            cells = ("", "", r.reason)
            if worst is not None:
                cells = (f"{worst.measured:.1e}", f"{worst.limit:.1e}", worst.claim)
            table.add_row(f"{r.rung} {TITLES[r.rung]}", r.verdict, *cells)
        console = Console(width=110)
        with console.capture() as capture:
            console.print(table)
        return capture.get()


_JULIA_WORDS = {
    "live": "Julia ran live.",
    "recorded": "Julia's results are recorded, not live.",
    "absent": "No Julia results: Diffrax against the reference alone.",
}


def julia_words(state: str) -> str:
    """Where the Julia side comes from, in a sentence."""
    return _JULIA_WORDS[state]


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


def _plot_loads(axes: Any, report: Report) -> None:
    labels, loads, colours = [], [], []
    for r in report.rungs:
        if r.worst is None:
            continue
        labels.append(f"{r.rung} {TITLES[r.rung]}")
        loads.append(max(r.worst.share, 1e-6))
        colours.append("tab:green" if r.verdict == "passed" else "tab:red")
    finite = [min(load, 1e6) for load in loads]
    axes.barh(labels, finite, color=colours)
    axes.set_xscale("log")
    axes.set_xlim(1e-6, max([10.0, *(3 * x for x in finite)]))
    axes.axvline(1.0, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("measured / limit (worst figure of each rung)")


def _plot_ladder(axes: Any, report: Report) -> None:
    ladder = [f for r in report.rungs if r.rung == "L2" for f in r.figures]
    claims = list(dict.fromkeys(f.claim for f in ladder if f.at is not None))
    for claim in claims:
        points = sorted((f.at or 0.0, f.measured) for f in ladder if f.claim == claim)
        style = ":" if claim.endswith("against julia") else "-"
        axes.loglog(*zip(*points, strict=True), style, marker="o", label=claim)
    # Against the reference the limit is the tighter of two at each tolerance.
    lowest: dict[float, float] = {}
    for f in ladder:
        if f.at is not None:
            lowest[f.at] = min(f.limit, lowest.get(f.at, f.limit))
    limits = sorted(lowest.items())
    if limits:
        axes.loglog(*zip(*limits, strict=True), "k--", linewidth=1, label="limit")
        axes.set_xlabel("relative tolerance")
        axes.set_ylabel("largest error relative to |y| + scale")
        axes.legend(fontsize=8)
    else:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no tolerance ladder", ha="center")
