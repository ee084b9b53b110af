"""Strong and weak orders within a tenth, from one step and without chance.

On a linear equation a one-step method multiplies the state by independent factors, so
that the moments of one step make those of all: of the numerical solution, of the exact
one along the same path, and of both together. Those of a step are Gauss–Hermite sums
over the increment and the space-time Lévy area, each node a component of one solve.
Nothing is sampled, and an order that is too high fails as one that is too low.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import slope

from hybrid_nds import SDEProblem, StoredPath, solve, to_stratonovich
from hybrid_nds.methods import SDE_METHODS, find_solver

TOLERANCE = 0.1
COUNTS = (64, 128, 256, 512)
# Fewer steps keep errors of order two above round-off.
FEW = (8, 16, 32, 64)
# With a drift so small its error in Euler's method, a²h/2, is below a hundredth of that
# of the noise, b²√(h/2): the next term bends no slope by more than 0.02.
RATE, VOLATILITY = 0.02, 0.3
DECAY, NOISE = 0.3, 0.5

# exp(b·dW) has converged to round-off at this many points; areas enter a step as a
# polynomial of low degree.
POINTS, AREA_POINTS = 24, 6


def has_order(counts, errors, order):
    return abs(slope(1 / np.array(counts), errors) - order) <= TOLERANCE


def normal_nodes(points):
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    return nodes, weights / weights.sum()


def linear(interpretation, h):
    problem = SDEProblem(
        lambda t, y, a: RATE * y,
        lambda t, y, a: VOLATILITY * y,
        jnp.ones(POINTS * AREA_POINTS),
        0.0,
        h,
        noise="diagonal",
    )
    return problem if interpretation == "ito" else to_stratonovich(problem)


def stepper(backend, solver, problem):
    """One step of a problem of size h, `(h, dw, area) -> y`, in components of their own
    increments and areas."""

    def step(h, dw, area):
        path = StoredPath(dw[None], area[None], t0=0.0, t1=h)
        return solve(problem(h), backend, solver=solver, path=path).ys[-1]

    return jax.jit(step) if backend == "diffrax" else step


def factors(backend, solver, interpretation, counts):
    """For each number of steps the factors p of a step of the method and q of the exact
    solution along the same path, in all nodes, and the weights of these."""
    (x, v), (z, w) = normal_nodes(POINTS), normal_nodes(AREA_POINTS)
    weights = np.outer(v, w).ravel()
    step = stepper(backend, solver, functools.partial(linear, interpretation))
    for count in counts:
        h = 1 / count
        dw = math.sqrt(h) * np.repeat(x, AREA_POINTS)
        found = np.asarray(step(h, dw, math.sqrt(h / 12) * np.tile(z, POINTS)))
        exact = np.exp((RATE - VOLATILITY**2 / 2) * h + VOLATILITY * dw)
        yield count, found, exact, weights


def strong_errors(backend, solver, interpretation):
    """The root mean square error at time one."""
    errors = []
    for count, p, q, w in factors(backend, solver, interpretation, COUNTS):
        # The error e' = p e + (p - q) X beside the exact X' = q X: its mean square and
        # that of the product e X, with no difference of large numbers.
        d = p - q
        square, product, size = 0.0, 0.0, 1.0
        for _ in range(count):
            square = (
                (w @ p**2) * square + 2 * (w @ (p * d)) * product + (w @ d**2) * size
            )
            product = (w @ (p * q)) * product + (w @ (d * q)) * size
            size *= w @ q**2
        errors.append(math.sqrt(square))
    return errors


def weak_errors(backend, solver, interpretation):
    """The error of the mean square at time one."""
    rows = factors(backend, solver, interpretation, FEW)
    truth = math.exp(2 * RATE + VOLATILITY**2)
    return [abs((w @ p**2) ** count - truth) for count, p, _, w in rows]


def relaxation(h):
    """Ornstein and Uhlenbeck's process from 1, from 0 and from 0."""
    return SDEProblem(
        lambda t, y, a: -DECAY * y,
        lambda t, y, a: NOISE * jnp.ones_like(y),
        jnp.array([1.0, 0.0, 0.0]),
        0.0,
        h,
        noise="additive",
    )


def additive_errors(backend, solver):
    """The root mean square error at time one for Ornstein and Uhlenbeck's process.

    A step is y' = α y + β dW + γ H, each found in a component of its own, and the exact
    one X' = q X + I with I = σ ∫ exp(-a u) dW, u the time that is left of the step; H
    has the weight u/h - 1/2.
    """
    step, errors = stepper(backend, solver, relaxation), []
    nodes, weights = np.polynomial.legendre.leggauss(20)
    for count in FEW:
        h = 1 / count
        alpha, beta, gamma = np.asarray(step(h, np.eye(3)[1], np.eye(3)[2]))
        u, w = h * (nodes + 1) / 2, h * weights / 2
        q, kernel = math.exp(-DECAY * h), NOISE * np.exp(-DECAY * u)
        # What the step makes of the noise less I has the weight `rest`.
        rest = beta + gamma * (u / h - 0.5) - kernel
        d = alpha - q
        square, product, size = 0.0, 0.0, 1.0
        for _ in range(count):
            square = alpha**2 * square + 2 * alpha * d * product + d**2 * size
            square += w @ rest**2
            product = alpha * q * product + d * q * size + w @ (rest * kernel)
            size = q**2 * size + w @ kernel**2
        errors.append(math.sqrt(square))
    return errors


# Of methods that know the path by more than H no step is a function of the two alone;
# reversible Heun's carries more than the state from step to step.
def one_step(info):
    return not info.langevin and info.name != "ReversibleHeun"


LINEAR = [
    (stack, info.name, interpretation)
    for stack in ("diffrax", "julia")
    for info in SDE_METHODS
    for interpretation in info.interpretations
    if info.on(stack)
    and info.strong_order.get("diagonal")
    and one_step(info)
    # Known to lose half an order there, as the table says.
    and not (interpretation == "stratonovich" and "RKMil" in info.name)
]
ADDITIVE = [
    (stack, info.name)
    for stack in ("diffrax", "julia")
    for info in SDE_METHODS
    if info.on(stack) and info.strong_order.get("additive") and one_step(info)
]
# Julia's other methods take seconds to compile.
QUICK = {"Euler", "Heun", "RKMil", "SRIW1", "SRA1"}
# The table has the lowest over all kinds of noise.
WEAK_OF_DIAGONAL_NOISE = {"SlowRK": 2.0}


def cases(rows):
    found = []
    for stack, solver, *rest in rows:
        marks = [pytest.mark.julia] if stack == "julia" else []
        if stack == "julia" and solver not in QUICK:
            marks.append(pytest.mark.slow)
        found.append(pytest.param(stack, solver, *rest, marks=marks))
    return found


@pytest.fixture
def session(stack, request):
    if stack == "julia":
        request.getfixturevalue("julia")


@pytest.mark.parametrize(("stack", "solver", "interpretation"), cases(LINEAR))
def test_strong_orders(session, stack, solver, interpretation):
    order = find_solver(solver, stack, "sde").strong_order["diagonal"]
    errors = strong_errors(stack, solver, interpretation)
    assert has_order(COUNTS, errors, order), slope(1 / np.array(COUNTS), errors)


@pytest.mark.parametrize(("stack", "solver"), cases(ADDITIVE))
def test_strong_orders_for_additive_noise(session, stack, solver):
    order = find_solver(solver, stack, "sde").strong_order["additive"]
    # The leading error of methods of order 3/2 has a factor f'', which vanishes here.
    order = 2.0 if order == 1.5 else order
    errors = additive_errors(stack, solver)
    assert has_order(FEW, errors, order), slope(1 / np.array(FEW), errors)


@pytest.mark.parametrize(("stack", "solver", "interpretation"), cases(LINEAR))
def test_weak_orders(session, stack, solver, interpretation):
    order = find_solver(solver, stack, "sde").order
    order = WEAK_OF_DIAGONAL_NOISE.get(solver, order)
    errors = weak_errors(stack, solver, interpretation)
    assert has_order(FEW, errors, order), slope(1 / np.array(FEW), errors)


def test_an_order_too_high_is_none_and_one_too_low_is_none():
    errors = strong_errors("diffrax", "Euler", "ito")
    assert has_order(COUNTS, errors, 0.5)
    for other in (0.35, 0.65, 1.0):
        assert not has_order(COUNTS, errors, other)


def test_euler_s_moments_are_the_closed_ones():
    # E p² = (1 + ah)² + b²h for the Euler–Maruyama method.
    for count, p, q, w in factors("diffrax", "Euler", "ito", FEW):
        h = 1 / count
        square = (1 + RATE * h) ** 2 + VOLATILITY**2 * h
        np.testing.assert_allclose(w @ p**2, square, rtol=1e-14)
        exact = math.exp((2 * RATE + VOLATILITY**2) * h)
        np.testing.assert_allclose(w @ q**2, exact, rtol=1e-14)
