"""Problems with known solutions, kept as text that Python and Julia both read.

A fixture is a folder with `problem.toml` (what to solve, where it comes from, how
it is compared) and `reference.csv` (the known states). They live in the
checkout's `tests/fixtures` and travel in the wheel.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_nds.precision import double_precision
from hybrid_nds.problem import ODEProblem
from hybrid_nds.reconcile.fields import FIELDS
from hybrid_nds.reconcile.observables import OBSERVABLES, Observable

_PACKAGE = Path(__file__).resolve().parents[1]
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
class NamedObservable:
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
class Fixture:
    """A problem, its known solution and the way the two are compared.

    **Fields:** the name, title and folder; the problem, in double precision; the
    reference; the settings; the parameters as plain numbers; the sources; what to
    beware of; and whether the problem is stiff.
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


def fixtures_root() -> Path:
    """The folder that holds the fixtures: the wheel's own or the checkout's.

    **Raises:** `FileNotFoundError` naming the places looked at.
    """
    candidates = (_PACKAGE / "_fixtures", _PACKAGE.parent / "tests" / "fixtures")
    for candidate in candidates:
        if any(candidate.glob("*/problem.toml")):
            return candidate
    raise FileNotFoundError(
        f"No fixtures in {' or '.join(map(str, candidates))}. Reinstall hybrid_nds, "
        "or give load_fixture the path of a fixture's folder."
    )


def list_fixtures() -> tuple[str, ...]:
    """The names of the fixtures there are, in alphabetical order."""
    return tuple(sorted(p.parent.name for p in fixtures_root().glob("*/problem.toml")))


def load_fixture(name_or_path: str | Path) -> Fixture:
    """A fixture by its name, or from a folder of one's own.

    **Arguments:** `name_or_path`, one of
    [`list_fixtures`][hybrid_nds.reconcile.list_fixtures], or the path of a folder
    that holds `problem.toml` and `reference.csv`, or of the former.

    **Returns:** a [`Fixture`][hybrid_nds.reconcile.Fixture], its problem in double
    precision whatever JAX's global flag says; solve it within
    [`double_precision`][hybrid_nds.precision.double_precision].

    **Raises:** `FileNotFoundError` for a fixture that is not there, `ValueError`
    naming the file and the key for one that is malformed.
    """
    folder = _find(name_or_path)
    file = folder / "problem.toml"
    try:
        spec = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not valid TOML: {error}") from error
    missing = [key for key in _REQUIRED if key not in spec]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(f'`{key}`' for key in missing)}.")
    _check_choice(file, "kind", spec["kind"], _KINDS)
    _check_choice(file, "field", spec["field"], tuple(FIELDS))
    parameters = dict(spec["parameters"])
    if "weights" in spec:
        parameters |= tomllib.loads((folder / spec["weights"]).read_text("utf-8"))
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
        stiff=spec["stiff"],
    )


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.name == "problem.toml":
        path = path.parent
    if (path / "problem.toml").is_file():
        return path
    if isinstance(name_or_path, str):
        inside = fixtures_root() / name_or_path
        if (inside / "problem.toml").is_file():
            return inside
    raise FileNotFoundError(
        f"load_fixture: no fixture {str(name_or_path)!r}; give the path of a folder "
        f"with a problem.toml, or one of: {', '.join(list_fixtures())}."
    )


def _check_choice(file: Path, key: str, given: Any, choices: tuple[str, ...]):
    if given not in choices:
        raise ValueError(
            f"{file}: `{key}` must be one of {', '.join(choices)}; got {given!r}."
        )


def _problem(file: Path, spec: Mapping[str, Any], parameters: dict) -> ODEProblem:
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
    _check_choice(
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
    file: Path, spec: Mapping[str, Any], parameters: dict, dimension: int
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


def _observable(file: Path, entry: Mapping[str, Any], parameters: dict):
    options = dict(entry)
    kind = options.pop("name")
    _check_choice(file, "observables.name", kind, tuple(OBSERVABLES))
    label = options.pop("label", kind)
    expected = options.pop("expected", None)
    try:
        function = OBSERVABLES[kind](parameters, **options)
    except TypeError as error:
        raise ValueError(f"{file}: observable `{kind}`: {error}") from error
    return NamedObservable(
        label, function, None if expected is None else float(expected)
    )
