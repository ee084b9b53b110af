"""Stiffness against closed forms."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem
from hybrid_nds.analysis import AnalysisError
from hybrid_nds.stability import stiffness

BACKENDS = ["diffrax", pytest.param("julia", marks=pytest.mark.julia)]


@pytest.fixture
def backend(request):
    if request.param == "julia":
        request.getfixturevalue("julia")
    return request.param


def linear(t, y, matrix):
    return matrix @ y


def linear_problem(matrix, t1=1.0):
    return ODEProblem(linear, jnp.ones(2), 0.0, t1, jnp.asarray(matrix, float))


FAST = np.diag([-1.0, -1e6])


def van_der_pol(t, y, mu):
    return jnp.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])


@pytest.fixture(scope="module")
def slow_and_fast():
    return stiffness(linear_problem(FAST), max_steps=2000)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_the_diagonal_field_of_the_table(backend):
    found = stiffness(linear_problem(FAST), backend=backend, max_steps=2000)
    assert np.all(np.abs(found.ratios - 1e6) <= found.ratio_errors)
    assert found.ratio_error < 1e-2
    np.testing.assert_allclose(found.radii, 1e6, rtol=1e-15)
    # ∫ρ dt is a million, and Tsit5 stable up to 3.5068 on the negative axis (computed
    # from its tableau by hand, as SciML's alg_stability_size has it).
    assert found.stability_limit == pytest.approx(3.5068, abs=1e-4)
    assert found.stability_steps == pytest.approx(1e6 / 3.5068, rel=1e-4)
    assert found.stiff
    assert not found.explicit_finished
    assert found.explicit_steps == 2000
    assert found.implicit_steps < 200
    assert found.provenance.backend == backend
    # Steps that stability rules: on average at its limit, which the controller only
    # crosses to be thrown back.
    settled = found.explicit_step_radii[len(found.explicit_step_radii) // 2 :]
    assert np.mean(settled) == pytest.approx(found.stability_limit, rel=0.1)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_the_van_der_pol_oscillator(backend):
    problem = ODEProblem(
        van_der_pol, jnp.array([2.0, 0.0]), 0.0, 2000.0, jnp.array(1000.0)
    )
    found = stiffness(problem, backend=backend, max_steps=4000)
    # λ² + 3000 λ + 1 = 0 at the start.
    root = np.sqrt(1500.0**2 - 1)
    start = (1500 + root) ** 2
    assert found.times[0] == 0.0
    assert abs(found.ratios[0] - start) <= found.ratio_errors[0]
    assert found.radii[0] == pytest.approx(1500 + root, rel=1e-12)
    assert found.stiff
    assert not found.explicit_finished
    # Along the slow part of the limit cycle the fast rate is μ(x² − 1), and x falls
    # from 2 to 1 while t runs over (3/2 − log 2)μ, by dt = −μ(x² − 1)/x dx. So of its
    # integral: μ² ∫(x² − 1)²/x dx = μ²(15/4 − 3 + log 2) each; 2000 is 2.48 of these
    # parts. The jumps and the front of the last part matter little to a tenth.
    whole, rest = 2, 2000 / ((1.5 - np.log(2)) * 1000) - 2
    part = 0.75 + np.log(2)
    # Where the third part ends: (3/2 − x²/2 + log(x/2) + 1/2) = rest (3/2 − log 2).
    x = np.linspace(1, 2, 100_001)
    time = (4 - x**2) / 2 - np.log(2 / x)
    end = x[np.argmin(np.abs(time - rest * (1.5 - np.log(2))))]

    def inner(x):
        return x**4 / 4 - x**2 + np.log(x)

    expected = 1e6 * (whole * part + inner(2) - inner(end)) / found.stability_limit
    assert found.stability_steps == pytest.approx(expected, rel=0.1)
    assert found.stability_steps > 100 * found.implicit_steps


def test_a_problem_that_is_not_stiff():
    problem = ODEProblem(van_der_pol, jnp.array([2.0, 0.0]), 0.0, 20.0, jnp.array(1.0))
    found = stiffness(problem, samples=20, max_steps=4000)
    assert not found.stiff
    assert found.explicit_finished
    assert len(found.times) <= 20
    assert found.stability_steps < found.explicit_steps / 2
    assert "not stiff" in str(found)


def test_what_does_not_decay_has_no_ratio():
    turning = linear_problem([[0.0, 1.0], [-1.0, 0.0]], 5.0)
    found = stiffness(turning, max_steps=2000)
    assert np.all(np.isnan(found.ratios))
    assert np.isnan(found.ratio)
    assert np.isnan(found.ratio_error)
    assert "nothing decays" in str(found)
    assert "nan" not in str(found)
    assert np.all(found.radii == 0)
    assert not found.stiff
    # One rate alone has the ratio one; a slow rate of growth counts as slow.
    alone = stiffness(linear_problem(np.diag([-3.0, 0.0])), max_steps=2000)
    assert alone.ratio == 1.0
    growing = stiffness(linear_problem(np.diag([-3.0, 0.01])), max_steps=2000)
    assert abs(growing.ratio - 300) <= growing.ratio_error < 1e-9


@pytest.mark.slow
def test_a_pytree_state_in_single_precision():
    def field(t, y, args):
        return {"a": -y["a"], "b": -50.0 * y["b"]}

    ones = jnp.ones((), jnp.float32)
    problem = ODEProblem(field, {"a": ones, "b": jnp.ones((2,), jnp.float32)}, 0.0, 1.0)
    found = stiffness(problem)
    assert found.ratio == pytest.approx(50.0, abs=found.ratio_error)


def test_stiffness_prints_plots_and_turns_into_data(slow_and_fast, tmp_path):
    text = str(slow_and_fast)
    assert "stiff: stability rules 100%" in text
    assert "did not come to the end" in text
    data = json.loads(json.dumps(slow_and_fast.to_dict()))
    assert data["stiff"] is True
    assert slow_and_fast.to_xarray()["ratios"].dims == ("step",)
    assert len(slow_and_fast.plot(tmp_path / "s.png").axes) == 2


def test_failures_are_named():
    problem = linear_problem(FAST)
    with pytest.raises(AnalysisError, match=r"implicit solve failed.*`max_steps`"):
        stiffness(problem, max_steps=10)
    with pytest.raises(ValueError, match="finite, forward span"):
        stiffness(linear_problem(FAST, np.inf))
    with pytest.raises(ValueError, match="`samples`"):
        stiffness(problem, samples=1)
    with pytest.raises(ValueError, match="`backend` must be one of"):
        stiffness(problem, backend="scipy")


@pytest.mark.parametrize("unit", [1.0, 2.0**-30, 2.0**30])
def test_a_ratio_whose_rate_goes_through_zero_is_uncertain(unit):
    # One over |cos 3t| is unbounded, and which points come near decides.
    def field(t, y, args):
        return jnp.stack([-y[0], jnp.cos(3 * t) * y[1]])

    problem = ODEProblem(field, unit * jnp.ones(2), 0.0, 4.0)
    found = stiffness(problem)
    assert found.ratio > 3
    assert found.ratio_error > found.ratio / 3


def test_a_ratio_that_changes_smoothly_is_certain():
    # Of rates 1 and 5 + sin t the ratio is at most 6; between two of many points it
    # falls by half the square of their distance.
    def field(t, y, args):
        return jnp.stack([-y[0], -(5 + jnp.sin(t)) * y[1]])

    found = stiffness(ODEProblem(field, jnp.ones(2), 0.0, 4.0), rtol=1e-8)
    gap = np.max(np.diff(found.times))
    assert abs(found.ratio - 6) <= (2 * gap) ** 2 / 2
    assert found.ratio_error <= (2 * gap) ** 2
