"""The history of the ladder on the newest releases of both stacks.

    python packaging/canary.py REPORT HISTORY PAGE

Takes the `report.json` of `hybrid-nds validate`, adds it to HISTORY (JSON, made where
it is missing), and writes PAGE, a table of all runs in Markdown. Prints which rungs
broke and which versions are others than when they last held, and exits with 1 where one
did.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

Run = dict[str, Any]


def run_of(report: dict[str, Any], date: str) -> Run:
    """What of a report the history keeps."""
    broken = [
        f"{one['name']} {rung['rung']}"
        for one in report["reports"]
        for rung in one["rungs"]
        if rung["verdict"] == "failed"
    ]
    versions: dict[str, str] = {}
    for one in report["reports"]:
        versions |= dict(one["versions"])
    whole = report["passed"] and not broken
    return {"date": date, "holds": whole, "broken": broken, "versions": versions}


def changed(run: Run, before: Run | None) -> list[str]:
    """The versions that differ from another run's, each with both."""
    old = {} if before is None else before["versions"]
    new = run["versions"]
    return [
        f"{name} {old.get(name, 'absent')} → {new.get(name, 'absent')}"
        for name in sorted(set(old) | set(new))
        if before is not None and old.get(name) != new.get(name)
    ]


def words_of(run: Run, last_good: Run | None) -> str:
    """What to say of a run whose ladder broke."""
    broken = run["broken"] or ["no rung failed, and not all were compared"]
    lines = ["Rungs that broke:", "", *(f"- {name}" for name in broken), ""]
    if last_good is None:
        lines.append("No earlier run held.")
    else:
        others = changed(run, last_good) or ["none"]
        lines += [f"Versions that differ from {last_good['date']}, when all held:", ""]
        lines += [f"- {text}" for text in others]
    return "\n".join(lines) + "\n"


def page_of(history: list[Run]) -> str:
    """The table of all runs, the newest first."""
    lines = ["# The ladder on the newest releases", ""]
    lines += ["| run | verdict | versions that changed |", "|---|---|---|"]
    for run, before in reversed(list(zip(history, [None, *history[:-1]], strict=True))):
        verdict = "holds" if run["holds"] else "; ".join(run["broken"]) or "incomplete"
        others = ", ".join(changed(run, before))
        lines.append(f"| {run['date']} | {verdict} | {others} |")
    return "\n".join(lines) + "\n"


def main(report: Path, history: Path, page: Path) -> int:
    """Add a report to the history; 1 where the ladder broke."""
    runs: list[Run] = json.loads(history.read_text()) if history.exists() else []
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    run = run_of(json.loads(report.read_text()), date)
    good = next((one for one in reversed(runs) if one["holds"]), None)
    runs.append(run)
    history.write_text(json.dumps(runs, indent=1))
    page.write_text(page_of(runs))
    if run["holds"]:
        return 0
    print(words_of(run, good), end="")
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(main(*map(Path, sys.argv[1:])))
