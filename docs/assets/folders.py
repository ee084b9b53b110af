"""A folder in the navigation stands for all of its pages, `index.md` first."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Put the pages of folders into the navigation."""
    root = Path(config.docs_dir)

    def expanded(item: Any) -> Any:
        if isinstance(item, dict):
            return {title: expanded(entry) for title, entry in item.items()}
        if isinstance(item, list):
            return [expanded(entry) for entry in item]
        if not item.endswith("/"):
            return item
        pages = sorted((root / item).glob("*.md"), key=lambda p: (p.stem != "index", p))
        return [page.relative_to(root).as_posix() for page in pages]

    config.nav = expanded(config.nav)
    return config
