"""How much memory there is."""

from __future__ import annotations

import os


def whole_memory() -> int | None:
    """The bytes of this machine's memory, `None` where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
