"""The two sides of a comparison, and the recorded stand-in for one of them."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._core import QUICKLY, write_text
from ..problems import ODEProblem
from ..solving import solve
from ._analyses import Found, PlannedAnalysis
from ._plan import Plan, flat_field, flat_states, scaled_problem

PARTS = ("field", "jacobian on ones", "jacobian on waves", "time gradient")


def directions(n: int) -> dict[str, np.ndarray]:
    """The vectors that Jacobians are applied to: any wrong entry shows in one."""
    return {
        "jacobian on ones": np.ones(n),
        "jacobian on waves": np.cos(1.0 + np.arange(n)),
    }


@runtime_checkable
class Stack(Protocol):
    """One side: its fields, its schemes, its solutions, all as flat states."""

    @property
    def name(self) -> str: ...

    @property
    def versions(self) -> Mapping[str, str]: ...

    def parts(self, plan: Plan) -> Mapping[str, np.ndarray]:
        """Each of `PARTS` at the plan's points, shape `(points, n)`."""
        ...

    def scheme(self, plan: Plan, twin: str) -> np.ndarray:
        """Fixed steps of a twin scheme, states at the scheme times."""
        ...

    def solution(self, plan: Plan, rtol: float) -> np.ndarray:
        """The best adaptive solver's states at the plan's times; NaN if it failed."""
        ...

    def analysis(self, plan: Plan, planned: PlannedAnalysis) -> Found:
        """The values of an analysis and half the widths of their intervals."""
        ...


def _span(problem: ODEProblem, t1: float) -> ODEProblem:
    return eqx.tree_at(lambda p: p.t1, problem, jnp.asarray(t1, problem.dtype))


def _solve_states(
    problem: ODEProblem, backend: str, times: np.ndarray, **options: Any
) -> np.ndarray:
    """States at times; NaN where the solve did not get."""
    count, n = len(times), problem.dimension
    solution = solve(
        problem, backend, saveat=times, throw=False, max_steps=1_000_000, **options
    )
    states = np.full((count, n), np.nan)
    reached = flat_states(solution.ys, len(np.asarray(solution.ts)))
    if bool(solution.succeeded):
        states[: len(reached)] = reached
    return states


class LiveStack:
    """A stack that runs now."""

    def __init__(self, name: str):
        self.name = name
        # Two rungs ask for the same solve; plans are compared by identity.
        self._solutions: dict[tuple[Plan, float], np.ndarray] = {}

    @property
    def versions(self) -> Mapping[str, str]:
        if self.name == "julia":
            from .. import runtime

            return dict(runtime.session().versions)
        import importlib.metadata as metadata

        packages = ("jax", "equinox", "diffrax", "optimistix")
        return {package: metadata.version(package) for package in packages}

    def parts(self, plan: Plan) -> Mapping[str, np.ndarray]:
        if self.name == "julia":
            return _lowered_parts(plan)
        return _traced_parts(plan)

    def scheme(self, plan: Plan, twin: str) -> np.ndarray:
        assert plan.scheme_t1 is not None
        assert plan.scheme_steps is not None
        problem = _span(plan.problem, plan.scheme_t1)
        step = (plan.scheme_t1 - float(problem.t0)) / plan.scheme_steps
        # The times are grid times: any other step would be another scheme.
        return _solve_states(
            problem,
            self.name,
            plan.scheme_times,
            solver=twin,
            dt=step,
            step_to_saveat=False,
        )

    def solution(self, plan: Plan, rtol: float) -> np.ndarray:
        if (plan, rtol) not in self._solutions:
            self._solutions[plan, rtol] = self._solve(plan, rtol)
        return self._solutions[plan, rtol]

    def analysis(self, plan: Plan, planned: PlannedAnalysis) -> Found:
        return planned.run(plan.problem, self.name)

    def _solve(self, plan: Plan, rtol: float) -> np.ndarray:
        problem = _span(scaled_problem(plan.problem, plan.scale), float(plan.times[-1]))
        states = _solve_states(
            problem,
            self.name,
            plan.times,
            solver=plan.best_solver(self.name),
            rtol=rtol,
            atol=rtol,
            step_to_saveat=True,
        )
        return states * plan.scale


def run_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function compiled as one program, quickly rather than for speed."""
    return jax.jit(function, compiler_options=dict(QUICKLY))


def _traced_parts(plan: Plan) -> Mapping[str, np.ndarray]:
    dynamic, static = eqx.partition(plan.problem, eqx.is_inexact_array)
    vectors = directions(plan.points.shape[1])

    def at(dynamic: Any, t: Any, u: Any) -> dict[str, Any]:
        flat = flat_field(eqx.combine(dynamic, static))
        along = functools.partial(jax.jvp, lambda u: flat(t, u), (u,))
        return {
            "field": flat(t, u),
            **{name: along((jnp.asarray(v),))[1] for name, v in vectors.items()},
            "time gradient": jax.jacfwd(flat, argnums=0)(t, u),
        }

    parts = run_once(jax.vmap(at, in_axes=(None, 0, 0)))(
        dynamic, plan.point_times, plan.points
    )
    return {name: np.asarray(values) for name, values in parts.items()}


def _lowered_parts(plan: Plan) -> Mapping[str, np.ndarray]:
    from ..backends.julia import LoweredEvaluator

    evaluate = LoweredEvaluator(plan.problem)
    values = [
        evaluate(u, float(t))
        for t, u in zip(plan.point_times, plan.points, strict=True)
    ]
    vectors = directions(plan.points.shape[1])
    return {
        "field": np.stack([f for f, _, _ in values]),
        **{
            name: np.stack([jacobian @ v for _, jacobian, _ in values])
            for name, v in vectors.items()
        },
        "time gradient": np.stack([g for _, _, g in values]),
    }


RECORD = Path("julia") / "results.csv"


Rows = dict[tuple[str, str], list[list[float]]]


def read_record(path: Path) -> tuple[dict[str, str], Rows]:
    """Versions by name, and rows by kind and label, of recorded results."""
    versions: dict[str, str] = {}
    rows: Rows = {}
    with path.open(encoding="utf-8", newline="") as file:
        for kind, *rest in csv.reader(file):
            if kind.startswith("#"):
                key, _, value = kind[1:].partition("=")
                if value:
                    versions[key.strip()] = value.strip()
            elif kind != "kind":
                label, *numbers = rest
                row = [float(x) for x in numbers]
                rows.setdefault((kind, label), []).append(row)
    return versions, rows


class RecordedStack:
    """Julia's results from a file: what a live run gave, and with which versions."""

    name = "julia"

    def __init__(self, path: Path):
        self._path = path
        self._versions, self._rows = read_record(path)

    @property
    def versions(self) -> Mapping[str, str]:
        return self._versions

    def _states(self, kind: str, label: str) -> np.ndarray:
        try:
            return np.asarray(self._rows[kind, label])
        except KeyError:
            raise ValueError(
                f"{self._path} holds no {kind} {label!r}; record it again with "
                "tests/fixtures/make/record_julia.py on a machine with Julia."
            ) from None

    def parts(self, plan: Plan) -> Mapping[str, np.ndarray]:
        return {name: self._states("part", name) for name in PARTS}

    def scheme(self, plan: Plan, twin: str) -> np.ndarray:
        return self._states("scheme", twin)

    def solution(self, plan: Plan, rtol: float) -> np.ndarray:
        return self._states("solution", f"{rtol:.0e}")

    def analysis(self, plan: Plan, planned: PlannedAnalysis) -> Found:
        values, half = self._states("analysis", planned.name)
        return values, half


def record(plan: Plan, path: Path) -> None:
    """Run Julia live on a plan and write its results, whole or not at all."""
    stack = LiveStack("julia")
    out = io.StringIO()
    out.write("# Results of a live run of the Julia package on this problem.\n")
    for name, version in stack.versions.items():
        out.write(f"# {name} = {version}\n")
    writer = csv.writer(out, lineterminator="\n")
    n = plan.points.shape[1]
    writer.writerow(["kind", "label", *(f"y{k + 1}" for k in range(n))])

    def rows(kind: str, label: str, values: np.ndarray) -> None:
        for row in values:
            writer.writerow([kind, label, *(repr(float(x)) for x in row)])

    for name, values in stack.parts(plan).items():
        rows("part", name, values)
    if plan.scheme_steps is not None:
        for twin in plan.twins:
            rows("scheme", twin, stack.scheme(plan, twin))
    for rtol in plan.rtols:
        rows("solution", f"{rtol:.0e}", stack.solution(plan, rtol))
    for planned in plan.analyses:
        rows("analysis", planned.name, np.stack(stack.analysis(plan, planned)))
    text = out.getvalue()
    write_text(path, text)
