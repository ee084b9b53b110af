"""The two sides of a comparison, the recorded stand-in for one, and its recorder."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from .._core import write_text

RECORD = Path("julia") / "results.csv"

Answer = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """What a stack is asked about a problem, and how a live one answers.

    **Fields:** the kind and the labels by which answers are recorded; the function of
    the backend's name that gives a table of shape `(rows, n)` for each label; and the
    significant digits to record.
    """

    kind: str
    labels: tuple[str, ...]
    answer: Callable[[str], Sequence[np.ndarray]]
    digits: int = 17


@runtime_checkable
class Stack(Protocol):
    """One side of the comparison of a problem."""

    @property
    def name(self) -> str: ...

    @property
    def versions(self) -> Mapping[str, str]: ...

    def ask(self, question: Question) -> Answer:
        """The answer: for each label of the question a table, shape `(rows, n)`."""
        ...


class LiveStack:
    """A stack that runs now. It remembers its answers: one serves one problem."""

    def __init__(self, name: str):
        self.name = name
        self._answers: dict[tuple[str, tuple[str, ...]], Answer] = {}

    @property
    def versions(self) -> Mapping[str, str]:
        if self.name == "julia":
            from .. import runtime

            return dict(runtime.session().versions)
        packages = ("jax", "equinox", "diffrax", "optimistix")
        return {package: importlib.metadata.version(package) for package in packages}

    def ask(self, question: Question) -> Answer:
        key = question.kind, question.labels
        if key not in self._answers:
            self._answers[key] = tuple(question.answer(self.name))
        return self._answers[key]


Rows = dict[tuple[str, str], list[list[float]]]


def read_record(path: Path) -> tuple[dict[str, str], Rows]:
    """Versions by name, and rows by kind and label, of recorded results."""
    versions: dict[str, str] = {}
    rows: Rows = {}
    with path.open(encoding="utf-8", newline="") as file:
        for kind, *rest in csv.reader(file):
            if kind.startswith("#"):
                key, _, value = kind[1:].partition("=")
                if value:
                    versions[key.strip()] = value.strip()
            elif kind != "kind":
                label, *numbers = rest
                row = [float(x) for x in numbers]
                rows.setdefault((kind, label), []).append(row)
    return versions, rows


class RecordedStack:
    """Julia's results from a file: what a live run gave, and with which versions."""

    name = "julia"

    def __init__(self, path: Path):
        self._path = path
        self._versions, self._rows = read_record(path)

    @property
    def versions(self) -> Mapping[str, str]:
        return self._versions

    def ask(self, question: Question) -> Answer:
        return tuple(self._table(question.kind, label) for label in question.labels)

    def _table(self, kind: str, label: str) -> np.ndarray:
        try:
            return np.asarray(self._rows[kind, label])
        except KeyError:
            raise ValueError(
                f"{self._path} holds no {kind} {label!r}; record it again with "
                "tests/fixtures/make/record_julia.py on a machine with Julia."
            ) from None


class Recorder:
    """A stack whose answers are kept for a file that `RecordedStack` reads."""

    def __init__(self, stack: Stack):
        self.name, self._stack = stack.name, stack
        self._rows: dict[tuple[str, str], list[list[float]]] = {}

    @property
    def versions(self) -> Mapping[str, str]:
        return self._stack.versions

    def ask(self, question: Question) -> Answer:
        answer = self._stack.ask(question)
        for label, table in zip(question.labels, answer, strict=True):
            self._rows[question.kind, label] = [
                [float(f"{float(x):.{question.digits}g}") for x in row] for row in table
            ]
        return answer

    def write(self, path: Path) -> None:
        """Write what was answered, whole or not at all."""
        out = io.StringIO()
        out.write("# Results of a live run of the Julia package on this problem.\n")
        for name, version in self.versions.items():
            out.write(f"# {name} = {version}\n")
        writer = csv.writer(out, lineterminator="\n")
        widest = max(len(rows[0]) for rows in self._rows.values())
        writer.writerow(["kind", "label", *(f"y{k + 1}" for k in range(widest))])
        for (kind, label), rows in self._rows.items():
            writer.writerows([kind, label, *map(repr, row)] for row in rows)
        write_text(path, out.getvalue())
