"""Problems as the command line names them: a file, or a name within a module."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..reconcile.loading import NamedProblem

Problem = Annotated[
    str,
    typer.Argument(
        help="A problem file in TOML or its folder, or package.module:name of a "
        "problem or of a function that returns one.",
        show_default=False,
    ),
]


def read_problem(text: str) -> NamedProblem:
    """The problem of a file or a module.

    **Raises:** `ValueError`, `TypeError`, `OSError` or `ImportError`, saying what is
    wrong; whatever a function that makes a problem raises.
    """
    from ..reconcile.loading import load_problem

    module, colon, name = text.rpartition(":")
    if colon and not Path(text).exists() and os.sep not in name:
        return _of_module(text, module, name)
    return load_problem(text)


def _of_module(text: str, module: str, name: str) -> NamedProblem:
    from .. import double_precision
    from ..reconcile.loading import NamedProblem

    if not name.isidentifier() or not all(x.isidentifier() for x in module.split(".")):
        raise ValueError(
            f"{text!r} must be the path of a problem file, or package.module:name."
        )
    # As for `python -m`: modules of the folder one stands in.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with double_precision():
        found = importlib.import_module(module)
        if not hasattr(found, name):
            known = [key for key, value in vars(found).items() if _is_problem(value)]
            there = f"; problems there: {', '.join(known)}" if known else ""
            raise ValueError(f"{text}: module {module} has no {name!r}{there}.")
        value: Any = getattr(found, name)
        if not _is_problem(value) and callable(value):
            value = value()
    if not _is_problem(value):
        raise TypeError(
            f"{text} must be an ODEProblem, an SDEProblem, or a function without "
            f"arguments that returns one; got {type(value).__name__}."
        )
    count = value.dimension
    return NamedProblem(name, value, tuple(f"y{k + 1}" for k in range(count)), False)


def _is_problem(value: Any) -> bool:
    from ..problems import ODEProblem, SDEProblem

    return isinstance(value, ODEProblem | SDEProblem)
