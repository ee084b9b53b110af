"""The worked examples of the contribution guide do what it says of them."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import EntryPoint

from hybrid_nds import ODEProblem, SolveError, lowering, solve
from hybrid_nds.lowering import _rules
from hybrid_nds.methods import _ode, _stacks, _table, find_solver, solver_names
from hybrid_nds.solving import _solve

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
BLOCKS = re.findall(r"^ *```python\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def mirrored(monkeypatch):
    """What the example of a primitive defines, registered for one test."""
    monkeypatch.setitem(_rules.RULES, "mirror", None)
    del _rules.RULES["mirror"]
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


@pytest.fixture
def numpy_backend(monkeypatch):
    """The example of a backend, as if another package had installed it."""
    (source,) = (block for block in BLOCKS if "NumPyBackend" in block)
    names = {}
    exec(source, names)

    point = EntryPoint("numpy", names["NumPyBackend"])
    caches = (_stacks._points, _stacks.installed_stack, _solve._backend)
    for cache in caches:
        cache.cache_clear()
    metadata = _stacks.importlib.metadata
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point])
    yield point
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


def oscillator(t, y, args):
    return {"x": y["v"], "v": -args * y["x"]}


def test_a_class_is_all_that_a_backend_takes(numpy_backend):
    y0 = {"x": jnp.array([1.0]), "v": jnp.array([0.5])}
    problem = ODEProblem(oscillator, y0, 0.0, 1.0, 4.0)
    found = solve(problem, "numpy", dt=0.125)
    # Euler's step multiplies the state by I + hA.
    step = np.eye(2) + 0.125 * np.array([[0.0, 1.0], [-4.0, 0.0]])
    expected = np.linalg.matrix_power(step, 8) @ [1.0, 0.5]
    np.testing.assert_allclose(
        [found.ys["x"][0, 0], found.ys["v"][0, 0]], expected, rtol=1e-14
    )
    assert found.outcome_name == "success"
    assert found.provenance.backend == "numpy"
    assert solver_names("numpy") == ("default", "Euler")
    assert solver_names("numpy", "sde") == ()


REFUSED = {
    "tolerances": ({}, "Euler has no error estimate"),
    "another solver": ({"dt": 0.1, "solver": "Tsit5"}, "that the numpy backend has"),
    "times": ({"dt": 0.1, "saveat": "steps"}, "saves the end"),
    "a step of the wrong sign": ({"dt": -0.1}, "sign of t1 - t0"),
}


@pytest.mark.parametrize(("options", "match"), REFUSED.values(), ids=REFUSED)
def test_options_are_checked_before_any_backend_sees_them(
    numpy_backend, options, match
):
    problem = ODEProblem(lambda t, y, args: -y, jnp.ones(1), 0.0, 1.0)
    with pytest.raises(ValueError, match=match):
        solve(problem, "numpy", **options)


def test_a_failure_of_any_backend_is_raised_with_its_place(numpy_backend):
    problem = ODEProblem(lambda t, y, args: y**3, jnp.full(1, 1e3), 0.0, 1.0)
    with pytest.raises(SolveError, match="solver euler of numpy") as failure:
        solve(problem, "numpy", dt=0.1)
    assert failure.value.solution.outcome_name == "unstable"


def test_an_entry_point_leads_to_a_backend_of_its_name(numpy_backend, monkeypatch):
    monkeypatch.setitem(vars(numpy_backend), "name", "scipy")
    with pytest.raises(ValueError, match="one of diffrax, julia, scipy, got 'numpy'"):
        solver_names("numpy")
    with pytest.raises(TypeError, match="entry point 'scipy'"):
        solver_names("scipy")


def test_rules_of_other_packages_are_found(mirrored, monkeypatch):
    point = EntryPoint("mirrored_elsewhere", _rules.RULES["mirror"])
    _rules._installed.cache_clear()
    monkeypatch.setattr(
        _rules.importlib.metadata, "entry_points", lambda group: [point]
    )
    elsewhere = jax.extend.core.Primitive(point.name)
    elsewhere.def_abstract_eval(lambda x: x)
    try:
        lowered = lowering.lower(lambda t, y, a: elsewhere.bind(y), 0.0, jnp.ones(2))
    finally:
        monkeypatch.undo()
        _rules._installed.cache_clear()
        _rules.RULES.pop(point.name, None)
        _rules.RULES.pop("mirror", None)
    assert lowered.source
