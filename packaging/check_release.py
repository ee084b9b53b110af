"""Refuse a release whose tag, versions and changelog do not belong together.

python packaging/check_release.py v0.1.0
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def declared_versions(root: Path = ROOT) -> dict[str, str]:
    """The version that each file of a checkout declares, by the file's name."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    citation = (root / "CITATION.cff").read_text("utf-8")
    found = re.search(r"^version: (\S+)$", citation, re.MULTILINE)
    return {
        "pyproject.toml": project["version"],
        "CITATION.cff": found[1] if found else "none",
    }


def released_versions(root: Path = ROOT) -> list[str]:
    """The versions of which the changelog says when they were released."""
    text = (root / "CHANGELOG.md").read_text("utf-8")
    return re.findall(r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """What speaks against a release under a tag; nothing if all belongs together."""
    found = [
        f"{file} declares version {version}, but the tag is {tag}"
        for file, version in declared_versions(root).items()
        if f"v{version}" != tag
    ]
    if tag.removeprefix("v") not in released_versions(root):
        found.append(f"CHANGELOG.md has no dated section for {tag.removeprefix('v')}")
    citation = (root / "CITATION.cff").read_text("utf-8")
    if not re.search(r"^date-released: ", citation, re.MULTILINE):
        found.append("CITATION.cff has no date-released")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(problems(sys.argv[1])) or None)
