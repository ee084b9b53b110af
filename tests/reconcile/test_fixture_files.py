"""Whatever is wrong with a problem file, the error names the file and the key."""

import copy
import shutil

import pytest
from typer.testing import CliRunner

from hybrid_nds.cli import app
from hybrid_nds.reconcile._specification import read_toml
from hybrid_nds.reconcile.loading import fixtures_root
from hybrid_nds.reconcile.loading._load import fixture_of, load_fixture

# Keys whose tables are free: what is in them is for fields and analyses to read.
FREE = ("parameters", "options")
OPTIONAL = {
    *("notes", "shape", "scheme", "observables", "analyses", "weights", "label"),
    *("expected", "moments", "orders", "at_least", "components", "gradients"),
}
WRONG = ["text", "", 3, -2, 0.5, True, float("nan"), [], [[1.0], [2.0, 3.0]], {"a": 1}]


def _paths(entries, start=()):
    """The paths of all entries, those of tables and of lists of tables too."""
    for key, value in entries.items():
        path = (*start, key)
        yield path
        if isinstance(value, dict) and key != "options":
            yield from _paths(value, path)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from _paths(value[0], (*path, 0))


def _changed(entries, path, value=None, *, delete=False):
    changed = copy.deepcopy(entries)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if delete:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return changed


def _kind(value):
    """The type that a value has in TOML, whole numbers being numbers, too."""
    if isinstance(value, bool):
        return "flag"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _names(error, folder, path):
    """Whether a message names the file and the key."""
    text = str(error)
    return str(folder / "problem.toml") in text and str(path[-1]) in text


# Of every kind: with a mass matrix, a shape, observables with options, analyses, noise.
@pytest.mark.parametrize("name", ["pendulum", "attention", "gbm"])
def test_every_key_is_named_where_it_is_missing_or_wrong(name):
    folder = fixtures_root() / name
    entries = read_toml(folder / "problem.toml")
    unnamed, taken = [], []
    for path in _paths(entries):
        # Without a kind there is no saying what is missing.
        try:
            fixture_of(folder, _changed(entries, path, delete=True))
            if path[-1] not in OPTIONAL:
                taken.append((path, "nothing"))
        except ValueError as error:
            if not _names(error, folder, path):
                unnamed.append((path, "nothing", str(error)))
        old = entries
        for key in path:
            old = old[key]
        for value in WRONG:
            if _kind(value) == _kind(old) and value in ("text", 3, 0.5, True):
                continue
            try:
                fixture_of(folder, _changed(entries, path, value))
            except ValueError as error:
                if not _names(error, folder, path):
                    unnamed.append((path, value, str(error)))
            else:
                # What has the type of the right value may be another right one.
                if _kind(value) != _kind(old) and path[-1] not in ("expected", "scale"):
                    taken.append((path, value))
    assert unnamed == []
    assert taken == []


def _copied(tmp_path, name="robertson"):
    folder = tmp_path / name
    shutil.copytree(fixtures_root() / name, folder)
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b + b"\nx = [1,", "is not valid TOML"),
        (lambda b: b.replace(b"k1", b"k\xff1", 1), "is not valid TOML: byte"),
        (lambda b: b[: len(b) // 2], "problem.toml"),
        (lambda b: b.replace(b"k3 =", b"#", 1), "k3"),
        (lambda b: b.replace(b"t1 = 100000.0", b't1 = "soon"'), "`t1` must be"),
        (lambda b: b.replace(b"[parameters]", b"parameters = 3\n[o]"), "`parameters`"),
        (lambda b: b"", "lacks `kind`"),
    ],
)
def test_the_command_says_it_in_a_line(tmp_path, change, words):
    file = _copied(tmp_path) / "problem.toml"
    file.write_bytes(change(file.read_bytes()))
    result = CliRunner().invoke(app, ["--no-cache", "solve", str(file)])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert str(file) in result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("robertson", "reference.csv"),
        ("neural_ode", "weights.toml"),
        ("kubo", "strong.csv"),
    ],
)
@pytest.mark.parametrize(
    "change",
    [
        # Within a row: one that is cut off between two has fewer, and is whole.
        lambda b: b[: b.rindex(b",")],
        lambda b: b[: len(b) // 2] + b"\xff" + b[len(b) // 2 :],
        lambda b: b[:-4] + b"x" + b[-3:],
        lambda b: b"",
        None,
    ],
    ids=["truncated", "stray byte", "letter", "empty", "absent"],
)
def test_files_beside_it_are_named(tmp_path, name, file, change):
    folder = _copied(tmp_path, name)
    shutil.copytree(fixtures_root() / "brownian", tmp_path / "brownian")
    place = folder / file
    if change is None:
        place.unlink()
    else:
        place.write_bytes(change(place.read_bytes()))
    with pytest.raises(ValueError, match=file.replace(".", r"\.")):
        load_fixture(folder)


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    (tmp_path / "problem.toml").mkdir()
    for given in (tmp_path, tmp_path / "problem.toml"):
        with pytest.raises(FileNotFoundError, match=r"problem\.toml must be a file"):
            load_fixture(given)


def test_a_folder_may_have_the_name_of_the_file(tmp_path):
    folder = tmp_path / "problem.toml"
    shutil.copytree(fixtures_root() / "lorenz63", folder)
    assert load_fixture(folder).name == "lorenz63"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("hires", ("stif",)),
        ("hires", ("parameters", "k7")),
        ("hires", ("tolerances", "rtols")),
        ("hires", ("scheme", "step")),
        ("gbm", ("solver",)),
        ("gbm", ("parameters", "nu")),
        ("gbm", ("law", "moments", 0, "power")),
    ],
)
def test_a_key_that_means_nothing_is_refused(name, path):
    folder = fixtures_root() / name
    entries = _changed(read_toml(folder / "problem.toml"), path, 1.0)
    with pytest.raises(ValueError, match="mean nothing") as caught:
        fixture_of(folder, entries)
    assert _names(caught.value, folder, path)


def test_an_initial_state_of_another_length_is_named():
    folder = fixtures_root() / "lorenz63"
    entries = read_toml(folder / "problem.toml")
    with pytest.raises(ValueError, match="`y0` must be a list of 3 numbers"):
        fixture_of(folder, entries | {"y0": [1.0, 2.0]})


def test_a_problem_file_of_another_name_is_told_its_name(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("")
    with pytest.raises(FileNotFoundError, match=r"must be named\s+problem.toml"):
        load_fixture(file)
