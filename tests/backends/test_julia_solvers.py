"""Every Julia solver reaches a known solution; fixed steps have their order."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import order_seen

from hybrid_nds import ODEProblem, solve
from hybrid_nds.methods import ODE_METHODS

pytestmark = pytest.mark.julia

ADAPTIVE = [i.name for i in ODE_METHODS if i.julia and i.adaptive]
# Julia has them compiled beforehand: the others take seconds each.
COMPILED = {"default", "Tsit5", "Vern7", "Rodas5P", "FBDF", "Kvaerno5", "RadauIIA5"}
ASKED_FOR = (
    "default Tsit5 Vern7 Vern9 DP5 BS3 Rosenbrock23 Rodas5P FBDF QNDF TRBDF2 KenCarp4 "
    "Kvaerno3 Kvaerno4 Kvaerno5 RadauIIA5 ImplicitEuler Euler Heun Midpoint Ralston "
    "ROCK4"
).split()


def _relaxation():
    """Prothero and Robinson's problem: cos(t) attracts, and is itself the solution."""
    return ODEProblem(
        lambda t, y, rate: rate * (y - jnp.cos(t)) - jnp.sin(t),
        np.array([1.0]),
        0.0,
        3.0,
        args=np.array(-5.0),
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in COMPILED else (pytest.mark.slow,))
        for name in ADAPTIVE
    ],
)
def test_adaptive_reaches_the_solution(name, julia):
    rtol, atol = 1e-6, 1e-6
    solution = solve(_relaxation(), "julia", solver=name, rtol=rtol, atol=atol)
    error = abs(float(solution.ys[0, 0]) - np.cos(3.0))
    # Each step may add one tolerance, and the field only shrinks what came before;
    # multistep and stage-value estimates are not bounds, hence the factor.
    steps = solution.stats["num_accepted_steps"]
    assert error <= 3 * steps * (rtol + atol)
    assert solution.succeeded
    assert solution.provenance.solver in {i.julia for i in ODE_METHODS}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "Kvaerno5" else (pytest.mark.slow,))
        for name in (*ADAPTIVE, "OrdinaryDiffEqSDIRK.KenCarp47")
    ],
)
def test_the_unit_of_time_changes_no_bit(name, julia):
    # Units that are powers of two round nothing, so that every number of a solve is the
    # same; the first step, which Julia bounds by 1e-6 of any unit, is given. Only FBDF
    # rounds the weights of past steps otherwise: its steps are nearly the same.
    exact = name != "FBDF"

    def ends(unit):
        problem = ODEProblem(
            lambda t, y, a: (-200 * (y - jnp.cos(t / unit)) - jnp.sin(t / unit)) / unit,
            np.array([0.5, 1.0]),
            0.0,
            3.0 * unit,
        )
        options = {"rtol": 1e-6, "atol": 1e-6, "dt": 2.0**-12 * unit}
        found = solve(problem, "julia", solver=name, **options)
        assert found.succeeded
        return found.ys[-1], found.stats["num_steps"]

    state, steps = ends(1.0)
    for unit in (2.0**-10, 2.0**10):
        other, count = ends(unit)
        np.testing.assert_allclose(other, state, rtol=0, atol=0 if exact else 2e-6)
        assert abs(count - steps) <= (0 if exact else steps // 10)


def test_every_solver_asked_for_is_there(julia):
    known = {n.casefold() for i in ODE_METHODS if i.julia for n in (i.name, *i.aliases)}
    assert {name.casefold() for name in ASKED_FOR} <= known
    there = {str(name) for name in julia.module.algorithm_names()}
    assert {i.julia for i in ODE_METHODS if i.julia} == there


FIXED = [i for i in ODE_METHODS if i.julia and i.order is not None]
# Of the longest steps: short enough for the leading terms of the error, long enough for
# a quarter of them to stay above round-off.
STEPS = {1: 64, 2: 32, 3: 32, 4: 32, 5: 32, 6: 8, 7: 16, 8: 8, 9: 8}


# Fields that depend on time: a method with a stage at the wrong time has its order for
# autonomous ones only.
def _turning():
    """No error of y' = t (-y₂, y₁) grows or shrinks, so that none of a step's makes up
    for another's."""
    problem = ODEProblem(
        lambda t, y, args: t * jnp.stack([-y[1], y[0]]), np.array([1.0, 0.0]), 0.0, 3.0
    )
    return problem, np.array([np.cos(4.5), np.sin(4.5)])


def _tangent():
    """Not linear: Vern6 has its order there, and one more for linear equations."""
    problem = ODEProblem(
        lambda t, y, args: (1 + y**2) * jnp.cos(t) / 2, np.array([0.3]), 0.0, 2.0
    )
    return problem, np.tan(np.arctan(0.3) + np.sin([2.0]) / 2)


# Compiled beforehand, in fixed steps too, with one of every family among them.
QUICK = COMPILED | set("Euler Heun Midpoint Ralston Bosh3 Dopri5 ImplicitEuler".split())
QUICK -= {"RadauIIA5"}


@pytest.mark.parametrize(
    "info",
    [
        pytest.param(i, id=i.name, marks=() if i.name in QUICK else pytest.mark.slow)
        for i in FIXED
    ],
)
def test_fixed_steps_have_their_order(info, julia):
    problem, exact = _tangent() if info.name == "Vern6" else _turning()
    span, errors = float(problem.t1), []
    for count in STEPS[info.order] * np.array([1, 2, 4]):
        solution = solve(problem, "julia", solver=info.name, dt=span / count)
        assert solution.stats["num_accepted_steps"] == count
        errors.append(np.linalg.norm(solution.ys[0] - exact))
    assert min(errors) > 3e-14
    # The next term of the error drops out of the order; the one after it moves it by
    # less than a tenth, and by more for orders of eight and nine, whose errors are lost
    # in round-off before. An order that is lost takes away one.
    allowed = 0.1 if info.order < 8 else 0.5
    assert abs(order_seen(errors) - info.order) < allowed, errors
