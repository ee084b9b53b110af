"""A folder in the navigation stands for those of its pages that are not listed."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Put the pages of folders into the navigation."""
    root = Path(config.docs_dir)
    listed = set(_paths(config.nav))

    def pages(item: Any) -> list[Any]:
        if isinstance(item, dict):
            return [{title: expanded(entry) for title, entry in item.items()}]
        if not item.endswith("/"):
            return [item]
        found = (p.relative_to(root).as_posix() for p in (root / item).glob("*.md"))
        return sorted(set(found) - listed)

    def expanded(entry: Any) -> Any:
        if not isinstance(entry, list):
            return entry
        return [page for item in entry for page in pages(item)]

    config.nav = expanded(config.nav)
    return config


def _paths(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    inner = entry.values() if isinstance(entry, dict) else entry
    return [path for item in inner for path in _paths(item)]
