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
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..noise import StoredPath
from ..precision import double_precision
from ..stochastic_problem import SDEProblem
from ..transport import PortableResult
from ._specification import check_choice, check_keys
from .analyses import PlannedAnalysis, read_analyses
from .fields import STOCHASTIC_FIELDS

_REQUIRED = (
    *("name", "title", "field", "interpretation", "noise", "t0", "t1", "y0"),
    *("backends", "rungs", "sources", "parameters", "path", "strong", "law"),
)
_STRONG_KINDS = ("closed form", "computed")


@dataclasses.dataclass(frozen=True)
class StrongSolution:
    """The solution of a problem along stored Brownian paths.

    **Fields:** the increments over equal steps of the span and their space-time Lévy
    areas, shapes `(paths, steps, m)`; times, shape `(times,)`, and the states there,
    shape `(paths, times, n)`, flat as `jax.flatten_util.ravel_pytree` orders them; the
    kind (`"closed form"` or `"computed"`) and the source in words; the accuracy (for a
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
    """A stochastic problem, what is known of its solution and its law.

    **Fields:** the name, title and folder; the problem, in double precision; the strong
    solution; the law; the backends and rungs that apply; the parameters as plain
    numbers; the sources; what to beware of; and analyses of it.
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
    folder: Path, spec: Mapping[str, Any], parameters: Mapping[str, Any]
) -> StochasticFixture:
    """The fixture of a specification.

    **Arguments:** its folder; what `problem.toml` holds; and the parameters, those
    kept in a file of their own included.

    **Raises:** `ValueError` naming the file and the key for one that is malformed.
    """
    file = folder / "problem.toml"
    check_keys(file, spec, _REQUIRED)
    check_choice(file, "field", spec["field"], tuple(STOCHASTIC_FIELDS))
    problem = _problem(file, spec, parameters)
    return StochasticFixture(
        name=spec["name"],
        title=spec["title"],
        path=folder,
        problem=problem,
        strong=_strong(folder, spec, problem),
        law=_law(file, spec["law"], problem),
        backends=tuple(spec["backends"]),
        rungs=tuple(spec["rungs"]),
        parameters=parameters,
        sources=tuple(spec["sources"]),
        notes=tuple(spec.get("notes", ())),
        analyses=read_analyses(file, spec),
    )


def _problem(
    file: Path, spec: Mapping[str, Any], parameters: Mapping[str, Any]
) -> SDEProblem:
    with double_precision():
        try:
            drift, diffusion = STOCHASTIC_FIELDS[spec["field"]](parameters)
            return SDEProblem(
                drift,
                diffusion,
                np.asarray(spec["y0"], np.float64),
                float(spec["t0"]),
                float(spec["t1"]),
                noise=spec["noise"],
                interpretation=spec["interpretation"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: {error.args[0]}") from error


def _strong(
    folder: Path, spec: Mapping[str, Any], problem: SDEProblem
) -> StrongSolution:
    file, strong = folder / "problem.toml", spec["strong"]
    check_choice(file, "strong.kind", strong["kind"], _STRONG_KINDS)
    length = float(spec["t1"]) - float(spec["t0"])
    path = spec["path"]
    increments, areas = _increments(
        (folder / path["file"]).resolve(), int(path["paths"]), problem.noise_dimension
    )
    root = math.sqrt(length)
    if math.frexp(root)[0] != 0.5:
        raise ValueError(
            f"{file}: the span must be a power of four long, so that increments stay "
            f"exact when they are scaled by its root; got {length}."
        )
    times, states = _states(folder / "strong.csv", len(increments), problem.dimension)
    scale = np.asarray(strong["scale"], np.float64)
    if scale.shape not in ((), (problem.dimension,)) or np.any(scale <= 0):
        raise ValueError(
            f"{file}: `strong.scale` must be a positive number or {problem.dimension} "
            f"of them; got {strong['scale']}."
        )
    steps = tuple(int(count) for count in strong["steps"])
    stored = increments.shape[1]
    ratios = [b / a for a, b in zip(steps, (*steps[1:], stored), strict=True)]
    if len(steps) < 3 or set(ratios[:-1]) != {2.0} or ratios[-1] not in (2, 4, 8, 16):
        raise ValueError(
            f"{file}: `strong.steps` must be three or more, each twice the one before "
            f"and the last at most half of the {stored} stored; got {list(steps)}."
        )
    return StrongSolution(
        increments=increments * (float(path["unit"]) * root),
        areas=areas * (float(path["unit"]) * root),
        times=times,
        states=states,
        kind=strong["kind"],
        source=strong["source"],
        accuracy=float(strong["accuracy"]),
        scale=np.broadcast_to(scale, (problem.dimension,)).copy(),
        steps=steps,
        orders={name: float(order) for name, order in strong.get("orders", {}).items()},
        at_least=tuple(strong.get("at_least", ())),
    )


@functools.lru_cache(maxsize=4)
def _whole_numbers(file: Path) -> tuple[str, np.ndarray]:
    """The header and the numbers of a file that fixtures share."""
    lines = file.read_text(encoding="utf-8").splitlines()
    header, *rows = [line for line in lines if line and not line.startswith("#")]
    table = np.array([row.split(",") for row in rows], dtype=np.int64)
    table.setflags(write=False)
    return header, table


def _increments(file: Path, paths: int, motions: int) -> tuple[np.ndarray, np.ndarray]:
    """Increments and areas, whole numbers of shape `(paths, steps, motions)`."""
    header, table = _whole_numbers(file)
    count = table.shape[1] // 2
    columns = [f"{name}{i}" for name in "WH" for i in range(1, count + 1)]
    if header.split(",") != columns or count < motions or len(table) % paths:
        raise ValueError(
            f"{file}: must have the columns W1,…,Wm,H1,…,Hm for {motions} motions or "
            f"more, and as many rows for each of {paths} paths; got {header} and "
            f"{len(table)} rows."
        )
    table = table.reshape(paths, -1, 2 * count)
    return table[..., :motions], table[..., count : count + motions]


def _states(file: Path, paths: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Times `(times,)` and states `(paths, times, n)`."""
    lines = [
        line
        for line in file.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    header = ["path", "t", *(f"y{i}" for i in range(1, n + 1))]
    rows = [line.split(",") for line in lines[1:]]
    if lines[0].split(",") != header or any(len(row) != n + 2 for row in rows):
        raise ValueError(
            f"{file}: the first line that is no comment must be path,t,y1,…,y{n}, and "
            f"each row hold {n + 2} numbers."
        )
    table = np.array(rows, float)
    if len(rows) % paths or not np.all(np.isfinite(table)):
        raise ValueError(
            f"{file}: must hold as many rows for each of {paths} paths, all finite."
        )
    table = table.reshape(paths, -1, n + 2)
    times = table[0, :, 1]
    index = np.broadcast_to(np.arange(paths)[:, None], table.shape[:2])
    if np.any(table[..., 1] != times) or np.any(table[..., 0] != index):
        raise ValueError(f"{file}: paths must be in order, all at the same times.")
    return times, table[..., 2:]


def _law(file: Path, law: Mapping[str, Any], problem: SDEProblem) -> Law:
    moments = []
    for entry in law.get("moments", ()):
        powers = tuple(int(power) for power in entry["powers"])
        if len(powers) != problem.dimension or min(powers) < 0 or not any(powers):
            raise ValueError(
                f"{file}: `law.moments.powers` must be {problem.dimension} whole "
                f"numbers, none negative and not all zero; got {entry['powers']}."
            )
        moments.append(Moment(powers, float(entry["value"]), entry["source"]))
    return Law(float(law["t1"]), int(law["steps"]), tuple(moments))
