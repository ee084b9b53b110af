"""Every result is printed, drawn, and turned into data in one way, with one look."""

import builtins
import dataclasses
import functools
import importlib
import inspect
import json
import pkgutil
import xml.etree.ElementTree
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from result_cases import a_solution, an_ensemble

import hybrid_nds
from hybrid_nds import (
    ODEProblem,
    SDEProblem,
    solve,
)
from hybrid_nds._core import (
    COLORS,
    DrawnResult,
    Result,
)
from hybrid_nds._core._members import members
from hybrid_nds._core._notebook import page_of
from hybrid_nds.discretization import WorkRow
from hybrid_nds.ensembles import Ensemble
from hybrid_nds.measures import LawShift, LawTest, MomentInterval
from hybrid_nds.reconcile import Figure, RungResult
from hybrid_nds.solution import Provenance, Solution
from hybrid_nds.stability import Bifurcation
from hybrid_nds.studies import Claim, Findings, StudyResult, study
from hybrid_nds.training import History

matplotlib.use("Agg")
PROVENANCE = Provenance("diffrax", "Tsit5", (("jax", "1"),), 1e-3, 1e-6, None, "jax")
SIZES = {"bin": 4, "edge": 5, "end": 2, "time": 5, "lag": 5, "step": 5, "cell": 4}
SETTINGS = {
    "boundary": "reflecting",
    "boundaries": 2,
    "chains": 3,
    "correction": "bridge",
    "dt": 0.1,
    "explicit": "Tsit5",
    "implicit": "Kvaerno5",
    "level": 0.95,
    "least_effective": 2.0,
    "norm": 2.0,
    "time": 4.0,
    "transient": 1.0,
    "weight": None,
    "weights": np.ones(2),
}


def _kinds():
    """All result classes, found in all modules of the package."""
    for module in pkgutil.walk_packages(hybrid_nds.__path__, "hybrid_nds."):
        importlib.import_module(module.name)

    def final(kind):
        for one in kind.__subclasses__():
            yield from final(one) if one.__subclasses__() else [one]

    found = {one for one in final(Result) if one.__module__.startswith("hybrid_nds")}
    return sorted(found, key=lambda one: one.__name__)


KINDS = _kinds()
# Parts of results, and what is put in or holds a live Julia: no results of their own.
PARTS = {
    *("Bifurcation", "Claim", "Failure", "Figure", "Findings", "LawShift", "LawTest"),
    *("Law", "Moment", "MomentInterval", "Reference", "Settings", "StrongSolution"),
    *("Fixture", "Moments", "NamedObservable", "StochasticFixture", "WorkRow"),
    *("Along", "Configuration", "Discovery", "Provenance", "Records", "Unit"),
    *("ExitFlags", "Session", "Sweep", "SystemImage"),
    *(
        "LoweredField",
        "LoweredFunction",
        "LoweredProblem",
        "LoweredStochasticProblem",
        "Product",
        "Rule",
    ),
}


def test_every_dataclass_that_a_room_exports_is_a_result_or_a_part_of_one():
    rooms = ("analysis", "discretization", "ensembles", "lowering", "measures")
    rooms += ("reconcile", "runtime", "solution", "stability", "studies")
    others = set()
    for room in map(importlib.import_module, (f"hybrid_nds.{one}" for one in rooms)):
        for name in dir(room):
            one = getattr(room, name)
            if inspect.isclass(one) and dataclasses.is_dataclass(one):
                others |= set() if issubclass(one, Result) else {name}
    assert others - PARTS == set()


def _array(dims, rng, name=""):
    shape = [SIZES.get(dim, 2) for dim in dims if dim != "..."]
    shape += [2] if "..." in dims else []
    # Increasing from above zero, as times, sizes and edges are.
    return np.sort(rng.uniform(0.1, 1.0, shape), axis=-1 if name == "edges" else 0)


def _example(kind, rng, **given):
    """A result with numbers of the shapes that its annotations tell."""
    values = {}
    for member in members(kind):
        dims = member.dims or ()
        if member.derived:
            continue
        values[member.name] = {
            "array": lambda d=dims, n=member.name: _array(d, rng, n),
            "tree": lambda d=dims: _array(d, rng),
            "number": lambda: float(rng.uniform(0.1, 1.0)),
            "text": lambda: "text",
            "mapping": dict,
            "group": dict,
            "records": tuple,
            "result": lambda: _history(),
        }[member.kind]()
    fields = {field.name: None for field in dataclasses.fields(kind)}
    for name, value in (("provenance", PROVENANCE), ("settings", SETTINGS)):
        if name in fields:
            values[name] = value
    values |= {n: x for n, x in given.items() if n in fields}
    return kind(**{**fields, **values})


def _history():
    steps = np.arange(60)
    loss = np.exp(-steps / 20.0)
    parts = {"norm": loss / 2}
    return History(steps, loss, parts, np.array([20, 60]), loss[[19, 59]])


def _interval(values):
    return {"low": values - 0.1, "high": values + 0.1}


def _special(kind, rng):
    """What an example of a class needs beside shapes."""
    two = np.array([0.3, 0.6])
    waves = np.array([-0.5 + 1j, -0.5 - 1j])
    figure = Figure("claim", 1e-12, 1e-10, "round-off", at=1e-6)
    rung = RungResult("L0", (figure, dataclasses.replace(figure, at=1e-8)))
    rows = tuple(
        WorkRow("diffrax", "Tsit5", 10.0**-k, None, 10.0**-k, 0.0, 9.0, 1e-3 * k)
        for k in (3, 5)
    )
    moment = MomentInterval("mean of x", 1.0, 1.1, -0.1, 0.05, -0.2, 0.0)
    fold = Bifurcation("fold", 0.5, 1e-9, two, 1)
    return {
        "Branch": {"bifurcations": (fold,), "ended": ("interval", "step")}
        | {"eigenvalues": _array(("point", "eigenvalue"), rng) + 0j}
        | {"unstable": np.array([0, 1])},
        "Distance": {
            "name": "energy distance",
            "samples": (3, 4),
            "settings": {"n": 2},
        },
        "Equilibria": {
            "eigenvalues": np.array([waves, waves]),
            "hits": np.array([1, 3]),
            "unstable": np.array([0, 1]),
        }
        | {"starts": 64, "converged": 60, "outside": 2}
        | {"kinds": ("stable focus", "saddle")},
        "ExitTime": {"through": np.array([0, 1])},
        "InvariantLaw": _interval(two)
        | {"mean": two, "converged": True, "notes": ()}
        | {"batches": 20},
        "JacobianSpectrum": {"eigenvalues": waves},
        "LawComparison": {"tests": (LawTest("Welch", 1.0, 0.5, 0.9),)}
        | {"intervals": (moment,), "shift": LawShift(), "samples": (30, 40)},
        "LyapunovSpectrum": _interval(two)
        | {"exponents": two, "converged": False}
        | {"notes": ("too short",)},
        "MeanSquareAbscissa": {"spectrum": waves},
        "MixingRate": _interval(two) | {"rates": two, "notes": (), "converged": True},
        "MomentExponent": {"converged": True, "notes": (), "trajectories": 5},
        "OrderEstimate": {"steps": (0.4, 0.2), "errors": (0.1, 0.05)}
        | {"standard_errors": (0.01, 0.01), "paths": 3},
        "PeriodicOrbit": {"multipliers": 0.5 * waves, "trivial_multiplier": 1.0 + 0j},
        "Report": {"rungs": (rung,), "versions": (("jax", "1"),), "julia": "absent"},
        "RungResult": {"rung": "L0", "figures": (figure,), "seconds": None}
        | {"reason": "", "applies": True},
        "Scaling": {"quantity": "depth", "sizes": np.array([8, 16]), "draws": 1},
        "WorkPrecision": {"rows": rows, "paths": 3, "reference": "itself"},
        "HistogramResult": {"edges": np.linspace(0, 1, 5), "count": 40}
        | {"counts": np.full((5, 4, 2), 9)}
        | {"below": np.full((5, 2), 2), "above": np.full((5, 2), 2)},
        "MomentsResult": {"count": 40},
        "QuantilesResult": {"probabilities": np.array([0.25, 0.75]), "count": 40},
        "ExitResult": {"count": 10, "exits": np.arange(5)},
        "Sparsity": {"rows": np.array([0, 1, 1]), "columns": np.array([0, 0, 1])}
        | {"colors": np.array([0, 1])},
        "Stiffness": {"explicit_steps": 5, "implicit_steps": 3}
        | {"explicit_finished": True},
        "Fit": {"steps": 60, "best_step": 20, "stopped_early": False},
    }.get(kind.__name__, {})


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 2


@study(title="Errors", direction="discretization", source="none")
def errors_of_steps(config: Config, backend: Any, sweep: Any) -> Findings:
    """Do errors fall with the step?"""
    return Findings([], {})


@errors_of_steps.figure
def _draw_errors(figure, config, findings):
    axes = figure.subplots()
    for backend, found in findings.items():
        axes.plot(found.data["h"], found.data["errors"], "C3", label=backend)
    axes.legend()


def _study_result():
    claim = Claim("a = 1", 1.0, "here", 1.0, 0.1, "round-off", error=0.01)
    data = {"h": np.array([0.1, 0.2]), "errors": np.array([[1.0, 2.0], [2.0, 3.0]])}
    findings = {"diffrax": Findings([claim], data)}
    versions = {"jax": "1"}
    return StudyResult(errors_of_steps, "quick", Config(), findings, {}, {}, versions)


@functools.cache
def example(kind):
    """A small result of a class."""
    if kind is Solution:
        return a_solution()
    if kind is Ensemble:
        return an_ensemble()
    if kind is History:
        return _history()
    if kind is StudyResult:
        return _study_result()
    rng = np.random.default_rng(0)
    return _example(kind, rng, **_special(kind, rng))


EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@EACH
def test_every_result_is_printed(kind):
    result = example(kind)
    assert str(result) == result.summary() != ""


@EACH
def test_a_summary_is_plain_text_wherever_it_is_made(kind, monkeypatch):
    """Terminals and notebooks make rich color what it prints, and itself show it."""
    result = example(kind)
    plain = result.summary()

    class ZMQInteractiveShell:
        """What rich knows a notebook by."""

    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert result.summary() == plain
    assert plain.replace("\n", "").isprintable()


@EACH
def test_a_notebook_shows_every_result_with_its_numbers(kind):
    result = example(kind)
    # Well-formed: whatever text is in it is escaped.
    page = xml.etree.ElementTree.fromstring(result._repr_html_())
    assert page.findtext("pre") == result.summary()
    names = {cell.text for row in page.iter("tr") for cell in list(row)[:1]}
    assert names >= set(result.variables()) | set(result.attributes())


def test_texts_in_a_notebook_are_escaped():
    text = "<script>a & b</script>"
    page = page_of(text, {text: [("head", text), *[(text, k) for k in range(60)]]})
    found = xml.etree.ElementTree.fromstring(page)
    assert found.findtext("pre") == text
    assert not list(found.iter("script"))
    # Long tables end where nobody reads on.
    assert len(list(found.iter("tr"))) == 42
    assert "and 20 more" in page


def test_a_notebook_shows_problems_and_what_is_traced():
    problem = ODEProblem(
        lambda t, y, a: {"a<b": -a * y["a<b"]}, {"a<b": jnp.ones(2)}, 0.0, 1.5, 2.0
    )
    noisy = SDEProblem(
        lambda t, y, a: -y, lambda t, y, a: y, jnp.ones(2), 0.0, 1.0, noise="diagonal"
    )

    def inside(y):
        moved = ODEProblem(problem.field, {"a<b": y}, 0.0, 1.5, 2.0)
        texts.append(moved._repr_html_())
        texts.append(solve(moved)._repr_html_())
        return y

    texts = [problem._repr_html_(), noisy._repr_html_()]
    jax.jit(inside)(jnp.ones(2))
    pages = [xml.etree.ElementTree.fromstring(text) for text in texts]
    assert "t from 0.0 to 1.5, 2 components" in str(pages[0].findtext("pre"))
    assert "diagonal noise, ito" in str(pages[1].findtext("pre"))
    assert "2.0" in texts[0]


@EACH
def test_every_result_is_plain_data(kind):
    data = example(kind).to_dict()
    again = json.loads(json.dumps(data))
    # NaN is not equal to itself; its text is.
    assert str(again) == str(data)


@EACH
def test_every_result_is_a_dataset_with_its_numbers(kind, tmp_path):
    result = example(kind)
    dataset = result.to_xarray()
    variables = result.variables()
    assert variables
    for name, one in variables.items():
        found = dataset[name]
        assert found.dims == one[0]
        np.testing.assert_array_equal(found, np.asarray(one[1]))
    # What has a shape in the annotation is there, as the field holds it.
    for member in members(kind):
        value = getattr(result, member.name, None)
        if member.kind == "array" and value is not None:
            array = np.asarray(value)
            if np.iscomplexobj(array):
                parts = (f"{member.name}_{part}" for part in ("real", "imaginary"))
                array_of = [dataset[part].values for part in parts]
                np.testing.assert_array_equal(array_of[0] + 1j * array_of[1], array)
            else:
                np.testing.assert_array_equal(dataset[member.name], array)
            if member.axis:
                (dim,) = member.dims
                np.testing.assert_array_equal(dataset.indexes[dim], array)
    # No dimension is made up: each has its name from the annotation.
    assert not [dim for dim in dataset.dims if str(dim).rsplit("_")[-1].isdigit()] or (
        kind is StudyResult
    )
    if "provenance" in dataset.attrs:
        made = Provenance.from_dict(json.loads(dataset.attrs["provenance"]))
        assert made == result.provenance


@EACH
def test_every_result_is_drawn_and_leaves_the_settings_of_matplotlib(kind, tmp_path):
    import matplotlib.pyplot as plt

    result = example(kind)
    before = dict(matplotlib.rcParams)
    found = result.plot(path=tmp_path / "figure.png")
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "figure.png").stat().st_size > 2000
    figure = found if issubclass(kind, DrawnResult) else found.figure
    assert all(axes.has_data() for axes in figure.axes)
    # Nothing is left to the settings of who shows it.
    for line in figure.findobj(matplotlib.lines.Line2D):
        assert not str(line.get_color()).startswith("C")
    plt.close("all")


@EACH
def test_every_result_is_drawn_in_axes_of_the_caller(kind):
    import matplotlib.pyplot as plt

    if kind is StudyResult:
        with pytest.raises(ValueError, match=r"StudyResult\.plot: `ax` must be None"):
            _study_result().plot(ax=plt.figure().subplots())
        plt.close("all")
        return
    result = example(kind)
    one = result.plot()
    count = len(one.axes if issubclass(kind, DrawnResult) else one.figure.axes)
    figure, axes = plt.subplots(1, count)
    result.plot(ax=axes)
    assert figure.axes == [*np.ravel(axes)]
    assert all(axes.has_data() for axes in figure.axes)
    _, many = plt.subplots(1, count + 1)
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.plot: `ax` must be"):
        result.plot(ax=many)
    plt.close("all")


def test_empty_axes_of_the_caller_get_the_look_and_others_keep_their_colors():
    import matplotlib.pyplot as plt

    _, (empty, used) = plt.subplots(1, 2)
    used.plot([0, 1], [0, 1], color="C3")
    a_solution().plot([0, 1], ax=empty)
    a_solution().plot([0, 1], ax=empty)
    a_solution().plot(0, ax=used)
    assert [line.get_color() for line in empty.lines] == list(COLORS[:4])
    assert used.lines[0].get_color() == "C3"
    assert used.lines[1].get_color() not in COLORS
    assert used.spines["top"].get_visible()
    plt.close("all")
