"""Kernels against StochasticDiffEq on the same paths, and ensembles of its solves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brownian_stream import stream_normals

from hybrid_nds import SDEProblem, solve
from hybrid_nds.backends.julia import run_ensemble
from hybrid_nds.backends.julia._ensemble import KernelMoments
from hybrid_nds.noise import StoredPath

pytestmark = pytest.mark.julia

STEPS, SPAN = 25, 0.5
DT = SPAN / STEPS


def _drift(t, y, a):
    return jnp.stack([-a * y[0] + jnp.sin(y[1]), jnp.tanh(y[0]) - t * y[1]])


def _matrix(t, y, a):
    return 0.4 * jnp.stack([jnp.stack([y[0], 1.0, t]), jnp.stack([0.5, y[1], y[0]])])


DIFFUSIONS = {
    "scalar": lambda t, y, a: 0.4 * jnp.stack([y[1], jnp.cos(y[0])]),
    "diagonal": lambda t, y, a: 0.4 * jnp.exp(-(y**2)) + 0.1 * t,
    "general": _matrix,
    "additive": lambda t, y, a: jnp.exp(-t) * jnp.array([1.0, 0.3]),
}


def make(noise, interpretation="ito"):
    return SDEProblem(
        _drift,
        DIFFUSIONS[noise],
        jnp.array([0.7, -0.4]),
        0.0,
        SPAN,
        jnp.array(1.3),
        noise=noise,
        interpretation=interpretation,
    )


def draw(problem, count):
    rng = np.random.default_rng(5)
    shape = (count, STEPS, problem.noise_dimension)
    dw = rng.normal(scale=np.sqrt(DT), size=shape)
    return dw, rng.normal(scale=np.sqrt(DT / 12), size=shape)


def one_by_one(problem, solver, dw, area, times):
    """The states of a solve for each path."""
    paths = (
        StoredPath(jnp.asarray(w), jnp.asarray(h), t0=0.0, t1=SPAN)
        for w, h in zip(dw, area, strict=True)
    )
    return np.stack(
        [
            solve(problem, "julia", solver=solver, path=path, dt=DT, saveat=times).ys
            for path in paths
        ]
    )


@pytest.mark.parametrize(
    ("solver", "noise"),
    [
        ("Euler", "scalar"),
        ("Euler", "diagonal"),
        ("Euler", "general"),
        ("EulerHeun", "scalar"),
        ("EulerHeun", "diagonal"),
        ("EulerHeun", "general"),
        ("SRA1", "additive"),
    ],
)
def test_kernels_are_twins_of_stochasticdiffeq(julia, solver, noise):
    problem = make(noise, "stratonovich" if solver == "EulerHeun" else "ito")
    dw, area = draw(problem, 3)
    times = np.array([0.1, SPAN])
    result = run_ensemble(
        problem,
        np.arange(3),
        key=None,
        dt=DT,
        solver=solver,
        saveat=times,
        increments=(dw, area),
    )
    assert result.runner == "lean kernel"
    expected = one_by_one(problem, solver, dw, area, times)
    # 25 steps of some 30 roundings, hardly amplified.
    np.testing.assert_allclose(result.states, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("solver", "noise"), [("SRIW1", "diagonal"), ("RKMil", "scalar")]
)
def test_other_methods_are_solved_one_by_one(julia, solver, noise):
    problem = make(noise)
    dw, area = draw(problem, 11)
    times = np.array([0.1, SPAN])
    common = {"key": None, "dt": DT, "solver": solver, "saveat": times}
    result = run_ensemble(problem, np.arange(11), increments=(dw, area), **common)
    assert result.runner == "StochasticDiffEq"
    assert not result.failed.size
    assert result.done == 11
    expected = one_by_one(problem, solver, dw, area, times)
    np.testing.assert_array_equal(result.states, expected)


def test_solves_see_the_noise_of_the_key(julia, getkey):
    problem, key = make("diagonal"), getkey()
    indices = np.array([4, 2**32 + 3])
    common = {"dt": DT, "solver": "SRIW1"}
    drawn = run_ensemble(problem, indices, key=key, **common)
    words = np.asarray(jax.random.bits(key, (2,), "uint32"))
    dw, area = (
        np.stack(
            [stream_normals(words, int(i), kind, 2 * STEPS) for i in indices]
        ).reshape(2, STEPS, 2)
        * scale
        for kind, scale in ((0, np.sqrt(DT)), (1, np.sqrt(DT / 12)))
    )
    given = run_ensemble(problem, indices, key=None, increments=(dw, area), **common)
    np.testing.assert_allclose(drawn.states, given.states, rtol=1e-12)
    apart = [run_ensemble(problem, indices[[k]], key=key, **common) for k in range(2)]
    np.testing.assert_array_equal(
        drawn.states, np.concatenate([one.states for one in apart])
    )


def test_a_failed_solve_is_named_and_the_rest_survive(julia, getkey):
    problem = SDEProblem(
        lambda t, y, a: y**3, lambda t, y, a: jnp.zeros(1), jnp.ones(1), 0.0, 1.0
    )
    starts = np.array([[0.1], [50.0], [0.2], [1e3]])
    result = run_ensemble(
        problem,
        np.arange(10, 14),
        key=getkey(),
        dt=0.1,
        solver="RKMil",
        saveat=np.array([0.1, 1.0]),
        y0=starts,
    )
    np.testing.assert_array_equal(result.failed, [11, 13])
    assert np.all(result.failed_times < 1.0)
    finite = np.isfinite(result.states[:, 1, 0])
    np.testing.assert_array_equal(finite, [True, False, True, False])


def test_reductions_want_a_kernel(julia, getkey):
    with pytest.raises(ValueError, match=r"no lean kernel for SRIW1.*reduces nothing"):
        run_ensemble(
            make("diagonal"),
            np.arange(2),
            key=getkey(),
            dt=DT,
            solver="SRIW1",
            reduce=KernelMoments(1024),
        )
