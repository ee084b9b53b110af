"""How figures tell backends apart, lying on one another as they may."""

from __future__ import annotations

from typing import Any


def mark(backend: str) -> dict[str, Any]:
    """The marker of a backend, as options of `Axes.plot`: a dot within a cross."""
    markers = {"diffrax": ("o", 4), "julia": ("x", 9)}
    marker, size = markers[backend]
    return {"marker": marker, "markersize": size, "linestyle": "none"}
