"""The tutorial notebooks: those of the teaching notes, and they run."""

import importlib.util
import json
import sys
import types
from pathlib import Path

import matplotlib
import pytest

from hybrid_nds import double_precision

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "docs" / "teaching" / "notebooks"
SPEC = importlib.util.spec_from_file_location(
    "notebooks", ROOT / "packaging" / "notebooks.py"
)
assert SPEC is not None
assert SPEC.loader is not None
make = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make)


def test_they_are_those_of_the_notes():
    assert {path.stem for path in NOTEBOOKS.iterdir()} == set(make.PAGES)
    for name in make.PAGES:
        text = (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")
        assert text == make.text_of(name), "make them: python packaging/notebooks.py"


def test_a_page_becomes_cells():
    page = """# Title

See [`solve`][hybrid_nds.solve], [stability](stability.md) and [x](../more/y.md#x).

```python
figure.savefig("a.png", dpi=110)
a = 1
```

![A picture](images/a.png)

The end.
"""
    cells = make.notebook(page)["cells"]
    kinds = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    assert [kind for kind, _ in kinds] == ["markdown", "code", "code", "markdown"]
    link = "See `solve`, [stability](stability.ipynb) and x."
    assert kinds[0][1] == f"# Title\n\n{link}"
    assert "jax_enable_x64" in kinds[1][1]
    assert [text for _, text in kinds[2:]] == ["a = 1", "The end."]
    assert len({cell["id"] for cell in cells}) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", make.PAGES)
def test_their_cells_run(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    module = types.ModuleType("notebook_of_docs")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    with double_precision():
        for cell in cells["cells"]:
            if cell["cell_type"] == "code":
                code = compile("".join(cell["source"]), cell["id"], "exec")
                exec(code, module.__dict__)
    # What a cell draws is shown in it, not written into a file.
    assert not list(tmp_path.iterdir())
