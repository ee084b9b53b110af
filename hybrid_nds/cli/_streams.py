"""Output that a terminal of any encoding can show."""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from typing import Any

from rich.console import Console

_HANDLER = "hybrid_nds.nearest"
_NEAREST = {
    "±": "+/-",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "’": "'",
    "≤": "<=",
    "λ": "lambda",  # lamda to Unicode
}


def use_any_encoding() -> None:
    """Have standard output and error write what is nearest to a character that their
    encoding lacks, in place of raising `UnicodeEncodeError`.

    The encoding is ASCII on a dumb terminal and in the locale C, for which Python
    itself takes UTF-8.
    """
    codecs.register_error(_HANDLER, _nearest)
    for stream in (sys.stdout, sys.stderr):
        # What a notebook or a test has put in their place may not be a text file.
        if hasattr(stream, "reconfigure"):
            encoding = "ascii" if _wants_ascii(stream) else stream.encoding
            stream.reconfigure(encoding=encoding, errors=_HANDLER)  # pyright: ignore


def console(*, stderr: bool = False, **options: Any) -> Console:
    """A console that prints text as it stands: no brackets of it are markup.

    **Arguments:** whether it is standard error; what else `rich.console.Console` takes.
    """
    # Without a file rich takes the encoding to be UTF-8.
    file = sys.stderr if stderr else sys.stdout
    return Console(file=file, markup=False, emoji=False, highlight=False, **options)


def _wants_ascii(stream: Any) -> bool:
    if os.environ.get("PYTHONIOENCODING") or os.environ.get("PYTHONUTF8"):
        return False
    if stream.isatty() and os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return True
    if whole := os.environ.get("LC_ALL"):
        return whole in ("C", "POSIX")
    # In the locale C Python itself sets LC_CTYPE to C.UTF-8.
    if os.environ.get("LC_CTYPE", "C") not in ("", "C", "C.UTF-8", "POSIX"):
        return False
    return os.environ.get("LANG") in ("C", "POSIX")


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """ASCII for what cannot be encoded: é is e, ² is 2, ± is +/-, α is alpha."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(map(_ascii, text)), error.end


def _ascii(character: str) -> str:
    if character in _NEAREST:
        return _NEAREST[character]
    simple = unicodedata.normalize("NFKD", character)
    simple = simple.encode("ascii", "ignore").decode()
    if simple:
        return simple
    name = unicodedata.name(character, "")
    # GREEK SMALL LETTER ALPHA
    if name.startswith("GREEK") and " LETTER " in name:
        return name.partition(" LETTER ")[2].partition(" ")[0].lower()
    return "?"
