"""The Python examples of the documentation run, page by page."""

import re
import subprocess
import sys
import types
from pathlib import Path

import matplotlib
import pytest

from hybrid_nds import double_precision

DOCS = Path(__file__).parent.parent / "docs"
# Examples run, in order, a page in a module; those fenced as `py` need Julia.
BLOCK = re.compile(r"^```python(?: [^\n]*)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_JULIA = re.compile(
    r"^```py(?:thon)?(?: [^\n]*)?\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
ONLY_JULIA = re.compile(r"^```py[ \n]", re.MULTILINE)
# Every tool in these rooms is shown at work.
ROOMS = ("stability", "discretization", "measures")
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
# Their examples compile or train for more than three seconds.
LONG = {
    "discretization/orders.md",
    "discretization/scaling.md",
    "guides/backends.md",
    "guides/cookbook.md",
    "guides/ensembles.md",
    "guides/from_differentialequations.md",
    "guides/from_diffrax.md",
    "guides/noise.md",
    "guides/start.md",
    "models/attention.md",
    "models/classic.md",
    "models/contracting.md",
    "models/gradient_flow.md",
    "models/hamiltonian.md",
    "models/kuramoto.md",
    "models/latent.md",
    "models/mean_field.md",
    "models/neural_cde.md",
    "models/neural_ode.md",
    "models/neural_sde.md",
    "models/normalizing_flow.md",
    "models/recurrent.md",
    "models/resnet.md",
    "models/spatial.md",
    "stability/invariant_law.md",
    "stability/mean_exit_time.md",
    "studies/index.md",
    "teaching/adjoint.md",
    "teaching/attention.md",
    "teaching/depth_limit.md",
    "teaching/mean_field.md",
    "teaching/random_resnets.md",
    "teaching/resnet_to_ode.md",
    "teaching/stability.md",
    "training/fit.md",
    "training/losses.md",
}


def blocks(text, fences=BLOCK):
    """The examples of a page, each with the number of its first line."""
    return [
        (text.count("\n", 0, found.start(1)) + 1, found[1])
        for found in fences.finditer(text)
    ]


def run_page(path, monkeypatch, fences=BLOCK):
    """Run the examples of a page, one after the other, in one module.

    In a module that can be imported by name, as dataclasses and pickle want it.
    """
    module = types.ModuleType("page_of_docs")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with double_precision():
        for line, source in blocks(path.read_text(), fences):
            # Blank lines before it: errors name the line of the page.
            code = compile("\n" * (line - 1) + source, str(path), "exec")
            exec(code, module.__dict__)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=(pytest.mark.slow,) if page in LONG else ())
        for page in PAGES
    ],
)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    if Path(page).parts[0] in ROOMS:
        assert blocks((DOCS / page).read_text()), f"docs/{page} shows no example"
    run_page(DOCS / page, monkeypatch)


@pytest.mark.julia
@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if ONLY_JULIA.search((DOCS / page).read_text())]
)
def test_the_examples_of_a_page_run_with_julia(page, julia, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    run_page(DOCS / page, monkeypatch, WITH_JULIA)


def test_the_first_lines_of_the_readme_run_as_they_stand(tmp_path):
    source = blocks((DOCS.parent / "README.md").read_text())[0][1]
    assert len([line for line in source.splitlines() if line]) <= 10
    ran = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    for shown in ("function field!", "L0 field", "passed"):
        assert shown in ran.stdout


def test_the_cookbook_is_ten_short_tasks():
    _, *tasks = re.split(r"^## ", (DOCS / "guides/cookbook.md").read_text(), flags=re.M)
    assert len(tasks) == 10
    for task in tasks:
        shown = blocks(task, WITH_JULIA)
        assert shown
        for _, source in shown:
            assert len(source.splitlines()) < 15, task


def test_the_long_pages_are_there():
    assert set(PAGES) > LONG


def test_an_example_that_fails_names_its_line(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("A\n\n```python\na = 1\n```\nB\n```python\nb = a\nb / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as failure:
        run_page(page, monkeypatch)
    last = failure.traceback[-1]
    assert (str(last.path), last.lineno + 1) == (str(page), 9)
