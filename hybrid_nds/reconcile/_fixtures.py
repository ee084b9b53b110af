"""Fixtures of ordinary and differential-algebraic problems.

A folder holds `problem.toml` (what to solve, where it comes from, how it is compared)
and `reference.csv` (the known states).
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._core import PortableResult, double_precision
from ..problems import ODEProblem
from ._analyses import PlannedAnalysis, read_analyses
from ._fields import FIELDS
from ._names import BACKENDS, RUNGS
from ._observables import OBSERVABLES, Observable
from ._specification import Table, read_header, read_rows

_REQUIRED = (
    *("name", "title", "field", "kind", "stiff", "t0", "t1", "y0", "backends"),
    *("rungs", "sources", "parameters", "reference", "tolerances"),
)
KINDS = ("ode", "dae")
_MAKING = ("field", "parameters", "t0", "t1", "y0", "shape", "mass_diagonal")
_REFERENCE_KINDS = ("published", "closed form", "computed")


@dataclasses.dataclass(frozen=True)
class Reference:
    """The known states of a problem, and where they come from.

    **Fields:** the times, shape `(times,)`; the states, shape `(times, n)` with each
    state flat in the order of `jax.flatten_util.ravel_pytree`; the kind
    (`"published"`, `"closed form"` or `"computed"`); the source; and the
    accuracy, a bound on the relative error of every component.
    """

    ts: np.ndarray
    ys: np.ndarray
    kind: str
    source: str
    accuracy: float


@dataclasses.dataclass(frozen=True)
class NamedObservable(PortableResult):
    """An observable of a fixture.

    **Fields:** the name; the function of times and states; and the value it must
    have (from a closed form or an invariant), or `None` to take the reference's.
    """

    name: str
    function: Observable
    expected: float | None


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a fixture is taken up the ladder.

    **Fields:** the backends and rungs that apply; the relative tolerances of the
    ladder, loosest first; the scale of each component, so that a solve has
    `atol = rtol * scale` and errors are relative to `|y| + scale`; the growth, a
    bound on how many times larger an error made on the way arrives; for twin
    schemes the end of their span and their number of steps, `None` where they do
    not apply; and the observables.
    """

    backends: tuple[str, ...]
    rungs: tuple[str, ...]
    rtols: tuple[float, ...]
    scale: np.ndarray
    growth: float
    scheme_t1: float | None
    scheme_steps: int | None
    observables: tuple[NamedObservable, ...]


@dataclasses.dataclass(frozen=True)
class Fixture(PortableResult):
    """A problem, its known solution and the way the two are compared.

    **Fields:** the name, title and folder; the problem, in double precision; the
    reference; the settings; the parameters as plain numbers; the sources; what to
    beware of; whether the problem is stiff; analyses of it; and whether gradients are
    compared.
    """

    name: str
    title: str
    path: Path
    problem: ODEProblem
    reference: Reference
    settings: Settings
    parameters: Mapping[str, Any]
    sources: tuple[str, ...]
    notes: tuple[str, ...]
    stiff: bool
    analyses: tuple[PlannedAnalysis, ...]
    gradients: bool = False


def read_fixture(folder: Path, spec: Table, parameters: Mapping[str, Any]) -> Fixture:
    """The fixture of a specification.

    **Arguments:** its folder; what `problem.toml` holds; and the parameters, those
    kept in a file of their own included.

    **Raises:** `ValueError` naming the file and the key for one that is malformed.
    """
    spec.require(*_REQUIRED)
    spec.choice("kind", KINDS)
    spec.choice("field", tuple(FIELDS))
    state = _initial_state(spec)
    if "components" in spec and len(spec.texts("components")) != state.size:
        raise spec.wrong("components", f"the names of {state.size} components")
    texts = (spec.text("name"), spec.text("title"), spec.texts("sources"))
    settings = _settings(spec, state.size)
    reference = _reference(folder, spec, state.size)
    notes, analyses = spec.texts("notes", ()), read_analyses(spec)
    problem = _problem(spec, state, parameters)
    ys = reference.ys.reshape(-1, *state.shape)
    observables = tuple(
        _observable(entry, parameters, reference.ts, ys)
        for entry in spec.tables("observables")
    )
    return Fixture(
        name=texts[0],
        title=texts[1],
        path=folder,
        problem=problem,
        reference=reference,
        settings=dataclasses.replace(settings, observables=observables),
        parameters=parameters,
        sources=texts[2],
        notes=notes,
        analyses=analyses,
        stiff=spec.flag("stiff"),
        gradients=spec.flag("gradients", False),
    )


def _initial_state(spec: Table) -> np.ndarray:
    """The initial state in its shape."""
    y0 = spec.numbers("y0")
    shape = spec.wholes("shape", y0.shape)
    if y0.size != np.prod(shape):
        raise spec.wrong(
            "y0",
            f"a flat list of the {int(np.prod(shape))} numbers that `shape` = "
            f"{list(shape)} asks for",
        )
    return y0.reshape(shape)


def builtin_problem(spec: Table, parameters: Mapping[str, Any]) -> ODEProblem:
    """The problem of a specification whose field is one of the package.

    **Raises:** `ValueError` naming the file and the key for one that is malformed.
    """
    spec.choice("field", tuple(FIELDS))
    return _problem(spec, _initial_state(spec), parameters)


def _problem(
    spec: Table, state: np.ndarray, parameters: Mapping[str, Any]
) -> ODEProblem:
    t0, t1 = spec.number("t0"), spec.number("t1")
    mass = spec.numbers("mass_diagonal", None)
    if (mass is not None) != (spec.entries["kind"] == "dae"):
        raise ValueError(
            f'{spec.file}: `mass_diagonal` belongs to `kind = "dae"` alone.'
        )
    if mass is not None and mass.size != state.size:
        raise spec.wrong("mass_diagonal", f"a list of {state.size} numbers")
    with double_precision(), blamed(spec, *_MAKING):
        field = FIELDS[spec.entries["field"]](parameters)
        return ODEProblem(
            field, state, t0, t1, mass_matrix=None if mass is None else np.diag(mass)
        )


def _columns(file: Path) -> int | None:
    """The number of components that the header of a reference names."""
    header = read_header(file)
    count = header.count(",")
    names = ["t", *(f"y{i}" for i in range(1, count + 1))]
    return count if count and header.split(",") == names else None


def _reference(folder: Path, whole: Table, dimension: int) -> Reference:
    spec = whole.table("reference")
    file = folder / "reference.csv"
    kind = spec.choice("kind", _REFERENCE_KINDS)
    source, accuracy = spec.text("source"), spec.number("accuracy", least=0.0)
    header = ",".join(["t", *(f"y{i}" for i in range(1, dimension + 1))])
    columns = _columns(file)
    if columns not in (None, dimension):
        raise whole.wrong(
            "y0", f"a list of {columns} numbers, as many as {file.name} has components"
        )
    table = read_rows(file, header, f"t,y1,…,y{dimension}")
    if np.any(np.diff(table[:, 0]) <= 0):
        raise ValueError(f"{file}: times must be in order: times increasing.")
    return Reference(table[:, 0], table[:, 1:], kind, source, accuracy)


def _settings(spec: Table, dimension: int) -> Settings:
    tolerances = spec.table("tolerances")
    rtols = tolerances.numbers("rtol")
    if np.any(rtols <= 0):
        raise tolerances.wrong("rtol", "a list of positive numbers")
    scheme = spec.table("scheme") if "scheme" in spec else None
    return Settings(
        backends=spec.choices("backends", BACKENDS),
        rungs=spec.choices("rungs", RUNGS),
        rtols=tuple(map(float, rtols)),
        scale=tolerances.scale("scale", dimension, positive=False),
        growth=tolerances.positive("growth"),
        scheme_t1=None if scheme is None else scheme.number("t1"),
        scheme_steps=None if scheme is None else scheme.whole("steps"),
        observables=(),
    )


def _observable(
    spec: Table, parameters: Mapping[str, Any], ts: np.ndarray, ys: np.ndarray
) -> NamedObservable:
    """An observable, tried on the reference."""
    kind = spec.choice("name", tuple(OBSERVABLES))
    options = {
        key: value
        for key, value in spec.all().items()
        if key not in ("name", "label", "expected")
    }
    known = inspect.signature(OBSERVABLES[kind]).parameters
    for key in options:
        if key not in known:
            raise ValueError(
                f"{spec.file}: observable `{kind}` has no option `{spec.path(key)}`; "
                f"it takes {', '.join(list(known)[1:]) or 'none'}."
            )
    spec.require(*list(known)[1:])
    for key in options:
        if known[key].annotation == "int":
            spec.whole(key, least=0)
        else:
            spec.wholes(key, least=0)
    try:
        function = OBSERVABLES[kind](parameters, **options)
        function(ts, ys)
    except Exception as error:
        keys = ", ".join(f"`{spec.path(key)}`" for key in ("name", *options))
        raise ValueError(
            f"{spec.file}: {keys}: observable `{kind}` cannot be taken of the "
            f"reference's states: {error}"
        ) from error
    return NamedObservable(
        spec.text("label", kind), function, spec.number("expected", None)
    )


@contextlib.contextmanager
def blamed(spec: Table, *keys: str) -> Iterator[None]:
    """Name the file and the keys with whatever goes wrong in making the problem."""
    try:
        yield
    except Exception as error:
        message = error.args[0] if error.args else type(error).__name__
        more = f" (with {spec.entries['weights']})" if "weights" in spec else ""
        named = ", ".join(f"`{key}`" for key in keys)
        raise ValueError(
            f"{spec.file}{more}: {named} do not make a problem: {message}"
        ) from error
