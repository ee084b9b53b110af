"""Fixtures of ordinary and differential-algebraic problems.

A folder holds `problem.toml` (what to solve, where it comes from, how it is compared)
and `reference.csv` (the known states).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_nds.precision import double_precision
from hybrid_nds.problem import ODEProblem
from hybrid_nds.reconcile._specification import check_choice, check_keys
from hybrid_nds.reconcile.analyses import PlannedAnalysis, read_analyses
from hybrid_nds.reconcile.fields import FIELDS
from hybrid_nds.reconcile.observables import OBSERVABLES, Observable
from hybrid_nds.transport import PortableResult

_REQUIRED = (
    *("name", "title", "field", "kind", "stiff", "t0", "t1", "y0", "backends"),
    *("rungs", "sources", "parameters", "reference", "tolerances"),
)
_KINDS = ("ode", "dae")
_REFERENCE_KINDS = ("published", "closed form", "computed")


@dataclasses.dataclass(frozen=True)
class Reference:
    """The known states of a problem, and where they come from.

    **Fields:** the times, shape `(times,)`; the states, shape `(times, n)` with each
    state flat in the order of `jax.flatten_util.ravel_pytree`; the kind
    (`"published"`, `"closed form"` or `"computed"`); the source in words; and the
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
    beware of; whether the problem is stiff; and analyses of it.
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


def read_fixture(
    folder: Path, spec: Mapping[str, Any], parameters: Mapping[str, Any]
) -> Fixture:
    """The fixture of a specification.

    **Arguments:** its folder; what `problem.toml` holds; and the parameters, those
    kept in a file of their own included.

    **Raises:** `ValueError` naming the file and the key for one that is malformed.
    """
    file = folder / "problem.toml"
    check_keys(file, spec, _REQUIRED)
    check_choice(file, "kind", spec["kind"], _KINDS)
    check_choice(file, "field", spec["field"], tuple(FIELDS))
    problem = _problem(file, spec, parameters)
    return Fixture(
        name=spec["name"],
        title=spec["title"],
        path=folder,
        problem=problem,
        reference=_reference(folder, spec["reference"], problem.dimension),
        settings=_settings(file, spec, parameters, problem.dimension),
        parameters=parameters,
        sources=tuple(spec["sources"]),
        notes=tuple(spec.get("notes", ())),
        analyses=read_analyses(file, spec),
        stiff=spec["stiff"],
    )


def _problem(
    file: Path, spec: Mapping[str, Any], parameters: Mapping[str, Any]
) -> ODEProblem:
    y0 = np.asarray(spec["y0"], np.float64)
    shape = tuple(spec.get("shape", y0.shape))
    if y0.ndim != 1 or y0.size != np.prod(shape):
        raise ValueError(
            f"{file}: `y0` must be a flat list of the {int(np.prod(shape))} numbers "
            f"that `shape` = {list(shape)} asks for, got shape {list(y0.shape)}."
        )
    mass = spec.get("mass_diagonal")
    if (mass is not None) != (spec["kind"] == "dae"):
        raise ValueError(f'{file}: `mass_diagonal` belongs to `kind = "dae"` alone.')
    with double_precision():
        try:
            field = FIELDS[spec["field"]](parameters)
            return ODEProblem(
                field,
                y0.reshape(shape),
                float(spec["t0"]),
                float(spec["t1"]),
                mass_matrix=None if mass is None else np.diag(np.asarray(mass, float)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: {error.args[0]}") from error


def _reference(folder: Path, spec: Mapping[str, Any], dimension: int) -> Reference:
    file = folder / "reference.csv"
    check_choice(
        folder / "problem.toml", "reference.kind", spec["kind"], _REFERENCE_KINDS
    )
    lines = [
        line
        for line in file.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    header = ["t", *(f"y{i}" for i in range(1, dimension + 1))]
    if not lines or lines[0].split(",") != header:
        raise ValueError(
            f"{file}: the first line that is no comment must be t,y1,…,y{dimension}."
        )
    rows = [line.split(",") for line in lines[1:]]
    if not rows or any(len(row) != dimension + 1 for row in rows):
        raise ValueError(
            f"{file}: each row must hold a time and {dimension} numbers, and there "
            "must be one."
        )
    table = np.array([[float(entry) for entry in row] for row in rows])
    if not np.all(np.isfinite(table)) or np.any(np.diff(table[:, 0]) <= 0):
        raise ValueError(f"{file}: numbers must be finite and times increasing.")
    return Reference(
        ts=table[:, 0],
        ys=table[:, 1:],
        kind=spec["kind"],
        source=spec["source"],
        accuracy=float(spec["accuracy"]),
    )


def _settings(
    file: Path, spec: Mapping[str, Any], parameters: Mapping[str, Any], dimension: int
) -> Settings:
    tolerances = spec["tolerances"]
    scale = np.asarray(tolerances["scale"], np.float64)
    if scale.shape not in ((), (dimension,)) or np.any(scale < 0):
        raise ValueError(
            f"{file}: `tolerances.scale` must be a number or a list of {dimension} "
            f"numbers, none negative; got {tolerances['scale']}."
        )
    scheme = spec.get("scheme")
    return Settings(
        backends=tuple(spec["backends"]),
        rungs=tuple(spec["rungs"]),
        rtols=tuple(float(rtol) for rtol in tolerances["rtol"]),
        scale=np.broadcast_to(scale, (dimension,)).copy(),
        growth=float(tolerances["growth"]),
        scheme_t1=None if scheme is None else float(scheme["t1"]),
        scheme_steps=None if scheme is None else int(scheme["steps"]),
        observables=tuple(
            _observable(file, entry, parameters)
            for entry in spec.get("observables", ())
        ),
    )


def _observable(file: Path, entry: Mapping[str, Any], parameters: Mapping[str, Any]):
    options = dict(entry)
    kind = options.pop("name")
    check_choice(file, "observables.name", kind, tuple(OBSERVABLES))
    label = options.pop("label", kind)
    expected = options.pop("expected", None)
    try:
        function = OBSERVABLES[kind](parameters, **options)
    except TypeError as error:
        raise ValueError(f"{file}: observable `{kind}`: {error}") from error
    return NamedObservable(
        label, function, None if expected is None else float(expected)
    )
