"""Stochastic solves in Julia: twins of Diffrax's, what is saved, and failures."""

import math

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

from hybrid_nds import (
    BrownianPath,
    SDEProblem,
    SolveError,
    StoredPath,
    solve,
)

pytestmark = pytest.mark.julia

# Rung L1. A step of the problems below multiplies an error by at most 1.1 and adds a
# few roundings of 1e-16: over 64 steps that is far below.
ROUND_OFF = 1e-12

DRIFT = jnp.array([[-1.0, 0.4], [-0.3, -0.7]])
FIRST = jnp.array([[0.3, 0.1], [-0.2, 0.25]])
SECOND = jnp.array([[0.1, 0.2], [0.3, -0.1]])


def drift(t, y, args):
    return DRIFT @ jnp.tanh(y) + jnp.sin(t)


DIFFUSIONS = {
    "scalar": ("scalar", lambda t, y, a: (1 + t) * FIRST @ jnp.cos(y)),
    "diagonal": ("diagonal", lambda t, y, a: 0.3 * (1 + t) * jnp.cos(y)),
    "general": (
        "general",
        lambda t, y, a: jnp.stack([FIRST @ y, SECOND @ jnp.sin(y), t * y], -1),
    ),
    "commutative": (
        "commutative",
        lambda t, y, a: jnp.stack([0.3 * y, (0.2 + t) * y], -1),
    ),
    "additive": ("additive", lambda t, y, a: 0.2 * jnp.ones(2)),
    "additive matrix": (
        "additive",
        lambda t, y, a: jnp.concatenate([FIRST, SECOND], axis=1),
    ),
}


def _problem(name, interpretation="ito"):
    noise, diffusion = DIFFUSIONS[name]
    y0 = np.array([1.0, -0.5])
    return SDEProblem(
        drift, diffusion, y0, 0.0, 1.0, noise=noise, interpretation=interpretation
    )


def _path(problem, key, steps=64):
    """Independent increments and areas; quicker than a tree, which has its own test."""
    t0, t1 = float(problem.t0), float(problem.t1)
    step = (t1 - t0) / steps
    shape = (steps, problem.noise_dimension)
    dw, area = np.asarray(jax.random.normal(key, (2, *shape)))
    return StoredPath(math.sqrt(step) * dw, math.sqrt(step / 12) * area, t0=t0, t1=t1)


def _tree():
    return BrownianPath(jax.random.key(0), 2, 0.0, 1.0, 1 / 32, "space-time")


def _states(solution):
    leaves = jtu.tree_leaves(solution.ys)
    return np.concatenate(
        [np.asarray(leaf).reshape(len(leaf), -1) for leaf in leaves], axis=1
    )


def _difference(problem, path, solver):
    """The largest difference of the two stacks over a solve, relative."""
    first, second = (
        solve(problem, backend, solver=solver, path=path, saveat="steps")
        for backend in ("diffrax", "julia")
    )
    np.testing.assert_array_equal(first.ts, second.ts)
    assert len(second.ts) == path.steps + 1
    a, b = _states(first), _states(second)
    return np.abs(a - b).max() / np.abs(a).max()


@pytest.mark.parametrize("name", DIFFUSIONS)
@pytest.mark.parametrize(
    ("solver", "interpretation"), [("Euler", "ito"), ("Heun", "stratonovich")]
)
def test_twins_agree_to_round_off(julia, getkey, name, solver, interpretation):
    problem = _problem(name, interpretation)
    assert _difference(problem, _path(problem, getkey()), solver) <= ROUND_OFF


@pytest.mark.parametrize("name", ["additive", "additive matrix"])
def test_twins_read_the_same_area(julia, getkey, name):
    problem = _problem(name)
    path = _path(problem, getkey())
    assert _difference(problem, path, "SRA1") <= ROUND_OFF
    # The area matters: without it the states are others.
    dw = path.increments()[0]
    flat = StoredPath(dw, np.zeros_like(dw), t0=0.0, t1=1.0)
    one, other = (solve(problem, "julia", solver="SRA1", path=p) for p in (path, flat))
    assert np.abs(_states(one) - _states(other)).max() > 1e-6


@pytest.mark.slow
def test_twins_along_a_tree(julia):
    problem = _problem("additive")
    for solver in ("SRA1", "Euler"):
        assert _difference(problem, _tree(), solver) <= ROUND_OFF
    step = {"solver": "SRA1", "dt": 1 / 32}
    named = solve(problem, "julia", key=jax.random.key(5), **step)
    other = solve(problem, "diffrax", key=jax.random.key(5), **step)
    np.testing.assert_allclose(named.ys, other.ys, rtol=ROUND_OFF)


def test_one_name_for_two_schemes_differs(julia, getkey):
    problem = _problem("diagonal", "stratonovich")
    assert _difference(problem, _path(problem, getkey()), "EulerHeun") > 1e-6


def test_a_state_of_several_arrays(julia, getkey):
    y0 = {"a": np.ones((2, 2)), "b": np.array(0.5)}

    def general(t, y, args):
        return {
            "a": jnp.stack([0.1 * y["a"], y["b"] * args, 0.2 * y["a"].T], -1),
            "b": jnp.stack([y["b"], t, jnp.sum(y["a"])]) * 0.1,
        }

    problem = SDEProblem(
        lambda t, y, a: jtu.tree_map(jnp.sin, y),
        general,
        y0,
        0.5,
        1.5,
        np.arange(4.0).reshape(2, 2),
        noise="general",
    )
    path = _path(problem, getkey())
    assert _difference(problem, path, "Euler") <= ROUND_OFF
    solution = solve(problem, "julia", solver="Euler", path=path)
    assert solution.ys["a"].shape == (1, 2, 2)
    assert solution.ys["b"].shape == (1,)


def test_new_weights_and_a_new_path_need_no_new_preparation(julia, getkey):
    for rate in (0.3, 0.7):
        problem = SDEProblem(
            lambda t, y, a: a[0] * y,
            lambda t, y, a: a[1] * y,
            np.ones(2),
            0.0,
            1.0,
            (np.array(rate), np.array(0.4)),
        )
        assert _difference(problem, _path(problem, getkey()), "Euler") <= ROUND_OFF


def test_callbacks_take_the_same_steps(julia, getkey):
    for name, solver in (("general", "Euler"), ("diagonal", "ImplicitEM")):
        problem = _problem(name)
        path = _path(problem, getkey(), steps=16)
        lowered, callback = (
            solve(problem, "julia", solver=solver, path=path, rhs=way)
            for way in ("lowered", "callback")
        )
        assert callback.provenance.field == "callback"
        # Newton's iteration ends at 1e-12.
        limit = ROUND_OFF if solver == "Euler" else 1e-10
        assert np.abs(_states(lowered) - _states(callback)).max() <= limit


@pytest.mark.slow
def test_single_precision(julia, getkey):
    problem = SDEProblem(
        lambda t, y, a: -y, lambda t, y, a: 0.1 * y, np.ones(2, "f4"), 0.0, 1.0
    )
    path = BrownianPath(getkey(), 2, 0.0, 1.0, 1 / 64, dtype=np.float32)
    solution = solve(problem, "julia", solver="Euler", path=path)
    assert solution.ys.dtype == np.float32
    # 64 steps of a few roundings each.
    expected = solve(problem, "diffrax", solver="Euler", path=path).ys
    np.testing.assert_allclose(solution.ys, expected, rtol=64 * 4 * 2.0**-24)


def test_what_is_saved(julia, getkey):
    problem = _problem("diagonal")
    path = _path(problem, getkey(), steps=8)
    every = solve(problem, "julia", solver="Euler", path=path, saveat="steps")
    np.testing.assert_array_equal(every.ts, path.times)
    np.testing.assert_array_equal(every.ys[0], [1.0, -0.5])
    for times in ([0.0, 0.25, 1.0], [0.125, 0.5]):
        some = solve(problem, "julia", solver="Euler", path=path, saveat=times)
        np.testing.assert_array_equal(some.ts, times)
        rows = np.round(np.array(times) * 8).astype(int)
        np.testing.assert_array_equal(some.ys, every.ys[rows])
    last = solve(problem, "julia", solver="Euler", path=path)
    np.testing.assert_array_equal(last.ys, every.ys[-1:])
    np.testing.assert_array_equal(last.end_state, every.ys[-1])
    assert last.stats["num_accepted_steps"] == 8
    assert dict(last.provenance.versions)["StochasticDiffEq"].startswith("7.")


def test_a_state_that_is_not_finite(julia, getkey):
    # y' = y³ from 1 leaves every bound at t = 1/2; the noise is small.
    problem = SDEProblem(
        lambda t, y, a: y**3, lambda t, y, a: 1e-3 * y, np.ones(2), 0.0, 1.0
    )
    path = _path(problem, getkey())
    found = solve(problem, "julia", solver="Euler", path=path, throw=False)
    other = solve(problem, "diffrax", solver="Euler", path=path, throw=False)
    assert found.outcome_name == "unstable"
    assert 0.5 < float(found.end_time) < 1.0
    assert float(found.end_time) == float(other.end_time)
    assert not np.all(np.isfinite(found.end_state))
    with pytest.raises(
        SolveError, match=r"no longer finite after step \d+, at t = 0\."
    ):
        solve(problem, "julia", solver="Euler", path=path)
    # A last step that fails is a failure, too.
    step = float(found.end_time)
    count = round(step * path.steps)
    short = SDEProblem(problem.drift, problem.diffusion, problem.y0, 0.0, step)
    cut = StoredPath(path.increments()[0][:count], t0=0.0, t1=step)
    last = solve(short, "julia", solver="Euler", path=cut, throw=False)
    assert last.outcome_name == "unstable"


def test_too_many_steps_and_too_fine_a_tolerance(julia, getkey):
    problem = _problem("diagonal")
    path = _path(problem, getkey())
    some = solve(problem, "julia", solver="Euler", path=path, max_steps=10, throw=False)
    assert some.outcome_name == "max_steps_reached"
    assert some.stats["num_accepted_steps"] <= 10
    with pytest.raises(SolveError, match="pass a finer path"):
        solve(problem, "julia", solver="SOSRI", path=_tree(), rtol=1e-9, atol=1e-9)


def test_adaptive_split_steps_on_diagonal_noise_are_warned_of(julia):
    """The defect itself is shown in julia/test/test_stochastic.jl."""
    problem = _problem("diagonal")
    path = _tree()
    with pytest.warns(UserWarning, match="ISSEM of StochasticDiffEq 7 goes wrong"):
        solve(
            problem,
            "julia",
            solver="ISSEM",
            path=path,
            rtol=1e-1,
            atol=1e-1,
            throw=False,
        )


@pytest.mark.parametrize(
    ("kind", "noise", "options", "match"),
    [
        (ValueError, "general", {"solver": "PL1WM"}, "loses terms"),
        (ValueError, "diagonal", {"rhs": "native"}, "`rhs` must be one of"),
        (
            ValueError,
            "diagonal",
            {"newton_tolerance": 0.1},
            "takes no `newton_tolerance`",
        ),
        (
            ValueError,
            "diagonal",
            {"solver": "ImplicitEM", "newton_tolerance": 2.0},
            "between 0 and 1",
        ),
        (TypeError, "diagonal", {"form": "scalar"}, "takes no option form"),
        (TypeError, "diagonal", {"progress": 1}, "`progress` must be True or False"),
        (ValueError, "diagonal", {"adjoint": "direct"}, "is for the Diffrax backend"),
    ],
)
def test_what_is_refused(julia, getkey, kind, noise, options, match):
    problem = _problem(noise)
    path = _path(problem, getkey())
    with pytest.raises(kind, match=match):
        solve(problem, "julia", **({"solver": "Euler", "path": path} | options))


@pytest.mark.parametrize(
    ("solver", "noise", "match"),
    [
        ("DRI1", "commutative", "estimates no error"),
        ("RKMilGeneral", "commutative", "anew"),
        ("SKenCarp", "additive matrix", "wrong shape"),
    ],
)
def test_error_control_that_fails_upstream_is_refused(julia, solver, noise, match):
    problem = _problem(noise)
    path = BrownianPath(
        jax.random.key(0), problem.noise_dimension, 0.0, 1.0, 0.5, "space-time"
    )
    with pytest.raises(ValueError, match=match):
        solve(problem, "julia", solver=solver, path=path, rtol=1e-2)


def test_a_traced_solve_follows_the_same_path(julia, getkey):
    problem = _problem("diagonal")
    path = _path(problem, getkey())

    @jax.jit
    def traced(y0, path):
        other = SDEProblem(problem.drift, problem.diffusion, y0, 0.0, 1.0)
        return solve(other, "julia", solver="Euler", path=path)

    there = traced(problem.y0, path)
    here = solve(problem, "julia", solver="Euler", path=path)
    # Compiled with more, the path's increments may be rounded once more a step.
    bound = 64 * np.finfo(float).eps * path.steps
    np.testing.assert_allclose(there.ys, here.ys, rtol=bound)
    assert there.stats["num_steps"] == here.stats["num_steps"]
