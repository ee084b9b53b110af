"""The rungs that a command climbs."""

from __future__ import annotations

from typing import Annotated

import typer

from ._report import fail

Rungs = Annotated[
    list[str] | None, typer.Option("--rung", help="L0, L1, L2 or L3; may be repeated.")
]


def chosen(rung: list[str] | None) -> list[str]:
    """The rungs named, all where none is, in their order; others end the command."""
    from ..reconcile import RUNGS

    for name in rung or []:
        if name not in RUNGS:
            fail(f"--rung must be one of {', '.join(RUNGS)}, got {name!r}.", 2)
    return [one for one in RUNGS if not rung or one in rung]
