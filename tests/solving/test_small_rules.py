"""Rules that are one for all: saved times at the ends, claims of noise, advice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem, SDEProblem, SolveError, solve
from hybrid_nds.backends._saved_times import check_saveat
from hybrid_nds.lowering import LoweringError, to_julia


def _ode(y0=1.0, t0=0.0, t1=1.0, dtype=jnp.float64):
    times = (jnp.asarray(t, dtype) for t in (t0, t1))
    return ODEProblem(lambda t, y, args: -y, jnp.array([y0], dtype), *times)


def _sde(t0=0.0, t1=1.0, dtype=jnp.float64):
    y0 = jnp.ones(1, dtype)
    times = (jnp.asarray(t, dtype) for t in (t0, t1))
    return SDEProblem(
        lambda t, y, args: -y,
        lambda t, y, args: jnp.ones_like(y),
        y0,
        *times,
        noise="additive",
    )


@pytest.mark.parametrize("make", [_ode, _sde])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.0), (1.0, 0.0), (3e5, 3e5 + 1e-1)])
def test_a_last_place_beyond_the_span_is_its_end(make, dtype, t0, t1):
    if make is _sde and t1 < t0:
        pytest.skip("stochastic problems run forward")
    problem = make(t0=t0, t1=t1, dtype=dtype)
    first, last = (np.asarray(t) for t in (problem.t0, problem.t1))
    away = np.sign(last - first) * np.asarray(np.inf, dtype)
    for stack in ("diffrax", "julia"):
        beyond = np.array([np.nextafter(first, -away), np.nextafter(last, away)])
        times = check_saveat(beyond, problem, stack)
        assert np.array_equal(times, [first, last])
        assert times.dtype == dtype
        far = last + 20 * np.sign(away) * np.spacing(max(abs(first), abs(last)))
        with pytest.raises(ValueError, match="`saveat` must lie within the span"):
            check_saveat(np.array([far]), problem, stack)


def test_rounded_steps_of_a_span_are_saved():
    # 3 · 0.1 is one place above 0.3.
    assert 3 * 0.1 > 0.3
    solution = solve(_ode(t1=0.3), saveat=[0.1, 2 * 0.1, 3 * 0.1])
    np.testing.assert_allclose(solution.ys[:, 0], np.exp(-solution.ts), rtol=1e-3)
    assert float(solution.ts[-1]) == 0.3


def test_additive_noise_whose_derivative_is_no_number_is_refused():
    with pytest.raises(ValueError, match="its derivative there is nan"):
        SDEProblem(
            lambda t, y, args: -y,
            lambda t, y, args: jnp.sqrt(y - y),
            jnp.ones(1),
            0.0,
            1.0,
            noise="additive",
        )


@pytest.mark.parametrize(("solver", "advised"), [("Tsit5", True), ("Kvaerno3", False)])
def test_an_implicit_solver_is_advised_to_who_has_none(solver, advised):
    with pytest.raises(SolveError, match="ran out of steps") as error:
        solve(_ode(1e9), solver=solver, max_steps=2, rtol=1e-8, atol=1e-8)
    assert ("implicit" in str(error.value) or "stiff" in str(error.value)) == advised


def test_bfloat16_is_refused_by_lowering_with_what_it_takes():
    def field(t, y, args):
        return -(y.astype(jnp.bfloat16)).astype(y.dtype)

    with pytest.raises(
        LoweringError, match=r"float16, float32 and float64, got bfloat"
    ):
        to_julia(field, 0.0, jnp.ones(2))
    half = to_julia(
        lambda t, y, args: -y.astype(jnp.float16).astype(y.dtype), 0.0, jnp.ones(2)
    )
    assert "Float16" in half
    with pytest.raises(TypeError, match="in float16 where it wants to"):
        ODEProblem(lambda t, y, args: -y, jnp.ones(1, jnp.bfloat16), 0.0, 1.0)


def test_drawing_is_left_out_of_strict_promotion(strict_promotion):
    problem = _ode(dtype=jnp.float32)
    assert solve(problem).ys.dtype == jnp.float32
    path = {"key": jax.random.key(0), "dt": 0.25}
    assert solve(_sde(dtype=jnp.float32), **path).ys.dtype == jnp.float32
