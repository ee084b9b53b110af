"""Names for generated code, taken from the user's program and made safe."""

from __future__ import annotations

import ast
import dataclasses
import functools
import linecache
import os
import re
from typing import Any

import equinox as eqx
from jax._src import source_info_util

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}\Z")
_LIBRARY = os.path.dirname(eqx.__file__)


def identifier(text: str, default: str = "x") -> str:
    """A plain ASCII stem for a Julia identifier.

    Emitters add a number to every stem, so that no name taken from a program can
    meet a Julia keyword, a function or another name.
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:31]
    return stem if _IDENTIFIER.match(stem) else default


@dataclasses.dataclass(frozen=True)
class Origin:
    """The user code an equation came from: `file:line (function)`, and a name."""

    line: str = "an unknown line"
    name: str = ""

    def of(self, eqn: Any) -> Origin:
        """The origin of an equation inside a call that came from here.

        JAX traces a jitted library function once and forgets who called it first:
        then the call's own origin is the better answer.
        """
        for frame in source_info_util.user_frames(eqn.source_info.traceback):
            if frame.file_name.startswith(_LIBRARY):
                continue
            name = _assigned_names(frame.file_name).get(frame.start_line, "")
            line = f"{frame.file_name}:{frame.start_line} ({frame.function_name})"
            return Origin(line, name)
        return self

    def stem(self, primitive: str) -> str:
        """The stem of a Julia name for what `primitive` computes here."""
        return identifier(self.name or primitive)


@functools.lru_cache(maxsize=64)
def _assigned_names(path: str) -> dict[int, str]:
    """Line numbers of assignments to a single name, and that name."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:
        return {}
    names: dict[int, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            target = node.target
        else:
            continue
        if isinstance(target, ast.Name):
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                names[line] = target.id
    return names
