"""Fixtures of stochastic problems.

A folder holds `problem.toml` and `strong.csv`, the solution along stored Brownian
paths; the increments of these are in a file that `problem.toml` names, and which
fixtures may share.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np

from .._core import PortableResult, double_precision
from ..noise import StoredPath
from ..problems import Interpretation, NoiseKind, SDEProblem
from ._analyses import PlannedAnalysis, read_analyses
from ._fields import STOCHASTIC_FIELDS
from ._fixtures import blamed
from ._names import BACKENDS, RUNGS
from ._specification import Table, read_rows

_REQUIRED = (
    *("name", "title", "field", "interpretation", "noise", "t0", "t1", "y0"),
    *("backends", "rungs", "sources", "parameters", "path", "strong", "law"),
)
_MAKING = ("field", "parameters", "t0", "t1", "y0", "noise", "interpretation")
_STRONG_KINDS = ("closed form", "computed")


@dataclasses.dataclass(frozen=True)
class StrongSolution:
    """The solution of a problem along stored Brownian paths.

    **Fields:** the increments over equal steps of the span and their space-time Lévy
    areas, shapes `(paths, steps, m)`; times, shape `(times,)`, and the states there,
    shape `(paths, times, n)`, flat as `jax.flatten_util.ravel_pytree` orders them; the
    kind (`"closed form"` or `"computed"`) and the source; the accuracy (for a
    closed form a bound on the error of every component relative to `|y| + scale`, else
    its root mean square); the scale, shape `(n,)`; the numbers of steps, each twice the
    one before, over which strong orders are measured; orders that methods have on this
    problem where they differ from those of their kind of noise; and methods whose order
    bounds the slope from below alone.
    """

    increments: np.ndarray
    areas: np.ndarray
    times: np.ndarray
    states: np.ndarray
    kind: str
    source: str
    accuracy: float
    scale: np.ndarray
    steps: tuple[int, ...]
    orders: Mapping[str, float]
    at_least: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Moment:
    """A known mean of a product of powers of the components.

    **Fields:** the power of each component; the value; and its source.
    """

    powers: tuple[int, ...]
    value: float
    source: str

    @property
    def name(self) -> str:
        """The moment in symbols, such as `"E[y1² y2]"`."""
        digits = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
        factors = [
            f"y{i}" + (str(power).translate(digits) if power > 1 else "")
            for i, power in enumerate(self.powers, start=1)
            if power
        ]
        return f"E[{' '.join(factors)}]"

    def product(self, states: np.ndarray) -> np.ndarray:
        """The product whose mean it is, shape `(samples,)` for `(samples, n)`."""
        return np.prod(np.asarray(states) ** np.asarray(self.powers), axis=1)


@dataclasses.dataclass(frozen=True)
class Law:
    """The law of a problem's state at one time.

    **Fields:** the time; the number of fixed steps to take there; known moments.
    """

    t1: float
    steps: int
    moments: tuple[Moment, ...]


@dataclasses.dataclass(frozen=True)
class StochasticFixture(PortableResult):
    """A stochastic problem, what is known of its solution and its distribution.

    **Fields:** the name, title and folder; the problem, in double precision; the strong
    solution; the distribution; the backends and rungs that apply; the parameters as
    plain numbers; the sources; what to beware of; analyses of it; and whether gradients
    are compared.
    """

    name: str
    title: str
    path: Path
    problem: SDEProblem
    strong: StrongSolution
    law: Law
    backends: tuple[str, ...]
    rungs: tuple[str, ...]
    parameters: Mapping[str, Any]
    sources: tuple[str, ...]
    notes: tuple[str, ...]
    analyses: tuple[PlannedAnalysis, ...]
    gradients: bool = False

    def stored_path(self, index: int, steps: int | None = None) -> StoredPath:
        """One of the stored Brownian paths, to be solved along.

        **Arguments:** its index from 0; the number of steps, by default as stored.

        **Returns:** a [`StoredPath`][hybrid_nds.noise.StoredPath] in double precision;
        use it within [`double_precision`][hybrid_nds.double_precision].
        """
        with double_precision():
            path = StoredPath(
                jnp.asarray(self.strong.increments[index]),
                jnp.asarray(self.strong.areas[index]),
                t0=float(self.problem.t0),
                t1=float(self.problem.t1),
            )
            return path if steps is None else path.with_steps(steps)


def read_stochastic_fixture(
    folder: Path, spec: Table, parameters: Mapping[str, Any]
) -> StochasticFixture:
    """The fixture of a specification.

    **Arguments:** its folder; what `problem.toml` holds; and the parameters, those
    kept in a file of their own included.

    **Raises:** `ValueError` naming the file and the key for one that is malformed.
    """
    spec.require(*_REQUIRED)
    spec.choice("field", tuple(STOCHASTIC_FIELDS))
    spec.choice("noise", get_args(NoiseKind))
    spec.choice("interpretation", get_args(Interpretation))
    texts = (spec.text("name"), spec.text("title"), spec.texts("sources"))
    backends = spec.choices("backends", BACKENDS)
    rungs = spec.choices("rungs", RUNGS)
    notes, analyses = spec.texts("notes", ()), read_analyses(spec)
    n = spec.numbers("y0").size
    law = _law(spec.table("law"), n)
    stored, strong = _stored_path(spec), _strong_table(spec.table("strong"), n)
    problem = _problem(spec, parameters)
    return StochasticFixture(
        name=texts[0],
        title=texts[1],
        path=folder,
        problem=problem,
        strong=_strong(folder, spec, stored, strong, problem),
        law=law,
        backends=backends,
        rungs=rungs,
        parameters=parameters,
        sources=texts[2],
        notes=notes,
        analyses=analyses,
        gradients=spec.flag("gradients", False),
    )


def builtin_stochastic_problem(
    spec: Table, parameters: Mapping[str, Any]
) -> SDEProblem:
    """The problem of a specification whose drift and diffusion are of the package.

    **Raises:** `ValueError` naming the file and the key for one that is malformed.
    """
    spec.choice("field", tuple(STOCHASTIC_FIELDS))
    spec.choice("noise", get_args(NoiseKind))
    spec.choice("interpretation", get_args(Interpretation))
    return _problem(spec, parameters)


def _problem(spec: Table, parameters: Mapping[str, Any]) -> SDEProblem:
    y0, t0, t1 = spec.numbers("y0"), spec.number("t0"), spec.number("t1")
    with double_precision(), blamed(spec, *_MAKING):
        drift, diffusion = STOCHASTIC_FIELDS[spec.entries["field"]](parameters)
        return SDEProblem(
            drift,
            diffusion,
            y0,
            t0,
            t1,
            noise=spec.entries["noise"],
            interpretation=spec.entries["interpretation"],
        )


def _stored_path(spec: Table) -> tuple[Path, int, float]:
    """The file of increments, how many paths, and the unit of its numbers."""
    path = spec.table("path")
    file = (spec.file.parent / path.text("file")).resolve()
    if not file.is_file():
        raise path.wrong("file", "the name of a file that is there")
    return file, path.whole("paths"), path.positive("unit")


def _strong_table(strong: Table, n: int) -> dict[str, Any]:
    """The fields of a strong solution that the table `[strong]` states."""
    orders = {}
    if "orders" in strong:
        table = strong.table("orders")
        orders = {name: table.positive(name) for name in table.entries}
    return {
        "kind": strong.choice("kind", _STRONG_KINDS),
        "source": strong.text("source"),
        "accuracy": strong.number("accuracy", least=0.0),
        "scale": strong.scale("scale", n, positive=True),
        "steps": strong.wholes("steps"),
        "orders": orders,
        "at_least": strong.texts("at_least", ()),
    }


def _strong(
    folder: Path,
    spec: Table,
    stored: tuple[Path, int, float],
    strong: dict[str, Any],
    problem: SDEProblem,
) -> StrongSolution:
    file, paths, unit = stored
    length = spec.number("t1") - spec.number("t0")
    increments, areas = _increments(file, paths, problem.noise_dimension)
    root = math.sqrt(length) if length > 0 else 0.0
    if math.frexp(root)[0] != 0.5:
        raise ValueError(
            f"{spec.file}: `t1` - `t0` must be a power of four, so that increments "
            f"stay exact when they are scaled by its root; got {length}."
        )
    times, states = _states(folder / "strong.csv", len(increments), problem.dimension)
    steps, finest = strong["steps"], increments.shape[1]
    ratios = [b / a for a, b in zip(steps, (*steps[1:], finest), strict=True)]
    if len(steps) < 3 or set(ratios[:-1]) != {2.0} or ratios[-1] not in (2, 4, 8, 16):
        raise spec.table("strong").wrong(
            "steps",
            "three or more, each twice the one before and the last at most half of "
            f"the {finest} stored",
        )
    return StrongSolution(
        increments=increments * (unit * root),
        areas=areas * (unit * root),
        times=times,
        states=states,
        **strong,
    )


@functools.lru_cache(maxsize=4)
def _whole_numbers(file: Path) -> tuple[str, np.ndarray]:
    """The header and the numbers of a file that fixtures share."""
    try:
        lines = file.read_bytes().decode("utf-8").splitlines()
        header, *rows = [line for line in lines if line and not line.startswith("#")]
        table = np.array([row.split(",") for row in rows], dtype=np.int64)
    except ValueError as error:
        raise ValueError(
            f"{file}: must hold rows of whole numbers, all as long: {error}."
        ) from error
    table.setflags(write=False)
    return header, table


def _increments(file: Path, paths: int, motions: int) -> tuple[np.ndarray, np.ndarray]:
    """Increments and areas, whole numbers of shape `(paths, steps, motions)`."""
    header, table = _whole_numbers(file)
    count = table.shape[-1] // 2
    columns = [f"{name}{i}" for name in "WH" for i in range(1, count + 1)]
    fits = table.ndim == 2 and header.split(",") == columns and count >= motions
    if not fits or len(table) % paths:
        raise ValueError(
            f"{file}: must have the columns W1,…,Wm,H1,…,Hm for {motions} motions or "
            f"more, and as many rows for each of {paths} paths (`path.paths`); got "
            f"{header} and {len(table)} rows."
        )
    table = table.reshape(paths, -1, 2 * count)
    return table[..., :motions], table[..., count : count + motions]


def _states(file: Path, paths: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Times `(times,)` and states `(paths, times, n)`."""
    header = ",".join(["path", "t", *(f"y{i}" for i in range(1, n + 1))])
    table = read_rows(file, header, f"path,t,y1,…,y{n}")
    if len(table) % paths:
        raise ValueError(f"{file}: must hold as many rows for each of {paths} paths.")
    table = table.reshape(paths, -1, n + 2)
    times = table[0, :, 1]
    index = np.broadcast_to(np.arange(paths)[:, None], table.shape[:2])
    if np.any(table[..., 1] != times) or np.any(table[..., 0] != index):
        raise ValueError(f"{file}: paths must be in order, all at the same times.")
    return times, table[..., 2:]


def _law(law: Table, n: int) -> Law:
    moments = []
    for entry in law.tables("moments"):
        powers = entry.wholes("powers", least=0)
        if len(powers) != n or not any(powers):
            raise entry.wrong(
                "powers", f"{n} whole numbers, none negative and not all zero"
            )
        moments.append(Moment(powers, entry.number("value"), entry.text("source")))
    return Law(law.number("t1"), law.whole("steps"), tuple(moments))
