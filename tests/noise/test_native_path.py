"""Native paths: numbers of `jax.random`, in any blocks; their law; what they refuse."""

import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from hybrid_nds import BrownianPath, NativePath, SDEProblem, ensemble, solve
from hybrid_nds.noise._threefry import bits, normals, words_of

LEVEL = 1e-6
EPS = np.finfo(float).eps
STEPS, MOTIONS, T1 = 40, 3, 2.0


def path(seed=0, steps=STEPS, area="space-time", **options):
    key = jax.random.key(seed)
    return NativePath(key, MOTIONS, 0.0, T1, steps, area, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_and_normal_numbers_are_those_of_jax(dtype):
    key, kind = jax.random.key(11), np.dtype(dtype)
    counters = np.arange(5000, dtype=np.uint32)
    found = jax.jit(lambda k: normals(bits(words_of(k), counters), kind))(key)
    np.testing.assert_array_equal(found, jax.random.normal(key, (5000,), dtype))
    assert found.dtype == dtype
    # Children of a key are numbers of it, too.
    children = jax.random.key_data(jax.random.split(key, 5))
    own = bits(words_of(key), counters[:5])
    pairs = words_of(jax.random.wrap_key_data(children))
    for one, other in zip(own, pairs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_increments_are_normal_numbers_of_the_key():
    key = jax.random.key(0)
    found = path(area="space-time-time").along()
    for kind, (name, share) in enumerate({"W": 1, "H": 12, "K": 720}.items()):
        z = jax.random.normal(jax.random.fold_in(key, kind), (STEPS, MOTIONS))
        expected = math.sqrt(T1 / STEPS / share) * z
        np.testing.assert_allclose(getattr(found, name), expected, rtol=4 * EPS)
    # The increments do not depend on the areas beside them.
    np.testing.assert_array_equal(found.W, path(area="none").increments()[0])


@pytest.mark.parametrize("length", [1, 16, 64])
@pytest.mark.parametrize("impl", ["threefry2x32", "unsafe_rbg"])
def test_blocks_are_the_whole_path(length, impl):
    own = NativePath(jax.random.key(3, impl=impl), MOTIONS, 0.0, T1, STEPS)
    blocks = own.blocks(length)
    drawn = jax.lax.map(blocks.draw, blocks.starts).W.reshape(-1, MOTIONS)
    # The same random bits; XLA may contract products and sums of the inverse error
    # function in one program and not in another.
    np.testing.assert_allclose(drawn[:STEPS], own.increments()[0], rtol=8 * EPS)


def test_law():
    """Variances h and h/12; independent steps, motions, blocks and areas."""

    @jax.jit
    @jax.vmap
    def draw(key):
        return NativePath(key, MOTIONS, 0.0, T1, STEPS, "space-time").increments()

    dw, h = map(np.asarray, draw(jax.random.split(jax.random.key(5), 2000)))
    for sample, variance in ((dw, T1 / STEPS), (h, T1 / STEPS / 12)):
        flat = sample.reshape(2000, -1)
        statistic = np.sum(flat**2) / variance
        low, high = scipy.stats.chi2.ppf([LEVEL / 2, 1 - LEVEL / 2], flat.size)
        assert low < statistic < high
        assert scipy.stats.kstest(flat.ravel() / variance**0.5, "norm").pvalue > LEVEL
    both = np.concatenate([dw.reshape(2000, -1), h.reshape(2000, -1)], axis=1)
    count = both.shape[1]
    correlations = np.corrcoef(both.T)[np.triu_indices(count, 1)]
    # Of n pairs the correlation has the deviation 1/√n; Bonferroni over all pairs.
    quantile = scipy.stats.norm.ppf(1 - LEVEL / (2 * len(correlations)))
    assert np.max(np.abs(correlations)) * math.sqrt(2000) < quantile


LINEAR = SDEProblem(
    lambda t, y, a: -y, lambda t, y, a: 0.5 * y, jnp.ones(1), 0.0, 1.0, noise="diagonal"
)
ADDITIVE = SDEProblem(
    lambda t, y, a: -y,
    lambda t, y, a: a,
    jnp.ones(1),
    0.0,
    1.0,
    jnp.ones(1),
    noise="additive",
)


@pytest.mark.parametrize("steps", [64, pytest.param(300, marks=pytest.mark.slow)])
def test_solves_follow_it(steps):
    """By Euler–Maruyama in NumPy along its increments, in one piece and in blocks."""
    key = jax.random.key(2)
    found = solve(LINEAR, solver="Euler", key=key, dt=1 / steps, paths="native").ys
    own = NativePath(key, 1, 0.0, 1.0, steps)
    y = np.ones(1)
    for dw in np.asarray(own.increments()[0]):
        y = y - y / steps + 0.5 * y * dw
    np.testing.assert_allclose(found[-1], y, rtol=8 * steps * EPS)
    mapped = jax.jit(
        jax.vmap(
            lambda k: (
                solve(LINEAR, solver="Euler", key=k, dt=1 / steps, paths="native").ys
            )
        )
    )
    np.testing.assert_allclose(mapped(key[None])[0], found, rtol=8 * steps * EPS)
    given = solve(LINEAR, solver="Euler", path=own).ys
    np.testing.assert_array_equal(given, found)


def test_diffrax_own_loop_follows_it():
    own = NativePath(jax.random.key(2), 1, 0.0, 1.0, 8)
    scan = solve(LINEAR, solver="Euler", path=own)
    loop = solve(LINEAR, solver="Euler", path=own, progress=diffrax.NoProgressMeter())
    np.testing.assert_array_equal(scan.ys, loop.ys)


def test_ensembles_take_the_paths_of_solve():
    options = {"solver": "Euler", "dt": 1 / 32, "paths": "native"}
    key = jax.random.key(6)
    found = ensemble(LINEAR, 9, key=key, **options)
    for i in (0, 8):
        alone = solve(LINEAR, key=jax.random.fold_in(key, i), **options)
        np.testing.assert_allclose(found.ys[i], alone.ys, rtol=8 * 32 * EPS)
    assert found.paths == "native"
    pieces = ensemble(LINEAR, 9, key=key, batch_size=3, **options)
    np.testing.assert_array_equal(pieces.ys, found.ys)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"steps": 0}, "`steps` must be a whole number"),
        ({"steps": 2.0}, "`steps` must be a whole number"),
        ({"steps": 2**31}, "`steps` times `dimension` must be below"),
        ({"area": "full"}, "`levy_area` must be one of none, space-time"),
    ],
)
def test_refuses(changes, match):
    with pytest.raises(ValueError, match=match):
        path(**changes)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"paths": "own"}, '`paths` must be "shared" or "native"'),
        ({"paths": "native", "rtol": 1e-3}, "known on their grid alone"),
    ],
)
def test_solve_refuses(options, match):
    with pytest.raises(ValueError, match=match):
        solve(ADDITIVE, key=jax.random.key(0), dt=0.1, **options)
    with pytest.raises(ValueError, match=r'`paths="native"` are of fixed steps'):
        ensemble(ADDITIVE, 2, key=jax.random.key(0), rtol=1e-3, paths="native")
    own = NativePath(jax.random.key(0), 1, 0.0, 1.0, 8)
    with pytest.raises(ValueError, match="`paths` says how to draw"):
        solve(LINEAR, path=own, paths="native")
    with pytest.raises(ValueError, match="make the path of 4 steps"):
        solve(LINEAR, path=own, dt=0.25)


@pytest.mark.parametrize("area", ["none", "space-time"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("kind", "grid"), [(BrownianPath, 1.0), (NativePath, 9)])
def test_paths_are_drawn_under_strict_promotion(
    kind, grid, dtype, area, strict_promotion
):
    # Nine steps of two motions: no two axes are of one length.
    path = kind(jax.random.key(0), 2, 0.0, 9.0, grid, area, dtype=dtype)
    dw, h = path.increments()
    assert dw.shape == (9, 2)
    assert dw.dtype == dtype
    assert (h is None) == (area == "none")
