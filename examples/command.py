"""What all examples share: a command line, and which backends are here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from hybrid_nds import double_precision, runtime
from hybrid_nds._core import save_figure

Example = Callable[[bool], tuple[Figure, Mapping[str, float]]]
"""`example(quick) -> (figure, findings)`; quick ones are for tests."""


def backends() -> tuple[str, ...]:
    """The backends of this machine: Julia's where one is configured."""
    return ("diffrax", "julia") if runtime.configured() else ("diffrax",)


def run(name: str, example: Example, arguments: list[str] | None = None) -> None:
    """Run an example in double precision, print what it finds, keep its figure."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--output", type=Path, default=Path("figures"))
    parser.add_argument("--quick", action="store_true", help="fewer steps, for tests")
    options = parser.parse_args(arguments)
    with double_precision():
        figure, findings = example(options.quick)
    for finding, value in findings.items():
        print(f"{finding}: {value:.5g}")
    target = options.output / f"{name}.png"
    save_figure(figure, target)
    print(target)
