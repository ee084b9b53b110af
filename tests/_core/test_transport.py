"""Every exception and every result reaches another process whole."""

import concurrent.futures
import dataclasses
import functools
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
import threading
import typing
from collections.abc import Mapping
from pathlib import Path

import cloudpickle
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stand_in_worker import environment, worker  # noqa: F401

import hybrid_nds
from hybrid_nds import ODEProblem, Provenance, SolveError, solve
from hybrid_nds._core._transport import CarriedError
from hybrid_nds.analysis import AnalysisError, AnalysisResult
from hybrid_nds.ensembles import Ensemble, EnsembleError, Failure
from hybrid_nds.lowering import UnsupportedPrimitiveError
from hybrid_nds.models import EvidenceBound
from hybrid_nds.reconcile import list_fixtures, load_fixture
from hybrid_nds.runtime import JuliaExecutionError, WorkerDiedError
from hybrid_nds.studies import Study, Sweep, find_study
from hybrid_nds.tasks import run_tasks
from hybrid_nds.training import History, TrainingError
from hybrid_nds.training._result import Fit

PLACES = [
    *("analysis", "discretization", "ensembles", "lowering", "measures"),
    *("noise", "reconcile", "runtime", "stability", "studies", "training"),
]
PROVENANCE = Provenance("diffrax", "Tsit5", (("jax", "1"),), 1e-3, (1.0, 2.0), 1, "jax")


def _pickled(value):
    return pickle.loads(pickle.dumps(value))


def _cloudpickled(value):
    return pickle.loads(cloudpickle.dumps(value))


WAYS = pytest.mark.parametrize("way", [_pickled, _cloudpickled])


def _same(a, b):
    """Whether two values have the same type, structure and numbers."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | jax.Array | np.generic):
        return a.dtype == b.dtype and np.array_equal(
            a, b, equal_nan=a.dtype.kind == "f"
        )
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(_same, a, b))
    if dataclasses.is_dataclass(a) or isinstance(a, BaseException):
        return _same(dict(vars(a)), dict(vars(b)))
    # Functions that travel by their code are others where they arrive.
    return bool(a == b) or callable(a) or isinstance(a, eqx.Enumeration.__class__)


def _subclasses():
    """All exception classes of the package, found in all of its modules."""
    found = set()
    for module in pkgutil.walk_packages(hybrid_nds.__path__, "hybrid_nds."):
        for one in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(one) and issubclass(one, BaseException):
                found.add(one)
    return sorted(
        (one for one in found if one.__module__.startswith("hybrid_nds")),
        key=lambda one: one.__name__,
    )


@functools.cache
def _failed_solve():
    problem = ODEProblem(lambda t, y, args: y**2, jnp.array([1.0]), 0.0, 2.0)
    with pytest.raises(SolveError) as caught:
        solve(problem, max_steps=20)
    return caught.value


def _history():
    steps = np.arange(2)
    loss, parts = np.array([1.0, np.nan]), {"part": steps * 1.0}
    return History(steps, loss, parts, steps[:0], loss[:0])


def _ensemble():
    failure = Failure(1, "unstable", 0.5)
    outcomes = np.zeros(2, np.int64)
    ys = {"a": np.ones((2, 1))}
    return Ensemble(
        np.ones(1), ys, None, 2, outcomes, (failure,), PROVENANCE, "lean kernel", ""
    )


@dataclasses.dataclass(frozen=True)
class Figure(AnalysisResult):
    value: float
    settings: Mapping[str, typing.Any]
    provenance: Provenance

    def summary(self):
        return f"{self.value}"

    def draw(self, panels):
        panels.subplots().plot([self.value])


def _training_error():
    # A model with functions that pickle alone refuses.
    model = eqx.nn.MLP(1, 1, 2, 1, jax.nn.relu, lambda x: 2 * x, key=jax.random.key(0))
    return TrainingError(
        "fit: the loss is nan",
        step=3,
        loss=np.inf,
        batch=np.arange(4),
        model=model,
        history=_history(),
        checkpoint=Path("folder"),
    )


# Those whose constructors take more than a message.
MAKERS = {
    "AnalysisError": lambda: AnalysisError("no figure", Figure(0.5, {}, PROVENANCE)),
    "EnsembleError": lambda: EnsembleError("1 of 2 failed", _ensemble()),
    "JuliaExecutionError": lambda: JuliaExecutionError("DomainError", "sqrt of -1"),
    "SolveError": _failed_solve,
    "TrainingError": _training_error,
    "UnsupportedPrimitiveError": lambda: UnsupportedPrimitiveError("fft", "line 3"),
    "WorkerDiedError": WorkerDiedError,
}
ERRORS = _subclasses()


def _error(kind):
    if kind is CarriedError:
        return kind(b"data")
    return MAKERS.get(kind.__name__, lambda: kind("some words"))()


@WAYS
@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_exception_is_pickled_with_its_fields(kind, way):
    error = _error(kind)
    error.add_note("seen in a test")
    again = way(error)
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.__notes__[0] == "seen in a test"
    assert _same(dict(vars(again)), dict(vars(error)))
    del error.__notes__


def _fail(error):
    raise error


@pytest.mark.parametrize(
    "kind",
    [k for k in ERRORS if k.__name__ != "CarriedError"],
    ids=lambda k: k.__name__,
)
def test_every_exception_comes_back_from_a_julia_worker(kind, worker):  # noqa: F811
    error = _error(kind)
    with pytest.raises(kind) as caught:
        worker.call(_fail, error)
    assert type(caught.value) is kind
    assert str(caught.value) == str(error)
    assert _same(dict(vars(caught.value)), dict(vars(error)))


def test_a_field_that_cannot_be_pickled_is_left_out_and_noted():
    error = AnalysisError("no figure")
    error.result = threading.Lock()  # pyright: ignore
    again = _pickled(error)
    assert again.result is None
    assert str(again) == "no figure"
    assert "`result` could not be pickled" in again.__notes__[0]


class OddError(Exception):
    """Takes what its message does not hold: pickle cannot make it again."""

    def __init__(self, what, where):
        super().__init__(f"{what} in {where}")
        self.where = where


def _leak(x):
    raise OddError("a leak", f"boat {x}")


def _blow_up(x):
    problem = ODEProblem(lambda t, y, args: y**2, jnp.array([x]), 0.0, 2.0)
    return solve(problem, max_steps=20).ys[-1, 0]


def _no_worker_died(task):
    return "nothing should have died"


@pytest.mark.slow
def test_an_exception_of_the_caller_does_not_break_the_pool():
    with pytest.raises(OddError, match="a leak in boat 3") as caught:
        list(run_tasks("test", 1, _leak, [3], _no_worker_died))
    assert caught.value.where == "boat 3"


def test_a_sweep_raises_the_error_itself():
    with pytest.raises(SolveError, match="ran out of steps") as caught:
        Sweep("demo", "diffrax", executor=1)(_blow_up, [1.0])
    assert caught.value.outcome == hybrid_nds.Outcome.max_steps_reached
    # y = 1/(1 - t): what was solved of it came along.
    where = caught.value.solution
    expected = 1 / (1 - float(where.end_time))
    assert float(where.end_state[0]) == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
def test_a_pool_of_ones_own_lives_on():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        with pytest.raises(WorkerDiedError):
            pool.submit(_fail, WorkerDiedError()).result()
        assert pool.submit(pow, 2, 3).result() == 8


# Results

FAMILIES = {"Moments", "Sweep", "Session", "LoweredProblem", "LoweredStochasticProblem"}
# A function to be lowered, and no result: it travels as functions do.
FAMILIES |= {"Product"}
"""What is a setting, or holds a live Julia or the problem itself, not a result."""


def _results():
    """All dataclasses that the package's rooms export, and that hold results."""
    found = {Fit}
    for place in PLACES:
        room = importlib.import_module(f"hybrid_nds.{place}")
        for name in dir(room):
            one = getattr(room, name)
            if (
                inspect.isclass(one)
                and one.__module__.startswith("hybrid_nds")
                and dataclasses.is_dataclass(one)
                and not issubclass(one, eqx.Module)
                and name not in FAMILIES
            ):
                found.add(one)
    return sorted(found, key=lambda one: one.__name__)


SAMPLES: dict[str, typing.Any] = {
    "provenance": PROVENANCE,
    "settings": {"norm": np.inf, "solver": "Tsit5", "at": (1, None)},
    "study": find_study("chen_fliess"),
    # What pickle refuses: functions of JAX, and local ones.
    "model": jax.nn.relu,
    "best_model": lambda x: 2 * x,
    "problem": ODEProblem(lambda t, y, args: -y, jnp.ones(2), 0.0, 1.0),
    "function": lambda ts, ys: ys[-1],
}


@WAYS
@pytest.mark.parametrize("kind", _results(), ids=lambda kind: kind.__name__)
def test_every_result_is_pickled_with_its_fields(kind, way):
    result = object.__new__(kind)
    for k, field in enumerate(dataclasses.fields(kind)):
        value = SAMPLES.get(field.name, {"numbers": np.arange(k + 1.0), "k": (k, "x")})
        object.__setattr__(result, field.name, value)
    again = way(result)
    assert type(again) is kind
    names = {field.name for field in dataclasses.fields(kind)}
    assert set(vars(again)) == names
    assert all(_same(vars(again)[name], vars(result)[name]) for name in names)


def test_results_of_all_analyses_are_among_them():
    kinds = {k for k in _results() if issubclass(k, AnalysisResult)}
    here = "hybrid_nds."
    assert kinds >= {
        k for k in _leaves(AnalysisResult) if k.__module__.startswith(here)
    }


def _leaves(kind):
    for one in kind.__subclasses__():
        yield from _leaves(one) if one.__subclasses__() else [one]


@WAYS
def test_what_the_functions_return_is_pickled(way):
    problem = ODEProblem(lambda t, y, args: -y, jnp.array([1.0]), 0.0, 1.0)
    solution = solve(problem, saveat="dense")
    again = way(solution)
    assert float(again.evaluate(0.5)[0]) == float(solution.evaluate(0.5)[0])
    assert again.outcome == hybrid_nds.Outcome.success
    assert again.provenance == solution.provenance
    bound = EvidenceBound(*jnp.arange(float(len(EvidenceBound._fields))))
    assert _same(way(bound), bound)
    assert optax.tree.norm(way(_failed_solve()).solution.end_state) > 1


@WAYS
@pytest.mark.parametrize("name", ["lorenz63", "gbm"])
def test_fixtures_are_pickled(name, way):
    assert name in list_fixtures()
    fixture = load_fixture(name)
    again = way(fixture)
    assert again.name == name
    assert again.sources == fixture.sources
    y = jnp.arange(1.0, 1.0 + fixture.problem.dimension)
    old, new = (getattr(f.problem, "field", None) for f in (fixture, again))
    if old is not None:
        assert np.array_equal(old(0.0, y, None), new(0.0, y, None))


def test_studies_are_themselves_in_another_process():
    one = find_study("chen_fliess")
    assert isinstance(one, Study)
    assert _pickled(one) is one
