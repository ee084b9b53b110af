"""What accuracy costs: errors against closed forms; times are not tested."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from hybrid_nds import ODEProblem, Provenance, SDEProblem
from hybrid_nds.discretization import WorkPrecision, WorkRow, work_precision


def rotation():
    matrix = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    return ODEProblem(lambda t, y, args: matrix @ y, jnp.array([1.0, 0.0]), 0.0, 2.0)


EXACT = np.array([math.cos(2.0), -math.sin(2.0)])


def brownian(a=0.5, b=0.4):
    return SDEProblem(
        lambda t, y, args: a * y,
        lambda t, y, args: b * y,
        jnp.array([1.0]),
        0.0,
        1.0,
        noise="diagonal",
        interpretation="ito",
    )


def end_of(path, a=0.5, b=0.4):
    w = jnp.sum(path.increments()[0], axis=0)
    return jnp.exp(a - b**2 / 2 + b * w)


def table(*rows):
    made = [
        WorkRow("diffrax", solver, None, steps, error, 0.0, steps, seconds)
        for solver, steps, error, seconds in rows
    ]
    return WorkPrecision(tuple(made), "a closed form", 1, {}, Provenance("", "", ()))


def test_the_cheapest_row_is_the_one_that_takes_least():
    found = table(
        ("Euler", 10, 1e-1, 1.0), ("Euler", 1000, 1e-3, 9.0), ("Heun", 30, 1e-3, 2.0)
    )
    assert found.cheapest(1e-3).solver == "Heun"
    assert found.cheapest(0.5).fixed_steps == 10
    with pytest.raises(ValueError, match=r"the least is 0\.001, of Euler on diffrax"):
        found.cheapest(1e-6)


def test_errors_of_fixed_steps_are_those_of_the_scheme():
    # Heun's amplification of a rotation: (1 + ih − h²/2)^n against e^{2i}.
    found = work_precision(
        rotation(), {"diffrax": ["Heun"]}, steps=(10, 20, 40), exact=EXACT, repeats=1
    )
    assert [row.fixed_steps for row in found.rows] == [10, 20, 40]
    for row in found.rows:
        h = 2.0 / row.fixed_steps
        end = (1 + 1j * h - h**2 / 2) ** row.fixed_steps
        np.testing.assert_allclose(row.error, abs(end - np.exp(2j)), rtol=1e-9)
        assert row.steps == row.fixed_steps
        assert row.seconds > 0


def test_tolerances_are_followed():
    found = work_precision(
        rotation(), {"diffrax": ["Tsit5"]}, rtols=(1e-4, 1e-8), exact=EXACT, repeats=1
    )
    loose, tight = found.rows
    assert loose.tolerance == 1e-4
    assert tight.error < 1e-3 * loose.error
    assert tight.steps > loose.steps
    assert found.reference == "the exact solution"


def test_a_reference_of_its_own_is_the_tight_solve():
    found = work_precision(
        rotation(), {"diffrax": ["Tsit5", "Dopri8"]}, rtols=(1e-6,), repeats=1
    )
    known = work_precision(
        rotation(), {"diffrax": ["Tsit5"]}, rtols=(1e-6,), exact=EXACT, repeats=1
    )
    # The reference is good to some 1e-12.
    np.testing.assert_allclose(found.rows[0].error, known.rows[0].error, atol=1e-10)
    assert found.reference == "Dopri8 on diffrax at a tolerance of 1e-12"


def test_solves_that_fail_reach_no_error():
    found = work_precision(
        rotation(),
        {"diffrax": ["Tsit5"]},
        rtols=(1e-10,),
        exact=EXACT,
        repeats=1,
        max_steps=3,
    )
    assert found.rows[0].error == math.inf
    with pytest.raises(ValueError, match="no row reaches"):
        found.cheapest(1.0)


@pytest.mark.slow
def test_stochastic_errors_fall_at_their_orders():
    found = work_precision(
        brownian(),
        {"diffrax": ["Euler", "ItoMilstein"]},
        steps=(8, 16, 32),
        exact=end_of,
        paths=400,
        key=jr.key(1),
        repeats=1,
    )
    errors = {
        s: [r.error for r in found.rows if r.solver == s]
        for s in ("Euler", "ItoMilstein")
    }
    slopes = {
        s: np.polyfit(np.log([8, 16, 32]), np.log(e), 1)[0] for s, e in errors.items()
    }
    # Strong orders 1/2 and 1; 400 paths leave a few per cent.
    np.testing.assert_allclose(slopes["Euler"], -0.5, atol=0.15)
    np.testing.assert_allclose(slopes["ItoMilstein"], -1.0, atol=0.15)
    assert all(row.standard_error > 0 for row in found.rows)


def test_the_result_shows_itself(tmp_path):
    found = table(("Euler", 10, 1e-1, 1.0), ("Euler", 1000, 1e-3, 9.0))
    assert "Euler on diffrax" in str(found)
    assert len(found.plot(tmp_path / "work.png").axes) == 2
    assert list(found.variables()["error"][1]) == [1e-1, 1e-3]


@pytest.mark.slow
@pytest.mark.julia
def test_both_backends_stand_in_one_table(julia):
    found = work_precision(
        rotation(),
        {"diffrax": ["Tsit5"], "julia": ["Vern7"]},
        rtols=(1e-6, 1e-8),
        exact=EXACT,
        repeats=1,
    )
    assert {row.backend for row in found.rows} == {"diffrax", "julia"}
    assert found.cheapest(1e-5).error <= 1e-5
    stochastic = work_precision(
        brownian(),
        {"diffrax": ["Euler"], "julia": ["Euler"]},
        steps=(8, 16, 32),
        exact=end_of,
        paths=20,
        key=jr.key(1),
        repeats=1,
    )
    here, there = stochastic.rows[:3], stochastic.rows[3:]
    # The same scheme along the same paths.
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one.error, other.error, rtol=1e-10)


@pytest.mark.parametrize(
    ("problem", "options", "match"),
    [
        (rotation, {"methods": {"numpy": ["RK45"]}}, "`methods` must name solvers of"),
        (rotation, {"methods": {}}, "`methods` must name"),
        (rotation, {"rtols": (0.0,)}, "`rtols` must be positive"),
        (rotation, {"repeats": 0}, "`repeats` must be"),
        (brownian, {}, "needs `methods`"),
        (brownian, {"methods": {"diffrax": ["Euler"]}}, "needs a JAX random `key`"),
        (
            brownian,
            {"methods": {"diffrax": ["Euler"]}, "key": 0, "steps": (8, 24, 32)},
            "each twice the one before",
        ),
    ],
)
def test_bad_input_is_named(problem, options, match):
    with pytest.raises(ValueError, match=match):
        work_precision(problem(), **options)


def test_other_problems_are_refused():
    with pytest.raises(TypeError, match="must be an ODEProblem or an SDEProblem"):
        work_precision(jax.numpy.ones(2))
