"""Formulas become MathML while the site is built: readers need no script for them."""

import html
import logging
import re
from collections.abc import Iterable
from typing import Any

from math_core import LatexError, LatexToMathML

# Warnings of mkdocs' loggers fail a strict build.
_log = logging.getLogger("mkdocs.hooks.formulas")
_converter = LatexToMathML(fancy_error=False)
# What pymdownx.arithmatex writes with `generic: true`; in tables of contents, without
# the tags.
_IN_PAGE = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>',
    re.DOTALL,
)
_IN_TITLE = re.compile(r"\\\((?P<tex>.*?)\\\)")
# Inline formulas do not break: longer ones scroll where a line is short (site.css).
_LONG = 36


def on_page_content(content: str, *, page: Any, **kwargs: Any) -> str:
    """Convert the formulas of a page, those of docstrings among them."""
    _convert_titles(page.toc, page.file.src_path)
    return convert(content, page.file.src_path)


def convert(content: str, page: str) -> str:
    """Convert the formulas in HTML, and warn of each that cannot be."""

    def replacement(formula: re.Match[str]) -> str:
        tag, tex = formula["tag"], formula["tex"]
        name = "arithmatex"
        if tag == "span" and len(html.unescape(tex)) > _LONG:
            name += " long"
        return f'<{tag} class="{name}">{_mathml(tex, page, tag == "div")}</{tag}>'

    return _IN_PAGE.sub(replacement, content)


def _convert_titles(entries: Iterable[Any], page: str) -> None:
    for entry in entries:
        entry.title = _IN_TITLE.sub(
            lambda formula: _mathml(formula["tex"], page, False), entry.title
        )
        _convert_titles(entry.children, page)


def _mathml(tex: str, page: str, display: bool) -> str:
    try:
        return _converter.convert_with_local_state(
            html.unescape(tex), displaystyle=display
        )
    except LatexError as error:
        _log.warning("%s: the formula %r has no MathML: %s", page, tex, error)
        return f"<code>{tex}</code>"
