"""Every solver, on every stack that has it, on every problem that its row admits.

The right answers are closed forms, or SciPy's at tolerances far below those asked for.
A cell that fails is a fault of the solver's row: it is to be mended, or marked there.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from hybrid_nds import (
    Event,
    ODEProblem,
    SDEProblem,
    StoredPath,
    ensemble,
    solve,
    underdamped_langevin,
)
from hybrid_nds.methods import (
    COARSE_EVENTS,
    LOST_TERMS,
    ODE_METHODS,
    SDE_METHODS,
    Method,
    find_solver,
)
from hybrid_nds.methods._faults import BIASED_DIFFERENCES, IMEX_PRECISION
from hybrid_nds.problems import Kind

pytestmark = pytest.mark.slow


def cells(methods, columns):
    """A parameter for each method, stack and column that the row admits."""
    return [
        pytest.param(
            info.name,
            stack,
            column,
            id=f"{stack}-{info.name}-{column}",
            marks=pytest.mark.julia if stack == "julia" else (),
        )
        for stack in ("diffrax", "julia")
        for info in methods
        if info.on(stack) is not None
        for column in columns(info, stack)
    ]


def live(stack, request):
    """Start Julia where a cell wants it, or skip the cell."""
    if stack == "julia":
        request.getfixturevalue("julia")


# Ordinary equations.


def turning(t, y, args):
    """(cos(t²/2), sin(t²/2)): it depends on time, and no error grows or shrinks."""
    return t * jnp.stack([-y[1], y[0]])


def turned(t):
    return np.array([math.cos(t**2 / 2), math.sin(t**2 / 2)])


@dataclasses.dataclass(frozen=True)
class Question:
    """A problem, its right answer, and by how much it amplifies errors on the way."""

    problem: ODEProblem
    answer: np.ndarray
    growth: float = 1.0
    end: float | None = None
    event: Event | None = None


def time_dependence(dtype: Any = np.float64) -> Question:
    y0 = turned(0.0).astype(dtype)
    return Question(ODEProblem(turning, y0, 0.0, 2.0), turned(2.0))


def backward() -> Question:
    return Question(ODEProblem(turning, turned(2.0), 2.0, 0.0), turned(0.0))


def first_component(t, y, args):
    return y[0]


def event() -> Question:
    """t²/2 = π/2 makes the first component zero."""
    end = math.sqrt(math.pi)
    problem = ODEProblem(turning, turned(0.0), 0.0, 2.5)
    return Question(problem, turned(end), 1.0, end, Event(first_component))


def event_backward() -> Question:
    end = math.sqrt(math.pi)
    problem = ODEProblem(turning, turned(2.2), 2.2, 0.5)
    return Question(problem, turned(end), 1.0, end, Event(first_component))


MASS = np.array([[2.0, 1.0], [1.0, 3.0]])


def mass_matrix() -> Question:
    """M y' = M f."""

    def field(t, y, args):
        return jnp.asarray(MASS) @ turning(t, y, args)

    problem = ODEProblem(field, turned(0.0), 0.0, 2.0, mass_matrix=MASS)
    # What is left of the equations, M times an error, is the error times at most M's
    # condition, 2.6.
    return Question(problem, turned(2.0), np.linalg.cond(MASS))


def constraint() -> Question:
    """y' = -z y, 0 = z - y: y = 1/(1 + t)."""

    def field(t, y, args):
        return jnp.stack([-y[0] * y[1], y[1] - y[0]])

    mass = np.diag([1.0, 0.0])
    problem = ODEProblem(field, np.ones(2), 0.0, 3.0, mass_matrix=mass)
    return Question(problem, np.full(2, 1 / 4))


def constraint_in_time() -> Question:
    """y' = -y + z, 0 = z - y cos t: y = exp(sin t - t)."""

    def field(t, y, args):
        return jnp.stack([y[1] - y[0], y[1] - jnp.cos(t) * y[0]])

    mass = np.diag([1.0, 0.0])
    problem = ODEProblem(field, np.ones(2), 0.0, 3.0, mass_matrix=mass)
    y = math.exp(math.sin(3.0) - 3.0)
    return Question(problem, np.array([y, y * math.cos(3.0)]))


GRAVITY, SWING = 9.81, 1.0


def pendulum() -> Question:
    """The pendulum of unit length and mass in Cartesian coordinates, index 1, from
    rest at the height of its pivot; the answer is that of the equation of its angle."""

    def field(t, s, args):
        x, y, u, v, tension = s
        return jnp.stack(
            [
                u,
                v,
                -tension * x,
                -tension * y - GRAVITY,
                u**2 + v**2 - tension * (x**2 + y**2) - GRAVITY * y,
            ]
        )

    mass = np.diag([1.0, 1.0, 1.0, 1.0, 0.0])
    start = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    problem = ODEProblem(field, start, 0.0, SWING, mass_matrix=mass)
    answer = swung(math.pi / 2, 0.0)
    # An error of position or speed on the way is one of angle and speed, and one that
    # stretches the rod, which grows in proportion to time.
    nudge = 1e-5
    apart = [
        np.linalg.norm(swung(math.pi / 2 + a, b) - answer) / nudge
        for a, b in ((nudge, 0.0), (0.0, nudge))
    ]
    return Question(problem, answer, max(apart) * (1 + SWING))


def swung(angle: float, speed: float) -> np.ndarray:
    """Position, velocity and tension, from the angle to the lowest point."""
    found = solve_ivp(
        lambda t, s: [s[1], -GRAVITY * math.sin(s[0])],
        (0.0, SWING),
        [angle, speed],
        "DOP853",
        rtol=1e-12,
        atol=1e-12,
    )
    angle, speed = found.y[:, -1]
    x, y = math.sin(angle), -math.cos(angle)
    return np.array([x, y, -y * speed, x * speed, speed**2 - GRAVITY * y])


QUESTIONS: dict[str, Callable[[], Question]] = {
    "time": time_dependence,
    "backward": backward,
    "event": event,
    "event backward": event_backward,
    "float32": lambda: time_dependence(np.float32),
    "mass matrix": mass_matrix,
    "constraint": constraint,
    "constraint in time": constraint_in_time,
    "pendulum": pendulum,
}
MASSES = ("mass matrix", "constraint", "constraint in time", "pendulum")


def questions(info: Method, stack: str) -> list[str]:
    asked = [name for name in QUESTIONS if name not in MASSES]
    if IMEX_PRECISION in info.faults and stack == "diffrax":
        asked.remove("float32")
    if info.mass_matrix and stack == "julia":
        asked += MASSES
    if info.diagonal_mass:
        asked.remove("mass matrix")
    return asked


@pytest.mark.filterwarnings(
    "ignore:solve. KenCarp5 of Diffrax, asked for events, finds"
)
@pytest.mark.parametrize(("name", "stack", "question"), cells(ODE_METHODS, questions))
def test_ordinary_equations(name, stack, question, request):
    live(stack, request)
    info, asked = find_solver(name, stack), QUESTIONS[question]()
    # Steps are short enough for the order to show, and few.
    tolerance = 1e-6 if info.order is None or info.order > 2 else 1e-4
    if asked.problem.dtype == np.float32:
        tolerance = 1e-4
    options: dict[str, Any] = {"rtol": tolerance, "atol": tolerance}
    if not info.adaptive:
        options = {"dt": math.copysign(1 / 512, asked.problem.t1 - asked.problem.t0)}
    found = solve(asked.problem, stack, solver=name, event=asked.event, **options)
    assert found.succeeded
    assert found.ys.dtype == asked.problem.dtype
    steps = int(found.stats["num_steps"])
    if info.adaptive:
        # Each step may add a tolerance; estimates are no bounds, hence the factor.
        limit = 3 * steps * 2 * tolerance * asked.growth
        if asked.event is not None and stack in info.coarse_output:
            # Events are found on the interpolant, up to 75 times less accurate, or
            # worse: their rows say so.
            limit += (1000 if COARSE_EVENTS in info.faults else 75) * tolerance
    else:
        # Euler's local error, y'' h²/2 with |y''| ≤ 1 + t² ≤ 7; a method of order two
        # is below it.
        limit = steps * 7 * (1 / 512) ** 2 / 2
    # What is wrong in kind is wrong by more: states and their changes are of size one.
    limit = min(limit, 0.3)
    np.testing.assert_allclose(
        np.asarray(found.ys[-1]), asked.answer, rtol=0, atol=limit
    )
    if asked.end is not None:
        # The state moves at speed t at the time of the event, above one.
        assert found.outcome_name == "event"
        assert abs(float(found.end_time) - asked.end) <= limit


# Stochastic equations. Complex numbers are matrices of two by two that commute, so that
# dz = a z dt + Σ b z dW has the solution z₀ exp((a - Σ b²/2) t + Σ b W) in Itô's sense,
# and z₀ exp(a t + Σ b W) in Stratonovich's.

STEPS, PATHS = 256, 32
RATE, NOISE, Z0 = -0.5 + 1.0j, (0.7 + 0.3j, -0.3 + 0.6j), 1.0 + 0.5j
# Matrices that do not commute, for noise of no closed form but its moments.
DRIFT = np.array([[-0.5, 1.0], [-1.0, -0.5]])
COLUMNS = (np.array([[0.5, 0.0], [0.2, 0.1]]), np.array([[0.0, 0.6], [0.3, -0.2]]))


def as_matrix(z):
    return np.array([[z.real, -z.imag], [z.imag, z.real]])


@dataclasses.dataclass(frozen=True)
class Noisy:
    """A problem, and its solution at the end from Brownian motions, if there is one."""

    problem: SDEProblem
    exact: Callable[[np.ndarray], np.ndarray] | None = None


def linear(matrices, noise, interpretation, y0, dtype=np.float64):
    """dy = A y dt + Σ B y dW."""
    drift, *columns = [jnp.asarray(m, dtype) for m in matrices]

    def diffusion(t, y, args):
        parts = [column @ y for column in columns]
        return parts[0] if noise == "scalar" else jnp.stack(parts, axis=-1)

    return SDEProblem(
        lambda t, y, args: drift @ y,
        diffusion,
        np.asarray(y0, dtype),
        0.0,
        1.0,
        noise=noise,
        interpretation=interpretation,
    )


def spiral(noise, interpretation, dtype: Any = np.float64) -> Noisy:
    columns = NOISE[:1] if noise == "scalar" else NOISE
    matrices = [as_matrix(z) for z in (RATE, *columns)]
    y0 = [Z0.real, Z0.imag]
    square = sum(b * b for b in columns) if interpretation == "ito" else 0.0

    def exact(w):
        z = Z0 * np.exp(RATE - square / 2 + sum(map(np.multiply, columns, w)))
        return np.array([z.real, z.imag])

    return Noisy(linear(matrices, noise, interpretation, y0, dtype), exact)


def general(noise, interpretation) -> Noisy:
    return Noisy(linear((DRIFT, *COLUMNS), noise, interpretation, [1.0, 0.5]))


def diagonal(noise, interpretation) -> Noisy:
    """dX = -cos(t) X dt + b X dW, each component with a noise of its own."""
    b, y0 = np.array([0.8, -0.6]), np.array([0.5, -0.3])
    problem = SDEProblem(
        lambda t, y, args: -jnp.cos(t) * y,
        lambda t, y, args: jnp.asarray(b) * y,
        y0,
        0.0,
        1.0,
        noise=noise,
        interpretation=interpretation,
    )
    square = b**2 if interpretation == "ito" else 0.0
    return Noisy(problem, lambda w: y0 * np.exp(-math.sin(1.0) - square / 2 + b * w))


def additive(noise, interpretation, matrix=False) -> Noisy:
    """Kloeden & Platen (1992), equation 4.4.7: X = X₀/√(1+t) + β (t + α W)/√(1+t)."""
    alpha, beta = np.array([0.3, -0.5]), np.array([0.5, 1.0])

    def diffusion(t, y, args):
        own = jnp.asarray(alpha * beta) / jnp.sqrt(1 + t)
        return jnp.diag(own) if matrix else own

    problem = SDEProblem(
        lambda t, y, args: jnp.asarray(beta) / jnp.sqrt(1 + t) - y / (2 * (1 + t)),
        diffusion,
        np.ones(2),
        0.0,
        1.0,
        noise=noise,
        interpretation=interpretation,
    )
    return Noisy(problem, lambda w: (1 + beta * (1 + alpha * w)) / math.sqrt(2))


def langevin(noise, interpretation) -> Noisy:
    return Noisy(
        underdamped_langevin(
            lambda x, args: x,
            np.ones(1),
            np.zeros(1),
            0.0,
            1.0,
            interpretation=interpretation,
        )
    )


NOISY: dict[str, Callable[..., Noisy]] = {
    "additive": additive,
    "additive matrix": lambda *kind: additive(*kind, matrix=True),
    "scalar": spiral,
    "scalar float32": lambda *kind: spiral(*kind, dtype=np.float32),
    "diagonal": diagonal,
    "commutative": spiral,
    "general": general,
    "additive langevin": langevin,
}
SENSES = ("ito", "stratonovich")


def kind_of(name, sense):
    noise = name.split()[0]
    langevin = name == "additive langevin"
    matrix = noise in ("general", "commutative") or name.startswith("additive ")
    return Kind("sde", noise, sense, matrix, langevin=langevin)


def kinds(info: Method, stack: str) -> list[str]:
    asked = []
    for name in NOISY:
        for sense in SENSES:
            kind = kind_of(name, sense)
            if info.suits(kind, stack) is None and (kind.langevin or not info.langevin):
                asked.append(f"{name}, {sense}")
    # It refuses several Brownian motions, of which its row says what it loses.
    if LOST_TERMS in info.faults:
        asked = [one for one in asked if one.startswith("scalar")]
    return asked


def strong_order(info: Method, kind: Any) -> float | None:
    """Of convergence along paths; none for one that converges in law alone, or draws
    random numbers beside the path."""
    if not info.strong_order or (info.samples_area and kind.matrix_noise):
        return None
    order = info.strong_order[kind.noise]
    biased = BIASED_DIFFERENCES in info.faults and kind.interpretation != "ito"
    return min(order, 0.5) if biased else order


@pytest.mark.parametrize(("name", "stack", "kind"), cells(SDE_METHODS, kinds))
def test_stochastic_equations(name, stack, kind, request):
    live(stack, request)
    which, sense = kind.split(", ")
    asked = NOISY[which](which.split()[0], sense)
    assert asked.problem.kind == kind_of(which, sense)
    info = find_solver(name, stack, "sde")
    order = strong_order(info, asked.problem.kind)
    if asked.exact is None or order is None:
        check_law(asked.problem, name, stack)
    else:
        check_paths(asked, name, stack, order)


def check_paths(asked: Noisy, name: str, stack: str, order: float) -> None:
    """The root mean square error along some paths, against the closed form."""
    problem = asked.problem
    shape = (2, PATHS, STEPS, problem.noise_dimension)
    dw, area = np.random.default_rng(3).normal(size=shape)
    dw, area = dw / math.sqrt(STEPS), area / math.sqrt(12 * STEPS)

    def end(dw, area):
        path = StoredPath(dw, area, t0=0.0, t1=1.0)
        return solve(problem, stack, solver=name, path=path).ys[-1]

    dtype = problem.dtype
    drawn = dw.astype(dtype), area.astype(dtype)
    if stack == "diffrax":
        ends = jax.jit(jax.vmap(end))(*map(jnp.asarray, drawn))
    else:
        ends = [end(*one) for one in zip(*drawn, strict=True)]
    expected = np.stack([asked.exact(w) for w in dw.sum(axis=1)])
    error = np.sqrt(np.mean((np.asarray(ends) - expected) ** 2))
    # The leading terms have factors of at most two (b², b³ and b⁴ times states of about
    # two); the other interpretation is off by b²/2 of the state, some .4. In single
    # precision 256 steps add round-off of 6e-8 each.
    assert error < 2 * STEPS**-order + (256 * 6e-7 if dtype == np.float32 else 0)


def moments(problem: SDEProblem) -> tuple[np.ndarray, np.ndarray]:
    """Mean and second moments of a linear equation dX = (A X + a) dt + Σ (B X + c) dW.

    In Itô's sense m' = A m + a and, by Itô's formula, S' = A S + a mᵀ + (…)ᵀ +
    Σ (B S Bᵀ + B m cᵀ + c mᵀ Bᵀ + c cᵀ); in Stratonovich's A and a have Σ B B/2 and
    Σ B c/2 beside.
    """
    n = problem.dimension
    drift, diffusion = problem.flat_drift(), problem.flat_diffusion()
    points = jnp.concatenate([jnp.zeros((1, n)), jnp.eye(n)])

    @jax.jit
    def fields(t):
        f = jax.vmap(lambda u: drift(t, u))(points)
        g = jax.vmap(lambda u: diffusion(t, u))(points)
        if not problem.matrix_noise:
            g = g[..., None] if problem.noise == "scalar" else jax.vmap(jnp.diag)(g)
        return f, jnp.moveaxis(g, -1, 0)

    def split(values):
        """The matrix and the constant part of a field, from its values."""
        return (values[1:] - values[0]).T, values[0]

    def rates(t, state):
        f, g = map(np.asarray, fields(t))
        (a, shift), columns = split(f), [split(one) for one in g]
        if problem.interpretation == "stratonovich":
            a = a + sum(b @ b for b, _ in columns) / 2
            shift = shift + sum(b @ c for b, c in columns) / 2
        m, s = state[:n], state[n:].reshape(n, n)
        half = a @ s + np.outer(shift, m)
        noise = sum(
            b @ s @ b.T + np.outer(b @ m, c) + np.outer(c, b @ m) + np.outer(c, c)
            for b, c in columns
        )
        return np.concatenate([a @ m + shift, (half + half.T + noise).ravel()])

    y0 = np.concatenate([np.ravel(y) for y in jax.tree.leaves(problem.y0)])
    start = np.concatenate([y0, np.outer(y0, y0).ravel()])
    found = solve_ivp(rates, (0.0, 1.0), start, "DOP853", rtol=1e-10, atol=1e-12)
    return found.y[:n, -1], found.y[n:, -1].reshape(n, n)


def check_law(problem: SDEProblem, name: str, stack: str) -> None:
    """Mean and second moments at the end against those of the equation."""
    n, steps = 4000, 64
    found = ensemble(
        problem,
        n,
        key=jax.random.key(5),
        backend=stack,
        solver=name,
        dt=1 / steps,
    )
    states = np.concatenate(
        [np.asarray(y)[:, -1].reshape(n, -1) for y in jax.tree.leaves(found.ys)], axis=1
    )
    first, second = moments(problem)
    products = np.einsum("ki,kj->kij", states, states)
    for values, expected in ((states, first), (products, second)):
        error = np.abs(values.mean(axis=0) - expected)
        # One comparison in 10⁷ fails by chance; weak order one leaves 1/64 times a
        # factor of about one. The other interpretation is off by a tenth and more.
        spread = 5.3 * values.std(axis=0) / math.sqrt(n)
        assert np.all(error < spread + 1 / steps), (error, spread)
