"""Brownian paths: their law, their grid, and that both ways to read them agree."""

import math

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
import scipy.stats

from hybrid_nds import BrownianPath, NativePath

# Each statistical test passes a right law with a probability of 1 - LEVEL; keys are
# fixed, so that a result stays.
LEVEL = 1e-6
PATHS, STEPS, MOTIONS = 2000, 6, 2
LEVELS = ("none", "space-time", "space-time-time")
T0, T1 = -0.5, 2.5
H = (T1 - T0) / STEPS


@pytest.fixture(scope="module")
def draws():
    """Increments and areas of many paths, shape (paths, steps, motions)."""

    @jax.jit
    @jax.vmap
    def draw(key):
        path = BrownianPath(key, MOTIONS, T0, T1, H, "space-time")
        return path.increments()

    dw, h = draw(jax.random.split(jax.random.key(2), PATHS))
    return np.asarray(dw), np.asarray(h)


def assert_variance(sample, variance):
    """A chi-square test of the variance of centred normal numbers."""
    count = sample.size
    statistic = np.sum(sample**2) / variance
    low, high = scipy.stats.chi2.ppf([LEVEL / 2, 1 - LEVEL / 2], count)
    assert low < statistic < high


def assert_uncorrelated(a, b):
    """Of two independent standard normal numbers the product has mean 0 and variance
    1, so that the mean of many is normal."""
    product = (a / a.std()) * (b / b.std())
    limit = scipy.stats.norm.ppf(1 - LEVEL / 2)
    assert abs(product.mean()) * math.sqrt(product.size) < limit


def test_variances(draws):
    dw, h = draws
    for step in range(STEPS):
        assert_variance(dw[:, step], H)
        assert_variance(h[:, step], H / 12)


def test_shape_of_the_law(draws):
    dw, h = draws
    for sample, variance in ((dw, H), (h, H / 12)):
        scaled = sample[:, :, 0].reshape(-1) / math.sqrt(variance)
        assert scipy.stats.kstest(scaled, "norm").pvalue > LEVEL


def test_independence(draws):
    dw, h = draws
    assert_uncorrelated(dw, h)
    assert_uncorrelated(dw[..., 0], dw[..., 1])
    assert_uncorrelated(h[..., 0], h[..., 1])
    assert_uncorrelated(dw[:, :-1], dw[:, 1:])
    assert_uncorrelated(h[:, :-1], h[:, 1:])
    assert_uncorrelated(dw[:, 1:], h[:, :-1])


def test_julia_values(draws):
    """dZ = 2√3 H has the variance of a step, and I(1,0) = h (dW + dZ/√3) / 2 that of
    the integral of the path, h³/3, with covariance h²/2 to the increment."""
    path = BrownianPath(jax.random.key(0), MOTIONS, T0, T1, H, "space-time")
    dw, h = path.increments()
    w, z = path.values()
    assert w.shape == z.shape == (STEPS + 1, MOTIONS)
    np.testing.assert_array_equal(w[0], 0)
    # A sum of STEPS numbers of size one, rounded at each.
    tolerance = 4 * STEPS * np.finfo(float).eps
    np.testing.assert_allclose(np.diff(w, axis=0), dw, atol=tolerance)
    np.testing.assert_allclose(np.diff(z, axis=0), 2 * math.sqrt(3) * h, atol=tolerance)
    dw, h = draws
    integral = H * (dw + 2 * math.sqrt(3) * h / math.sqrt(3)) / 2
    assert_variance(integral, H**3 / 3)
    assert_uncorrelated(integral - H / 2 * dw, dw)


AREAS = [
    "space-time",
    *(pytest.param(a, marks=pytest.mark.slow) for a in ("none", "space-time-time")),
]


@pytest.mark.parametrize("area", AREAS)
def test_diffrax_reads_the_increments(area):
    """To a rounding, also where a solver's arithmetic misses the grid a little."""
    path = BrownianPath(jax.random.key(3), 2, 0.1, 1.0, 0.09, area)

    @jax.jit
    @jax.vmap
    def read(start, end):
        return path.evaluate(start, end, use_levy=True), path.evaluate(start)

    dw, h = jax.jit(lambda: path.increments())()
    for times in (path.times, path.times * (1 + 3e-16)):
        found, w = read(times[:-1], times[1:])
        # Differences of values, that Diffrax rounds at each of five levels and where it
        # puts intervals together, of numbers below 4.
        rounding = 4 * 10 * np.finfo(float).eps
        np.testing.assert_allclose(found.W, dw, atol=rounding, rtol=0)
        if area != "none":
            # Over the length of an interval, a sixteenth of the tree's.
            np.testing.assert_allclose(found.H, h, atol=16 * rounding, rtol=0)
        expected = np.concatenate([np.zeros((1, 2)), np.cumsum(dw, axis=0)[:-1]])
        np.testing.assert_allclose(w, expected, atol=1e-14)
    assert isinstance(found, path.levy_area)
    assert path.area == area


@pytest.mark.parametrize("steps", [1, 5, 16, 200])
@pytest.mark.parametrize("area", AREAS)
def test_increments_are_those_of_diffrax_own_tree(area, steps):
    """All levels at once give the path to which Diffrax descends."""
    span = 2.0 ** math.ceil(math.log2(steps))
    path = BrownianPath(jax.random.key(7), 2, 0.0, float(steps), 1.0, area)
    tree = diffrax.VirtualBrownianTree(
        0.0, span, 0.5, (2,), jax.random.key(7), path.levy_area
    )

    @jax.jit
    @jax.vmap
    def descend(start):
        return tree.evaluate(start, start + 1, use_levy=True)

    expected, found = descend(jnp.arange(float(steps))), jax.jit(lambda: path.along())()
    # Values of size √span, each of nine levels a rounding or two; areas are differences
    # of integrals up to a time t, of size t √span, the second ones of t² √span.
    rounding = 32 * math.sqrt(span) * np.finfo(float).eps
    for power, name in enumerate(("W", "H", "K")[: 1 + list(LEVELS).index(area)]):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.shape == (steps, 2)
        np.testing.assert_allclose(ours, theirs, atol=rounding * span**power, rtol=0)
    np.testing.assert_array_equal(found.dt, np.ones(steps))


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("length", [1, 16, 64])
def test_blocks_are_the_whole_path(area, length):
    path = BrownianPath(jax.random.key(8), 3, 0.0, 1.0, 1 / 200, area)
    blocks = path.blocks(length)
    drawn = jax.jit(lambda starts: jax.lax.map(blocks.draw, starts))(blocks.starts)
    whole = jax.jit(lambda: path.along())()
    for name in ("W", "H", "K"):
        if hasattr(whole, name):
            rows = getattr(drawn, name).reshape(-1, 3)
            assert 200 <= len(rows) < 200 + length
            # XLA may contract a product and a sum to one rounding, at each level.
            np.testing.assert_allclose(
                rows[:200], getattr(whole, name), atol=16 * np.finfo(float).eps
            )


def test_the_order_of_older_versions_takes_a_descent_a_step():
    with jax.threefry_partitionable(False):
        path = BrownianPath(jax.random.key(0), 2, 0.0, 1.0, 0.25)
        assert path.increments()[0].shape == (4, 2)
        starts = path.blocks(2).starts
        np.testing.assert_array_equal(starts, [[0, 1], [2, 3]])


@pytest.mark.parametrize("kind", [BrownianPath, NativePath])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_path_is_a_function_of_its_key(kind, impl):
    """Whatever its generator, alone or beside others: not so `jax.random.normal`."""
    keys = jax.random.split(jax.random.key(0, impl=impl), 3)
    step = 0.25 if kind is BrownianPath else 4
    draw = jax.jit(lambda key: kind(key, 2, 0.0, 1.0, step).increments()[0])
    alone = np.stack([draw(key) for key in keys])
    np.testing.assert_allclose(jax.vmap(draw)(keys), alone, atol=8e-16, rtol=0)
    # Three paths of two motions, four steps each, and no two numbers of them equal.
    assert len(np.unique(alone)) == alone.size
    assert kind(keys[0], 2, 0.0, 1.0, step).increments()[0].shape == (4, 2)


def test_law_between_grid_times():
    """An adaptive solver asks off the grid: there, too, the increment has the variance
    of its length."""

    @jax.jit
    @jax.vmap
    def draw(key):
        path = BrownianPath(key, 1, 0.0, 1.0, 0.25, "space-time")
        return path.evaluate(0.3, 0.4, use_levy=True)

    found = draw(jax.random.split(jax.random.key(5), 4000))
    assert_variance(np.asarray(found.W), 0.1)


def test_refining_keeps_the_path():
    """Increments add; areas of two halves join by
    H = (H1 + H2)/2 + (dW1 - dW2)/4."""
    steps, power = 3, 2

    @jax.jit
    @jax.vmap
    def increments(key):
        path = BrownianPath(key, 2, 0.0, 3.0, 3.0 / steps, "space-time")
        return path.increments(), path.with_steps(steps * 2**power).increments()

    keys = jax.random.split(jax.random.key(4), 50)
    coarse, (dw, h) = jtu.tree_map(np.asarray, increments(keys))
    for _ in range(power):
        h = (h[:, ::2] + h[:, 1::2]) / 2 + (dw[:, ::2] - dw[:, 1::2]) / 4
        dw = dw[:, ::2] + dw[:, 1::2]
    # The tree forms both from its nodes, by a handful of roundings at each level.
    np.testing.assert_allclose(coarse[0], dw, atol=1e-13)
    np.testing.assert_allclose(coarse[1], h, atol=1e-13)


def test_key_and_span_make_the_path():
    def dw(seed, area="none"):
        path = BrownianPath(jax.random.key(seed), (2,), 0.0, 1.0, 0.125, area)
        return np.asarray(path.increments()[0])

    np.testing.assert_array_equal(dw(0), dw(0))
    assert np.all(dw(0) != dw(1))


@pytest.mark.slow
def test_transforms():
    def dw(key):
        return BrownianPath(key, 2, 0.0, 1.0, 0.1, "space-time").increments()

    keys = jax.random.split(jax.random.key(9), 3)
    mapped = jax.jit(jax.vmap(dw))(keys)
    for found, alone in zip(mapped, dw(keys[1]), strict=True):
        # XLA may contract a product and a sum to one rounding, at each level.
        np.testing.assert_allclose(
            found[1], alone, atol=16 * np.finfo(float).eps, rtol=0
        )


def test_as_argument_of_a_compiled_function():
    path = BrownianPath(jax.random.key(1), 1, 0.0, 2.0, 0.25)
    compiled = eqx.filter_jit(lambda p: (p.times, p.increments()[0]))(path)
    np.testing.assert_array_equal(compiled[0], np.linspace(0, 2, 9))
    np.testing.assert_array_equal(compiled[1], path.increments()[0])


def test_single_precision():
    path = BrownianPath(jax.random.key(1), 1, 0.0, 2.0, 0.1, dtype=jnp.float32)
    assert path.dtype == np.float32
    assert path.increments()[0].dtype == np.float32
    assert path.times.dtype == np.float32
    assert isinstance(path, diffrax.AbstractBrownianPath)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"dt": 0.3}, ValueError, r"`dt` must divide the span .* got 0\.3, .* 0\.25"),
        ({"dt": -0.1}, ValueError, "`dt` must be positive"),
        ({"dt": 0.0}, ValueError, "`dt` must be positive"),
        ({"dt": np.nan}, ValueError, "`dt` must be positive"),
        ({"dt": "fine"}, TypeError, "`dt` must be a real number"),
        ({"t1": 0.0}, ValueError, "`t1` later than `t0`"),
        ({"t1": np.inf}, ValueError, "span must be finite"),
        ({"shape": (2, 3)}, ValueError, r"`shape` must be the number .* \(2, 3\)"),
        ({"shape": 0}, ValueError, "`shape` must be the number"),
        ({"levy_area": "full"}, ValueError, "`levy_area` must be one of none, space"),
        ({"dtype": jnp.int32}, TypeError, "`dtype` must be float32"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_refuses(changes, error, match):
    arguments = {"shape": 2, "t0": 0.0, "t1": 1.0, "dt": 0.25} | changes
    with pytest.raises(error, match=match):
        BrownianPath(jax.random.key(0), **arguments)


@pytest.mark.parametrize("steps", [3, 0, -8, 6.0, True])
def test_refuses_other_refinements(steps):
    path = BrownianPath(jax.random.key(0), 1, 0.0, 1.0, 0.125)
    with pytest.raises(ValueError, match=r"`steps` must be the present number of 8"):
        path.with_steps(steps)


def test_keys_of_paths_are_checked():
    with pytest.raises(TypeError, match="BrownianPath: `key` must be one random key"):
        BrownianPath(0, 1, 0.0, 1.0, 0.25)
    with pytest.raises(TypeError, match="NativePath: `key` must be one random key"):
        NativePath(0, 1, 0.0, 1.0, 4)
