"""Diffrax's loop with its threshold before `t1` in fewer operations."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_nds import ODEProblem, solve, to_diffrax
from hybrid_nds.backends.diffrax import _clip as diffrax_clip
from hybrid_nds.backends.diffrax._clip import clip_floor, shorten

ADJOINTS = {
    "recursive": diffrax.RecursiveCheckpointAdjoint(checkpoints=7),
    "direct": diffrax.DirectAdjoint(),
    "forward": diffrax.ForwardMode(),
    "backsolve": diffrax.BacksolveAdjoint(solver=diffrax.Tsit5()),
    "implicit": diffrax.ImplicitAdjoint(),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_threshold_is_a_hundred_units_in_the_last_place_before(dtype):
    ends = np.array([1.0, 1 + 1e-6, 0.7, 3e30, 2e-30, -1.0, -5.3, -4e-20], dtype)
    expected = ends
    for _ in range(100):
        expected = np.nextafter(expected, dtype(-np.inf))
    np.testing.assert_array_equal(jax.jit(clip_floor)(ends), expected)


def test_the_threshold_before_zero_is_not_subnormal():
    tiny = np.finfo(float).tiny
    expected = -tiny
    for _ in range(99):
        expected = np.nextafter(expected, -np.inf)
    assert float(clip_floor(jnp.asarray(0.0))) == expected < -tiny


def decay(t, y, args):
    return -args * y


@pytest.mark.parametrize("adjoint", ADJOINTS.values(), ids=ADJOINTS)
def test_an_adjoint_is_the_same_but_for_its_loop(adjoint):
    short = shorten(adjoint)
    assert isinstance(short, type(adjoint))
    assert vars(short) == vars(adjoint)
    assert short._loop is not adjoint._loop
    # One class, so that JAX compiles once.
    assert type(shorten(adjoint)) is type(short)


def test_values_and_derivatives_are_the_same():
    @eqx.filter_jit
    def end(end_and_rate, adjoint):
        t1, rate = end_and_rate
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(decay),
            diffrax.Tsit5(),
            0.0,
            t1,
            0.1,
            jnp.ones(1),
            rate,
            adjoint=adjoint,
            max_steps=16,
        )
        return solution.ys[-1, 0]

    at, adjoint = (jnp.asarray(1.5), jnp.asarray(0.8)), ADJOINTS["forward"]
    along = (jnp.asarray(1.0), jnp.asarray(0.5))
    ours, theirs = (
        jax.jvp(lambda at, one=one: end(at, one), (at,), (along,))
        for one in (shorten(adjoint), adjoint)
    )
    assert ours == theirs
    # exp(−λt), by a method of order 5 in 15 steps.
    exact = np.exp(-1.2)
    np.testing.assert_allclose(ours, [exact, (-0.8 - 1.5 * 0.5) * exact], rtol=1e-6)


def test_a_solve_calls_it_once():
    problem = ODEProblem(decay, np.ones(1), 0.0, 1.0, np.array(1.0))
    ours = jax.make_jaxpr(lambda y: solve(eqx.tree_at(lambda p: p.y0, problem, y)).ys)(
        problem.y0
    )
    theirs = jax.make_jaxpr(
        lambda y: diffrax.diffeqsolve(**{**to_diffrax(problem), "y0": y}).ys
    )(problem.y0)
    calls = [str(program).count("nextafter") for program in (ours, theirs)]
    # Fewer there, and Diffrax has another loop: nothing is left to be made shorter.
    assert calls[1] >= 100
    assert calls[0] <= 2


def test_another_loop_is_left_alone(monkeypatch):
    def loop(*, t1, **_):
        return t1

    monkeypatch.setattr(diffrax_clip.integrate, "loop", loop)
    fresh = diffrax_clip._short_loop.__wrapped__
    monkeypatch.setattr(diffrax_clip, "_short_loop", fresh)
    adjoint = diffrax.DirectAdjoint()
    assert shorten(adjoint) is adjoint
