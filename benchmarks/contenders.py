"""The problems of the work-precision diagram, and everything that solves them."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from numpy_fields import NUMPY_FIELDS
from scipy.integrate import solve_ivp

import hybrid_nds
from hybrid_nds import runtime
from hybrid_nds.reconcile import Fixture, load_fixture

PROBLEMS = {
    "robertson": "Robertson, to t = 10⁵",
    "pollu": "POLLU",
    "brusselator_1d": "Brusselator in one dimension, 2 × 64",
    "neural_ode": "neural ODE 2-32-32-2",
}
STIFF = ("Rodas5P", "FBDF", "RadauIIA5")
NONSTIFF = ("Tsit5", "Vern7")
ARRAY, SCALAR = "hybrid_nds", "hybrid_nds, scalar form"
HAND, CALLBACK = "Julia by hand", "hybrid_nds, callback"
SCIPY_NUMPY, SCIPY_JAX = "SciPy, NumPy field", "SciPy, JAX field"
DIFFRAX = "Diffrax"
FAMILIES = (ARRAY, SCALAR, HAND, CALLBACK, SCIPY_NUMPY, SCIPY_JAX, DIFFRAX)
# The scalar form unrolls the Jacobian and its factorization: for small systems.
_LARGEST_SCALAR = 10


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """Tolerances of a solve: relative, and absolute as one number or by component."""

    rtol: float
    atol: float | np.ndarray


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way of solving one problem.

    **Fields:** the family, the solver; `solve(tolerance)`, the flat final state or
    `None` for a failed solve; and `seconds(tolerance, count)`, what each of `count`
    solves took of the processor (waiting for other jobs of the machine counts not).
    """

    family: str
    solver: str
    solve: Callable[[Tolerance], np.ndarray | None]
    seconds: Callable[[Tolerance, int], list[float]]


def load(name: str) -> Fixture:
    """A problem of the diagram, with its reference."""
    return load_fixture(name)


def error(fixture: Fixture, state: np.ndarray) -> float:
    """The largest error of a component at the end, relative to |y| + scale."""
    expected = fixture.reference.ys[-1]
    return float(
        np.max(np.abs(state - expected) / (np.abs(expected) + fixture.settings.scale))
    )


def contenders(fixture: Fixture) -> Iterator[Contender]:
    """Everything that solves this problem."""
    start = np.ravel(np.asarray(fixture.problem.y0))
    solvers = STIFF if fixture.stiff else STIFF + NONSTIFF
    forms: list[tuple[str, dict[str, Any]]] = [(ARRAY, {})]
    if start.size <= _LARGEST_SCALAR:
        forms.append((SCALAR, {"form": "scalar"}))
    forms.append((CALLBACK, {"rhs": "callback"}))
    for solver in solvers:
        for family, options in forms:
            yield _ours(fixture, family, solver, options)
        yield _by_hand(fixture, solver)
    field, jacobian = NUMPY_FIELDS[fixture.name](fixture.parameters)
    jitted, jitted_jacobian = jitted_field(fixture)
    methods = ("LSODA", "Radau", "BDF")
    methods += () if fixture.stiff else ("RK45", "DOP853")
    for method in methods:
        for family, parts in (
            (SCIPY_NUMPY, (field, jacobian)),
            (SCIPY_JAX, (jitted, jitted_jacobian)),
        ):
            yield _scipy(fixture, family, method, *parts)
    yield _diffrax(fixture, "Kvaerno5", {})
    # The coefficients that Diffrax's documentation gives for stiff problems.
    yield _diffrax(fixture, "Kvaerno5", {"pcoeff": 0.3, "icoeff": 0.4})
    for solver in () if fixture.stiff else ("Tsit5", "Dopri8"):
        yield _diffrax(fixture, solver, {})


def tolerances(fixture: Fixture, solver: str, rtol: float) -> list[Tolerance]:
    """The tolerances to try at one `rtol`, of which the diagram takes the better.

    `atol` is one number, small enough for every component; and by component, where
    these have scales of their own and the solver takes that.
    """
    scale = fixture.settings.scale
    found = [Tolerance(rtol, rtol * float(np.min(scale)))]
    if solver != "RadauIIA5" and np.any(scale != scale[0]):
        found.append(Tolerance(rtol, rtol * scale))
    return found


def _timed(
    solve: Callable[[Tolerance], Any],
) -> Callable[[Tolerance, int], list[float]]:
    def seconds(tolerance: Tolerance, count: int) -> list[float]:
        taken = []
        for _ in range(count):
            begin = time.process_time()
            solve(tolerance)
            taken.append(time.process_time() - begin)
        return taken

    return seconds


def _ours(fixture: Fixture, family: str, solver: str, options: Any) -> Contender:
    def solve(tolerance: Tolerance) -> np.ndarray | None:
        solution = hybrid_nds.solve(
            fixture.problem,
            "julia",
            solver=solver,
            rtol=tolerance.rtol,
            atol=tolerance.atol,
            max_steps=1_000_000,
            throw=False,
            **options,
        )
        return np.ravel(solution.ys) if bool(solution.succeeded) else None

    return Contender(family, solver, solve, _timed(solve))


def _by_hand(fixture: Fixture, solver: str) -> Contender:
    hand = hand_written()
    start = np.ravel(np.asarray(fixture.problem.y0))
    problem = hand.problem(hand_parts(fixture), start, float(fixture.problem.t1))

    main = runtime.session().main

    def pair(tolerance: Tolerance) -> tuple[float, Any]:
        rtol, atol = tolerance.rtol, tolerance.atol
        return rtol, main.Vector[main.Float64](atol) if np.ndim(atol) else atol

    def solve(tolerance: Tolerance) -> np.ndarray | None:
        state = hand.final_state(problem, solver, *pair(tolerance))
        return None if state is None else np.asarray(state).copy()

    def seconds(tolerance: Tolerance, count: int) -> list[float]:
        return list(hand.seconds(problem, solver, *pair(tolerance), count))

    return Contender(HAND, solver, solve, seconds)


def _scipy(fixture: Fixture, family: str, method: str, field, jacobian) -> Contender:
    problem = fixture.problem
    start, span = np.ravel(np.asarray(problem.y0)), (0.0, float(problem.t1))
    implicit = {"jac": jacobian} if method in ("LSODA", "Radau", "BDF") else {}

    def solve(tolerance: Tolerance) -> np.ndarray | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            solution = solve_ivp(
                field,
                span,
                start,
                method,
                rtol=tolerance.rtol,
                atol=tolerance.atol,
                **implicit,
            )
        return solution.y[:, -1] if solution.success else None

    return Contender(family, method, solve, _timed(solve))


def _diffrax(fixture: Fixture, name: str, control: Mapping[str, float]) -> Contender:
    problem = fixture.problem
    shape = np.shape(problem.y0)
    solver = getattr(diffrax, name)()

    @jax.jit
    def run(rtol, atol):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(problem.field),
            solver,
            0.0,
            problem.t1,
            None,
            problem.y0,
            stepsize_controller=diffrax.PIDController(rtol, atol, **control),
            max_steps=1_000_000,
            throw=False,
        )
        assert solution.ys is not None
        succeeded = solution.result == diffrax.RESULTS.successful
        return jnp.ravel(solution.ys), succeeded

    def solve(tolerance: Tolerance) -> np.ndarray | None:
        atol = tolerance.atol
        atol = np.reshape(atol, shape) if np.ndim(atol) else atol
        state, succeeded = run(tolerance.rtol, atol)
        return np.asarray(state) if bool(succeeded) else None

    label = f"{name}, PI control" if control else name
    return Contender(DIFFRAX, label, solve, _timed(solve))


def jitted_field(fixture: Fixture) -> tuple[Callable, Callable]:
    """The field of a problem and its Jacobian as jitted JAX, for flat NumPy states."""
    problem = fixture.problem
    shape = np.shape(problem.y0)

    def flat(t, y):
        return jnp.ravel(problem.field(t, y.reshape(shape), None))

    field, jacobian = jax.jit(flat), jax.jit(jax.jacfwd(flat, argnums=1))
    return (
        lambda t, y: np.asarray(field(t, y)),
        lambda t, y: np.asarray(jacobian(t, y)),
    )


def hand_written() -> Any:
    """The Julia module of hand-written fields."""
    main = runtime.session().main
    if not main.seval("isdefined(Main, :HandWritten)"):
        main.include(str(Path(__file__).with_name("hand_written.jl")))
    return main.HandWritten


def hand_parts(fixture: Fixture) -> Any:
    """A problem's field and Jacobian by hand."""
    hand, q = hand_written(), fixture.parameters
    if fixture.name == "robertson":
        return hand.robertson(q["k1"], q["k2"], q["k3"])
    if fixture.name == "pollu":
        return hand.pollution(np.array([q[f"k{i}"] for i in range(1, 26)]))
    if fixture.name == "brusselator_1d":
        points = np.shape(fixture.problem.y0)[1]
        return hand.brusselator(q["a"], q["b"], q["diffusivity"], points)
    return hand.network(
        [np.array(layer["weight"]) for layer in q["layers"]],
        [np.array(layer["bias"]) for layer in q["layers"]],
    )
