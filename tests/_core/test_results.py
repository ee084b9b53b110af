"""Every result is printed, drawn, and turned into data in one way, with one look."""

import dataclasses
import functools
import importlib
import inspect
import json
import pkgutil
import xml.etree.ElementTree
from collections.abc import Mapping
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib
import numpy as np
import pytest
from jaxtyping import Complex, Float, PyTree

import hybrid_nds
from hybrid_nds import (
    ExitFlags,
    Histogram,
    Moments,
    ODEProblem,
    Outcome,
    Quantiles,
    SDEProblem,
    ensemble,
    solve,
)
from hybrid_nds._core import (
    COLORS,
    Along,
    Axis,
    DrawnResult,
    Panels,
    Records,
    Result,
    Unit,
)
from hybrid_nds._core._members import Member, members, names_of
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
    *("ExitFlags", "Session", "Sweep"),
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
def _solution():
    problem = ODEProblem(
        lambda t, y, args: {"x": y["v"][0], "v": -y["x"] * jnp.ones(2)},
        {"x": jnp.ones(()), "v": jnp.zeros(2)},
        0.0,
        1.0,
    )
    return solve(problem, saveat=jnp.linspace(0, 1, 7))


@functools.cache
def _ensemble(**options):
    problem = SDEProblem(
        lambda t, y, args: -y,
        lambda t, y, args: 0.3 * jnp.ones(2),
        jnp.array([1.0, -1.0]),
        0.0,
        1.0,
        noise="additive",
    )
    chosen = {"key": jr.key(0), "dt": 0.25, "solver": "Euler"}
    return ensemble(problem, 40, saveat=jnp.linspace(0, 1, 5), **chosen, **options)


@functools.cache
def example(kind):
    """A small result of a class."""
    if kind is Solution:
        return _solution()
    if kind is Ensemble:
        return _ensemble()
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
    _solution().plot([0, 1], ax=empty)
    _solution().plot([0, 1], ax=empty)
    _solution().plot(0, ax=used)
    assert [line.get_color() for line in empty.lines] == list(COLORS[:4])
    assert used.lines[0].get_color() == "C3"
    assert used.lines[1].get_color() not in COLORS
    assert used.spines["top"].get_visible()
    plt.close("all")


# Solutions


def test_a_solution_is_a_dataset_of_the_leaves_of_its_state():
    solution = _solution()
    dataset = solution.to_xarray()
    assert dataset["ys.x"].dims == ("time",)
    assert dataset["ys.v"].dims == ("time", "v.component")
    np.testing.assert_array_equal(dataset["ys.v"], solution.ys["v"])
    np.testing.assert_array_equal(dataset["time"], solution.ts)
    np.testing.assert_array_equal(dataset["ys.x"].sel(time=1.0), solution.ys["x"][-1])
    assert dataset["outcome"].item() == "success"
    assert dataset.attrs["stats.num_steps"] == solution.stats["num_steps"]
    assert solution.to_dict()["ys"]["x"] == np.asarray(solution.ys["x"]).tolist()
    assert solution.to_dict()["outcome"] == "success"


def test_the_lines_of_a_solution_are_its_states():
    import matplotlib.pyplot as plt

    solution = _solution()
    lines = solution.plot().lines
    # In the order of ravel_pytree: by name.
    expected = [*np.asarray(solution.ys["v"]).T, np.asarray(solution.ys["x"])]
    assert [line.get_label() for line in lines] == ["v[0]", "v[1]", "x"]
    for line, states in zip(lines, expected, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), solution.ts)
        np.testing.assert_array_equal(line.get_ydata(), states)
    (alone,) = solution.plot(2).lines
    np.testing.assert_array_equal(alone.get_ydata(), expected[2])
    assert solution.plot(2).get_ylabel() == "x"
    for component in (3, -1, [0, 3], []):
        with pytest.raises(ValueError, match="`component` must be from 0 to 2"):
            solution.plot(component)
    plt.close("all")


def test_dense_output_is_drawn_over_its_span():
    import matplotlib.pyplot as plt

    problem = ODEProblem(lambda t, y, args: -y, jnp.ones(1), 1.0, 3.0)
    solution = solve(problem, saveat="dense")
    (line,) = solution.plot().lines
    t = np.asarray(line.get_xdata())
    assert (t[0], t[-1], t.size > 100) == (1.0, 3.0, True)
    np.testing.assert_array_equal(line.get_ydata(), solution.evaluate(t)[:, 0])
    plt.close("all")


def _decay(y0, t1=1.0):
    problem = ODEProblem(lambda t, y, args: -y, y0, 0.0, t1)
    return solve(problem, saveat=jnp.linspace(0, 1, 5))


@pytest.mark.slow
def test_a_batch_of_solutions_has_a_dimension_more():
    import matplotlib.pyplot as plt

    y0 = jnp.arange(1.0, 7.0).reshape(3, 2)
    batch = eqx.filter_vmap(_decay)(y0)
    dataset = batch.to_xarray()
    assert dataset["ys"].dims == ("batch", "time", "component")
    assert dataset["end_time"].dims == dataset["outcome"].dims == ("batch",)
    np.testing.assert_array_equal(dataset["ys"], batch.ys)
    np.testing.assert_array_equal(dataset["time"], jnp.linspace(0, 1, 5))
    assert batch.to_dict()["outcome"] == ["success"] * 3
    assert str(batch).startswith("3 solutions by Tsit5 of diffrax: success at t = 1")
    lines = batch.plot(1).lines
    for line, states in zip(lines, batch.ys[:, :, 1], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), states)
    grid = eqx.filter_vmap(eqx.filter_vmap(_decay))(y0[None])
    assert grid.to_xarray()["ys"].dims == ("batch_0", "batch_1", "time", "component")
    plt.close("all")


@pytest.mark.slow
def test_a_batch_that_failed_in_part_is_drawn_as_far_as_it_came():
    import matplotlib.pyplot as plt

    def blow_up(y0):
        problem = ODEProblem(lambda t, y, args: y**2, y0, 0.0, 1.0)
        return solve(problem, saveat=jnp.linspace(0, 1, 9), max_steps=64, throw=False)

    # y = y0 / (1 - y0 t), which has no state at t = 1 for the second.
    batch = eqx.filter_vmap(blow_up)(jnp.array([[0.5], [2.0]]))
    axes = batch.plot()
    assert axes.get_title("left") == "NOT SOLVED TO THE END"
    whole, part = (len(line.get_xdata()) for line in axes.lines)
    assert whole == 9 > part
    plt.close("all")


@pytest.mark.parametrize("function", ["plot", "to_xarray", "to_dict"])
def test_a_traced_solution_is_refused(function):
    def inside(y):
        getattr(_decay(y), function)()
        return y

    with pytest.raises(TypeError, match=rf"Solution\.{function}.*are traced"):
        jax.jit(inside)(jnp.ones(2))


def test_a_solution_prints_while_it_is_traced_and_passes_through_jit():
    found = []

    @eqx.filter_jit
    def inside(y):
        solution = _decay(y)
        found.append(str(solution))
        return solution

    solution = inside(jnp.ones(2))
    assert "[5,2]" in found[0]
    assert solution.outcome == Outcome.success
    assert solution.to_xarray().sizes["time"] == 5


@pytest.mark.usefixtures("unchecked_types")
def test_several_sets_of_times_are_no_dataset():
    import diffrax

    subs = [diffrax.SubSaveAt(t1=True), diffrax.SubSaveAt(ts=jnp.linspace(0, 1, 3))]
    problem = ODEProblem(lambda t, y, args: -y, jnp.ones(2), 0.0, 1.0)
    solution = solve(problem, saveat=diffrax.SaveAt(subs=subs))
    for function in (solution.plot, solution.to_xarray):
        with pytest.raises(TypeError, match="several sets of times"):
            function()


# Ensembles


def test_an_ensemble_is_a_dataset_with_its_reductions():
    kept = _ensemble().to_xarray()
    assert kept["ys"].dims == ("trajectory", "time", "component")
    np.testing.assert_array_equal(kept["ys"], _ensemble().ys)
    kinds = (Moments(), Histogram(np.linspace(-2, 2, 9)), Quantiles((0.1, 0.5)))
    names = ("moments", "histogram", "quantiles")
    found = _ensemble(reduce=_Hashable(zip(names, kinds, strict=True)))
    data = found.to_xarray()
    for name, dims in {
        "moments.mean": ("time", "component"),
        "moments.central_moments.2": ("time", "component"),
        "histogram.counts": ("time", "bin", "component"),
        "quantiles.values": ("time", "probability", "component"),
    }.items():
        assert data[name].dims == dims
    np.testing.assert_allclose(
        data["moments.mean"], kept["ys"].mean("trajectory"), rtol=1e-5
    )
    np.testing.assert_array_equal(data["probability"], [0.1, 0.5])


class _Hashable(dict):
    def __hash__(self):  # pyright: ignore
        return hash(tuple(self))


def test_reductions_draw_their_numbers():
    exits = ExitFlags(lambda y: y[0] > 0.4)
    names = ("moments", "quantiles", "exits")
    kinds = (Moments(), Quantiles((0.1, 0.9)), exits)
    found = _ensemble(reduce=_Hashable(zip(names, kinds, strict=True))).reduced
    moments, quantiles, left = (found[name] for name in names)
    for k, axes in enumerate(moments.plot().axes):
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), moments.mean[:, k])
    for k, axes in enumerate(quantiles.plot().axes):
        drawn = np.array([line.get_ydata() for line in axes.lines]).T
        np.testing.assert_array_equal(drawn, quantiles.values[:, :, k])
    (line,) = left.plot().axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), left.probability)


# What annotations say


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    size: float | None
    seconds: Annotated[float, Unit("s")]

    @property
    def double(self) -> float:
        return 2 * self.seconds


@dataclasses.dataclass(frozen=True)
class Inner(Result):
    loss: Float[np.ndarray, " step"]

    def summary(self) -> str:
        return "inner"

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        return None


@dataclasses.dataclass(frozen=True)
class Outer(DrawnResult):
    times: Axis[Float[np.ndarray, " time"]]
    ys: PyTree[Float[np.ndarray, "time ..."]]
    spectrum: Complex[np.ndarray, "time eigenvalue=2"]
    rows: Annotated[tuple[Row, ...], Records("row")]
    kinds: Annotated[tuple[str, ...], Along("kind")]
    loss: float
    inner: Inner
    bare: np.ndarray
    model: PyTree
    none: Float[np.ndarray, " time"] | None
    notes: tuple[str, ...]
    settings: Mapping[str, Any]

    def summary(self) -> str:
        return "outer"

    def draw(self, panels: Panels) -> None:
        panels.subplots().plot(self.times, color="C1")


def _outer(**changes):
    fields = {
        "times": np.arange(3.0),
        "ys": {"a": np.ones((3, 2)), "b": [np.zeros(3), np.zeros((3, 4, 5))]},
        "spectrum": np.full((3, 2), 1 + 2j),
        "rows": (Row("a", 1.0, 2.0), Row("b", None, 3.0)),
        "kinds": ("x", "y", "z", "w"),
        "loss": 1.0,
        "inner": Inner(np.arange(6.0)),
        "bare": np.zeros((2, 2)),
        "model": object(),
        "none": None,
        "notes": ("one",),
        "settings": {"norm": None, "at": (1, 2), "weights": jnp.ones(2)},
    }
    return Outer(**(fields | changes))


def test_annotations_name_dimensions():
    data = _outer().to_xarray()
    assert {name: data[name].dims for name in data} == {
        "times": ("time",),
        "ys.a": ("time", "a.component"),
        "ys.b.0": ("time",),
        "ys.b.1": ("time", "b.1.component_0", "b.1.component_1"),
        "spectrum_real": ("time", "eigenvalue"),
        "spectrum_imaginary": ("time", "eigenvalue"),
        "row_name": ("row",),
        "row_size": ("row",),
        "row_seconds": ("row",),
        "row_double": ("row",),
        "kinds": ("kind",),
        "loss": (),
        "inner.loss": ("step",),
        "bare": ("bare_0", "bare_1"),
    }
    np.testing.assert_array_equal(data["spectrum_imaginary"], np.full((3, 2), 2.0))
    np.testing.assert_array_equal(data["row_size"], [1.0, np.nan])
    assert data["row_seconds"].attrs == {"long_name": "row seconds", "units": "s"}
    weights = {"weights": [1.0, 1.0]}
    assert data.attrs == {"notes": ["one"], "norm": "None", "at": [1, 2]} | weights
    assert list(data.coords) == ["time"]


def test_annotations_make_plain_data():
    data = _outer().to_dict()
    assert data["rows"][1] == {"name": "b", "size": None, "seconds": 3.0, "double": 6.0}
    assert data["ys"]["b"][0] == [0.0, 0.0, 0.0]
    assert data["spectrum_imaginary"] == [[2.0, 2.0]] * 3
    assert data["inner"] == {"loss": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}
    assert data["none"] is None
    assert "model" not in data


def test_an_array_of_another_rank_is_an_error():
    with pytest.raises(ValueError, match=r"`times` must have the dimensions \(time\)"):
        _outer(times=np.ones((2, 2))).to_xarray()
    with pytest.raises(ValueError, match="`ys`"):
        names_of(("time", "bin", "..."), 1, "ys")


def test_colors_of_the_cycle_are_settled_in_the_look():
    (line,) = _outer().plot().axes[0].lines
    assert line.get_color() == COLORS[1]


def test_members_are_told_once():
    assert members(Outer) is members(Outer)
    assert Member("loss", "number", ()) in members(Outer)


def test_without_xarray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xarray", None)
    with pytest.raises(ImportError, match=r"pip install 'hybrid_nds\[xarray\]'"):
        _outer().to_xarray()


def test_a_dataset_goes_through_a_file(tmp_path):
    import xarray

    dataset = _solution().to_xarray()
    # NetCDF 3 through SciPy has no integers of 64 bits, which come back in 32.
    dataset.to_netcdf(tmp_path / "solution.nc", engine="scipy")
    with xarray.open_dataset(tmp_path / "solution.nc", engine="scipy") as again:
        np.testing.assert_array_equal(again["ys.v"], dataset["ys.v"])
        assert again.attrs["provenance"] == dataset.attrs["provenance"]


def _distance(a, b):
    """How far apart two colours are in CIELAB, 100 from black to white."""

    def lab(rgb):
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722]]
        matrix.append([0.0193, 0.1192, 0.9505])
        xyz = np.array(matrix) @ linear / np.array([0.9505, 1.0, 1.089])
        f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    return np.linalg.norm(lab(a) - lab(b))


# Machado, Oliveira & Fernandes (2009), table 1, of severity 1.
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_first_colors_are_told_apart_with_any_colour_vision(kind):
    # A difference of 2.3 is just noticed (Mahy, Van Eycken & Oosterlinck 1994); lines
    # that lie apart in a figure want several times that.
    seen = [
        np.clip(np.array(BLINDNESS[kind]) @ matplotlib.colors.to_rgb(color), 0, 1)
        for color in COLORS[:4]
    ]
    least = min(_distance(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert least > 10
