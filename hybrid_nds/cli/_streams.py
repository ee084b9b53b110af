"""Output that a terminal of any encoding can show."""

from __future__ import annotations

import codecs
import sys
import unicodedata

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
    encoding lacks, in place of raising `UnicodeEncodeError`."""
    codecs.register_error(_HANDLER, _nearest)
    for stream in (sys.stdout, sys.stderr):
        # What a notebook or a test has put in their place may not be a text file.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)  # pyright: ignore


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
