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


# What rooms have for one another, and not for users.
INNER = {
    f"hybrid_nds.{name}"
    for name in (
        "ensembles.check_initial",
        "measures.discrepancy_statistic",
        "measures.energy_statistic",
        "measures.sinkhorn_statistic",
        "models.assemble",
        "reconcile.RUNGS",
        "reconcile.TITLES",
        "reconcile.draw",
        "reconcile.julia_words",
        "reconcile.write_reports",
        "runtime.Bridge",
        "runtime.Reference",
        "runtime.bridge_version",
        "runtime.check_julia",
        "runtime.execution_error",
        "runtime.handler_rule",
        "runtime.how_to_get_julia",
        "runtime.keep_with_program",
        "runtime.varying_alike",
        "studies.executor_of",
    )
}


def exported(room):
    """The names a room imports under their own names, which is how it exports them."""
    module = importlib.import_module(f"hybrid_nds.{room}")
    # Where names are imported when they are first used, they stand in a stub.
    source = Path(module.__file__)
    stub = source.with_suffix(".pyi")
    tree = ast.parse((stub if stub.exists() else source).read_text())
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
    assert sorted(wanted - documented(site[0]) - INNER) == []


def test_all_rooms_are_looked_at():
    folders = (path.parent for path in ROOT.glob("hybrid_nds/*/__init__.py"))
    # What the rooms share; its public names stand in `hybrid_nds` itself.
    shared = {"_core", "backends", "cli", "methods", "problems", "solution", "solving"}
    shared |= {"statistics", "tasks"}
    assert {folder.name for folder in folders} - shared == set(ROOMS)


# What a browser fetches by itself, in pages and in style sheets.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc=["']?([^"'\s>]+)"""
    r"""|<link\b[^>]*?\bhref=["']?([^"'\s>]+)"""
    r"""|(?:\burl\(|@import)\s*["']?([^"')\s]+)"""
)
CODE = re.compile(r"<(pre|code|script)\b.*?</\1>", re.DOTALL)


def fetched(text):
    """The addresses that a browser fetches for a page or a style sheet."""
    return {next(filter(None, found)) for found in FETCHED.findall(text)}


def test_what_a_browser_fetches_is_seen():
    page = """<script src="https://a/x.js"></script><link rel=icon href=//b/y.png>
        <style>@font-face { src: url('https://c/z.woff') }</style>
        <a href="https://d/">a link is no fetch</a><img alt="" src='e.png'>"""
    hosts = {"https://a/x.js", "//b/y.png", "https://c/z.woff", "e.png"}
    assert fetched(page) == hosts
    assert fetched('@import "https://f/g.css";') == {"https://f/g.css"}


def test_readers_fetch_from_no_other_host(site):
    files = [p for end in ("html", "css") for p in site[0].rglob(f"*.{end}")]
    assert len(files) > 80
    foreign = {
        (str(path.relative_to(site[0])), address)
        for path in files
        for address in fetched(path.read_text())
        if re.match(r"(?:[a-z]+:)?//", address)
    }
    assert foreign == set()


def test_every_formula_is_mathml(site):
    pages = list(site[0].rglob("*.html"))
    raw = {
        str(page.relative_to(site[0])): found
        for page in pages
        if (found := re.findall(r"\\[()\[\]].{0,40}", CODE.sub("", page.read_text())))
    }
    assert raw == {}
    equation = re.search(
        "<math.*?</math>", (site[0] / "stability/matrix_measure/index.html").read_text()
    )
    assert equation
    # μ(A) = lim (‖I + hA‖ − 1)/h, of h from above.
    tags = [tag for tag in ("munder", "msup", "mfrac") if f"<{tag}>" in equation[0]]
    assert tags == ["munder", "msup", "mfrac"]
    text = re.sub(r"<.*?>|&\w+;|\s", "", equation[0])
    assert text == "μ(A)=limh→0+‖I+hA‖−1h,‖eAt‖≤eμ(A)t(t≥0)."


def test_a_formula_that_cannot_be_converted_fails_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("Here is $a < b$.\n\n$$\\nosuch{x}$$\n")
    (tmp_path / "mkdocs.yml").write_text(
        "site_name: one page\nstrict: true\ntheme: {name: mkdocs}\n"
        "markdown_extensions: [{pymdownx.arithmatex: {generic: true}}]\n"
        f"hooks: [{ROOT / 'docs/assets/formulas.py'}]\n"
    )
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"},
    )
    printed = built.stdout + built.stderr
    assert built.returncode != 0, printed
    assert "index.md" in printed
    assert r"nosuch{x}" in printed
    assert "a < b" not in printed


def test_what_the_reference_says_is_typeset(site):
    """Formulas of docstrings are converted, and no cross-reference is left as is."""
    page = (site[0] / "api/stability/index.html").read_text()
    assert page.count("<math") > 20
    for page in (site[0] / "api").rglob("*.html"):
        assert "][hybrid_nds" not in page.read_text(), page
