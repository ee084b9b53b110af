"""The worked examples of the contribution guide do what it says of them."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import lowering
from hybrid_nds.lowering import _rules
from hybrid_nds.methods import _ode, _table, find_solver, solver_names

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
BLOCKS = re.findall(r"^ *```python\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def mirrored(monkeypatch):
    """What the example of a primitive defines, registered for one test."""
    monkeypatch.setitem(_rules.RULES, "mirror", None)
    (source,) = (block for block in BLOCKS if "register_rule" in block)
    names = {}
    exec(source, names)
    return names


def test_a_row_is_all_that_a_solver_takes(monkeypatch):
    (source,) = (block for block in BLOCKS if "_explicit" in block)
    names = dict(vars(_ode))
    exec(source.strip(), names)
    row = names["row"]
    known = {**_table._BY_NAME, (row.kind, row.name.casefold()): row}
    monkeypatch.setattr(_table, "_BY_NAME", known)
    monkeypatch.setattr(_table, "METHODS", (*_table.METHODS, row))
    assert find_solver("ssprk33", "julia") is row
    assert "SSPRK33" in solver_names("julia")
    with pytest.raises(ValueError, match="only on the julia backend"):
        find_solver("SSPRK33", "diffrax")
    assert (row.adaptive, row.implicit, row.twin) == (
        ("diffrax", "julia"),
        False,
        False,
    )


@pytest.mark.parametrize("size", [2, 3000])
def test_a_rule_is_all_that_a_primitive_takes(mirrored, size, monkeypatch):
    """Both forms of code: small programs are written out, large ones as loops."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "lowering"))
    from julia_subset import evaluate

    y = jnp.arange(1.0, size + 1)
    lowered = lowering.lower(mirrored["field"], 0.0, y)
    assert ("for " in lowered.source) == (size > 1000)
    found = evaluate(lowered, np.asarray(y), [], 0.0)
    np.testing.assert_array_equal(found, np.asarray(y - y[::-1]))


def test_a_rule_says_how_often_it_rounds(mirrored):
    field = mirrored["field"]
    depth = lambda y: lowering.expression_depth(lambda y: [field(0.0, y, None)], y)
    # One subtraction, and a mirror that rounds nothing.
    assert depth(jnp.ones(3)) == 1


def test_rules_of_other_packages_are_found(mirrored, monkeypatch):
    class Point:
        name = "mirrored_elsewhere"

        def load(self):
            return _rules.RULES["mirror"]

    _rules._installed.cache_clear()
    monkeypatch.setattr(
        _rules.importlib.metadata, "entry_points", lambda group: [Point()]
    )
    elsewhere = jax.extend.core.Primitive(Point.name)
    elsewhere.def_abstract_eval(lambda x: x)
    try:
        lowered = lowering.lower(lambda t, y, a: elsewhere.bind(y), 0.0, jnp.ones(2))
    finally:
        monkeypatch.undo()
        _rules._installed.cache_clear()
        _rules.RULES.pop(Point.name, None)
        _rules.RULES.pop("mirror", None)
    assert lowered.source
