"""The tables of a specification, read so that whatever is wrong is named."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float


def read_toml(file: Path) -> dict[str, Any]:
    """What a TOML file holds.

    **Raises:** `ValueError` naming a file that cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(_text(file, " is not valid TOML"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not valid TOML: {error}") from error


def _text(file: Path, fault: str = "") -> str:
    """The text of a file; `fault` is what it is if it is no text.

    **Raises:** `ValueError` naming a file that cannot be read.
    """
    try:
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(
            f"{file} cannot be read: {error.strerror or error}."
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file}{fault}: byte {error.start} is not UTF-8 ({error.reason}). Save it "
            "as UTF-8 text."
        ) from error


class Table:
    """A table of a TOML file whose entries are read by the type they must have.

    **Arguments:** the file; the table's entries; its name in the file, empty for the
    file itself.

    Every method **raises** `ValueError` that names the file, the key, what it must be
    and what it was. With a `default` the key may be missing.
    """

    def __init__(self, file: Path, entries: Mapping[str, Any], name: str = ""):
        self.file = file
        self.entries = entries
        self.name = name
        self._read: set[str] = set()
        self._tables: dict[str, tuple[Table, ...]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def all(self) -> Mapping[str, Any]:
        """Every entry, for a reader who knows what to do with each."""
        self._read.update(self.entries)
        return self.entries

    def unread(self) -> tuple[str, ...]:
        """The keys that nobody has asked for, here and in the tables within."""
        own = [self.path(key) for key in self.entries if key not in self._read]
        within = [table.unread() for many in self._tables.values() for table in many]
        return tuple(dict.fromkeys([*own, *(key for keys in within for key in keys)]))

    def path(self, key: str) -> str:
        """The key with the tables that it is in."""
        return f"{self.name}.{key}" if self.name else key

    def wrong(self, key: str, expected: str) -> ValueError:
        """The error for an entry that is not what it must be."""
        got = repr(self.entries.get(key))
        got = got if len(got) <= 60 else f"{got[:57]}..."
        return ValueError(
            f"{self.file}: `{self.path(key)}` must be {expected}; got {got}."
        )

    def _entry(self, key: str, default: Any) -> Any:
        self._read.add(key)
        if key in self.entries:
            return self.entries[key]
        if default is not ...:
            return default
        raise ValueError(f"{self.file} lacks `{self.path(key)}`.")

    def require(self, *keys: str) -> None:
        """Refuse a table that lacks keys, all of them named."""
        missing = [self.path(key) for key in keys if key not in self.entries]
        if missing:
            raise ValueError(
                f"{self.file} lacks {', '.join(f'`{key}`' for key in missing)}."
            )

    def text(self, key: str, default: Any = ...) -> str:
        """A text that is not empty."""
        value = self._entry(key, default)
        if key in self.entries and not (isinstance(value, str) and value):
            raise self.wrong(key, "a text")
        return value

    def texts(self, key: str, default: Any = ...) -> tuple[str, ...]:
        """A list of texts."""
        value = self._entry(key, default)
        if not _all(value, str):
            raise self.wrong(key, "a list of texts")
        return tuple(value)

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of some texts."""
        value = self._entry(key, ...)
        if value not in list(choices):
            raise self.wrong(key, f"one of {', '.join(choices)}")
        return value

    def choices(self, key: str, choices: Sequence[str]) -> tuple[str, ...]:
        """A list of some of the texts there are, one at least."""
        value = self._entry(key, ...)
        if not (_all(value, str) and value and set(value) <= set(choices)):
            raise self.wrong(key, f"a list of one or more of {', '.join(choices)}")
        return tuple(value)

    def flag(self, key: str, default: Any = ...) -> bool:
        """True or false."""
        value = self._entry(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def number(
        self, key: str, default: Any = ..., *, least: float = -math.inf
    ) -> float:
        """A finite number, no less than a least one."""
        value = self._entry(key, default)
        if key not in self.entries:
            return value
        if not (_is_number(value) and math.isfinite(value) and value >= least):
            bound = "" if least == -math.inf else f" of at least {least:g}"
            raise self.wrong(key, f"a finite number{bound}")
        return float(value)

    def positive(self, key: str) -> float:
        """A finite number above zero."""
        value = self._entry(key, ...)
        if not (_is_number(value) and math.isfinite(value) and value > 0):
            raise self.wrong(key, "a positive, finite number")
        return float(value)

    def numbers(self, key: str, default: Any = ...) -> Float[np.ndarray, " n"] | Any:
        """A flat list of finite numbers, one at least."""
        value = self._entry(key, default)
        if key not in self.entries:
            return value
        flat = isinstance(value, list) and value and all(map(_is_number, value))
        if not (flat and all(map(math.isfinite, value))):
            raise self.wrong(key, "a flat list of finite numbers")
        return np.asarray(value, np.float64)

    def scale(self, key: str, n: int, *, positive: bool) -> Float[np.ndarray, " n"]:
        """A number or a list of `n`, none negative, for each of `n` components."""
        value = self._entry(key, ...)
        listed = value if isinstance(value, list) else [value] * n
        if len(listed) != n or not all(
            _is_number(x) and math.isfinite(x) and (x > 0 if positive else x >= 0)
            for x in listed
        ):
            sign = "all positive" if positive else "none negative"
            raise self.wrong(key, f"a number or a list of {n} numbers, {sign}")
        return np.asarray(listed, np.float64)

    def whole(self, key: str, *, least: int = 1) -> int:
        """A whole number, no less than a least one."""
        value = self._entry(key, ...)
        if not (_is_whole(value) and value >= least):
            raise self.wrong(key, f"a whole number of at least {least}")
        return value

    def wholes(
        self, key: str, default: Any = ..., *, least: int = 1
    ) -> tuple[int, ...]:
        """A list of whole numbers, none less than a least one."""
        value = self._entry(key, default)
        if key not in self.entries:
            return value
        if not (
            isinstance(value, list)
            and value
            and all(_is_whole(x) and x >= least for x in value)
        ):
            raise self.wrong(key, f"a list of whole numbers of at least {least}")
        return tuple(value)

    def table(self, key: str) -> Table:
        """A table within this one."""
        value = self._entry(key, ...)
        if not isinstance(value, dict):
            raise self.wrong(key, f"a table, [{self.path(key)}]")
        return self._within(key, [value])[0]

    def tables(self, key: str) -> tuple[Table, ...]:
        """A list of tables, empty where there is none."""
        value = self._entry(key, [])
        if not _all(value, dict):
            raise self.wrong(key, f"a list of tables, each [[{self.path(key)}]]")
        return self._within(key, value)

    def _within(self, key: str, many: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
        if key not in self._tables:
            self._tables[key] = tuple(
                Table(self.file, one, self.path(key)) for one in many
            )
        return self._tables[key]


def _all(value: Any, kind: type) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(x, kind) for x in value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or _is_whole(value)


def read_header(file: Path) -> str:
    """The first line of a CSV file that is no comment; empty where there is none.

    **Raises:** `ValueError` naming a file that cannot be read.
    """
    return next(iter(_lines(file)), "")


def _lines(file: Path) -> list[str]:
    lines = _text(file).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def read_rows(file: Path, header: str, described: str) -> Float[np.ndarray, "rows n"]:
    """The numbers of a CSV file whose lines with # are comments.

    **Arguments:** the file; its first line that is no comment; that in words.

    **Raises:** `ValueError` naming a file that is not there, has another header, no
    row, a row of another length, or what is no finite number.
    """
    lines = _lines(file)
    if not lines or lines[0] != header:
        raise ValueError(
            f"{file}: the first line that is no comment must be {described}."
        )
    columns = header.count(",") + 1
    rows = [line.split(",") for line in lines[1:]]
    if not rows or any(len(row) != columns for row in rows):
        raise ValueError(
            f"{file}: each row must hold {columns} numbers, and there must be one."
        )
    try:
        table = np.array(rows, np.float64)
    except ValueError as error:
        raise ValueError(f"{file}: {error}.") from error
    if not np.all(np.isfinite(table)):
        raise ValueError(f"{file}: numbers must be finite.")
    return table
