"""The rooms of the package: arrows run one way, and no file stands outside of them."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

import hybrid_nds

PACKAGE = Path(hybrid_nds.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(
    path
    for kind in ("*.py", "*.pyi")
    for path in PACKAGE.rglob(kind)
    if "_julia" not in path.parts
)


def rooms():
    """The rooms in the order of the README's map: each may use those above it."""
    readme = (ROOT / "README.md").read_text()
    return re.findall(r"^\| `(\w+)/` \|", readme, re.MULTILINE)


def module(path):
    """The module of a file, as a tuple of names below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path):
    """The modules of the package that a file imports from, wherever in it."""
    here = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - (node.level - 1)]
            found = (*base, *(node.module.split(".") if node.module else ()))
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("hybrid_nds"):
            found = tuple(node.module.split(".")[1:])
        else:
            continue
        for name in node.names:
            whole = PACKAGE.joinpath(*found, name.name)
            inner = whole.is_dir() or whole.with_suffix(".py").exists()
            yield (*found, name.name) if inner else found


def test_the_map_of_the_readme_shows_every_room():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(rooms()) == sorted(folders)


def test_no_file_stands_beside_the_rooms():
    assert [path.name for path in FILES if path.parent == PACKAGE] == [
        "__init__.py",
        "__init__.pyi",
    ]


def test_every_file_of_a_room_is_private():
    public = [
        path
        for path in FILES
        if not any(part.startswith("_") for part in path.relative_to(PACKAGE).parts)
    ]
    assert public == []


@pytest.mark.parametrize("room", rooms())
def test_arrows_between_rooms_run_one_way(room):
    order = rooms()
    above = set(order[: order.index(room) + 1])
    back = {
        f"{'.'.join(module(path))} -> {'.'.join(target)}"
        for path in FILES
        if module(path)[:1] == (room,)
        for target in imports(path)
        # The package's own face, for its version and its public functions.
        if target and target[0] not in above
    }
    assert back == set()


def test_rooms_use_the_faces_of_others():
    behind = {
        f"{'.'.join(module(path))} -> {'.'.join(target)}"
        for path in FILES
        for target in imports(path)
        # The package's own face may reach past those of rooms, which would import more.
        if module(path)
        and target[:1] != module(path)[:1]
        and any(name.startswith("_") for name in target[1:])
    }
    assert behind == set()


@pytest.mark.parametrize("room", rooms())
def test_arrows_inside_a_room_run_one_way(room):
    graph = {}
    for path in FILES:
        here = module(path)
        if here[:1] == (room,):
            within = {target for target in imports(path) if target[:1] == (room,)}
            graph.setdefault(here, set()).update(within - {here})
    # A circle is an error that shows it.
    tuple(graphlib.TopologicalSorter(graph).static_order())
