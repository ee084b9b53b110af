"""Every Julia solver reaches a known solution; fixed steps have their order."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import slope

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


def test_every_solver_asked_for_is_there(julia):
    known = {n.casefold() for i in ODE_METHODS if i.julia for n in (i.name, *i.aliases)}
    assert {name.casefold() for name in ASKED_FOR} <= known
    there = {str(name) for name in julia.module.algorithm_names()}
    assert {i.julia for i in ODE_METHODS if i.julia} == there


FIXED = [i for i in ODE_METHODS if i.julia and i.order is not None]
# Short enough for the leading term of the error, long enough to stay above round-off.
STEPS = {1: 256, 2: 128, 3: 96, 4: 32, 5: 20, 6: 16, 7: 12, 8: 10, 9: 8}


# One of every family; the others compile for as long.
QUICK = {"Euler", "Tsit5", "Vern7", "TRBDF2", "Kvaerno5", "Rodas5P", "ImplicitEuler"}


@pytest.mark.parametrize(
    "info",
    [
        pytest.param(i, id=i.name, marks=() if i.name in QUICK else pytest.mark.slow)
        for i in FIXED
    ],
)
def test_fixed_steps_have_their_order(info, julia):
    # y' = -2 t y², y(0) = 1 has the solution 1 / (1 + t²). It depends on time: a method
    # with a stage at the wrong time has its order for autonomous fields only.
    problem = ODEProblem(lambda t, y, args: -2 * t * y**2, np.array([1.0]), 0.0, 3.0)
    counts = np.round(STEPS[info.order] * np.array([1, 1.25, 1.6, 2.0])).astype(int)
    errors = []
    for count in counts:
        solution = solve(problem, "julia", solver=info.name, dt=3.0 / count)
        assert solution.stats["num_accepted_steps"] == count
        errors.append(abs(float(solution.ys[0, 0]) - 0.1))
    assert min(errors) > 3e-14
    # The next term of the error adds at most a few tenths over these steps; a lost
    # order takes away one.
    assert slope(1.0 / counts, errors) > info.order - 0.4
