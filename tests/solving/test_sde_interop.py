"""Stochastic problems in Diffrax's own terms, and its solvers for Langevin dynamics."""

import diffrax
import jax
import lineax
import numpy as np
import pytest
from sde_cases import (
    ROUND_OFF,
    STEPS,
    VECTOR,
    Decay,
    componentwise,
    matrix,
    plain,
    stored,
)

import hybrid_nds
from hybrid_nds import BrownianPath, SDEProblem, StoredPath, solve


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        ("ALIGN", 2),
        pytest.param("QUICSORT", 3, marks=pytest.mark.slow),
        pytest.param("ShOULD", 3, marks=pytest.mark.slow),
    ],
)
def test_langevin_solvers(solver, order):
    """In a quartic well, against the same method with an eighth of the step, along
    the same path; and all methods have one limit, that of Heun's."""
    problem = hybrid_nds.underdamped_langevin(
        lambda x, args: x**3, np.ones(2), np.zeros(2), 0.0, 1.0, friction=1.5
    )
    if solver == "ALIGN":
        dw, area = np.random.default_rng(1).normal(size=(2, 64, 2)) / 8
        path = StoredPath(dw, area / np.sqrt(12), t0=0.0, t1=1.0)
    else:
        key = jax.random.key(5)
        path = BrownianPath(key, 2, 0.0, 1.0, 1 / 64, "space-time-time")

    def end(steps, name=solver):
        there = path.with_steps(steps)
        return np.concatenate(solve(problem, solver=name, path=there).end_state)

    fine, coarse = end(64), end(8)
    # Coarse errors of order two in 1/8 times constants of a few tenths.
    assert np.max(np.abs(coarse - fine)) < 0.5 * 8.0**-order * 2
    # Heun's error is of order one, its constant that of the noise.
    np.testing.assert_allclose(end(64, "Heun"), fine, atol=2 / 64)


def test_to_diffrax():
    problem = SDEProblem(Decay(), matrix, VECTOR, 0.0, 1.0, noise="general")
    options = {"solver": "Euler", "path": stored(2)}
    arguments = hybrid_nds.to_diffrax(problem, **options)
    raw = diffrax.diffeqsolve(**arguments)
    ours = solve(problem, **options)
    np.testing.assert_array_equal(raw.ys, ours.ys)
    back, converted = hybrid_nds.from_diffrax(**arguments)
    assert isinstance(back, SDEProblem)
    assert back.noise == "general"
    assert back.interpretation == "ito"
    assert isinstance(back.drift, Decay)
    np.testing.assert_array_equal(solve(back, **converted).ys, ours.ys)


def test_from_diffrax():
    """Terms as a user of Diffrax writes them."""
    path = stored(3)
    drift = diffrax.ODETerm(Decay())
    diagonal = diffrax.ControlTerm(
        lambda t, y, args: lineax.DiagonalLinearOperator(componentwise(t, y, args)),
        path,
    )
    problem, options = hybrid_nds.from_diffrax(
        diffrax.MultiTerm(drift, diagonal), diffrax.Heun(), 0.0, 1.0, 1 / STEPS, VECTOR
    )
    assert isinstance(problem, SDEProblem)
    assert (problem.noise, problem.interpretation) == ("diagonal", "stratonovich")
    found = solve(problem, **options).ys[-1]
    np.testing.assert_allclose(found, plain(problem, path, "Heun"), atol=ROUND_OFF)
    general, _ = hybrid_nds.from_diffrax(
        diffrax.MultiTerm(drift, diffrax.ControlTerm(matrix, stored(2))),
        diffrax.Euler(),
        0.0,
        1.0,
        1 / STEPS,
        VECTOR,
    )
    assert isinstance(general, SDEProblem)
    assert (general.noise, general.interpretation) == ("general", "ito")
    other = diffrax.VirtualBrownianTree(0.0, 1.0, 1e-3, (2,), jax.random.key(0))
    with pytest.raises(TypeError, match=r"must be a hybrid_nds\.BrownianPath"):
        hybrid_nds.from_diffrax(
            diffrax.MultiTerm(drift, diffrax.ControlTerm(matrix, other)),
            diffrax.Euler(),
            0.0,
            1.0,
            0.1,
            VECTOR,
        )
