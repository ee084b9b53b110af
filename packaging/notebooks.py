"""The tutorial notebooks, made from the teaching notes.

    python packaging/notebooks.py

writes `docs/teaching/notebooks/*.ipynb`. A test holds them to the notes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

TEACHING = Path(__file__).resolve().parents[1] / "docs" / "teaching"
PAGES = ("resnet_to_ode", "depth_limit", "adjoint", "stability")

_EXAMPLE = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_IMAGE = re.compile(r"^!\[[^\]]*\]\([^)]*\)$\n?", re.MULTILINE)
_REFERENCE = re.compile(r"\[(`[^`]+`)\]\[[^\]]+\]")
_LINK = re.compile(r"\[([^\]]+)\]\(([\w./-]+)\.md(?:#[\w-]+)?\)")
# A notebook shows what a cell draws.
_SAVED = re.compile(r"^\w+\.savefig\(.*\)$\n?", re.MULTILINE)
_FIRST = """import jax

# Double precision, in which the notes were written.
jax.config.update("jax_enable_x64", True)"""


def notebook(page: str) -> dict[str, Any]:
    """The notebook of a page: its prose and its examples as cells, nothing run yet."""
    cells = [_cell("code", _FIRST)]
    # The odd parts are the examples.
    for index, part in enumerate(_EXAMPLE.split(page)):
        text = _SAVED.sub("", part) if index % 2 else _prose(part)
        if text.strip():
            cells.append(_cell("code" if index % 2 else "markdown", text.strip()))
    # The title comes first.
    cells[:2] = cells[1::-1]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _prose(text: str) -> str:
    def link(found: re.Match[str]) -> str:
        beside = found[2] in PAGES
        return f"[{found[1]}]({found[2]}.ipynb)" if beside else found[1]

    return _LINK.sub(link, _REFERENCE.sub(r"\1", _IMAGE.sub("", text)))


def _cell(kind: str, text: str) -> dict[str, Any]:
    cell = {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def text_of(name: str) -> str:
    """The file of a notebook, from the page of this name."""
    made = notebook((TEACHING / f"{name}.md").read_text(encoding="utf-8"))
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    folder = TEACHING / "notebooks"
    folder.mkdir(exist_ok=True)
    for name in PAGES:
        (folder / f"{name}.ipynb").write_text(text_of(name), encoding="utf-8")
