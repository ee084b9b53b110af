"""Versions, metadata, workflows and make targets that must tell the same story."""

import importlib.util
import itertools
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text("utf-8"))
    for path in (ROOT / ".github" / "workflows").glob("*.yml")
}


@pytest.fixture(scope="module")
def release():
    """The script that a release is checked with."""
    path = ROOT / "packaging" / "check_release.py"
    spec = importlib.util.spec_from_file_location("check_release", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_files_declare_one_version(release):
    assert set(release.declared_versions().values()) == {PROJECT["version"]}


def test_the_changelog_is_up_to_date(release):
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = release.released_versions()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    # Each heading is a released version with its date, but for the first.
    assert headings[0] == "[Unreleased]"
    assert len(headings) == len(released) + 1
    if released:
        assert released[0] == PROJECT["version"]
    else:
        assert f"The first release will be {PROJECT['version']}." in text


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("CHANGELOG.md", "", "", None),
        ("CHANGELOG.md", " - 2030-01-31", "", "no dated section"),
        ("CITATION.cff", "version: 7.1.0", "version: 7.0.0", "CITATION.cff declares"),
        ("CITATION.cff", "date-released:", "# date:", "no date-released"),
        ("pyproject.toml", '"7.1.0"', '"7.2.0"', "pyproject.toml declares"),
    ],
)
def test_a_release_that_does_not_belong_together_is_refused(
    release, tmp_path, file, old, new, complaint
):
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "7.1.0"\n')
    (tmp_path / "CITATION.cff").write_text(
        "cff-version: 1.2.0\nversion: 7.1.0\ndate-released: 2030-01-31\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(
        "## [Unreleased]\n\n## [7.1.0] - 2030-01-31\n"
    )
    changed = tmp_path / file
    assert old in changed.read_text()
    changed.write_text(changed.read_text().replace(old, new))
    found = release.problems("v7.1.0", tmp_path)
    if complaint is None:
        assert found == []
    else:
        assert len(found) == 1
        assert complaint in found[0]


def test_declared_pythons_are_those_that_are_tested():
    classifiers = {
        found[1]
        for line in PROJECT["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))
    }
    matrix = WORKFLOWS["ci"]["jobs"]["without-julia"]["strategy"]["matrix"]
    assert set(matrix["python"]) == classifiers
    assert {entry["python"] for entry in matrix["include"]} <= classifiers
    lowest = min(classifiers, key=lambda version: int(version.partition(".")[2]))
    assert PROJECT["requires-python"] == f">={lowest}"
    lowest_job = WORKFLOWS["ci"]["jobs"]["lowest-versions"]["steps"]
    assert {"python-version": lowest} in [step.get("with") for step in lowest_job]


def test_the_licence_is_the_declared_one():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in text
    assert "END OF TERMS AND CONDITIONS" in text
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]


def test_every_dependency_has_a_lower_bound():
    extras = PROJECT["optional-dependencies"].values()
    for line in itertools.chain(PROJECT["dependencies"], *extras):
        assert ">=" in line or line.startswith("hybrid_nds["), line


def make_targets():
    text = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z-]+):.* ## ", text, re.MULTILINE))


def test_make_help_lists_every_target():
    declared = re.search(
        r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    assert make_targets() == set(declared[1].split())


@pytest.mark.parametrize(
    "file", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".ci/run", "workflows"]
)
def test_every_make_target_that_is_named_exists(file):
    if file == "workflows":
        steps = [
            step.get("run", "")
            for workflow in WORKFLOWS.values()
            for job in workflow["jobs"].values()
            for step in job["steps"]
        ]
        text = "\n".join(steps)
    else:
        text = (ROOT / file).read_text("utf-8")
    # In code alone: prose may make anything.
    named = re.findall(r"(?:^|[`;] ?|exec )make ([a-z][a-z-]*)", text, re.MULTILINE)
    assert named
    assert set(named) <= make_targets()


def test_files_and_folders_that_the_guide_names_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z_.]+(?:/[\w.-]*)+)`", text))
    assert named
    made = {"report/", "build/site"}
    missing = [name for name in named - made if not (ROOT / name).exists()]
    assert missing == []


def test_workflows_ask_for_no_more_than_they_need():
    for name, workflow in WORKFLOWS.items():
        wanted = {"contents": "write" if name == "docs" else "read"}
        assert workflow["permissions"] == wanted, name
        for job in workflow["jobs"].values():
            assert "timeout-minutes" in job, name
    canary = WORKFLOWS["canary"]["jobs"]["ladder"]["permissions"]
    assert canary == {"contents": "read", "issues": "write"}
    publish = WORKFLOWS["release"]["jobs"]["publish"]
    assert publish["environment"] == "pypi"
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["needs"] == "build"
