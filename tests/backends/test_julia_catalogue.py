"""Algorithms of Julia's packages that no table has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import (
    BrownianPath,
    ODEProblem,
    SDEProblem,
    find_solver,
    solve,
    solver_names,
)

pytestmark = pytest.mark.julia

NAMED = "OrdinaryDiffEqRosenbrock.Rodas5P"
RATE, END = 3.0, 1.5


def problem(rate=RATE):
    """y' = −a y + cos t from y(0) = 2."""
    return ODEProblem(
        lambda t, y, rate: -rate * y + jnp.cos(t), np.array([2.0]), 0.0, END, rate
    )


def exact(a=RATE):
    """Its solution, by variation of constants."""
    forced = lambda t: (a * np.cos(t) + np.sin(t)) / (a**2 + 1)
    return forced(END) + (2 - forced(0.0)) * np.exp(-a * END)


def slope():
    """Its derivative in a, by a complex step (Squire & Trapp 1998)."""
    return np.imag(exact(RATE + 1e-30j)) / 1e-30


def loss(solver):
    return lambda rate: solve(
        problem(rate), "julia", solver=solver, rtol=1e-8, atol=1e-10
    ).ys[-1, 0]


def test_an_algorithm_of_the_table_by_its_full_name_is_itself(julia):
    rate = jnp.asarray(RATE)
    for transform in (lambda f: f, jax.jit, jax.grad):
        named, known = (transform(loss(one))(rate) for one in (NAMED, "Rodas5P"))
        np.testing.assert_array_equal(named, known)
    found = solve(problem(), "julia", solver=NAMED)
    assert found.provenance.solver == NAMED


def test_an_algorithm_that_was_made_in_julia(julia):
    code = "HybridNDS.Rodas5P(; autodiff = HybridNDS.AutoFiniteDiff())"
    made = julia.main.seval(code)
    known = solve(problem(), "julia", solver="Rodas5P")
    for _ in range(2):
        found = solve(problem(), "julia", solver=made)
        np.testing.assert_array_equal(found.ys, known.ys)
    assert found.provenance.solver == "Rodas5P"
    with pytest.raises(TypeError, match=r"`solver`.*algorithm .* was expected"):
        solve(problem(), "julia", solver=julia.main.seval("1 + 2im"))


def test_what_it_declares(julia):
    row = find_solver("OrdinaryDiffEqRosenbrock.Rodas4P2", "julia")
    assert (row.order, row.adaptive, row.implicit) == (4.0, ("julia",), True)
    assert row.derivatives
    plain = find_solver("OrdinaryDiffEqLowOrderRK.BS5", "julia")
    assert (plain.order, plain.implicit, plain.derivatives) == (5.0, False, False)
    fixed = "OrdinaryDiffEqRosenbrock.RosenbrockW6S4OS"
    with pytest.raises(ValueError, match="no error estimate"):
        solve(problem(), "julia", solver=fixed, rtol=1e-6)
    listed = solver_names("julia", installed=True)
    assert {NAMED, fixed, "Rodas5P"} <= set(listed)
    assert listed == tuple(sorted(listed, key=str.casefold))


@pytest.mark.parametrize(
    ("solver", "words"),
    [
        ("OrdinaryDiffEqRosenbrock.Rodas99", "has no algorithm Rodas99"),
        ("NoSuchPackage.Rodas5P", "has no package NoSuchPackage; add it"),
        ("LinearAlgebra.norm", "has no algorithm norm"),
        ("OrdinaryDiffEqVerner.AutoVern7", "has no algorithm AutoVern7"),
        ('Base.run(`true`); "', "a Julia package and of an algorithm in it"),
        ("OrdinaryDiffEqRosenbrock.", "a Julia package and of an algorithm in it"),
    ],
)
def test_names_that_there_are_not(julia, solver, words):
    with pytest.raises(ValueError, match=words):
        solve(problem(), "julia", solver=solver)


def test_stochastic_problems_take_the_table_alone(julia):
    noisy = SDEProblem(
        lambda t, y, a: -y, lambda t, y, a: jnp.ones(1), jnp.ones(1), 0.0, 1.0
    )
    path = BrownianPath(jax.random.key(0), 1, 0.0, 1.0, 0.25)
    with pytest.raises(ValueError, match="must be one of the table"):
        solve(noisy, "julia", solver="StochasticDiffEqLowOrder.EM", path=path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "differentiable"),
    [
        ("OrdinaryDiffEqRosenbrock.Rodas42", True),
        ("OrdinaryDiffEqRosenbrock.Rodas4P", True),
        ("OrdinaryDiffEqRosenbrock.Rodas4P2", True),
        ("OrdinaryDiffEqRosenbrock.Rodas5", True),
        ("OrdinaryDiffEqRosenbrock.Rodas5Pe", True),
        ("OrdinaryDiffEqRosenbrock.Rodas5Pr", True),
        ("OrdinaryDiffEqRosenbrock.Rodas6P", True),
        ("OrdinaryDiffEqSDIRK.KenCarp47", False),
        ("OrdinaryDiffEqLowOrderRK.OwrenZen5", False),
    ],
)
def test_solutions_and_derivatives_in_closed_form(julia, solver, differentiable):
    rate = jnp.asarray(RATE)
    # A hundred times the tolerance of the local error, over some ten steps.
    np.testing.assert_allclose(loss(solver)(rate), exact(), atol=1e-6)
    if differentiable:
        np.testing.assert_allclose(jax.grad(loss(solver))(rate), slope(), atol=1e-6)
    else:
        with pytest.raises(TypeError, match="no derivatives"):
            jax.grad(loss(solver))(rate)
