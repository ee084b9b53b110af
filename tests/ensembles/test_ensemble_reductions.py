"""Streaming reductions: merged parts are the whole, and errors stay within bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from scipy import stats

from hybrid_nds.ensembles import ExitFlags, Histogram, Moments, Quantiles
from hybrid_nds.ensembles._layout import Layout
from hybrid_nds.ensembles._reduction import observe, observed_layout

TIMES = np.array([0.5, 1.0])


def layout_of(n, dimension=2):
    struct = jax.ShapeDtypeStruct((dimension,), jnp.float64)
    return Layout(TIMES, struct, n)


def reduce_parts(reduction, layout, parts):
    """What an ensemble does: one state a block, merged from the first on."""
    total = reduction.init(layout)
    for part in parts:
        block = reduction.update(reduction.init(layout), part)
        total = reduction.merge(total, block)
    return reduction.result(total, layout)


@st.composite
def partitions(draw):
    """Values of a few hundred trajectories, and where to cut them."""
    n = draw(st.integers(1, 300))
    seed = draw(st.integers(0, 2**32 - 1))
    # Means far from zero, where sums of raw powers would lose all digits.
    mean = draw(st.sampled_from([0.0, 3.0, 1e6]))
    values = mean + np.random.default_rng(seed).standard_normal((n, 2, 2))
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=6)))
    return values, np.split(values, cuts)


@given(partitions())
@settings(max_examples=50, deadline=None)
def test_moments_of_parts_are_those_of_the_whole(case):
    values, parts = case
    n = len(values)
    found = reduce_parts(Moments(order=4, covariance=True), layout_of(n), parts)
    assert found.count == n
    # Round-off of the mean (a few ulp) moves a deviation by that much, and its p-th
    # power by p·|deviation|^(p-1) times as much; merges add n·ulp of the sums.
    shift = 1e-13 * max(1.0, np.abs(values).max())
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-12, atol=1e-12)
    for p in (2, 3, 4):
        deviations = values - values.mean(axis=0)
        expected = (deviations**p).mean(axis=0)
        size = np.abs(deviations).max() + 1.0
        np.testing.assert_allclose(
            found.central_moments[p], expected, rtol=1e-11, atol=20 * shift * size**p
        )
    if n > 1:
        np.testing.assert_allclose(
            found.standard_error,
            stats.sem(values, axis=0),
            rtol=1e-7,
            atol=20 * shift,
        )
        for time in range(2):
            np.testing.assert_allclose(
                found.covariance[time],
                np.cov(values[:, time].T),
                rtol=1e-9,
                atol=100 * shift,
            )
    else:
        assert np.isnan(found.variance).all()


def test_the_standard_error_of_the_variance_is_that_of_normal_numbers():
    # For normal numbers the variance of the unbiased variance is 2σ⁴/(n-1), and the
    # estimate of it scatters by a few percent at n = 20000 (fourth moments).
    n, sigma = 20_000, 3.0
    values = sigma * np.random.default_rng(1).standard_normal((n, 2, 2))
    found = reduce_parts(Moments(order=4), layout_of(n), [values])
    np.testing.assert_allclose(
        found.variance_standard_error, sigma**2 * np.sqrt(2 / (n - 1)), rtol=0.05
    )


@given(partitions())
@settings(max_examples=50, deadline=None)
def test_histograms_of_parts_are_those_of_numpy(case):
    values, parts = case
    edges = np.quantile(values, [0.1, 0.3, 0.9]) if len(values) > 2 else [0.0, 1.0]
    found = reduce_parts(Histogram(edges), layout_of(len(values)), parts)
    for time in range(2):
        for component in range(2):
            seen = values[:, time, component]
            counts, _ = np.histogram(seen, edges)
            np.testing.assert_array_equal(found.counts[time, :, component], counts)
            assert found.below[time, component] == np.sum(seen < edges[0])
            assert found.above[time, component] == np.sum(seen > edges[-1])


def test_the_last_edge_belongs_to_the_last_bin():
    values = np.full((3, 2, 2), 1.0)
    found = reduce_parts(Histogram([0.0, 0.5, 1.0]), layout_of(3), [values])
    np.testing.assert_array_equal(found.counts[0, :, 0], [0, 3])
    # It integrates to one over the edges: 3 of 3 in a bin of width 1/2.
    np.testing.assert_array_equal(found.density[0, :, 0], [0.0, 2.0])


@given(partitions())
@settings(max_examples=50, deadline=None)
def test_quantiles_of_small_ensembles_are_exact(case):
    values, parts = case
    p = [0.0, 0.01, 0.5, 0.9, 1.0]
    found = reduce_parts(Quantiles(p), layout_of(len(values)), parts)
    assert found.rank_error == 0
    expected = np.quantile(values, p, axis=0, method="inverted_cdf")
    np.testing.assert_array_equal(found.values, np.moveaxis(expected, 0, 1))


@given(
    st.integers(5_000, 40_000),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 40_000), max_size=40),
    st.sampled_from([0.02, 0.005]),
    st.sampled_from(["random", "sorted", "zigzag", "repeated"]),
)
@example(n=5_000, seed=0, cuts=[2], rank_error=0.005, order="random")
@settings(max_examples=40, deadline=None)
def test_quantiles_keep_their_rank_error(n, seed, cuts, rank_error, order):
    """Whatever the order of the values and the sizes of the parts: the bound is one of
    the worst case, not of chance."""
    values = np.random.default_rng(seed).standard_normal((n, 2, 1))
    if order == "sorted":
        values = np.sort(values, axis=0)
    elif order == "zigzag":
        values = np.sort(values, axis=0)
        values = np.concatenate([values[::2], values[1::2][::-1]])
    elif order == "repeated":
        values = np.round(values)
    layout = layout_of(n, 1)
    p = np.array([0.0, 0.001, 0.1, 0.5, 0.77, 1.0])
    reduction = Quantiles(p, rank_error=rank_error)
    parts = np.split(values, sorted(min(cut, n) for cut in cuts))
    found = reduce_parts(reduction, layout, parts)
    assert found.count == n
    assert found.rank_error <= rank_error
    ordered = np.sort(values, axis=0)
    for sign, compare in ((-1, np.greater_equal), (1, np.less_equal)):
        # p n ± the error in ranks, a whole number: its rounding adds no rank.
        ranks = np.ceil(p * n + sign * found.rank_error * n - 1e-6)
        bound = ordered[np.clip(ranks, 1, n).astype(int) - 1]
        assert compare(found.values, np.moveaxis(bound, 0, 1)).all()


def test_a_sketch_stays_small():
    n = 200_000
    reduction = Quantiles(rank_error=0.005)
    layout = layout_of(n, 1)
    total = reduction.init(layout)
    draws = np.random.default_rng(3)
    for _ in range(n // 1000):
        block = draws.standard_normal((1000, 2, 1))
        total = reduction.merge(total, reduction.update(reduction.init(layout), block))
    held = sum(len(v) for name, v in total.items() if name.startswith("level"))
    # Levels of at most 2048 values, log2(200000/2048) < 7 of them and the first.
    assert held <= 2048 * 8
    assert 0 < reduction.result(total, layout).rank_error <= 0.005


def test_exits_are_counted_once_at_the_first_time_outside():
    # In, out, back in; never out; out at the end.
    paths = np.array([[0.0, 2.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 9.0]])
    values = paths[:, :, None]
    layout = Layout(
        np.array([0.0, 1.0, 2.0]), jax.ShapeDtypeStruct((1,), jnp.float64), 3
    )
    reduction = ExitFlags(lambda y: jnp.all(y < 1))
    seen = observe(reduction, layout, values)
    found = reduce_parts(reduction, observed_layout(reduction, layout), [seen])
    np.testing.assert_array_equal(found.exits, [0, 1, 1])
    np.testing.assert_allclose(found.probability, [0, 1 / 3, 2 / 3])
    assert found.exited == 2
    assert found.mean_time == 1.5
    for time, k in enumerate([0, 1, 2]):
        exact = stats.binomtest(k, 3).proportion_ci(0.9, method="exact")
        low, high = found.interval(0.9)
        np.testing.assert_allclose([low[time], high[time]], exact, rtol=1e-12)


def test_a_reduction_can_look_at_a_function_of_the_state():
    layout = Layout(
        TIMES,
        {
            "q": jax.ShapeDtypeStruct((2,), jnp.float64),
            "p": jax.ShapeDtypeStruct((), jnp.float64),
        },
        2,
    )
    # As ravel_pytree orders a dict: p first.
    values = np.arange(12.0).reshape(2, 2, 3)
    reduction = Moments(of=lambda y: y["q"][0] * 10 + y["p"])
    seen = observe(reduction, layout, values)
    np.testing.assert_array_equal(seen[..., 0], values[..., 1] * 10 + values[..., 0])
    found = reduce_parts(reduction, observed_layout(reduction, layout), [seen])
    assert found.mean.shape == (2,)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Moments(order=5), ValueError, "`order` must be 2, 3 or 4"),
        (lambda: Moments(covariance=1), TypeError, "`covariance` must be True or"),
        (lambda: Moments(of=3), TypeError, "`of` must be None or a callable"),
        (lambda: Histogram([1.0]), ValueError, "`edges` must be at least two"),
        (lambda: Histogram([1.0, 0.0]), ValueError, "increasing"),
        (lambda: Histogram([0.0, np.inf]), ValueError, "finite"),
        (lambda: Histogram("edges"), TypeError, "`edges` must be real"),
        (lambda: Quantiles([1.5]), ValueError, r"`probabilities` must lie in \[0, 1"),
        (lambda: Quantiles([]), ValueError, "`probabilities`"),
        (lambda: Quantiles(rank_error=0.0), ValueError, "`rank_error` must be"),
        (lambda: ExitFlags(0.5), TypeError, "`region` must be a callable"),
    ],
)
def test_bad_arguments_are_named(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize(
    ("reduction", "match"),
    [
        (Moments(of=lambda y: y["x"]), "could not be evaluated for one state"),
        (Moments(of=lambda y: y.astype(int)), "must return real"),
        (Moments(of=lambda y: y + 1j), "must return real"),
        (ExitFlags(lambda y: y < 1), "one boolean for one state"),
        (ExitFlags(lambda y: jnp.sum(y)), "one boolean for one state"),
    ],
)
def test_bad_observables_are_named(reduction, match):
    with pytest.raises(ValueError, match=match):
        observed_layout(reduction, layout_of(3))
