"""The wheel holds what an installation needs: Julia source, fixtures, declarations."""

import json
import os
import subprocess
import sys
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from this checkout with the build tools at hand.

    A release tests the one it will publish: HYBRID_NDS_WHEEL names its file.
    """
    if published := os.environ.get("HYBRID_NDS_WHEEL"):
        return Path(published).resolve(strict=True)
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_everything(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        f"hybrid_nds/_julia/HybridNDS/{path.relative_to(ROOT / 'julia').as_posix()}"
        for folder in ("ext", "src")
        for path in (ROOT / "julia" / folder).rglob("*.jl")
    }
    assert len(sources) > 5
    assert sources <= names
    assert "hybrid_nds/_julia/HybridNDS/Project.toml" in names
    assert "hybrid_nds/juliapkg.json" in names
    assert "hybrid_nds/py.typed" in names
    templates = [*(ROOT / "hybrid_nds").rglob("templates/*")]
    assert len(templates) >= 5
    assert {path.relative_to(ROOT).as_posix() for path in templates} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "hybrid_nds/_fixtures/robertson/problem.toml" in names


def test_an_installation_finds_its_julia_package_and_fixtures(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
    )
    # The dependencies are those of this environment: nothing is downloaded. Its own
    # hybrid_nds, an editable one, is not on this path.
    site = next(p for p in sys.path if p.endswith("site-packages"))
    code = f"""
        import os, sys
        sys.path.append({site!r})
        import hybrid_nds
        from pathlib import Path
        here = Path(hybrid_nds.__file__).parent
        assert str(here).startswith({str(tmp_path)!r}), here
        from hybrid_nds.reconcile import list_fixtures, load_fixture
        from hybrid_nds.runtime import julia_source
        assert julia_source() == here / "_julia" / "HybridNDS"
        assert "robertson" in list_fixtures()
        assert load_fixture("robertson").problem.dimension == 3
        from juliapkg.deps import find_requirements
        compat, specs = find_requirements()
        found = {{spec.name: spec for spec in specs}}["HybridNDS"]
        assert found.dev and Path(found.path) == julia_source(), found.path
    """
    result = subprocess.run(
        [python, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr


def test_checkout_and_wheel_declare_the_same_julia():
    checkout = json.loads((ROOT / "juliapkg.json").read_text())
    installed = json.loads((ROOT / "packaging" / "juliapkg.wheel.json").read_text())
    paths = [
        declared["packages"]["HybridNDS"].pop("path")
        for declared in (checkout, installed)
    ]
    assert checkout == installed
    assert (ROOT / paths[0] / "Project.toml").is_file()
    assert paths[1] == "_julia/HybridNDS"
