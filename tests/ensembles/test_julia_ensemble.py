"""Lean ensemble kernels: the steps of published schemes, the published random stream,
the same numbers whatever the split, and exact reductions."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brownian_stream import stream_normals
from hypothesis import given, settings, strategies as st
from scipy import stats

from hybrid_nds import SDEProblem
from hybrid_nds.backends.julia import _ensemble as julia_ensemble, run_ensemble
from hybrid_nds.backends.julia._ensemble import KernelMoments, kernel_applies
from hybrid_nds.noise import StoredPath

pytestmark = pytest.mark.julia

STEPS, SPAN, DT = 40, 0.8, 0.02


def _drift(t, y, a):
    return jnp.stack([-a[0] * y[0] + jnp.sin(y[1]), jnp.tanh(y[0]) - t * y[1]])


def _scalar(t, y, a):
    return a[1] * jnp.stack([y[1], jnp.cos(y[0])])


def _diagonal(t, y, a):
    return a[1] * jnp.exp(-(y**2)) + 0.1 * t


def _matrix(t, y, a):
    return a[1] * jnp.stack([jnp.stack([y[0], 1.0, t]), jnp.stack([0.5, y[1], y[0]])])


NOISES = {
    "scalar": (_scalar, "scalar", "ito"),
    "diagonal": (_diagonal, "diagonal", "ito"),
    "general": (_matrix, "general", "ito"),
    "additive": (lambda t, y, a: a[1] * jnp.array([1.0, 0.3]), "additive", "ito"),
    "additive-matrix": (
        lambda t, y, a: a[1] * jnp.array([[1.0, 0.3, 0.0], [0.2, 0.0, 0.5]]),
        "additive",
        "ito",
    ),
}


def make(kind, y0=(0.7, -0.4)):
    diffusion, noise, interpretation = NOISES[kind]
    return SDEProblem(
        _drift,
        diffusion,
        jnp.array(y0),
        0.0,
        SPAN,
        jnp.array([1.3, 0.4]),
        noise=noise,
        interpretation=interpretation,
    )


def draw(problem, count, seed=0):
    """Increments and space-time Lévy areas of `count` paths."""
    rng = np.random.default_rng(seed)
    shape = (count, STEPS, problem.noise_dimension)
    dw = rng.normal(scale=np.sqrt(DT), size=shape)
    return dw, rng.normal(scale=np.sqrt(DT / 12), size=shape)


def by_diffrax(problem, solver, dw, area, times):
    """The same paths through Diffrax's own solver."""
    drift, diffusion = problem.flat_drift(), problem.flat_diffusion()

    def matrix(t, u, args):
        g = diffusion(t, u)
        if problem.matrix_noise:
            return g
        return g[:, None] if problem.noise == "scalar" else jnp.diag(g)

    @jax.vmap
    def run(dw, area):
        path = StoredPath(dw, area, t0=0.0, t1=SPAN)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, u, args: drift(t, u)),
            diffrax.ControlTerm(matrix, path),
        )
        saveat = diffrax.SaveAt(ts=times)
        return diffrax.diffeqsolve(
            terms, solver, 0.0, SPAN, DT, problem.y0, saveat=saveat
        ).ys

    return np.asarray(run(jnp.asarray(dw), jnp.asarray(area)))


DIFFRAX = {
    "Euler": diffrax.Euler(),
    "Heun": diffrax.Heun(),
    "EulerHeun": diffrax.Heun(),
    "DiffraxEulerHeun": diffrax.EulerHeun(),
    "SRA1": diffrax.SRA1(),
}
TAKEN = {
    "Euler": tuple(NOISES),
    "Heun": ("scalar", "diagonal", "general"),
    "EulerHeun": ("general",),
    "DiffraxEulerHeun": ("scalar", "general"),
    "SRA1": ("additive", "additive-matrix"),
}


@pytest.mark.parametrize(
    ("solver", "kind"),
    [(solver, kind) for solver, kinds in TAKEN.items() for kind in kinds],
)
def test_kernel_takes_the_steps_of_diffrax(julia, solver, kind):
    problem = make(kind)
    dw, area = draw(problem, 11)
    times = DT * np.array([0.0, 7.0, 20.0, 40.0])
    result = run_ensemble(
        problem,
        np.arange(11),
        key=None,
        dt=DT,
        solver=solver,
        saveat=times,
        increments=(dw, area),
    )
    expected = by_diffrax(problem, DIFFRAX[solver], dw, area, times)
    # 40 steps of some 30 roundings, hardly amplified: 40·30·1.1e-16 = 1.3e-13.
    np.testing.assert_allclose(result.states, expected, rtol=1e-12, atol=1e-13)


def test_sra1_takes_the_late_diffusion_of_stochasticdiffeq(julia):
    # Rößler's SRA1 as StochasticDiffEq's sra.jl has it, whose second stage uses
    # g(t + h); Diffrax's uses g(t).
    problem = SDEProblem(
        lambda t, y, a: jnp.sin(y) + t,
        lambda t, y, a: jnp.exp(-t) * jnp.ones(1),
        jnp.array([0.3]),
        0.0,
        SPAN,
        noise="additive",
    )
    dw, area = draw(problem, 9)
    u, h = np.full(9, 0.3), DT
    for k in range(STEPS):
        t, w, mean = k * h, dw[:, k, 0], dw[:, k, 0] / 2 + area[:, k, 0]
        before, after = np.exp(-t), np.exp(-(t + h))
        first = h * (np.sin(u) + t)
        inner = u + 0.75 * first + 1.5 * mean * after
        second = h * (np.sin(inner) + t + 0.75 * h)
        u = u + first / 3 + 2 * second / 3 + mean * (before - after) + w * after
    result = run_ensemble(
        problem, np.arange(9), key=None, dt=h, solver="SRA1", increments=(dw, area)
    )
    np.testing.assert_allclose(result.states[:, 0, 0], u, rtol=1e-12)


def _brownian(dimension=3, dtype=jnp.float64):
    return SDEProblem(
        lambda t, y, a: jnp.zeros_like(y),
        lambda t, y, a: jnp.ones_like(y),
        jnp.zeros(dimension, dtype),
        0.0,
        1.0,
        noise="additive",
    )


def test_noise_is_the_documented_stream(julia, getkey):
    key, indices = getkey(), np.array([0, 5, 2**33 + 1])
    result = run_ensemble(
        _brownian(), indices, key=key, dt=1 / 16, saveat=np.arange(17) / 16
    )
    words = np.asarray(jax.random.bits(key, (2,), "uint32"))
    for row, index in zip(np.diff(result.states, axis=1), indices, strict=True):
        expected = 0.25 * stream_normals(words, int(index), 0, 48).reshape(16, 3)
        # Sums of at most 16 numbers below 5; NumPy's functions err by an ulp, ours
        # by three.
        np.testing.assert_allclose(row, expected, rtol=0, atol=3e-14)


def test_noise_is_brownian(julia, getkey):
    # 3·10⁴ numbers in 60 000 trajectories' last increments: Kolmogorov and Smirnov's
    # test and correlations, each at level 1e-4 for a fixed key.
    count = 20_000
    states = run_ensemble(
        _brownian(), np.arange(count), key=getkey(), dt=0.25, saveat=np.arange(5) / 4
    ).states
    increments = 2 * np.diff(states, axis=1).reshape(count, -1)
    assert stats.kstest(increments.ravel(), "norm").pvalue > 1e-4
    correlation = np.corrcoef(increments.T)[np.triu_indices(12, 1)]
    assert np.abs(correlation).max() * np.sqrt(count) < stats.norm.isf(5e-5 / 66)
    neighbours = np.mean(increments[1:] * increments[:-1], axis=0) * np.sqrt(count)
    assert np.abs(neighbours).max() < stats.norm.isf(5e-5 / 12)


def test_law_of_euler_on_geometric_brownian_motion(julia, getkey):
    # The mean and second moment of Euler's scheme itself: (1 + μh)^N and
    # ((1 + μh)² + σ²h)^N; level 1e-4 each.
    mu, sigma, steps, count = 0.5, 0.4, 20, 100_000
    problem = SDEProblem(
        lambda t, y, a: mu * y, lambda t, y, a: sigma * y, jnp.ones(1), 0.0, 1.0
    )
    h = 1 / steps
    result = run_ensemble(problem, np.arange(count), key=getkey(), dt=h)
    x = result.states[:, 0, 0]
    first, second = (1 + mu * h) ** steps, ((1 + mu * h) ** 2 + sigma**2 * h) ** steps
    for value, expected in ((x, first), (x**2, second)):
        deviation = (value.mean() - expected) / (value.std() / np.sqrt(count))
        assert abs(deviation) < stats.norm.isf(5e-5)


@settings(max_examples=15, deadline=None)
@given(
    chosen=st.lists(st.integers(0, 4000), min_size=1, max_size=40),
    cuts=st.integers(0, 40),
)
def test_trajectories_do_not_depend_on_the_split(julia, chosen, cuts):
    problem, indices = make("general"), np.array(chosen)
    options = {"key": jax.random.key(1), "dt": DT, "solver": "Heun"}
    whole = run_ensemble(problem, np.arange(4001), **options).states
    parts = [
        run_ensemble(problem, part, **options).states
        for part in (indices[:cuts], indices[cuts:])
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole[indices])


def test_moments_of_blocks_are_those_of_the_states(julia, getkey):
    problem, block = make("diagonal"), 512
    times = DT * np.array([5.0, 40.0])
    common = {"key": getkey(), "dt": DT, "saveat": times}
    result = run_ensemble(
        problem, np.arange(1300), reduce=KernelMoments(block, 4, True), **common
    )
    np.testing.assert_array_equal(result.moments.count, [512, 512, 276])
    for place in range(3):
        states = result.states[place * block : (place + 1) * block]
        _, mean, powers, products = result.moments.block(place)
        apart = states - states.mean(axis=0)
        # 512 terms: at most 36 roundings in lanes and 512 in NumPy, whose errors are
        # of either sign; the third power's sum cancels to a hundredth.
        np.testing.assert_allclose(mean, states.mean(axis=0), rtol=1e-13)
        for power, rtol in ((2, 1e-12), (3, 1e-9), (4, 1e-12)):
            expected = np.sum(apart**power, axis=0)
            np.testing.assert_allclose(powers[power - 2], expected, rtol=rtol)
        expected = np.einsum("kti,ktj->tij", apart, apart)
        np.testing.assert_allclose(products, expected, rtol=1e-11)
    alone = run_ensemble(
        problem, np.arange(1300), save=False, reduce=KernelMoments(block), **common
    )
    assert alone.states is None
    assert alone.moments.products is None
    np.testing.assert_array_equal(alone.moments.powers, result.moments.powers[:, :1])


def test_failed_trajectories_are_named_and_left_out(julia, getkey):
    # dy = y² dt from different starts: Euler's scheme by hand says when it overflows.
    problem = SDEProblem(
        lambda t, y, a: y**2, lambda t, y, a: jnp.zeros(1), jnp.ones(1), 0.0, 1.0
    )
    starts = np.linspace(0.1, 400.0, 30)[:, None]
    every = np.arange(26) / 25
    result = run_ensemble(
        problem,
        np.arange(30) + 7,
        key=getkey(),
        dt=0.04,
        saveat=every,
        y0=starts,
        reduce=KernelMoments(1024),
    )
    states = np.empty((30, 26))
    states[:, 0] = starts[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(25):
            states[:, k + 1] = states[:, k] + 0.04 * states[:, k] ** 2
    finite = np.isfinite(states)
    failed = ~finite[:, -1]
    assert 0 < failed.sum() < 30
    np.testing.assert_array_equal(result.failed, np.flatnonzero(failed) + 7)
    first = every[(~finite[failed]).argmax(axis=1)]
    np.testing.assert_allclose(result.failed_times, first, rtol=1e-14)
    # Those that fail are left out at all times, also while they are finite.
    np.testing.assert_array_equal(result.moments.count, [30 - failed.sum()])
    np.testing.assert_allclose(
        result.moments.mean[0, :, 0], states[~failed].mean(axis=0), rtol=1e-13
    )
    np.testing.assert_array_equal(np.isfinite(result.states[..., 0]), finite)
    np.testing.assert_allclose(result.states[finite, 0], states[finite], rtol=1e-13)


@pytest.mark.parametrize("name", ["branches", "special functions"])
def test_fields_that_lanes_cannot_take(julia, name):
    # Control flow that differs from lane to lane, and functions of no vector form.
    def branches(t, y, a):
        return jax.lax.cond(y[0] > 0.7, lambda z: -z, lambda z: z * y[1], y)

    def special(t, y, a):
        return jax.scipy.special.gammaln(1.5 + y**2) + jax.scipy.special.erf(y)

    drift = {"branches": branches, "special functions": special}[name]
    problem = SDEProblem(drift, _diagonal, jnp.array([0.7, -0.4]), 0.0, SPAN, [0, 0.4])
    dw, area = draw(problem, 13)
    result = run_ensemble(
        problem, np.arange(13), key=None, dt=DT, increments=(dw, area)
    )
    expected = by_diffrax(problem, diffrax.Euler(), dw, area, np.array([SPAN]))
    np.testing.assert_allclose(result.states, expected, rtol=1e-12, atol=1e-13)


def test_single_precision_and_structured_states(julia, getkey):
    problem = SDEProblem(
        lambda t, y, a: {"p": -y["q"] * jnp.ones_like(y["p"]), "q": y["p"].sum()},
        lambda t, y, a: {"p": 0.1 * y["p"], "q": 0.2 * y["q"]},
        {"p": jnp.ones(2, jnp.float32), "q": jnp.float32(0.5)},
        0.0,
        1.0,
    )
    dw = np.random.default_rng(1).normal(scale=0.1, size=(10, 100, 3))
    result = run_ensemble(
        problem, np.arange(10), key=None, dt=0.01, increments=(dw, None)
    )
    assert result.states.dtype == np.float32
    u = np.tile([1.0, 1.0, 0.5], (10, 1))
    for k in range(100):
        drift = np.stack([-u[:, 2], -u[:, 2], u[:, 0] + u[:, 1]], axis=1)
        u = u + 0.01 * drift + np.array([0.1, 0.1, 0.2]) * u * dw[:, k]
    # 100 steps of five roundings of 6e-8.
    np.testing.assert_allclose(result.states[:, 0], u, rtol=3e-5, atol=3e-5)


def test_progress_counts_trajectories(julia, getkey):
    seen = []
    result = run_ensemble(
        make("general"),
        np.arange(300_000),
        key=getkey(),
        dt=DT,
        save=False,
        progress=seen.append,
    )
    assert result.done == 300_000
    assert seen
    assert seen == sorted(seen)
    assert all(isinstance(n, int) and 0 <= n <= 300_000 for n in seen)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"indices": np.array([-1])}, "`indices` must not be negative, got -1"),
        ({"indices": np.array([0.5])}, "`indices` must be whole numbers"),
        ({"dt": 0.03}, "`dt` must divide the span"),
        ({"key": None}, "pass `key`"),
        ({"saveat": np.array([0.05])}, "`saveat` must be times of the grid"),
        ({"saveat": np.array([0.4, 0.2])}, "`saveat` must be ascending"),
        (
            {"solver": "SRIW1", "reduce": KernelMoments(1024)},
            "no lean kernel for SRIW1",
        ),
        ({"y0": np.zeros((3, 1))}, r"`y0` must have shape \(2, 2\)"),
        (
            {"increments": (np.zeros((2, 40, 2)), None)},
            r"`increments` must have shape \(2, 40, 3\)",
        ),
        ({"threads": 0}, "`threads` must be 1 or more"),
        ({"threads": 99}, "`threads` must be at most"),
    ],
)
def test_bad_arguments_are_named(julia, change, match):
    arguments = {"indices": np.arange(2), "key": jax.random.key(0), "dt": DT} | change
    with pytest.raises((ValueError, TypeError), match=match):
        run_ensemble(make("general"), arguments.pop("indices"), **arguments)


def test_what_kernels_cannot_do_is_said():
    problem = make("general")
    assert kernel_applies(problem, "Euler", DT) is None
    assert "fixed steps" in kernel_applies(problem, "Euler", None)
    assert "additive noise" in kernel_applies(problem, "SRA1", DT)
    large = SDEProblem(lambda t, y, a: -y, lambda t, y, a: y, jnp.ones(101), 0.0, 1.0)
    assert "at most 100" in kernel_applies(large, "Euler", 0.1)

    def complex_drift(t, y, a):
        return jnp.fft.fft(y).real

    strange = SDEProblem(complex_drift, lambda t, y, a: 0 * y, jnp.ones(2), 0.0, 1.0)
    assert "lowered" in kernel_applies(strange, "Euler", 0.1)
    assert set(julia_ensemble.KERNELS) >= {"Euler", "Heun", "EulerHeun", "SRA1"}
