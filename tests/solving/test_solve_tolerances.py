"""Absolute tolerances by component, on both backends."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem, solve

BACKENDS = ["diffrax", pytest.param("julia", marks=pytest.mark.julia)]


@pytest.fixture(autouse=True)
def _started(request):
    if "backend" in request.fixturenames and request.getfixturevalue("backend") == (
        "julia"
    ):
        request.getfixturevalue("julia")


def two_scales(t, y, args):
    """Two oscillators, the second a million times smaller than the first."""
    del t, args
    return jnp.stack([y[1], -y[0], 3 * y[3], -3 * y[2]])


START = np.array([1.0, 0.0, 1e-6, 0.0])


def end_error(backend, atol):
    problem = ODEProblem(two_scales, START, 0.0, 10.0)
    y = np.asarray(solve(problem, backend, solver="Tsit5", rtol=1e-12, atol=atol).ys)[0]
    exact = [np.cos(10), -np.sin(10), 1e-6 * np.cos(30), -1e-6 * np.sin(30)]
    return np.abs(y - exact)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_component_is_held_to_its_own_tolerance(backend):
    # One number lets the small oscillator go wrong by as much as the large one; of
    # the tolerance asked for it, at most 100 accumulates in 5 turns.
    loose = end_error(backend, 1e-7)
    held = end_error(backend, np.array([1e-7, 1e-7, 1e-13, 1e-13]))
    assert held[2:].max() < 100 * 1e-13
    assert loose[2:].max() > 100 * held[2:].max()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("solver", ["Kvaerno5", "Tsit5"])
def test_equal_components_are_one_number(backend, solver):
    problem = ODEProblem(two_scales, START, 0.0, 3.0)
    one = solve(problem, backend, solver=solver, rtol=1e-6, atol=1e-8)
    four = solve(problem, backend, solver=solver, rtol=1e-6, atol=[1e-8] * 4)
    assert int(one.stats["num_steps"]) == int(four.stats["num_steps"])
    # The same operations, possibly fused otherwise: some units in the last place.
    np.testing.assert_allclose(one.ys, four.ys, rtol=1e-12, atol=1e-18)
    assert four.provenance.atol == (1e-8,) * 4


@pytest.mark.julia
@pytest.mark.usefixtures("julia")
@pytest.mark.parametrize("form", ["array", "scalar"])
def test_julia_takes_the_structure_of_the_state(form):
    def field(t, y, args):
        d = two_scales(t, jnp.concatenate([y["large"], y["small"]]), args)
        return {"large": d[:2], "small": d[2:]}

    start = {"large": START[:2], "small": START[2:]}
    problem = ODEProblem(field, start, 0.0, 10.0)
    atol = {"large": 1e-7, "small": np.array([1e-13])}
    y = solve(problem, "julia", solver="Tsit5", rtol=1e-12, atol=atol, form=form).ys
    exact = [1e-6 * np.cos(30), -1e-6 * np.sin(30)]
    assert np.max(np.abs(np.asarray(y["small"])[0] - exact)) < 100 * 1e-13


def test_diffrax_names_what_it_cannot_take():
    problem = ODEProblem(lambda t, y, args: y, (START, START), 0.0, 1.0)
    with pytest.raises(ValueError, match="single array, got 2 arrays"):
        solve(problem, atol=(1e-6, START))
    # A number for every component is one number.
    assert solve(problem, atol=1e-6).succeeded


def test_julia_names_the_solver_that_cannot_take_them():
    # Refused before Julia is called: this runs without one.
    problem = ODEProblem(two_scales, START, 0.0, 1.0)
    with pytest.raises(ValueError, match="RadauIIA5 takes one number for `atol`"):
        solve(problem, "julia", solver="RadauIIA5", rtol=1e-6, atol=[1e-6] * 4)


BAD = {
    "structure": ({"a": 1e-6}, ValueError, "must be a number, or have the structure"),
    "shape": (np.ones(3), ValueError, r"expected \[4\], got \[3\]"),
    "negative": (np.array([1.0, -1.0, 1, 1]), ValueError, "not negative, got -1.0"),
    "nan": (np.array([1.0, np.nan, 1, 1]), ValueError, "must be finite"),
    "complex": (np.ones(4) * 1j, TypeError, "must hold real numbers"),
    "all zero": (np.zeros(4), ValueError, "must not both be zero"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_tolerances(case):
    atol, error, match = case
    problem = ODEProblem(two_scales, START, 0.0, 1.0)
    with pytest.raises(error, match=match):
        solve(problem, rtol=0.0, atol=atol)


def test_tolerances_by_component_can_be_traced():
    problem = ODEProblem(two_scales, START, 0.0, 1.0)

    @eqx.filter_jit
    def end(atol):
        return solve(problem, atol=atol).ys

    atol = jnp.array([1e-7, 1e-7, 1e-13, 1e-13])
    # Compiled as one piece, rounded otherwise: some units in the last place.
    np.testing.assert_allclose(end(atol), solve(problem, atol=atol).ys, rtol=1e-12)
    assert jax.eval_shape(end, atol).shape == (1, 4)
