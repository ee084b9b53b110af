"""Strong solutions on Diffrax against closed forms along the same path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import hybrid_nds
from hybrid_nds import SDEProblem, StoredPath, solve
from hybrid_nds.methods import SDE_METHODS

FINE, PATHS = 1024, 400


@pytest.fixture(scope="module")
def paths():
    """Increments and areas of many paths on a fine grid, shape (paths, steps, 1)."""

    dw, area = np.random.default_rng(7).normal(size=(2, PATHS, FINE, 1))
    return dw / np.sqrt(FINE), area / np.sqrt(12 * FINE)


# The problem, and its solution at t = 1 from increments and areas of a fine grid.
RATE, VOLATILITY = 0.4, 0.6


def geometric():
    return SDEProblem(
        lambda t, y, a: RATE * y, lambda t, y, a: VOLATILITY * y, np.ones(1), 0.0, 1.0
    )


def geometric_exact(dw, area):
    return jnp.exp(RATE - VOLATILITY**2 / 2 + VOLATILITY * jnp.sum(dw, axis=0))


def arctan():
    """Kloeden & Platen (1992), equation 4.4.46 with a = 1/10."""
    return SDEProblem(
        lambda t, y, a: -jnp.sin(y) * jnp.cos(y) ** 3 / 100,
        lambda t, y, a: jnp.cos(y) ** 2 / 10,
        np.ones(1),
        0.0,
        1.0,
    )


def arctan_exact(dw, area):
    return jnp.arctan(jnp.sum(dw, axis=0) / 10 + jnp.tan(1.0))


def ornstein_uhlenbeck():
    return SDEProblem(
        lambda t, y, a: -2.0 * y,
        lambda t, y, a: 0.5 * jnp.ones_like(y),
        np.ones(1),
        0.0,
        1.0,
        noise="additive",
    )


def ornstein_uhlenbeck_exact(dw, area):
    """e^-2 + 0.5 (W - 2 ∫ e^(-2(1-s)) W ds), by parts; in each of the many steps the
    integral of W itself is exact, with its area."""
    h = 1 / FINE
    start = jnp.cumsum(dw, axis=0) - dw
    middle = jnp.exp(-2 * (1 - h * (jnp.arange(FINE, dtype=float) + 0.5)))[:, None]
    integral = jnp.sum(middle * h * (start + dw / 2 + area), axis=0)
    return jnp.exp(-2.0) + 0.5 * (jnp.sum(dw, axis=0) - 2 * integral)


CLOSED_FORMS = {
    "geometric": (geometric, geometric_exact),
    "arctan": (arctan, arctan_exact),
    "Ornstein-Uhlenbeck": (ornstein_uhlenbeck, ornstein_uhlenbeck_exact),
}


def ends(name, solver, steps, paths):
    """States at t = 1 and exact ones, along many paths; through jit and vmap."""
    make, exact = CLOSED_FORMS[name]
    problem = make()
    info = hybrid_nds.find_solver(solver, "diffrax", "sde")
    if not info.converges_to(problem.kind):
        problem = hybrid_nds.to_stratonovich(problem)

    @jax.jit
    @jax.vmap
    def end(dw, area):
        path = StoredPath(dw, area, t0=0.0, t1=1.0).with_steps(steps)
        return solve(problem, solver=solver, path=path).ys[-1, 0], exact(dw, area)[0]

    return map(np.asarray, end(*paths))


def strong_errors(name, solver, steps, paths):
    found, exact = ends(name, solver, steps, paths)
    return found - exact


DEFAULT = [
    ("geometric", "Euler"),
    ("geometric", "SlowRK"),
    ("Ornstein-Uhlenbeck", "SRA1"),
]
REST = [
    *(
        ("geometric", info.name)
        for info in SDE_METHODS
        if info.diffrax and "diagonal" in info.noise
    ),
    *(("arctan", name) for name in ("Heun", "ItoMilstein", "StratonovichMilstein")),
    *(
        ("Ornstein-Uhlenbeck", info.name)
        for info in SDE_METHODS
        if info.diffrax and "additive" in info.noise and not info.langevin
    ),
]


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        *DEFAULT,
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in REST
            if case not in DEFAULT
        ),
    ],
)
def test_strong_solutions(name, solver, paths):
    """The right limit, at the order of the table: with four times the steps the root
    mean square falls by 4^order."""
    info = hybrid_nds.find_solver(solver, "diffrax", "sde")
    order = info.strong_order[CLOSED_FORMS[name][0]().noise]
    if name == "Ornstein-Uhlenbeck" and order == 1.5:
        # The leading error has a factor f'', which vanishes here.
        order = 2.0
    coarse, fine = (strong_errors(name, solver, n, paths) for n in (16, 64))
    found = np.log2(np.mean(coarse**2) / np.mean(fine**2)) / 4
    # The squares have a kurtosis of some ten: of 400, the mean is known to a sixth, and
    # the slope between two to log2(1 + sqrt(2)/6)/4 = 0.08; three of these.
    assert abs(found - order) < 0.24
    assert np.sqrt(np.mean(fine**2)) < 0.1


def test_law_of_the_euler_error(paths):
    """For geometric Brownian motion log(Euler / exact) is a sum of -σ²(dW² - h)/2 to
    leading order: of variance σ⁴ T h / 2. A chi-square test at the level 1e-6, with
    room for the next order, √h, in the variance."""
    steps = 64
    found, exact = ends("geometric", "Euler", steps, paths)
    statistic = np.sum(np.log(found / exact) ** 2) / (VOLATILITY**4 / (2 * steps))
    low, high = scipy.stats.chi2.ppf([5e-7, 1 - 5e-7], PATHS)
    assert low * (1 - steps**-0.5) < statistic < high * (1 + steps**-0.5)
