"""The two sides of a stochastic comparison, and the recorded stand-in for one."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from .._core import write_text
from ..discretization import end_states
from ..noise import coarsened
from ..problems import SDEProblem
from ._analyses import Found, PlannedAnalysis
from ._sde_plan import SAMPLES, StochasticPlan, law_problem
from ._stacks import PARTS, LiveStack, read_record

# How many random numbers are held at once.
_NUMBERS = 2**23
# The backends draw their own samples: two independent ones, as the tests want.
_SEEDS = {"diffrax": 1, "julia": 2}


@runtime_checkable
class StochasticStack(Protocol):
    """One side: its fields, its schemes, its strong solutions, its samples."""

    @property
    def name(self) -> str: ...

    @property
    def versions(self) -> Mapping[str, str]: ...

    def parts(self, plan: StochasticPlan, field: str) -> Mapping[str, np.ndarray]:
        """Each of `PARTS` of a field at its plan's points, shape `(points, n)`."""
        ...

    def scheme(self, plan: StochasticPlan, twin: str) -> np.ndarray:
        """States of a twin scheme on the first path, shape `(times, n)`."""
        ...

    def strong(self, plan: StochasticPlan, solver: str, steps: int) -> np.ndarray:
        """States along all paths in so many steps, shape `(paths, times, n)`."""
        ...

    def samples(self, plan: StochasticPlan) -> np.ndarray:
        """Independent samples of the law, shape `(samples, n)`."""
        ...

    def analysis(self, plan: StochasticPlan, planned: PlannedAnalysis) -> Found:
        """The values of an analysis and half the widths of their intervals."""
        ...


class LiveStochasticStack:
    """A stack that runs now."""

    def __init__(self, name: str):
        self.name = name
        self._ordinary = LiveStack(name)

    @property
    def versions(self) -> Mapping[str, str]:
        return self._ordinary.versions

    def parts(self, plan: StochasticPlan, field: str) -> Mapping[str, np.ndarray]:
        return self._ordinary.parts(plan.fields[field])

    def scheme(self, plan: StochasticPlan, twin: str) -> np.ndarray:
        # By the function itself on both sides: what is compared is what a user calls.
        dw, h = plan.increments[:1], plan.areas[:1]
        return end_states(
            *(plan.problem, self.name, twin, dw, h, plan.steps[-1], plan.times),
            quick=True,
        )[0]

    def strong(self, plan: StochasticPlan, solver: str, steps: int) -> np.ndarray:
        dw, h = plan.increments, plan.areas
        if self.name == "diffrax":
            return end_states(
                *(plan.problem, self.name, solver, dw, h, steps, plan.times), quick=True
            )
        dw, h = coarsened(dw, h, steps)
        return _julia_states(plan.problem, solver, dw, h, plan.times)

    def analysis(self, plan: StochasticPlan, planned: PlannedAnalysis) -> Found:
        return planned.run(plan.problem, self.name)

    def samples(self, plan: StochasticPlan) -> np.ndarray:
        problem, steps = law_problem(plan), plan.law.steps
        generator = np.random.default_rng(_SEEDS[self.name])
        length = float(problem.t1) - float(problem.t0)
        root = np.sqrt(length / steps)
        solver = plan.law_solver(self.name)
        times = np.array([float(problem.t1)])
        chunks = []
        most = max(1, _NUMBERS // (steps * problem.noise_dimension))
        for start in range(0, SAMPLES, most):
            count = min(most, SAMPLES - start)
            shape = (count, steps, problem.noise_dimension)
            dw = root * generator.standard_normal(shape)
            h = root / np.sqrt(12) * generator.standard_normal(shape)
            chunks.append(
                end_states(problem, self.name, solver, dw, h, steps, times)
                if self.name == "diffrax"
                else _julia_states(problem, solver, dw, h, times)
            )
        return np.concatenate(chunks)[:, -1]


def _julia_states(
    problem: SDEProblem, solver: str, dw: np.ndarray, h: np.ndarray, times: np.ndarray
) -> np.ndarray:
    from ..backends.julia import run_ensemble
    from ..methods import find_solver

    area = find_solver(solver, "julia", "sde").levy_area != "none"
    result = run_ensemble(
        problem,
        np.arange(len(dw)),
        key=None,
        solver=solver,
        dt=(float(problem.t1) - float(problem.t0)) / dw.shape[1],
        saveat=times,
        increments=(dw, h if area else None),
    )
    return np.asarray(result.states)


class RecordedStochasticStack:
    """Julia's results from a file: what a live run gave, and with which versions."""

    name = "julia"

    def __init__(self, path: Path):
        self._path = path
        self._versions, self._rows = read_record(path)

    @property
    def versions(self) -> Mapping[str, str]:
        return self._versions

    def _table(self, kind: str, label: str) -> np.ndarray:
        try:
            return np.asarray(self._rows[kind, label])
        except KeyError:
            raise ValueError(
                f"{self._path} holds no {kind} {label!r}; record it again with "
                "tests/fixtures/make/record_julia.py on a machine with Julia."
            ) from None

    def parts(self, plan: StochasticPlan, field: str) -> Mapping[str, np.ndarray]:
        return {name: self._table(f"part of {field}", name) for name in PARTS}

    def scheme(self, plan: StochasticPlan, twin: str) -> np.ndarray:
        return self._table("scheme", twin)

    def strong(self, plan: StochasticPlan, solver: str, steps: int) -> np.ndarray:
        table = self._table("strong", f"{solver} {steps}")
        return table.reshape(len(plan.increments), len(plan.times), -1)

    def samples(self, plan: StochasticPlan) -> np.ndarray:
        return self._table("sample", plan.law_solver("julia"))

    def analysis(self, plan: StochasticPlan, planned: PlannedAnalysis) -> Found:
        values, half = self._table("analysis", planned.name)
        return values, half


def record_stochastic(plan: StochasticPlan, path: Path) -> None:
    """Run Julia live on a plan and write its results, whole or not at all."""
    stack = LiveStochasticStack("julia")
    out = io.StringIO()
    out.write("# Results of a live run of the Julia package on this problem.\n")
    for name, version in stack.versions.items():
        out.write(f"# {name} = {version}\n")
    writer = csv.writer(out, lineterminator="\n")
    n = plan.problem.dimension
    writer.writerow(["kind", "label", *(f"y{k + 1}" for k in range(n))])

    def rows(kind: str, label: str, values: np.ndarray, digits: int = 17) -> None:
        for row in values:
            numbers = [float(f"{float(x):.{digits}g}") for x in row]
            writer.writerow([kind, label, *map(repr, numbers)])

    for field in plan.fields:
        for name, values in stack.parts(plan, field).items():
            rows(f"part of {field}", name, values)
    for twin in plan.twins:
        rows("scheme", twin, stack.scheme(plan, twin))
    for solver in plan.strong_solvers("julia"):
        for steps in plan.steps:
            states = stack.strong(plan, solver, steps)
            # Far finer than any error that an order is measured from.
            rows("strong", f"{solver} {steps}", states.reshape(-1, n), 12)
    rows("sample", plan.law_solver("julia"), stack.samples(plan), 6)
    for planned in plan.analyses:
        rows("analysis", planned.name, np.stack(stack.analysis(plan, planned)))
    text = out.getvalue()
    write_text(path, text)
