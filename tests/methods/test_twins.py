"""Every twin of the tables takes the step of the published tableau, on both stacks."""

import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem, SDEProblem, StoredPath, solve
from hybrid_nds.methods import ODE_METHODS, SDE_METHODS

TWINS = [info.name for info in ODE_METHODS if info.twin]
STEPS = 20


def rows(*entries):
    """A tableau by its rows; the last row is that of the weights."""
    table = np.zeros((len(entries), len(entries)))
    for k, entry in enumerate(entries):
        table[k, : len(entry)] = entry
    return table


def diagonal(gamma, *entries):
    """That of a method whose stages but the first are implicit, by the rows below the
    diagonal; the last stage is the new state."""
    table = rows(*entries)
    for k in range(1, len(entries)):
        table[k, k] = gamma
    return table


# Kværnø (2004), BIT 44, 489: γ solves 6γ³ - 18γ² + 9γ - 1 = 0, to ten digits there.
G = 0.4358665215
KVAERNO3 = diagonal(
    G,
    [],
    [G],
    [(-4 * G**2 + 6 * G - 1) / (4 * G), (1 - 2 * G) / (4 * G)],
    [
        (6 * G - 1) / (12 * G),
        -1 / ((24 * G - 12) * G),
        (-6 * G**2 + 6 * G - 1) / (6 * G - 3),
    ],
)
# The same, to the digits that OrdinaryDiffEqSDIRK has.
KVAERNO5 = diagonal(
    0.26,
    [],
    [0.26],
    [0.13, 0.84033320996790809],
    [0.22371961478320505, 0.47675532319799699, -0.06470895363112615],
    [
        *(0.16648564323248321, 0.1045001884159172, 0.03631482272098715),
        -0.13090704451073998,
    ],
    [
        *(0.13855640231268224, 0.0, -0.04245337201752043),
        *(0.02446657898003141, 0.61943039072480676),
    ],
    [
        *(0.13659751177640291, 0.0, -0.05496908796538376, -0.04118626728321046),
        *(0.62993304899016403, 0.06962479448202728),
    ],
)
# Kennedy & Carpenter (2003), Appl. Numer. Math. 44, 139: the implicit parts of
# ARK3(2)4L[2]SA and ARK4(3)6L[2]SA.
GAMMA = 1767732205903 / 4055673282236
KENCARP3 = diagonal(
    GAMMA,
    [],
    [GAMMA],
    [2746238789719 / 10658868560708, -640167445237 / 6845629431997],
    [
        1471266399579 / 7840856788654,
        -4482444167858 / 7529755066697,
        11266239266428 / 11593286722821,
    ],
)
KENCARP4 = diagonal(
    1 / 4,
    [],
    [1 / 4],
    [8611 / 62500, -1743 / 31250],
    [5012029 / 34652500, -654441 / 2922500, 174375 / 388108],
    [
        *(15267082809 / 155376265600, -71443401 / 120774400),
        *(730878875 / 902184768, 2285395 / 8070912),
    ],
    [82889 / 524892, 0, 15625 / 83664, 69875 / 102672, -2260 / 8211],
)
TABLEAUX = {
    "Euler": rows([], [1]),
    "Heun": rows([], [1], [1 / 2, 1 / 2]),
    "Midpoint": rows([], [1 / 2], [0, 1]),
    "Ralston": rows([], [2 / 3], [1 / 4, 3 / 4]),
    # Bogacki & Shampine (1989), Appl. Math. Lett. 2, 321.
    "Bosh3": rows([], [1 / 2], [0, 3 / 4], [2 / 9, 1 / 3, 4 / 9]),
    # Dormand & Prince (1980), J. Comput. Appl. Math. 6, 19.
    "Dopri5": rows(
        [],
        [1 / 5],
        [3 / 40, 9 / 40],
        [44 / 45, -56 / 15, 32 / 9],
        [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
        [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
        [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
    ),
    # Tsitouras (2011), Comput. Math. Appl. 62, 770, as OrdinaryDiffEqTsit5 has it.
    "Tsit5": rows(
        [],
        [0.161],
        [-0.008480655492356989, 0.335480655492357],
        [2.8971530571054935, -6.359448489975075, 4.3622954328695815],
        [
            *(5.325864828439257, -11.748883564062828, 7.4955393428898365),
            -0.09249506636175525,
        ],
        [
            *(5.86145544294642, -12.92096931784711, 8.159367898576159),
            *(-0.071584973281401, -0.028269050394068383),
        ],
        [
            *(0.09646076681806523, 0.01, 0.4798896504144996),
            *(1.379008574103742, -3.290069515436081, 2.324710524099774),
        ],
    ),
    "ImplicitEuler": np.array([[0.0, 0.0], [0.0, 1.0]]),
    "KenCarp3": KENCARP3,
    "KenCarp4": KENCARP4,
    "Kvaerno3": KVAERNO3,
    "Kvaerno5": KVAERNO5,
}
IMPLICIT = {info.name for info in ODE_METHODS if info.implicit}


# Nonlinear, and with time in it: a stage at another time or state shows.
def field(t, y, args):
    return jnp.stack([-2 * t * y[0] ** 2, y[0] * jnp.cos(3 * t) - y[1] ** 3])


def plain_field(t, y):
    return np.array([-2 * t * y[0] ** 2, y[0] * np.cos(3 * t) - y[1] ** 3])


def plain_jacobian(t, y):
    return np.array([[-4 * t * y[0], 0], [np.cos(3 * t), -3 * y[1] ** 2]])


START = np.array([1.0, 0.5])


def plain(tableau):
    """The states of the steps, the stages solved by Newton's method to round-off."""
    h, y, states = 1 / STEPS, START, []
    for n in range(STEPS):
        slopes = []
        for row in tableau:
            t = (n + row.sum()) * h
            known = y + h * sum(
                (a * k for a, k in zip(row, slopes, strict=False)), np.zeros(2)
            )
            gamma = h * row[len(slopes)]
            stage = known
            for _ in range(12 if gamma else 0):
                residual = stage - known - gamma * plain_field(t, stage)
                matrix = np.eye(2) - gamma * plain_jacobian(t, stage)
                stage = stage - np.linalg.solve(matrix, residual)
            slopes.append(plain_field(t, stage))
        # The last row's stage is the new state.
        y = stage
        states.append(y)
    return np.array(states)


def taken(stack, solver):
    problem = ODEProblem(field, jnp.array(START), 0.0, 1.0)
    found = solve(problem, stack, solver=solver, dt=1 / STEPS, saveat="steps")
    states = np.asarray(found.ys)
    return states[np.asarray(found.ts) > 0]


# Each step rounds some dozen operations a stage on numbers of size one, and what it
# starts from grows by less than two over the span.
ROUND_OFF = 2 * STEPS * 7 * 12 * np.finfo(float).eps


def test_every_twin_has_a_tableau():
    assert set(TWINS) == set(TABLEAUX)
    assert len(TWINS) == 12


@pytest.mark.parametrize("solver", TWINS)
def test_diffrax_takes_the_steps_of_the_published_tableau(solver):
    # Newton's iteration on a smooth field leaves the square of what it is asked for.
    found = taken("diffrax", solver)
    np.testing.assert_allclose(found, plain(TABLEAUX[solver]), rtol=0, atol=ROUND_OFF)


@pytest.mark.parametrize("solver", ["Tsit5", "KenCarp3"])
def test_a_coefficient_off_by_a_hundred_millionth_is_seen(solver):
    exact, tableau = plain(TABLEAUX[solver]), TABLEAUX[solver]
    for place in zip(*np.nonzero(tableau), strict=True):
        wrong = tableau.copy()
        wrong[place] += 1e-8
        assert np.abs(plain(wrong) - exact).max() > 2 * ROUND_OFF, place


SLOW = {"KenCarp3", "KenCarp4", "Kvaerno3", "Bosh3", "Heun", "Midpoint", "Ralston"}


@pytest.mark.julia
@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in TWINS
    ],
)
def test_julia_takes_the_steps_of_diffrax(julia, solver):
    # Both stop Newton's iteration within 2 ε^0.57 of a stage at the latest; each of
    # seven stages in every step may be as far off.
    limit = ROUND_OFF
    if solver in IMPLICIT:
        limit += 2 * STEPS * 7 * 2 * np.finfo(float).eps ** 0.57
    np.testing.assert_allclose(
        taken("julia", solver), taken("diffrax", solver), rtol=0, atol=limit
    )


def drift(t, y, args):
    return -y * (1 + t)


def additive(t, y, args):
    return 0.3 * jnp.ones_like(y)


def diagonal_noise(t, y, args):
    return 0.3 * jnp.sin(y) + 0.1 * t


STOCHASTIC = {
    "Euler": (diagonal_noise, "diagonal", "ito"),
    "Heun": (diagonal_noise, "diagonal", "stratonovich"),
    "SRA1": (additive, "additive", "ito"),
}


def test_every_stochastic_twin_is_compared():
    assert set(STOCHASTIC) == {i.name for i in SDE_METHODS if i.twin}


@pytest.mark.julia
@pytest.mark.parametrize("solver", STOCHASTIC)
def test_julia_takes_the_stochastic_steps_of_diffrax(julia, solver):
    noise, kind, interpretation = STOCHASTIC[solver]
    problem = SDEProblem(
        drift,
        noise,
        jnp.array([0.7, -0.4]),
        0.0,
        1.0,
        noise=kind,
        interpretation=interpretation,
    )
    dw, area = np.random.default_rng(0).normal(size=(2, STEPS, 2))
    path = StoredPath(dw / np.sqrt(STEPS), area / np.sqrt(12 * STEPS), t0=0.0, t1=1.0)
    found, other = (
        np.asarray(solve(problem, stack, solver=solver, path=path).ys)
        for stack in ("diffrax", "julia")
    )
    np.testing.assert_allclose(found, other, rtol=0, atol=ROUND_OFF)
