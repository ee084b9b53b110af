"""The documentation site: it builds, offline, and leaves no public name out."""

import ast
import importlib
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import hybrid_nds

ROOT = Path(__file__).parent.parent
ROOMS = (
    "analysis",
    "discretization",
    "ensembles",
    "lowering",
    "measures",
    "models",
    "noise",
    "reconcile",
    "runtime",
    "stability",
    "studies",
    "training",
)
# mkdocs in a process that refuses to talk to anyone.
OFFLINE_BUILD = """
import socket, sys
def refuse(*arguments):
    raise RuntimeError(f"the build wants the network: {arguments[1:]}")
socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli(["build", "--strict", "--site-dir", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built once, and what the build printed."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-c", OFFLINE_BUILD, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"},
    )
    printed = built.stdout + built.stderr
    assert built.returncode == 0, printed
    return folder, printed


def exported(room):
    """The names a room imports under their own names, which is how it exports them."""
    module = importlib.import_module(f"hybrid_nds.{room}")
    tree = ast.parse(Path(module.__file__).read_text())
    return {
        f"hybrid_nds.{room}.{name.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.asname == name.name
    }


def documented(folder):
    """Every name that a page of the reference answers to."""
    inventory = (folder / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(inventory).decode().splitlines()
    pages = "".join(page.read_text() for page in (folder / "api").rglob("*.html"))
    return {line.split()[0] for line in lines} | set(re.findall(r'id="([^"]+)"', pages))


def test_the_site_builds_offline_without_a_warning(site):
    _, printed = site
    assert not re.search("WARNING|ERROR", printed), printed


def test_the_reference_leaves_no_public_name_out(site):
    wanted = {f"hybrid_nds.{name}" for name in hybrid_nds.__all__} - {
        f"hybrid_nds.{room}" for room in ROOMS
    }
    for room in ROOMS:
        names = exported(room)
        assert names, room
        wanted |= names
    assert sorted(wanted - documented(site[0])) == []


def test_all_rooms_are_looked_at():
    folders = (path.parent for path in ROOT.glob("hybrid_nds/*/__init__.py"))
    private = {"backends", "cli"}
    assert {folder.name for folder in folders} - private == set(ROOMS)


def test_what_the_reference_says_is_typeset(site):
    """Formulas are marked for KaTeX, and no cross-reference is left as it was."""
    page = (site[0] / "api/stability/index.html").read_text()
    assert r"\lambda_i = \lim" in page
    assert 'class="arithmatex"' in page
    for page in (site[0] / "api").rglob("*.html"):
        assert "][hybrid_nds" not in page.read_text(), page
