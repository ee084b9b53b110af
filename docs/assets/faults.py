"""Writes the page of known faults from the tables of solvers.

python docs/assets/faults.py
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from hybrid_nds.methods import ODE_METHODS, SDE_METHODS, SolverFault
from hybrid_nds.methods._faults import STACK_FAULTS

PAGE = Path(__file__).resolve().parents[1] / "guides" / "upstream_faults.md"
STACKS = {"diffrax": "Diffrax", "julia": "DifferentialEquations.jl"}
INTRODUCTION = """\
# Known faults upstream

Two stacks held to each other show faults of both. These are known: where they show,
what happens there, and what this package does about it. Each was seen with the version
in its heading; a later one may be free of it. The faults of a solver are also in its
row of the table: `find_solver("Kvaerno5", "julia").faults`. `docs/assets/faults.py`
writes this page from these rows.
"""
NOTES = """
## One name, two methods

No faults, but things to know before two results are compared: the notes of the tables
of solvers.

| solver | what to know |
|---|---|
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page, in Markdown."""
    parts = [INTRODUCTION]
    for stack, title in STACKS.items():
        parts.append(f"\n## {title}\n")
        gathered = {
            fault: names for fault, names in _gathered().items() if fault.stack == stack
        }
        for version in dict.fromkeys(fault.version for fault in gathered):
            rows = {f: names for f, names in gathered.items() if f.version == version}
            parts.append(f"\n### {version}\n\n{_table(rows)}")
    parts.append(NOTES)
    for info in (*ODE_METHODS, *SDE_METHODS):
        if info.note:
            parts.append(f"| `{info.name}` | {_sentence(info.note)} |\n")
    return "".join(parts)


def _gathered() -> dict[SolverFault, list[str]]:
    """Every fault with the solvers that have it."""
    found: dict[SolverFault, list[str]] = {fault: [] for fault in STACK_FAULTS}
    for info in (*ODE_METHODS, *SDE_METHODS):
        for fault in info.faults:
            name = info.on(fault.stack)
            if name is not None:
                found.setdefault(fault, []).append(f"`{name}`")
    return found


def _table(rows: dict[SolverFault, list[str]]) -> str:
    return "".join(_lines(rows.items()))


def _lines(rows: Iterable[tuple[SolverFault, list[str]]]) -> Iterator[str]:
    yield "| solver | where | what it does | this package |\n|---|---|---|---|\n"
    for fault, names in rows:
        cells = (", ".join(names) or "any", fault.where, fault.effect, fault.remedy)
        yield f"| {' | '.join(cells)} |\n"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


if __name__ == "__main__":
    main()
